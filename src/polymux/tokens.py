"""Keeps the access tokens of providers that want one instead of a key: asked for when first needed, shared by all
requests, and renewed in the background before they end. In memory only, one for each grant and worker."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from polymux.errors import Failure, Truncated
from polymux.providers.auth import Headers
from polymux.providers.oauth import Token, read_token, token_request
from polymux.transport import Transport
from polymux.types import Deployment, Grant, WireReply

EARLY: Final = 300.0  # seconds before its end that a token is renewed; of a short life the last tenth
FRESH: Final = 60.0  # seconds in which a token that is refused is not asked for anew: it is not the token's fault
PATIENCE: Final = 30.0  # seconds for the token endpoint to answer


class _Kept(msgspec.Struct):
    """A token, and the headers it makes of those of the deployments that it is for."""

    since: float  # the loop's clock, as the next two
    renew: float
    end: float
    authorization: tuple[str, str]
    bare: Headers = ()
    signed: Headers = ()

    def headers(self, bare: Headers) -> Headers:
        if self.bare is not bare:
            self.bare, self.signed = bare, (*bare, self.authorization)
        return self.signed


class Tokens:
    """Needs a running loop. What no configuration has any more is asked for no more, and forgotten at its end."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._kept: dict[Grant, _Kept] = {}
        self._asking: dict[Grant, asyncio.Task[_Kept]] = {}

    async def signed(self, to: Deployment) -> Deployment:
        """The deployment with its access token. Raises `Failure` or `Truncated` where there is none to be had."""
        grant = to.grant
        if grant is None:
            return to
        now = self._transport.loop.time()
        kept = self._kept.get(grant)
        if kept is None or kept.end <= now:
            kept = await asyncio.shield(self._ask(grant, to))  # others wait for the same
        elif kept.renew <= now:
            self._ask(grant, to)
        return msgspec.structs.replace(to, headers=kept.headers(to.headers))

    def refused(self, to: Deployment) -> None:
        """The provider does not take the token: the next request has a new one."""
        if to.grant is None:
            return
        kept = self._kept.get(to.grant)
        if kept is not None and self._transport.loop.time() - kept.since > FRESH:
            del self._kept[to.grant]

    def close(self) -> None:
        for task in self._asking.values():
            task.cancel()

    def _ask(self, grant: Grant, to: Deployment) -> asyncio.Task[_Kept]:
        task = self._asking.get(grant)
        if task is None:
            task = self._asking[grant] = self._transport.loop.create_task(self._asked(grant, to))
            task.add_done_callback(lambda done: self._done(grant, done))
        return task

    def _done(self, grant: Grant, task: asyncio.Task[_Kept]) -> None:
        del self._asking[grant]
        if not task.cancelled() and task.exception() is None:
            self._kept[grant] = task.result()

    async def _asked(self, grant: Grant, to: Deployment) -> _Kept:
        now = self._transport.loop.time()
        token = await self._token(grant, to, now + PATIENCE)
        early = min(EARLY, token.lifetime / 10)
        end = now + token.lifetime
        return _Kept(now, end - early, end, ("authorization", f"Bearer {token.value}"))

    async def _token(self, grant: Grant, to: Deployment, final: float) -> Token:
        reply = await self._transport.send(token_request(grant), to, final, stream=False)
        try:
            return read_token(WireReply(reply.status, reply.header_map(), await reply.whole()))
        except Truncated:
            raise Failure("upstream_unavailable", "the token endpoint's answer ended before it was complete") from None
        finally:
            self._transport.release(reply)

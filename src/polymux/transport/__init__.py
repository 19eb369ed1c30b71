"""The only place that opens upstream connections: HTTP/1.1 on httptools, kept alive, pooled by address and link.

A `Reply` is awaited for its head, then read whole or block by block as the network delivers. Nothing is buffered
beyond `HIGH_WATER`; closing a reply that is not finished aborts its connection, which is how a cancelled request
reaches the upstream. Sources: RFC 9110, RFC 9112.
"""

from __future__ import annotations

import asyncio
from functools import cached_property
from typing import NamedTuple
from urllib.parse import urlsplit

from polymux.errors import Failure
from polymux.transport.connection import Lost
from polymux.transport.dial import Dialer, Target, dialer
from polymux.transport.pool import Pool
from polymux.transport.reply import Reply
from polymux.transport.tap import Tap, Tapped
from polymux.types import Deployment, Link, WireRequest

__all__ = ["Reply", "Stats", "Tap", "Transport"]

FIRST_TOKEN = 60.0  # seconds to the first content of a stream, where nothing is configured
MOST_PREPARED = 4096
LARGE = 256 * 1024  # bytes of a request that goes out as the upstream takes it
LINGER = 1.0  # seconds for the end of a finished answer
RESEND = 1.0  # seconds within which the end of a connection that had been idle is taken for staleness
TICK = 0.05  # seconds between looks at the deadlines


class Stats(NamedTuple):
    """Connections, those of them that are idle or being made, and requests that wait for one."""

    open: int
    idle: int
    dialing: int
    waiting: int


class _Prepared(NamedTuple):
    """The head of requests to one URL, as long as nothing else changes."""

    method: str
    headers: tuple[tuple[str, str], ...]
    link: Link
    pool: Pool
    head: bytes

    def fits(self, request: WireRequest, to: Deployment) -> bool:
        return self.headers is request.headers and self.link is to.link and self.method == request.method


class Transport:
    """Sends requests, keeps connections, watches deadlines. tap: sees all that passes."""

    def __init__(self, tap: Tap | None = None) -> None:
        self._tap = tap
        self._pools: dict[Target, Pool] = {}
        self._prepared: dict[tuple[str, str], _Prepared] = {}
        self._active: set[Reply] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._dialer: Dialer | None = None

    @cached_property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that all of this runs on; asyncio's own answer costs a system call (CPython 3.11)."""
        return asyncio.get_running_loop()

    def stats(self) -> Stats:
        pools = self._pools.values()
        return Stats(
            sum(len(pool.all) for pool in pools),
            sum(len(pool.idle) for pool in pools),
            sum(pool.dialing for pool in pools),
            sum(len(pool.waiting) for pool in pools),
        )

    async def send(self, request: WireRequest, to: Deployment, final: float, *, stream: bool) -> Reply:
        """Send and wait for the answer's head, at most until `final` (the loop's clock) and as the deployment's
        timeouts say. Raises `Failure`. Release the reply when done with it.

        A pooled connection may have been closed by the other side just now. When it ends without a byte of an answer,
        and so soon that it was most likely stale (`RESEND`), the request is sent once more. That is a guess: nothing
        shows whether the upstream had read it. Anything later may have been worked on, and is for the plan to decide.
        """
        loop = self.loop
        sent = now = loop.time()
        timeouts, body = to.timeouts, request.body
        limit = timeouts.first_token
        if limit is None:  # a whole answer comes all at once, however long it takes
            limit = FIRST_TOKEN if stream else timeouts.total
        deadline = min(now + limit, final)
        prepared = self._prepared.get((to.id, request.url))
        if prepared is None or not prepared.fits(request, to):
            prepared = self._prepare(request, to, loop)
        if len(body) > LARGE:
            data, rest = b"%b%d\r\n\r\n" % (prepared.head, len(body)), body
        else:
            data, rest = b"%b%d\r\n\r\n%b" % (prepared.head, len(body), body), b""
        conn = prepared.pool.take(now)
        resent = False
        while True:
            if conn is None:
                conn = await prepared.pool.connect(timeouts.connect, deadline)
                sent = loop.time()
            if self._tap is None:
                reply = Reply(conn, deadline, final)
            else:
                reply = Tapped(conn, deadline, final, self._tap, to)
                self._tap.sent(to, request)
            used = conn.since
            conn.start(reply, data, rest)
            self._active.add(reply)
            if self._timer is None:
                self._timer = loop.call_later(TICK, self._tick, loop)
            try:
                while not reply.status:
                    await reply.wait()
                if self._tap is not None:
                    self._tap.answered(to, reply.status, reply.headers)
                if reply.status == 407 and (proxy := prepared.pool.target.forwarder):
                    raise proxy.asks_for_credentials(407)
                return reply
            except Lost as error:
                self._active.discard(reply)
                if resent or not used or error.answered or loop.time() - sent > RESEND:
                    raise
                conn, resent = None, True
            except BaseException:
                self.release(reply)
                raise

    def release(self, reply: Reply) -> None:
        """Done with a reply. One that is not complete takes its connection along, but one that is finished gets a
        moment for its end to arrive, so that the connection can be used again."""
        if reply.finished and not reply.complete:
            reply.expect(LINGER)
            reply.idle = 0.0  # what else comes wins it no time
        else:
            self._active.discard(reply)
            if not reply.complete:
                reply.close()

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._dialer is not None:
            self._dialer.close()
        for pool in self._pools.values():
            pool.close()

    def _prepare(self, request: WireRequest, to: Deployment, loop: asyncio.AbstractEventLoop) -> _Prepared:
        if len(self._prepared) >= MOST_PREPARED:  # it is all made again as it is needed
            self._prepared.clear()
            self._pools = {target: pool for target, pool in self._pools.items() if pool.used or pool.waiting}
        target = _target(request.url, to.link)
        pool = self._pools.get(target)
        if pool is None:
            self._dialer = self._dialer or dialer(loop)
            pool = self._pools[target] = Pool(target, self._dialer, loop)
        prepared = _Prepared(request.method, request.headers, to.link, pool, _head(request, target))
        self._prepared[(to.id, request.url)] = prepared
        return prepared

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self.expire(loop.time())
        self._timer = loop.call_later(TICK, self._tick, loop) if self._active else None

    def expire(self, now: float) -> None:
        """End what is past its deadline."""
        for reply in [reply for reply in self._active if reply.deadline <= now]:
            self._active.discard(reply)
            silent = "no content from the upstream in time" if not reply.idle else "the upstream fell silent"
            reply.fail(Failure("upstream_timeout", silent))
            reply.close()


def _target(url: str, link: Link) -> Target:
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna").decode("ascii")
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:  # a UnicodeError is one
        host = ""
    if not host or parts.scheme not in ("http", "https"):
        raise Failure("upstream_unavailable", "the upstream's address is no URL; is its base_url right?")
    return Target(parts.scheme, host, port, link)


def _head(request: WireRequest, target: Target) -> bytes:
    """All of a request's head up to the number that is its length."""
    parts = urlsplit(request.url)
    authority = parts.netloc.rpartition("@")[2]
    if not authority.isascii():
        authority = target.name
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [f"host: {authority}", *(f"{name}: {value}" for name, value in request.headers)]
    if proxy := target.forwarder:
        path = f"http://{authority}{path}"
        lines += [f"proxy-authorization: {proxy.authorization}"] if proxy.authorization else []
    if request.body and not any(name == "content-type" for name, _ in request.headers):
        lines.append("content-type: application/json")
    if not path.isascii() or " " in path or not "".join([path, *lines]).isprintable():
        text = "a URL or header of the request to the upstream has characters that it cannot have; is the key right?"
        raise Failure("upstream_unavailable", text)
    lines = [f"{request.method} {path} HTTP/1.1", *lines, "content-length: "]
    return "\r\n".join(lines).encode("latin-1", "replace")

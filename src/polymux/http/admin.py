"""The admin API's routes, under `/admin/api`: for the administrator's key alone."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

import msgspec

from polymux.errors import Failure
from polymux.http.handlers import JSON
from polymux.store.memory import digest

if TYPE_CHECKING:
    from polymux.http.protocol import Exchange
    from polymux.http.serve import Front

_SET = (
    "the admin API is off, because no admin key is set; set POLYMUX_ADMIN_KEY, or admin_key under [auth] in the "
    "configuration, then restart the gateway or send it SIGHUP"
)
_SEND = "send the header 'Authorization: Bearer ADMIN_KEY' with the gateway's admin key; client keys do not open it"


class Reloaded(msgspec.Struct, frozen=True):
    """What a reload came to. needs_restart: settings that were changed, and hold from the next start on."""

    models: int
    workers: int
    needs_restart: tuple[str, ...] = ()
    reloaded: bool = True


class Faulty(Exception):
    """A reload that was not done, for these faults; nothing has changed."""

    def __init__(self, faults: tuple[str, ...]) -> None:
        super().__init__(faults)
        self.faults = faults


Reload = Callable[[], Coroutine[Any, Any, Reloaded]]


def reload(front: Front, exchange: Exchange, rest: str) -> Coroutine[Any, Any, None]:
    """Read the configuration anew, on every worker. Raises `Failure`."""
    administrator(front, exchange)
    return _reload(front, exchange)


async def _reload(front: Front, exchange: Exchange) -> None:
    try:
        done = await asyncio.shield(front.reload())  # to its end, even if nobody waits for the answer
    except Faulty as error:
        failure = Failure("invalid_configuration", f"{_counted(error.faults)}; the gateway goes on as it was")
        told = {"message": failure.message, "type": failure.type, "param": None, "code": failure.code}
        exchange.respond(failure.status, JSON, msgspec.json.encode({"error": {**told, "faults": error.faults}}))
        return
    exchange.respond(200, JSON, msgspec.json.encode({"data": done}))


def _counted(faults: tuple[str, ...]) -> str:
    return f"the configuration has {len(faults)} fault{'s' if len(faults) > 1 else ''}: {'; '.join(faults)}"


def administrator(front: Front, exchange: Exchange) -> None:
    """Raises `Failure` unless the request carries the admin key."""
    if not front.settings.admin:
        raise Failure("admin_key_not_set", _SET)
    scheme, _, key = exchange.headers.get(b"authorization", b"").decode("utf-8", "replace").strip().partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(digest(key.strip()), front.settings.admin):
        raise Failure("invalid_api_key", f"this is for the administrator: {_SEND}")

"""What the routes under `/admin/api` share: who may, what is asked, how it is answered; and the reload."""

from __future__ import annotations

import asyncio
import hmac
import sys
import traceback
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import parse_qsl

import msgspec

from polymux.config import Limits
from polymux.errors import Failure
from polymux.run import Snapshot
from polymux.store.base import Unusable
from polymux.store.fields import unknown
from polymux.store.live import LiveKeys
from polymux.store.memory import digest
from polymux.wire import splice

if TYPE_CHECKING:
    from polymux.store.database import Database
    from polymux.store.keeper import Keeper
    from polymux.store.shipper import Shipper

JSON: Final = b"content-type: application/json\r\n"
LIMIT: Final = 100  # rows of a list, unless asked otherwise
MOST: Final = 1000  # rows of a list, however asked
_SET: Final = (
    "the admin API is off, because no admin key is set; set POLYMUX_ADMIN_KEY, or admin_key under [auth] in the "
    "configuration, then restart the gateway or send it SIGHUP"
)
_SEND: Final = (
    "send the header 'Authorization: Bearer ADMIN_KEY' with the gateway's admin key; client keys do not open it"
)
_INTERNAL: Final = "an internal error; the gateway's log has the details"


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


class Exchange(Protocol):
    """One request; `http.exchange` has it."""

    @property
    def headers(self) -> Mapping[bytes, bytes]: ...
    @property
    def target(self) -> bytes: ...
    @property
    def body(self) -> bytes: ...
    def respond(self, status: int, head: bytes, body: bytes) -> None: ...


class Settings(Protocol):
    """admin: the digest of the admin key, empty = there is none. limits: of new keys."""

    @property
    def admin(self) -> bytes: ...
    @property
    def limits(self) -> Limits: ...


class Front(Protocol):
    """The gateway; `http.serve` has it."""

    @property
    def settings(self) -> Settings: ...
    @property
    def snapshot(self) -> Snapshot: ...
    @property
    def database(self) -> Database: ...
    @property
    def live(self) -> LiveKeys: ...
    @property
    def shipper(self) -> Shipper: ...
    @property
    def keeper(self) -> Keeper: ...
    @property
    def reload(self) -> Reload: ...
    def refuse(self, exchange: Any, failure: Failure, more: bytes = b"") -> None: ...


Work = Coroutine[Any, Any, None]


def administrator(front: Front, exchange: Exchange) -> None:
    """Raises `Failure` unless the request carries the admin key."""
    if not front.settings.admin:
        raise Failure("admin_key_not_set", _SET)
    scheme, _, key = exchange.headers.get(b"authorization", b"").decode("utf-8", "replace").strip().partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(digest(key.strip()), front.settings.admin):
        raise Failure("invalid_api_key", f"this is for the administrator: {_SEND}")


def asked(exchange: Exchange, names: Collection[str]) -> dict[str, str]:
    """The query. Raises `Failure` for a name that is none of `names`."""
    query = exchange.target.partition(b"?")[2].decode("latin-1")
    found = dict(parse_qsl(query, keep_blank_values=True))
    for name in found:
        if name not in names:
            raise unknown(name, dict.fromkeys(names))
    return found


def rows(query: Mapping[str, str]) -> int:
    """How many rows of a list are asked for. Raises `Failure`."""
    text = query.get("limit", str(LIMIT))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MOST):
        raise Failure("invalid_value", f"limit: expected a number from 1 to {MOST}", param="limit")
    return int(text)


def members(exchange: Exchange, *, optional: bool = False) -> dict[str, Any]:
    """The members of the body. optional: there may be none. Raises `Failure`."""
    if optional and not exchange.body.strip():
        return {}
    try:
        return {name: msgspec.json.decode(raw) for name, raw in splice.parse(exchange.body).items()}
    except splice.Repeated as error:
        raise Failure("invalid_json", f"{error}; send it once", param=error.key) from None
    except (splice.NotJson, msgspec.DecodeError) as error:
        raise Failure("invalid_json", f"the body could not be read as a JSON object: {error}") from None


async def answer(front: Front, exchange: Exchange, work: Callable[[], object], status: int = 200) -> None:
    """Do the work in a thread, for it waits for the database, and tell what it returns as JSON."""
    try:
        told = await asyncio.to_thread(work)
    except Failure as failure:
        front.refuse(exchange, failure)
    except Unusable as error:
        front.refuse(exchange, Failure("overloaded", str(error)))
    except Exception:
        traceback.print_exc(file=sys.stderr)
        front.refuse(exchange, Failure("internal_error", _INTERNAL))
    else:
        if status == 204:
            exchange.respond(status, b"", b"")
        else:
            exchange.respond(status, JSON, msgspec.json.encode(told))


def reload(front: Front, exchange: Exchange, rest: str) -> Work:
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

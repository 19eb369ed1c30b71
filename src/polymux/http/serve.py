"""The one handler behind the protocol: finds the row, then lets it answer; whatever goes wrong becomes an envelope."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from polymux.admin.api import Reload
from polymux.config import Limits
from polymux.engine import Engine
from polymux.errors import Failure
from polymux.heads import failure_head
from polymux.http.auth import authenticate
from polymux.http.handlers import JSON
from polymux.http.protocol import Exchange
from polymux.http.routes import HOT, TABLE, match
from polymux.http.watch import Watch, refusal
from polymux.ids import request_id
from polymux.providers.base import Adapter
from polymux.run import Snapshot
from polymux.store.base import Keys
from polymux.store.live import LiveKeys
from polymux.surfaces.chat import Chat
from polymux.types import Key

if TYPE_CHECKING:
    from polymux.store.database import Database
    from polymux.store.keeper import Keeper
    from polymux.store.shipper import Shipper


class Settings(msgspec.Struct, frozen=True):
    """What the front goes by, as one value; a reload makes a new one.

    foreign: prefixes of providers' keys -> provider. admin: the digest of the admin key, empty = there is none.
    origins: whose pages may call. max_body: bytes. max_connections: of clients, to this process. limits: of new keys.
    adapters: own dialects by name.
    """

    snapshot: Snapshot
    keys: Keys
    foreign: Mapping[str, str] = {}
    admin: bytes = b""
    origins: tuple[str, ...] = ("*",)
    max_body: int = 32 * 1024 * 1024
    scheme: str = "http"
    max_connections: int = 10_000
    limits: Limits = Limits()
    adapters: Mapping[str, Adapter] = {}


class Front:
    """Implements `protocol.Serving`. `reload`: given by the process that serves; `database`, `live`, the keys that are
    in it, `shipper`, which moves usage into it, and `keeper`, which writes conversations: by who puts the gateway
    together. Only the admin API asks for them."""

    reload: Reload
    database: Database
    live: LiveKeys
    shipper: Shipper
    keeper: Keeper

    def __init__(self, engine: Engine, settings: Settings, watch: Watch) -> None:
        self.engine = engine
        self.watch = watch
        self.surface = Chat()
        self.draining = False
        self.swap(settings)

    def swap(self, settings: Settings) -> None:
        """From the next request on, these hold."""
        self.settings = settings
        self.snapshot = settings.snapshot
        self.max_body = settings.max_body
        self.max_connections = settings.max_connections
        if settings.adapters:
            self.engine.learn(settings.adapters)

    def serve(self, exchange: Exchange) -> Coroutine[Any, Any, None] | None:
        """Answer now, or by the coroutine that is returned."""
        row, rest = HOT.get((exchange.method, exchange.target)), ""
        _name(exchange)
        try:
            if row is None:
                rows, rest = match(exchange.target)
                method = "GET" if exchange.method == "HEAD" else exchange.method
                row = next((row for row in rows if row.method == method), None)
                if row is None:
                    self._unserved(exchange, rows)
                    return None
            if row.client and b"origin" in exchange.headers:
                exchange.extra += self._cors(exchange)
            work = row.handler(self, exchange, rest)
        except Failure as failure:
            self.refuse(exchange, failure)
            return None
        except Exception:
            traceback.print_exc(file=sys.stderr)
            self.refuse(exchange, Failure("internal_error", "an internal error; the gateway's log has the details"))
            return None
        return work

    def admit(self, exchange: Exchange) -> None:
        """Before a large body is read: whoever needs a key must have one. Raises `Failure`."""
        rows = match(exchange.target).rows
        if not (rows and rows[0].client):
            return
        _name(exchange)
        if b"origin" in exchange.headers:
            exchange.extra += self._cors(exchange)
        self.key(exchange)

    def refuse(self, exchange: Exchange, failure: Failure, more: bytes = b"") -> None:
        """An error envelope, or the error that ends a stream. more: header lines."""
        if exchange.started:
            exchange.end(self.surface.error_event(failure))
            return
        if not exchange.id:
            _name(exchange)
        caller = self._caller(exchange, failure)
        if caller is not None:
            self.engine.keep((refusal(exchange, failure, caller, match(exchange.target).rows[0].surface),))
        else:
            self.watch.refused(exchange, failure)
        head = JSON + failure_head(failure) + more
        if failure.status == 401:
            head += b"www-authenticate: Bearer\r\n"
        exchange.respond(failure.status, head, self.surface.error(failure))

    def key(self, exchange: Exchange) -> Key:
        """Who calls. Raises `Failure`."""
        return authenticate(exchange.headers, self.settings.keys, self.settings.foreign)

    def _caller(self, exchange: Exchange, failure: Failure) -> Key | None:
        """Whose call is refused. Not asked when we end: what was under way has its record already."""
        rows = match(exchange.target).rows
        if failure.kind in ("overloaded", "invalid_api_key") or exchange.method != "POST":
            return None
        try:
            return self.key(exchange) if rows and rows[0].client else None
        except Failure:
            return None

    def _unserved(self, exchange: Exchange, rows: tuple[Any, ...]) -> None:
        """A preflight, a wrong method or an unknown path."""
        methods = ", ".join(row.method for row in rows)
        preflight = methods if exchange.method == "OPTIONS" else ""
        if b"origin" in exchange.headers and (not rows or rows[0].client):
            exchange.extra += self._cors(exchange, preflight)
        if not rows:
            served = ", ".join(f"{row.method} /v1{row.path}" for row in TABLE if row.client)
            path = exchange.target.partition(b"?")[0].decode("latin-1")[:200]
            raise Failure("not_found", f"nothing is served at {path}; there is {served}")
        if exchange.method == "OPTIONS":
            exchange.respond(204, b"allow: %b, OPTIONS\r\n" % methods.encode(), b"")
            return
        failure = Failure("method_not_allowed", f"{exchange.method[:20]} is not served here; use {methods}")
        self.refuse(exchange, failure, b"allow: %b\r\n" % methods.encode())

    def _cors(self, exchange: Exchange, preflight: str = "") -> bytes:
        """The headers that let a page of another origin call us (Fetch standard, CORS protocol)."""
        origin = exchange.headers[b"origin"]
        origins = self.settings.origins
        if "*" in origins:
            allowed = b"*"
        elif origin.decode("latin-1") in origins:
            allowed = origin
        else:
            return b"vary: origin\r\n"
        head = b"access-control-allow-origin: %b\r\nvary: origin\r\n" % allowed
        if not preflight:
            return head + b"access-control-expose-headers: *\r\n"
        asked = exchange.headers.get(b"access-control-request-headers", b"authorization, content-type")
        return head + (
            b"access-control-allow-methods: %b\r\naccess-control-allow-headers: %b\r\naccess-control-max-age: 86400\r\n"
            % (preflight.encode(), asked)
        )


def _name(exchange: Exchange) -> None:
    """Give a request its id."""
    exchange.id = request_id()
    exchange.extra = b"x-request-id: %b\r\n" % exchange.id.encode()

"""The server's edge: what `uvicorn.Server` makes of each client connection.

A request is read whole (bounded), becomes an `Exchange`, and goes to `app.serve(exchange)`. Pipelined requests wait
their turn. When the client leaves, the task that serves it is cancelled. The parser (llhttp, strict) refuses most of
what is ambiguous; what it lets pass is refused here, before the body, so that no two readers of the same bytes can
take them for different requests. Sources: RFC 9110, RFC 9112.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Coroutine
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import Any, Final, Protocol, cast

import httptools
import uvicorn
from uvicorn.server import ServerState

from polymux.errors import Failure
from polymux.http.exchange import HIGH_WATER
from polymux.http.exchange import Exchange as Exchange
from polymux.http.head import (
    MAX_FIELDS,
    MAX_HEAD,
    ONCE,
    check_framing,
    check_size,
    not_http,
    origin_form,
    too_large,
    too_many,
)

MAX_FRAMING: Final = 16 * 1024  # bytes between two pieces of a chunked body: extensions, trailers
EARLY: Final = 64 * 1024  # bytes of a body that come before its sender needs a key
HEAD_TIME: Final = 10.0  # seconds for a head to arrive
BODY_TIME: Final = 120.0  # seconds between two reads of a body, and for all of it, beside its size at the pace of
BODY_PACE: Final = 4 * 1024  # bytes a second
STALL_TIME: Final = 120.0  # seconds in which a client takes nothing of what waits for it
LINGER: Final = 2.0  # seconds in which a refused client may go on sending
PIPELINE: Final = 128  # requests read ahead on one connection
READ_AHEAD: Final = 1024 * 1024  # bytes of their bodies
REQUESTS: Final = 10_000  # on one connection: a client comes back, perhaps to another worker
TLS_TAIL: Final = 16 * 1024  # bytes that a TLS client may be left to take while the connection closes
CROWD: Final = 128  # connections over the cap that are told so; more are closed at once

Work = Coroutine[Any, Any, None]


class Serving(Protocol):
    """What the protocol needs of the application."""

    max_body: int  # bytes
    max_connections: int
    draining: bool

    def serve(self, exchange: Exchange) -> Work | None:
        """Answer the exchange, at once or by the returned coroutine."""
        ...

    def admit(self, exchange: Exchange) -> None:
        """The head of a large request is here: raises `Failure` when its body need not come."""
        ...

    def refuse(self, exchange: Exchange, failure: Failure) -> None:
        """Answer with an error, or end with one what has been started."""
        ...


class _Enough(Exception):
    """The last request of a connection is complete; what follows is not parsed."""


class PolymuxProtocol(asyncio.Protocol):
    """One client connection.

    At any moment it reads a request's body (`_reading`), a head, or nothing any more (`_deaf`); and it answers one
    request (`_current`) or none. `_deadline` is for the reading, and does not count while an answer is under way.
    """

    __slots__ = (
        "_admitted",
        "_began",
        "_body",
        "_current",
        "_deadline",
        "_deaf",
        "_expects",
        "_fields",
        "_framing",
        "_head_size",
        "_inbox",
        "_keep_alive",
        "_left",
        "_parser",
        "_queue",
        "_queued",
        "_reading",
        "_refusal",
        "_repeats",
        "_stalled",
        "_stamp",
        "_stamped",
        "_state",
        "_unread",
        "_unsent",
        "_url",
        "_worker",
        "_writable",
        "app",
        "full",
        "loop",
        "transport",
    )

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.app = cast(Serving, config.loaded_app)
        self.loop = _loop or asyncio.get_running_loop()
        self.full = False  # the client does not keep up with what is written
        self._state = server_state
        self._keep_alive = config.timeout_keep_alive
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)  # we look after that ourselves
        self._url = b""
        self._fields: dict[bytes, bytes] = {}
        self._repeats = 0
        self._head_size = 0
        self._reading: Exchange | None = None
        self._body: bytes | bytearray = b""
        self._framing = 0
        self._began = 0.0  # when the rest of a body was first waited for
        self._admitted = False
        self._expects = False  # the client waits for a 100
        self._current: Exchange | None = None
        self._queue: list[Exchange] = []
        self._queued = 0  # bytes of bodies
        self._left = REQUESTS
        self._deaf = False
        self._unread = False  # something was sent that is not read
        self._refusal: Failure | None = None  # to be sent after the answers under way
        self._worker: asyncio.Task[None] | None = None
        self._writable: asyncio.Event | None = None
        self._unsent = 0  # bytes that waited for the client when `expire` looked last
        self._stalled = 0.0
        self._stamped: object = None
        self._stamp = b""

    @property
    def client(self) -> str:
        peer = self.transport.get_extra_info("peername")
        return str(peer[0]) if isinstance(peer, tuple) else ""

    # ---- the transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        self._deadline = self.loop.time() + self._keep_alive
        connections = cast("set[PolymuxProtocol]", self._state.connections)
        if self.app.draining:
            self.transport.close()
        elif len(connections) >= self.app.max_connections and not _make_room(connections, self.app.max_connections):
            self._turn_away(len(connections) - self.app.max_connections)
        connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        cast("set[PolymuxProtocol]", self._state.connections).discard(self)
        self._current = None
        self._queue.clear()
        self._parser = None  # type: ignore[assignment]  # it knows us: a cycle; nothing comes any more
        if self._worker is not None:
            self._worker.cancel()
        self.resume_writing()

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        if self._writable is not None:
            self._writable.set()
            self._writable = None
        if self._queue:
            self.loop.call_soon(self._next)

    async def drain(self) -> None:
        """Returns when the client has taken enough for more to be written."""
        if self.full:
            if self._writable is None:
                self._writable = asyncio.Event()
            await self._writable.wait()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            self._unread = True
            if self._refusal is not None and self._current is None and not self._queue:
                self._refuse(self._refusal)
            return
        if self._reading is None:
            self._head_size += len(data)
        else:
            self._framing += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            if not self._deaf:
                self._reject(_failure(error, data))
            return
        if self._reading is not None:
            self._more_body(self._reading)
        elif self._head_size > MAX_HEAD:
            self._reject(too_large())
        elif self._head_size and self._head_size == len(data):  # its first part; what follows wins no time
            self._deadline = self.loop.time() + HEAD_TIME

    def _feed(self, data: bytes) -> None:
        while True:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._decline() + data[upgrade.args[0] :]
            else:
                return

    def _decline(self) -> bytes:
        """The head just read, without its wish for another protocol (h2c, a websocket): the request is taken as plain
        HTTP, as RFC 9110 §7.8 allows. The parser would leave out its body, so a new one gets the head again."""
        parser, self._parser = self._parser, httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        fields = self._fields
        closing = b"close" in [token.strip() for token in fields.pop(b"connection", b"").lower().split(b",")]
        fields.pop(b"upgrade", None)
        lines = b"".join([b"%b: %b\r\n" % field for field in fields.items()])
        head = b"%b %b HTTP/%b\r\n%b%b\r\n" % (
            parser.get_method(),
            self._url,
            parser.get_http_version().encode(),
            lines,
            b"connection: close\r\n" if closing else b"",
        )
        self._head_size = len(head)
        return head

    # ---- the parser's calls; a `Failure` raised in one ends the parsing and is the answer

    def on_message_begin(self) -> None:
        self._url = b""
        self._repeats = 0
        if self._fields:
            self._fields = {}

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in self._fields:
            self._repeat(name, value)
        else:
            self._fields[name] = value

    def _repeat(self, name: bytes, value: bytes) -> None:
        if name in ONCE:
            if name != b"host" and value == self._fields[name]:
                return
            raise Failure("bad_request", f"the header {name.decode()} came twice")
        self._repeats += 1
        if self._repeats > MAX_FIELDS:
            raise too_many()
        self._fields[name] = b"%b, %b" % (self._fields[name], value)  # RFC 9110 §5.3

    def on_headers_complete(self) -> None:
        parser, fields = self._parser, self._fields
        version = parser.get_http_version()
        if version != "1.1" or b"host" not in fields or b"transfer-encoding" in fields:
            check_framing(version, fields)
        if len(fields) + self._repeats > MAX_FIELDS:
            raise too_many()
        if self._head_size > MAX_HEAD or not self._head_size:  # it shares a read with a body, or with another request
            self._head_size = check_size(self._url, fields)
        if parser.should_upgrade():
            if parser.get_method() == b"CONNECT":
                raise Failure("bad_request", "this is not a proxy")
            return  # the parser stops here; `_feed` begins again without the wish
        self._fields = {}  # for trailers: nobody asks for them
        target = self._url if self._url.startswith(b"/") else origin_form(self._url)
        exchange = self._reading = Exchange(self, parser.get_method().decode("latin-1"), target, fields)
        exchange.version = version
        exchange.keep_alive = parser.should_keep_alive() and version == "1.1"
        self._framing = 0
        self._began = 0.0
        self._admitted = False
        length = int(fields.get(b"content-length", b"0"))  # the parser takes nothing but digits
        if length > self.app.max_body:
            raise self._too_large()
        if b"expect" in fields:  # other expectations are ignored, as RFC 9110 §10.1.1 allows
            wanted = fields[b"expect"].strip().lower() == b"100-continue" and version == "1.1"
            self._expects = wanted and (length > 0 or b"transfer-encoding" in fields)

    def on_body(self, body: bytes) -> None:
        self._framing = 0
        if not self._body:
            self._body = body
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += body
        if len(self._body) > self.app.max_body:
            raise self._too_large()

    def on_message_complete(self) -> None:
        exchange = self._reading
        if exchange is None:
            return  # a wish for another protocol
        self._reading = None
        self._expects = False
        self._head_size = 0
        self._left -= 1
        exchange.body = bytes(self._body)  # the same object, when it came in one piece
        self._body = b""
        waits = self._current is not None or self.full
        last = not self._left
        if waits:
            self._queue.append(exchange)
            self._queued += len(exchange.body)
            last = last or len(self._queue) >= PIPELINE or self._queued > READ_AHEAD
        if last:
            exchange.keep_alive = False  # the client repeats on another connection what it sent after this one
        self._deaf = not exchange.keep_alive
        if not waits:
            self._serve(exchange)
        if self._deaf:
            raise _Enough

    def _more_body(self, exchange: Exchange) -> None:
        """Some of a request's body has come, or none yet."""
        if self._framing > MAX_FRAMING:
            self._reject(Failure("bad_request", "too much between the chunks of the body"))
            return
        now = self.loop.time()
        size = len(self._body)
        self._began = self._began or now
        self._deadline = min(now, self._began + size / BODY_PACE) + BODY_TIME
        awaited = self._expects and self._current is None and not self._queue
        if not self._admitted and (awaited or size > EARLY):
            self._admit(exchange)
        if awaited and not self._deaf:
            self._expects = False
            if not size:
                self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _admit(self, exchange: Exchange) -> None:
        self._admitted = True
        try:
            self.app.admit(exchange)
        except Failure as failure:
            self._reject(failure)

    # ---- one exchange after the other

    def _serve(self, exchange: Exchange) -> None:
        self._current = exchange
        work = self.app.serve(exchange)
        if work is None:
            return
        if self._worker is None:
            self._worker = self.loop.create_task(self._work(work))
        else:
            self._inbox.set_result(work)

    async def _work(self, work: Work) -> None:
        """Drives one request's coroutine after the other: a task for each connection costs less than one for each
        request, and is as well cancelled when the client leaves."""
        try:
            while True:
                self._inbox = self.loop.create_future()
                await work
                work = await self._inbox
        except Exception:
            traceback.print_exc(file=sys.stderr)
            self.transport.abort()

    def finish(self, exchange: Exchange) -> None:
        """The exchange has written its last byte."""
        self._state.total_requests += 1
        self._current = None
        if self.transport.is_closing():
            return
        if not exchange.keep_alive:
            self._end()
        elif self._queue or self._refusal is not None:
            self.loop.call_soon(self._next)
        elif self._reading is None:
            self._deadline = self.loop.time() + (HEAD_TIME if self._head_size else self._keep_alive)
        else:
            self._began = 0.0  # the time it had to wait for us does not count
            self._more_body(self._reading)

    def _next(self) -> None:
        if self._current is not None or self.transport.is_closing():
            return
        if not self._queue:
            if self._refusal is not None:
                self._refuse(self._refusal)
        elif not self.full:
            exchange = self._queue.pop(0)
            self._queued -= len(exchange.body)
            self._serve(exchange)

    def send(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    def stamp(self) -> bytes:
        """The headers every answer has; uvicorn renews their list each second."""
        default = self._state.default_headers
        if default is not self._stamped:
            self._stamped = default
            self._stamp = b"".join([b"%b: %b\r\n" % header for header in default])
        return self._stamp

    def _end(self) -> None:
        """Close, in a way that lets a client that is still sending read the answer (RFC 9112 §9.6)."""
        self._deaf = True
        self._deadline = self.loop.time()
        if self._unread:
            self._deadline += LINGER
            if self.transport.can_write_eof():
                self.transport.write_eof()
        elif self._held() < TLS_TAIL:
            self.transport.close()

    # ---- refusals

    def _too_large(self) -> Failure:
        limit = self.app.max_body / 2**20
        return Failure("request_too_large", f"the request body exceeds {limit:g} MiB (server.max_body)")

    def _turn_away(self, crowd: int) -> None:
        """There is no room: the client is told so when it asks, as an answer that comes before could be lost; in a
        crowd it is not."""
        self._deaf = True
        self._refusal = Failure("overloaded", "the gateway has as many connections as server.max_connections allows")
        self._deadline = self.loop.time() + LINGER
        if crowd >= CROWD:
            self.transport.abort()

    def _reject(self, failure: Failure) -> None:
        """Nothing more is read; when what came before is answered, the client is told why."""
        self._deaf = self._unread = True
        self._refusal = failure
        if self._current is None and not self._queue:
            self._refuse(failure)

    def _refuse(self, failure: Failure) -> None:
        self._refusal = None
        exchange = self._reading or Exchange(self, "GET", b"", {})
        exchange.keep_alive = False
        self._reading = None
        self._body = b""
        self._current = exchange
        self.app.refuse(exchange, failure)

    # ---- the server's calls

    def shutdown(self) -> None:
        """Finish what is under way, the request that is being read included, then close."""
        last = self._queue[-1] if self._queue else self._current
        if self._head_size and self._url and not self._deaf:  # some of a request is here, and is the last
            self._left = 1
        elif last is None:
            self.transport.close()
        else:
            last.keep_alive = False
            self._deaf = True

    def cut(self) -> None:
        """The time to finish is over: break off what is under way, in words where that is possible."""
        exchange = self._current
        self._queue.clear()
        self._refusal = None
        self._unread = False
        if exchange is None or self.transport.is_closing():
            self.transport.close()
            return
        if self._worker is not None:
            self._worker.cancel()
        exchange.keep_alive = False
        self.app.refuse(exchange, Failure("overloaded", "the gateway is shutting down"))
        self.loop.call_later(LINGER, self.transport.abort)  # who does not read is not waited for

    def expire(self, now: float) -> None:
        """Called about once a second: end what has been waited for too long."""
        held = self._held() if self._current is None or self.full else 0  # else more of it may come at any time
        if not held or held != self._unsent:
            self._unsent, self._stalled = held, now
        elif now >= self._stalled + STALL_TIME:
            self.transport.abort()
        if self._current is not None or now < self._deadline or self.transport.is_closing():
            return
        if self._deaf or not (self._head_size and self._url):
            if not held:
                self.transport.close()
        else:
            part = "headers" if self._reading is None else "body"
            self._reject(Failure("request_timeout", f"the request's {part} did not arrive in time"))

    def _held(self) -> int:
        """Bytes that the client has not taken. A TLS transport does not tell what lies below it, but closes without it
        after a while; there it is the system's own queue, which is full for as long as there is more."""
        transport = self.transport
        return transport.get_write_buffer_size() or (0 if transport.can_write_eof() else queued(transport))

    @property
    def idle(self) -> bool:
        """Nothing is under way here, in either direction."""
        busy = self._current is not None or self._head_size or self._queue or self._deaf
        return not (busy or self._held() or self.transport.is_closing())

    def evict(self) -> None:
        """Make room for another connection."""
        cast("set[PolymuxProtocol]", self._state.connections).discard(self)
        self.transport.abort()


def _make_room(connections: set[PolymuxProtocol], cap: int) -> bool:
    """Close those that have been idle longest. A hundredth at once: to look for them takes a while."""
    idle = sorted((one for one in connections if one.idle), key=lambda one: one._deadline)
    for one in idle[: 1 + cap // 100]:
        one.evict()
    return bool(idle)


def queued(transport: asyncio.Transport) -> int:
    """Bytes in the system's queue that the peer has not acknowledged; 0 where that is not told."""
    try:
        count = ioctl(transport.get_extra_info("socket").fileno(), TIOCOUTQ, bytes(4))
    except OSError:
        return 0
    return int.from_bytes(count, sys.byteorder)


def _failure(error: httptools.HttpParserError, data: bytes) -> Failure:
    """What ended the parsing: a failure raised in one of its calls, or bytes that are not HTTP."""
    cause = error.__context__
    if isinstance(cause, Failure):
        return cause
    if isinstance(error, httptools.HttpParserCallbackError) and cause is not None:
        raise cause  # a fault of ours: the loop reports it and closes
    return not_http(data, error)

"""The server's edge: uvicorn's httptools protocol with our limits, our error envelopes and one lane for all requests.

A request is read whole (bounded), becomes an `Exchange`, and goes to `app.serve(exchange)`. Pipelined requests wait
their turn. When the client leaves, the task that serves it is cancelled. Sources: RFC 9112; uvicorn 0.3x-0.5x.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections import deque
from collections.abc import Coroutine
from typing import Any, Protocol

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from polymux.errors import Failure

MAX_HEAD = 64 * 1024  # bytes of a request's line and headers
HEAD_TIME = 10.0  # seconds for them to arrive
BODY_TIME = 120.0  # seconds between two reads of a body
LINGER = 2.0  # seconds in which a refused client may go on sending
PIPELINE = 16  # requests read ahead on one connection
HIGH_WATER = 512 * 1024  # bytes waiting for a slow client before the upstream is told to wait


Work = Coroutine[Any, Any, None]


class Serving(Protocol):
    """What the protocol needs of the application."""

    max_body: int

    def serve(self, exchange: Exchange) -> Work | None:
        """Answer the exchange, at once or by the returned coroutine."""
        ...

    def refuse(self, exchange: Exchange, failure: Failure) -> None:
        """Answer with an error."""
        ...


class Exchange:
    """One request and the writing of its answer. Implements `engine.Sink`."""

    __slots__ = (
        "_chunked",
        "_protocol",
        "body",
        "done",
        "extra",
        "headers",
        "id",
        "keep_alive",
        "method",
        "started",
        "target",
        "version",
    )

    def __init__(self, protocol: PolymuxProtocol, method: str, target: bytes, headers: dict[bytes, bytes]) -> None:
        self._protocol = protocol
        self._chunked = True
        self.method = method
        self.target = target
        self.headers = headers
        self.body = b""
        self.id = ""  # x-request-id
        self.extra = b""  # header lines of every answer to this request
        self.version = "1.1"
        self.keep_alive = True
        self.started = False
        self.done = False

    @property
    def full(self) -> bool:
        return self._protocol.flow.write_paused

    def respond(self, status: int, head: bytes, body: bytes) -> None:
        """A whole answer in one write."""
        sized = head if status == 204 else b"%bcontent-length: %d\r\n" % (head, len(body))
        self.started = self.done = True
        self._protocol.send(self._start(status, sized) + (b"" if self.method == "HEAD" else body))
        self._protocol.finish(self)

    def start(self, status: int, head: bytes) -> None:
        """Begin an answer of unknown length."""
        self.started = True
        self._chunked = self.version == "1.1"
        if self._chunked:
            head += b"transfer-encoding: chunked\r\n"
        else:
            self.keep_alive = False
        self._protocol.send(self._start(status, head))

    def write(self, data: bytes) -> None:
        self._protocol.send(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self, data: bytes) -> None:
        """The last piece, which may be empty."""
        self.done = True
        if self._chunked:
            data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n"
        self._protocol.send(data)
        self._protocol.finish(self)

    async def drain(self) -> None:
        await self._protocol.flow.drain()

    def _start(self, status: int, head: bytes) -> bytes:
        close = b"" if self.keep_alive else b"connection: close\r\n"
        return b"%b%b%b%b%b\r\n" % (STATUS_LINE[status], self._protocol.stamp(), self.extra, head, close)


class PolymuxProtocol(HttpToolsProtocol):
    """One client connection."""

    app: Serving

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=HIGH_WATER)
        self._current: Exchange | None = None
        self._queue: deque[Exchange] = deque()
        self._reading: Exchange | None = None
        self._fields: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._body_size = 0
        self._head_size = 0
        self._stamped: object = None
        self._stamp = b""
        self._worker: asyncio.Task[None] | None = None
        self._refused = False
        self._in_head = True
        self._deadline = self.loop.time() + self.timeout_keep_alive  # 0 = none: an answer is being made

    def connection_lost(self, exc: Exception | None) -> None:
        self._current = None
        self._queue.clear()
        if self._worker is not None:
            self._worker.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._in_head:
            self._head_size += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self._refused:
                self._reject(Failure("bad_request", f"not a valid HTTP/1.1 request: {error}"))
            return
        except httptools.HttpParserUpgrade as upgrade:
            self._decline(data[upgrade.args[0] :])
            return
        if self._refused:
            return
        if self._in_head and self._head_size > MAX_HEAD:
            self._reject(_headers_too_large())
        elif self._reading is not None:
            self._deadline = self.loop.time() + BODY_TIME
        elif self._head_size == len(data):  # the first part of a head; what follows wins no time
            self._deadline = self.loop.time() + HEAD_TIME

    def _decline(self, rest: bytes) -> None:
        """A wish for another protocol (h2c, a websocket) is not granted: the request is read as plain HTTP/1.1, as
        RFC 9110 §7.8 allows. The parser would leave out its body, so it gets the head again without the wish."""
        method, self.parser = self.parser.get_method(), httptools.HttpRequestParser(self)
        if method == b"CONNECT":
            self._reject(Failure("bad_request", "this is not a proxy"))
            return
        kept = [field for field in self._fields.items() if field[0] not in (b"connection", b"upgrade")]
        lines = b"".join([b"%b: %b\r\n" % field for field in kept])
        self._head_size = 0
        self.data_received(b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method, self.url, lines, rest))

    # ---- httptools callbacks

    def on_message_begin(self) -> None:
        self.url = b""
        self._fields = {}
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._in_head = False
        parser = self.parser
        if parser.should_upgrade():
            return  # the parser stops here; `_decline` begins again without the wish
        exchange = Exchange(self, parser.get_method().decode("latin-1"), self.url, self._fields)
        exchange.version = parser.get_http_version()
        exchange.keep_alive = parser.should_keep_alive() and exchange.version == "1.1"
        self._reading = exchange
        self._body, self._body_size = [], 0
        length = self._fields.get(b"content-length", b"0")
        if self._head_size > MAX_HEAD and sum(map(len, (self.url, *self._fields, *self._fields.values()))) > MAX_HEAD:
            self._reject(_headers_too_large())
        elif int(length) > self.app.max_body:  # the parser takes nothing but digits
            self._too_large()
        elif b"expect" in self._fields and self._current is None:
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if self._refused:
            return
        self._body.append(body)
        self._body_size += len(body)
        if self._body_size > self.app.max_body:
            self._too_large()

    def on_message_complete(self) -> None:
        exchange, self._reading = self._reading, None
        self._head_size = 0
        self._in_head = True
        if exchange is None or self._refused:
            return
        exchange.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        if self._current is None:
            self._serve(exchange)
        else:
            self._queue.append(exchange)
            if len(self._queue) >= PIPELINE:
                self.flow.pause_reading()

    # ---- one exchange after the other

    def _serve(self, exchange: Exchange) -> None:
        self._current = exchange
        self._deadline = 0.0
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
        self.server_state.total_requests += 1
        self._current = None
        if self.transport.is_closing():
            return
        if self._refused:
            self._linger()
        elif not exchange.keep_alive:
            self.transport.close()
        elif self._queue:
            self.loop.call_soon(self._next)
        else:
            self._deadline = self.loop.time() + self.timeout_keep_alive

    def _next(self) -> None:
        if self._queue and self._current is None and not self.transport.is_closing():
            self.flow.resume_reading()
            self._serve(self._queue.popleft())

    def send(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    def stamp(self) -> bytes:
        """The headers every answer has; uvicorn renews their list each second."""
        default = self.server_state.default_headers
        if default is not self._stamped:
            self._stamped = default
            self._stamp = b"".join([b"%b: %b\r\n" % header for header in default])
        return self._stamp

    def shutdown(self) -> None:
        """Asked by the server: finish what is under way, then close."""
        if self._current is None and not self._queue:
            self.transport.close()
            return
        for exchange in (self._current, *self._queue):
            if exchange is not None:
                exchange.keep_alive = False

    def expire(self, now: float) -> None:
        """Called about once a second: end what has been waited for too long."""
        if not self._deadline or now < self._deadline or self.transport.is_closing():
            return
        if self._refused or (not self._head_size and self._reading is None):
            self.transport.close()
        else:
            part = "headers" if self._in_head else "body"
            self._reject(Failure("request_timeout", f"the request's {part} did not arrive in time"))

    # ---- refusals before a request is complete

    def _too_large(self) -> None:
        limit = self.app.max_body / 2**20
        self._reject(Failure("request_too_large", f"the request body exceeds {limit:g} MiB (server.max_body)"))

    def _reject(self, failure: Failure) -> None:
        """Answer and close; nothing more is read. An answer under way is broken off instead."""
        self._refused = True
        if self._current is not None:
            self.transport.close()
            return
        exchange = self._reading or Exchange(self, "GET", b"", self._fields)
        exchange.keep_alive = False
        self._current = exchange
        self.app.refuse(exchange, failure)

    def _linger(self) -> None:
        """Close in a way that lets a client that is still sending read the refusal (RFC 9112 §9.6)."""
        if not self.transport.can_write_eof():
            self.transport.close()
            return
        self.transport.write_eof()
        self._deadline = self.loop.time() + LINGER


def _headers_too_large() -> Failure:
    return Failure("headers_too_large", f"the request's headers exceed {MAX_HEAD // 1024} KiB")

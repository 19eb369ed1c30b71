"""One socket to an upstream: HTTP/1.1 (RFC 9112) as `httptools` reads it, strictly."""

from __future__ import annotations

import asyncio
from typing import Protocol

import httptools

from polymux.errors import Failure, Truncated
from polymux.transport.coding import decoder
from polymux.transport.reply import Reply

MAX_HEAD = 64 * 1024  # bytes without a byte of body between them: of a head, of trailers
MOST_HEADERS = 256
PIECE = 256 * 1024  # of a large request, which goes out as the upstream takes it

_FRAMING = frozenset(map(len, ("content-length", "transfer-encoding", "content-encoding")))


class Home(Protocol):
    """Where a connection goes when its reply is complete, and who is told when it has ended: its pool."""

    def park(self, conn: Connection) -> None: ...

    def forget(self, conn: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """One socket to an upstream, serving one reply at a time."""

    def __init__(self, home: Home, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.since = 0.0  # when it was last parked; 0 = never used
        self._home = home
        self._socket: asyncio.Transport | None = None
        self._body: list[bytes] = []  # of the read that is being taken apart
        self.on_body = self._body.append  # a callback of the parser: no Python frame for each chunk
        self._parser = httptools.HttpResponseParser(self)
        self._reply: Reply | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._bare = 0  # bytes since the last byte of a body
        self._framed = False
        self._paused = False
        self._rest = memoryview(b"")  # of a large request
        self._choked = False

    @property
    def open(self) -> bool:
        return self._socket is not None and not self._socket.is_closing()

    def start(self, reply: Reply, data: bytes, rest: bytes = b"") -> None:
        """Send a request. `rest`: its large part, which waits for the upstream to take it."""
        self._reply = reply
        self._headers, self._bare, self._framed = [], 0, False
        assert self._socket is not None  # noqa: S101 - only connected ones are handed out
        self._socket.write(data)
        if rest:
            self._rest = memoryview(rest)
            self._send()

    def _send(self) -> None:
        while self._rest and not self._choked and self._socket is not None:
            piece, self._rest = self._rest[:PIECE], self._rest[PIECE:]
            self._socket.write(piece)
        if not self._rest:
            self._rest = memoryview(b"")  # an empty end of it would hold all of it

    def pause(self) -> None:
        if not self._paused and self.open and self._socket is not None:
            self._paused = True
            self._socket.pause_reading()

    def resume(self) -> None:
        if self._paused and self.open and self._socket is not None:
            self._paused = False
            self._socket.resume_reading()

    def abort(self) -> None:
        self._reply = None
        if self._socket is not None:
            self._socket.abort()

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = transport  # type: ignore[assignment]  # a Transport for TCP and TLS

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        self._socket = None
        self._rest = memoryview(b"")
        self._home.forget(self)
        reply = self._reply
        if reply is None:
            return
        self._reply = None
        if reply.status and not self._framed and error is None:  # the body runs until the close
            reply.complete = True
            reply.wake()
        elif reply.status:
            reply.fail(Truncated())
        else:
            reply.fail(Lost(self._bare > 0))

    def data_received(self, data: bytes) -> None:
        reply = self._reply
        if reply is None:  # an answer nobody asked for
            self.abort()
            return
        if reply.idle:
            reply.deadline = min(self.loop.time() + reply.idle, reply.final)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse(reply, "the upstream's answer is not valid HTTP")
        except httptools.HttpParserUpgrade:
            self._refuse(reply, "the upstream wants another protocol")
        body = self._body
        if body:  # as `_deliver`: this is once for each read
            self._bare = 0
            if not reply.complete:
                reply.feed(body[0] if len(body) == 1 else b"".join(body))
            body.clear()
        elif self._reply is not None:
            self._bare += len(data)
            if self._bare > MAX_HEAD:
                self._refuse(reply, "the headers of the upstream's answer are too large")

    def _deliver(self, reply: Reply) -> None:
        self._bare = 0
        if not reply.complete:  # else it is of a second answer, which nobody asked for
            reply.feed(self._body[0] if len(self._body) == 1 else b"".join(self._body))
        self._body.clear()

    def _refuse(self, reply: Reply, words: str) -> None:
        reply.fail(Failure("upstream_unavailable", words))
        self.abort()

    # ---- httptools callbacks

    def on_message_begin(self) -> None:
        if self._reply is None:  # a second answer behind the first: nobody asked for it
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        headers, self._headers = self._headers, []  # what follows are trailers, and of no interest
        reply = self._reply
        if status < 200 or reply is None:  # 1xx: the real answer follows
            return
        framed, coding = self._parser.should_keep_alive(), b""
        for name, value in headers:
            if len(name) in _FRAMING:
                name = name.lower()
                if name == b"content-encoding":
                    coding += b"," + value
                elif name == b"content-length":
                    framed = True
                elif name == b"transfer-encoding":
                    framed = True
                    if value.strip().lower() != b"chunked":
                        self._refuse(reply, "the upstream's answer has an unknown transfer-encoding")
        if len(headers) > MOST_HEADERS:
            self._refuse(reply, "the upstream's answer has too many headers")
        if coding:
            try:
                reply.decoder = decoder(coding.decode("latin-1"))
            except Failure as failure:
                self._refuse(reply, failure.message)
        if self._reply is None:
            return
        self._framed = framed
        reply.headers = headers
        reply.status = status
        reply.wake()

    def on_message_complete(self) -> None:
        reply = self._reply
        if reply is None or not reply.status:
            return
        keep = self._parser.should_keep_alive()
        if not self._framed and not keep:
            return  # the close ends it; llhttp says so only for empty bodies
        if self._body:
            self._deliver(reply)
        reply.complete = True
        self._reply = None
        self.resume()
        socket = self._socket
        if keep and socket is not None and not self._rest and not socket.get_write_buffer_size():
            self._home.park(self)
        else:  # it wants to close, or answered before it had all of the request
            self.abort()
        reply.wake()


class Lost(Failure):
    """The connection ended before an answer. `answered`: some of it had come."""

    def __init__(self, answered: bool) -> None:
        super().__init__("upstream_unavailable", "the upstream closed the connection before it answered")
        self.answered = answered

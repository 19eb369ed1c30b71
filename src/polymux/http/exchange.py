"""One request, and how its answer is written."""

from __future__ import annotations

from typing import Final, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

HIGH_WATER: Final = 512 * 1024  # bytes waiting for a slow client before the upstream is told to wait


class Connection(Protocol):
    """What an exchange needs of the connection that it came on."""

    full: bool  # the client does not keep up with what is written

    @property
    def client(self) -> str: ...

    def stamp(self) -> bytes:
        """Header lines of every answer."""
        ...

    def send(self, data: bytes) -> None: ...

    def finish(self, exchange: Exchange) -> None:
        """The exchange has written its last byte."""
        ...

    async def drain(self) -> None: ...


class Exchange:
    """One request and the writing of its answer. Implements `engine.Sink`."""

    __slots__ = (
        *("_chunked", "_connection", "_head", "body", "done", "extra", "headers", "id"),
        *("keep_alive", "method", "started", "target", "version"),
    )

    def __init__(self, connection: Connection, method: str, target: bytes, headers: dict[bytes, bytes]) -> None:
        self._connection = connection
        self._chunked = True
        self._head = b""  # of a streamed answer, before its first piece
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
    def client(self) -> str:
        """The address of the client's host; "" on a unix socket."""
        return self._connection.client

    @property
    def full(self) -> bool:
        return self._connection.full

    def respond(self, status: int, head: bytes, body: bytes) -> None:
        """A whole answer."""
        sized = head if status == 204 else b"%bcontent-length: %d\r\n" % (head, len(body))
        self.started = self.done = True
        start = self._start(status, sized)
        if self.method == "HEAD":
            self._connection.send(start)
        elif len(body) < HIGH_WATER:
            self._connection.send(start + body)
        else:  # not copied
            self._connection.send(start)
            self._connection.send(body)
        self._connection.finish(self)

    def start(self, status: int, head: bytes) -> None:
        """Begin an answer of unknown length. It goes out with the first piece."""
        self.started = True
        self._chunked = self.version == "1.1"
        if self._chunked:
            head += b"transfer-encoding: chunked\r\n"
        else:
            self.keep_alive = False
        self._head = self._start(status, head)

    def write(self, data: bytes) -> None:
        head, self._head = self._head, b""
        self._connection.send(b"%b%x\r\n%b\r\n" % (head, len(data), data) if self._chunked else head + data)

    def end(self, data: bytes) -> None:
        """The last piece, which may be empty."""
        self.done = True
        head, self._head = self._head, b""
        if not self._chunked:
            data = head + data
        elif data:
            data = b"%b%x\r\n%b\r\n0\r\n\r\n" % (head, len(data), data)
        else:
            data = head + b"0\r\n\r\n"
        self._connection.send(data)
        self._connection.finish(self)

    async def drain(self) -> None:
        await self._connection.drain()

    def _start(self, status: int, head: bytes) -> bytes:
        close = b"" if self.keep_alive else b"connection: close\r\n"
        return b"".join((STATUS_LINE[status], self._connection.stamp(), self.extra, head, close, b"\r\n"))

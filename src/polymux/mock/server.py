"""Plays scripts on raw sockets: nothing between a script and the wire would mend what is meant to be broken.

HTTP/1.1 as far as a provider's clients need it: requests with a length or in chunks, connections that are kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from polymux.mock.scripts import Headers, Script

READ = 65536


class Gone(Exception):
    """The peer closed the connection."""


class Exchange:
    """One request as it arrived, and what becomes of its answer: override the methods to watch it or to hold it.

    connection: the number of the connection it came on (1, 2 ...). json: the body decoded, None when it is no JSON.
    sent: body bytes written so far. script: the answer, once it is chosen. fault: the name of the fault in it.
    """

    def __init__(self, method: str, path: str, headers: Headers, body: bytes, connection: int) -> None:
        self.method, self.path, self.headers, self.body, self.connection = method, path, headers, body, connection
        self.json: Any = None
        self.sent = 0
        self.script = Script()
        self.fault = ""
        with contextlib.suppress(ValueError, RecursionError):
            self.json = json.loads(body) if body else None

    @property
    def model(self) -> str:
        return str(self.json.get("model", "")) if isinstance(self.json, dict) else ""

    def header(self, name: str) -> str | None:
        """The value of a header, None when it is absent; several are joined as HTTP does."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        return ", ".join(values) if values else None

    async def permit(self) -> None:
        """Returns when a held frame may go out, or a stall is over: here never."""
        await asyncio.Event().wait()

    def when_blocked(self) -> None:
        """The peer does not read; the answer waits for it."""

    def when_ended(self, whole: bool) -> None:
        """The script was played to its end, or the peer left before that."""


E = TypeVar("E", bound=Exchange)


class Connection:
    """Reads ahead without end, so that a peer's leaving is noticed at any moment."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.buffer = bytearray()
        self.more = asyncio.Event()
        self.closed = asyncio.Event()
        self.pump = asyncio.create_task(self._pump())

    async def _pump(self) -> None:
        try:
            while data := await self.reader.read(READ):
                self.buffer += data
                self.more.set()
        except ConnectionError:
            pass
        self.closed.set()
        self.more.set()

    async def _until(self, end: int | bytes) -> bytes:
        """Take bytes up to a count, or up to and with a separator."""
        while True:
            at = end if isinstance(end, int) else self.buffer.find(end) + len(end)
            if len(self.buffer) >= at and not (isinstance(end, bytes) and end not in self.buffer):
                taken = bytes(self.buffer[:at])
                del self.buffer[:at]
                return taken
            if self.closed.is_set():
                raise Gone
            self.more.clear()
            await self.more.wait()

    async def request(self) -> tuple[str, str, Headers, bytes]:
        """Method, target, headers and body of the next request. Raises `Gone`, also for what is no HTTP."""
        try:
            head = (await self._until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path, _ = head[0].split(" ", 2)
            pairs = (line.split(":", 1) for line in head[1:] if line)
            headers = tuple((name, value.strip()) for name, value in pairs)
            lower = {name.lower(): value for name, value in headers}
            if "chunked" in lower.get("transfer-encoding", ""):
                body = b""
                while size := int(await self._until(b"\r\n"), 16):
                    body += (await self._until(size + 2))[:-2]
                await self._until(b"\r\n")
            else:
                body = await self._until(int(lower.get("content-length", "0")))
        except ValueError:
            raise Gone from None
        return method, path, headers, body

    async def unless_gone(self, waiting: Awaitable[object]) -> None:
        """Await something; raises Gone as soon as the peer leaves."""
        task = asyncio.ensure_future(waiting)
        closed = asyncio.create_task(self.closed.wait())
        try:
            await asyncio.wait({task, closed}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Gone
            await task
        finally:
            task.cancel()
            closed.cancel()

    def reset(self) -> None:
        """Close with a TCP reset in place of an orderly end."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Server(Generic[E]):
    """`script` says how each request is answered; `exchange` makes the object that a request becomes."""

    def __init__(self, script: Callable[[E], Script], exchange: Callable[[str, str, Headers, bytes, int], E]) -> None:
        self._script, self._exchange = script, exchange
        self._connections = 0
        self._open: dict[Connection, asyncio.Task[None]] = {}

    async def run(self, listening: socket.socket, end: asyncio.Event) -> None:
        """Serve what comes to a listening socket until the end; connections that are open then are cut."""
        if listening.family != socket.AF_UNIX:  # connections have it from their listener; asyncio does not see to these
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = await asyncio.start_server(self._serve, sock=listening)
        await end.wait()
        server.close()
        tasks = [*self._open.values(), *(connection.pump for connection in self._open)]
        for connection in self._open:
            connection.writer.transport.abort()
        await asyncio.gather(*tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        number = self._connections
        writer.transport.set_write_buffer_limits(high=0)
        connection = Connection(reader, writer)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - this is a coroutine of one
        self._open[connection] = task
        try:
            while await self._answer(connection, self._exchange(*await connection.request(), number)):
                pass
        except (Gone, ConnectionError):
            pass
        finally:
            writer.close()
            del self._open[connection]

    async def _answer(self, connection: Connection, exchange: E) -> bool:
        exchange.script = self._script(exchange)
        try:
            keep = await _play(connection, exchange)
        except (Gone, ConnectionError):
            exchange.when_ended(False)
            raise Gone from None
        exchange.when_ended(True)
        return keep


async def _play(connection: Connection, exchange: Exchange) -> bool:
    """Send the answer; True when the connection may be used again."""
    script = exchange.script
    if script.before:
        await connection.unless_gone(asyncio.sleep(script.before))
    if not await _fault(connection, exchange, script.start):
        return False
    await _write(connection, exchange, script.head())
    for number, frame in enumerate(script.frames):
        if seconds := script.wait(number):
            await connection.unless_gone(asyncio.sleep(seconds))
        if script.gate and number >= script.free:
            await connection.unless_gone(exchange.permit())
        await _write(connection, exchange, script.framed(frame))
        exchange.sent += len(frame)
    if not await _fault(connection, exchange, script.end):
        return False
    if script.framing == "chunked" and not script.end:
        await _write(connection, exchange, b"0\r\n\r\n")
    return script.framing in ("chunked", "length") and not script.stale and not script.end


async def _fault(connection: Connection, exchange: Exchange, name: str) -> bool:
    """Play the fault of a start or an end; False when the connection is over."""
    if name == "stall":
        await connection.unless_gone(exchange.permit())
    elif name == "reset":
        connection.reset()
    return name in ("", "stall")


async def _write(connection: Connection, exchange: Exchange, data: bytes) -> None:
    bite = exchange.script.bite or len(data) or 1
    for start in range(0, len(data), bite):
        connection.writer.write(data[start : start + bite])
        if connection.writer.transport.get_write_buffer_size():
            exchange.when_blocked()
        await connection.unless_gone(connection.writer.drain())

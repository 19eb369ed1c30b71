"""The server's protocol in the test's own loop: an application that does as the path says, and a raw client."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any, Final

import uvicorn
from uvicorn.server import ServerState

from polymux.errors import Failure
from polymux.http.protocol import Exchange, PolymuxProtocol
from support.peer import until
from support.raw import Answer, Head

KEEP_ALIVE: Final = 75
MAX_BODY: Final = 1 << 20
HEALTH: Final = b"GET /health HTTP/1.1\r\nhost: g\r\n\r\n"


class Clock:
    """A loop whose time stands still until the test moves it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


class App:
    """Implements `Serving`. Answers `method target body` at once, or as the path says."""

    def __init__(self) -> None:
        self.max_body = MAX_BODY
        self.max_connections = 100
        self.draining = False
        self.exchanges: list[Exchange] = []
        self.failures: list[Failure] = []
        self.proceed = asyncio.Event()
        self.cancelled: list[str] = []
        self.blocked = asyncio.Event()

    def serve(self, exchange: Exchange) -> Any:
        self.exchanges.append(exchange)
        path = exchange.target.decode().partition("?")[0]
        work: Any = getattr(self, "_" + path.strip("/"), None)
        if work is not None:
            return work(exchange)
        exchange.respond(200, b"x-target: %b\r\n" % exchange.target, exchange.body or b"ok")
        return None

    def admit(self, exchange: Exchange) -> None:
        if b"x-no-key" in exchange.headers:
            raise Failure("invalid_api_key", "no key")

    def refuse(self, exchange: Exchange, failure: Failure) -> None:
        self.failures.append(failure)
        if exchange.started:
            exchange.end(b"cut")
        else:
            exchange.respond(failure.status, b"content-type: application/json\r\n", b'{"error":{}}')

    async def _later(self, exchange: Exchange) -> None:
        try:
            await self.proceed.wait()
        except asyncio.CancelledError:
            self.cancelled.append("later")
            raise
        exchange.respond(200, b"", exchange.body or b"late")

    async def _stream(self, exchange: Exchange) -> None:
        exchange.start(200, b"content-type: text/event-stream\r\n")
        exchange.write(b"one")
        try:
            await self.proceed.wait()
        except asyncio.CancelledError:
            self.cancelled.append("stream")
            raise
        exchange.write(b"two")
        exchange.end(b"three")

    async def _flood(self, exchange: Exchange) -> None:
        exchange.start(200, b"")
        while not exchange.full:
            exchange.write(b"x" * 65536)
        self.blocked.set()
        await exchange.drain()
        assert not exchange.full
        exchange.end(b"")

    def _huge(self, exchange: Exchange) -> None:
        exchange.respond(200, b"", bytes(16 << 20))

    def _nothing(self, exchange: Exchange) -> None:
        exchange.respond(204, b"", b"")

    def _fault(self, exchange: Exchange) -> None:
        raise ValueError("a fault of ours")

    async def _broken(self, exchange: Exchange) -> None:
        raise ValueError("a fault of ours")


class Client:
    """The client's end, and the protocol object at the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, protocol: PolymuxProtocol) -> None:
        self.reader, self.writer, self.protocol = reader, writer, protocol

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Head:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = [line.partition(": ") for line in lines[1:] if line]
        assert lines[0].startswith("HTTP/1.1 "), lines[0]
        return Head(int(lines[0].split(" ")[1]), {name.lower(): value for name, _, value in pairs})

    async def answer(self, *, body: bool = True) -> Answer:
        head = await self.head()
        if not body or head.status == 204:
            return Answer(head.status, head.headers, b"")
        if "chunked" in head.headers.get("transfer-encoding", ""):
            data = b"".join([piece async for piece in self.chunks()])
        elif "content-length" in head.headers:
            data = await self.reader.readexactly(int(head.headers["content-length"]))
        else:
            data = await self.reader.read()
        return Answer(head.status, head.headers, data)

    async def chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self.reader.readline(), 16):
            yield await self.reader.readexactly(size)
            assert await self.reader.readline() == b"\r\n"
        assert await self.reader.readline() == b"\r\n"

    async def ended(self) -> bool:
        """Whether the server has closed, with nothing left to read."""
        return not await self.reader.read()


class Edge:
    """A listening server. `clock`: its time, where the test moves it."""

    address: tuple[str, int]

    def __init__(self, app: App) -> None:
        self.app = app
        self.state = ServerState()
        self.state.default_headers = [(b"server", b"test")]
        self.clock: Clock | None = None
        self.clients: list[Client] = []
        self._made: list[PolymuxProtocol] = []
        self._config = uvicorn.Config(
            app,  # type: ignore[arg-type]  # as `polymux serve` does
            lifespan="off",
            interface="asgi3",
            ws="none",
            proxy_headers=False,
            log_config=None,
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE,
        )
        self._config.load()

    def protocol(self) -> PolymuxProtocol:
        made = PolymuxProtocol(self._config, self.state, {}, self.clock)  # type: ignore[arg-type]  # what it needs of a loop
        self._made.append(made)
        return made

    async def connect(self, **how: Any) -> Client:
        """One client after the other, so that it is known whose protocol is whose."""
        count = len(self._made)
        if "path" in how:
            reader, writer = await asyncio.open_unix_connection(**how)
        else:
            reader, writer = await asyncio.open_connection(*self.address, **how)
        await until(lambda: len(self._made) > count and hasattr(self._made[count], "transport"))
        self.clients.append(Client(reader, writer, self._made[count]))
        return self.clients[-1]


@contextlib.asynccontextmanager
async def listening(
    app: App, path: str = "", tls: ssl.SSLContext | None = None, clock: bool = False
) -> AsyncIterator[Edge]:
    """On a port of loopback, or a unix socket."""
    edge, loop = Edge(app), asyncio.get_running_loop()
    edge.clock = Clock() if clock else None
    if path:
        server = await loop.create_unix_server(edge.protocol, path)
    else:
        server = await loop.create_server(edge.protocol, "127.0.0.1", 0, ssl=tls)
        edge.address = server.sockets[0].getsockname()
    try:
        yield edge
    finally:
        for client in edge.clients:
            client.writer.close()
        for protocol in list(edge.state.connections):
            protocol.transport.abort()
        await until(lambda: not edge.state.connections)
        server.close()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def connected(app: App, clock: bool = False) -> AsyncIterator[Client]:
    async with listening(app, clock=clock) as edge:
        yield await edge.connect()


def post(path: str = "/x", body: bytes = b"", *lines: str, version: str = "1.1") -> bytes:
    head = "\r\n".join([f"POST {path} HTTP/{version}", "host: g", f"content-length: {len(body)}", *lines, "", ""])
    return head.encode() + body


def chunked(pieces: list[bytes]) -> bytes:
    head = b"POST /x HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"

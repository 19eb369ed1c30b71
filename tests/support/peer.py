"""Coroutine tests on both event loops, and raw peers on real sockets inside the test's own loop.

What a test waits for is an event; patience only turns a hang into a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import socket
import ssl
import struct
import sys
from collections.abc import Callable, Coroutine
from functools import wraps
from types import TracebackType
from typing import Any, Final, Self

import pytest

PATIENCE: Final = 20.0
LOOPS: Final[dict[str, Callable[[], asyncio.AbstractEventLoop]]] = {"asyncio": asyncio.new_event_loop}
if sys.platform != "win32":
    import uvloop

    LOOPS["uvloop"] = uvloop.new_event_loop


def looped(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a coroutine test on each loop; a hang is a failure."""

    @wraps(test)
    def run(loop: str, **arguments: Any) -> None:
        with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
            runner.run(asyncio.wait_for(test(**arguments), PATIENCE))

    own = inspect.signature(test)
    parameter = inspect.Parameter("loop", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    run.__signature__ = own.replace(parameters=[parameter, *own.parameters.values()])  # type: ignore[attr-defined]  # pytest reads it
    over_loops: Callable[..., None] = pytest.mark.parametrize("loop", LOOPS)(run)
    return over_loops


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until something holds; the test's own patience ends it otherwise."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
        await asyncio.sleep(0)


class Peer:
    """The upstream's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def request(self) -> bytes:
        """One whole request, head and body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return head + await self.reader.readexactly(length)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, data: bytes) -> None:
        """Take one request, give one answer."""
        await self.request()
        await self.send(data)

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def gone(self) -> None:
        """Returns when the other side has closed."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass


class Listener:
    """A listening socket; connections are taken one by one."""

    def __init__(self, trust: ssl.SSLContext | None = None) -> None:
        self._trust = trust
        self._arrived: asyncio.Queue[Peer] = asyncio.Queue()
        self._peers: list[Peer] = []
        self._closed = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._trust)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self._trust else 'http'}://127.0.0.1:{self.port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        for _ in range(9):  # let a connection that is being accepted arrive: the loop would leave its socket open
            await asyncio.sleep(0)
        self._server.close()
        await self._server.wait_closed()
        self._closed = True
        for peer in self._peers:
            peer.writer.transport.abort()
        for peer in self._peers:
            with contextlib.suppress(OSError):
                await peer.writer.wait_closed()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self._peers.append(peer)
        if self._closed:  # it came when nobody listened any more
            writer.transport.abort()
        self._arrived.put_nowait(peer)

    async def accept(self) -> Peer:
        return await self._arrived.get()

    @property
    def accepted(self) -> int:
        return len(self._peers)

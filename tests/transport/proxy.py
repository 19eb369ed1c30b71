"""A small HTTP proxy: CONNECT and absolute-form requests, with or without credentials of its own."""

from __future__ import annotations

import asyncio
import re
import ssl
from base64 import b64encode
from types import TracebackType
from typing import Final, Self

CREDENTIALS: Final = "user:p%40ss word%3A"  # as they stand in a URL
_LINE: Final = re.compile(rb"(CONNECT) ([^ /]+):(\d+) HTTP/1\.1\r\n|(\w+) http://([^ /]+):(\d+)(/[^ ]*) HTTP/1\.1\r\n")


class Proxy:
    """All names lead to this machine. `closed`: it wants `CREDENTIALS`. `seen`: the heads that have come."""

    def __init__(self, trust: ssl.SSLContext | None = None, *, closed: bool = False) -> None:
        self._trust = trust
        self._closed = closed
        self.seen: list[bytes] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._trust)
        self.port: int = self._server.sockets[0].getsockname()[1]
        scheme = "https" if self._trust else "http"
        user = f"{CREDENTIALS}@" if self._closed else ""
        self.url = f"{scheme}://{user}127.0.0.1:{self.port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.seen.append(head)
        found = _LINE.match(head)
        wanted = b"\r\nproxy-authorization: Basic " + b64encode(b"user:p@ss word:") + b"\r\n"
        if found is None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        elif self._closed and wanted not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
        else:
            there, back = await asyncio.open_connection("127.0.0.1", int(found[3] or found[6]))
            if found[1]:
                writer.write(b"HTTP/1.1 200 Connection established\r\nx-proxy: yes\r\n\r\n")
            else:
                line = b"%b %b HTTP/1.1\r\n" % (found[4], found[7])
                back.write(line + head[found.end() :].replace(wanted[2:], b""))
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(_pipe(reader, back))
                    group.create_task(_pipe(there, writer))
            finally:
                back.transport.abort()
            return
        await writer.drain()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    raise ConnectionResetError  # the other half ends with this one

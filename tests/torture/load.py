"""A quick raw client for many requests: one connection at a time per worker, kept alive where the answer allows it."""

from __future__ import annotations

import asyncio
from typing import Final

import httptools

PATIENCE: Final = 30.0


class Wire(asyncio.Protocol):
    """One connection; `ask` sends a request and waits for the whole answer, or leaves in the middle of it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._leave_after = -1
        self._gone = self._loop.create_future()
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.id = ""
        self.body = bytearray()
        self.complete = False
        self.keep = False

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def ask(self, request: bytes, leave_after: int = -1) -> None:
        """`leave_after` bytes of the body (0: as soon as the request is sent) the client aborts; -1: never."""
        self._reset()
        self._leave_after = leave_after
        self._waiter = self._loop.create_future()
        assert self._transport is not None
        self._transport.write(request)
        if leave_after == 0:
            self._loop.call_soon(self.close)
        async with asyncio.timeout(PATIENCE):
            await self._waiter

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def end(self) -> None:
        """Close, and wait until it is closed."""
        self.close()
        await self._gone

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # ---- asyncio.Protocol and httptools

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's is none of asyncio's classes

    def connection_lost(self, error: Exception | None) -> None:
        self._gone.set_result(None)
        self._wake()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)
        if 0 < self._leave_after <= len(self.body):
            self.close()
        if self.complete:
            self.keep = self._parser.should_keep_alive()
            self._wake()

    def on_header(self, name: bytes, value: bytes) -> None:
        if name == b"x-request-id":
            self.id = value.decode()

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


async def connect(port: int) -> Wire:
    loop = asyncio.get_running_loop()
    _, wire = await loop.create_connection(Wire, "127.0.0.1", port)
    return wire

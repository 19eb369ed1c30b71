"""One upstream answer, as its reader sees it."""

from __future__ import annotations

import asyncio
from typing import Protocol

from polymux.errors import Failure
from polymux.transport.coding import Decoder

HIGH_WATER = 256 * 1024  # bytes a reply holds before its upstream is told to wait
MAX_BODY = 64 * 1024 * 1024  # of a reply that is read whole


class Source(Protocol):
    """Where a reply's bytes come from: its connection."""

    loop: asyncio.AbstractEventLoop

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def abort(self) -> None: ...


class Reply:
    """One answer. Deadlines are absolute times of the loop's clock; `idle` seconds extend the deadline at each read."""

    __slots__ = (
        "_buffered",
        "_conn",
        "_error",
        "_parts",
        "_waiter",
        "complete",
        "deadline",
        "decoder",
        "final",
        "finished",
        "headers",
        "idle",
        "status",
    )

    def __init__(self, conn: Source, deadline: float, final: float) -> None:
        self._conn = conn
        self._parts: list[bytes] = []
        self._buffered = 0
        self._waiter: asyncio.Future[None] | None = None
        self._error: Exception | None = None
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.decoder: Decoder | None = None  # of a compressed body
        self.complete = False
        self.finished = False  # nothing of it is wanted any more; its end may still be on the way
        self.deadline = deadline
        self.final = final
        self.idle = 0.0

    def header(self, name: bytes) -> str:
        """The first value of a header (lower-case name), or ""."""
        for key, value in self.headers:
            if key.lower() == name:
                return value.decode("latin-1")
        return ""

    def header_map(self) -> dict[str, str]:
        return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self.headers}

    async def block(self) -> bytes:
        """What has arrived since the last call, at once; b"" at the end. Raises `Failure` or `Truncated`."""
        decoder = self.decoder
        while True:
            if decoder is not None and (data := decoder.pull()):
                return data
            while not self._parts:
                if self.complete:
                    if decoder is not None:
                        decoder.close()
                    return b""
                await self.wait()
            data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts.clear()
            held, self._buffered = self._buffered, 0
            if held > HIGH_WATER:
                self._conn.resume()
            if decoder is None:
                return data
            decoder.push(data)

    async def whole(self, limit: int = MAX_BODY) -> bytes:
        """All of the body. Raises `Failure` when it is larger than `limit`, or as `block` does."""
        if self.decoder is not None:
            return await self._whole_decoded(limit)
        while not self.complete:
            if self._buffered > HIGH_WATER:
                self._conn.resume()
            if self._buffered > limit:
                break
            await self.wait()
        if self._buffered > limit:
            raise _too_large()
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        return body

    async def _whole_decoded(self, limit: int) -> bytes:
        pieces, size = [], 0
        while piece := await Reply.block(self):
            size += len(piece)
            if size > limit:
                raise _too_large()
            pieces.append(piece)
            await asyncio.sleep(0)  # a few bytes may decode to a lot: let the others have their turn
        return b"".join(pieces)

    def close(self) -> None:
        """Done with it. An unfinished answer takes its connection along."""
        if not self.complete:
            self._conn.abort()

    def expect(self, idle: float) -> None:
        """From now on at most `idle` seconds may pass between two reads."""
        self.idle = idle
        self.deadline = min(self._conn.loop.time() + idle, self.final)

    def hold(self) -> None:
        """Nothing is expected of the upstream while we do not read; only `final` counts."""
        self.idle = 0.0
        self.deadline = self.final

    def __aiter__(self) -> Reply:
        return self

    async def __anext__(self) -> bytes:
        if data := await self.block():
            return data
        raise StopAsyncIteration

    def feed(self, data: bytes) -> None:
        """The body bytes of one read."""
        self._parts.append(data)
        self._buffered += len(data)
        if self._buffered > HIGH_WATER:
            self._conn.pause()
        waiter = self._waiter
        if waiter is not None and not waiter.done():  # as `wake`: this is once for each read
            waiter.set_result(None)

    def fail(self, error: Exception) -> None:
        if self._error is None and not self.complete:
            self._error = error
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_exception(error)

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def wait(self) -> asyncio.Future[None]:
        """Done when something has arrived; fails with what ended the answer."""
        self._waiter = waiter = self._conn.loop.create_future()
        if self._error is not None:
            waiter.set_exception(self._error)
        return waiter


def _too_large() -> Failure:
    return Failure("upstream_unavailable", "the upstream's answer is too large")

"""Calls that a function model makes of other models: ordinary calls, with a sink in memory.

So limits, failover, records and the deadline hold for them as for any other; there is no second path.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, Final, Protocol

import msgspec

from polymux.errors import Failure
from polymux.functions.call import Messages, Parameters
from polymux.ids import request_id
from polymux.providers.base import Asked
from polymux.providers.dialects import DIALECTS
from polymux.schema.chat import ChatResponse, Chunk
from polymux.surfaces.chat import Chat
from polymux.types import Call
from polymux.wire import sse

DEPTH: Final = 8  # function models that may stand between a client and a call
ROOM: Final = 64 * 1024  # bytes of an answer that wait to be read before the upstream is told to


class Runner(Protocol):
    """The engine."""

    def run(self, call: Call, surface: _Within, snapshot: Any, sink: Memory) -> Coroutine[Any, Any, None]: ...


class Nested:
    """What one call of a function asks of other models. Implements `functions.call.Chats`."""

    def __init__(self, runner: Runner, snapshot: Any, outer: Call, final: float) -> None:
        """`snapshot`: what the outer call began with. `final`: when that must end, the loop's clock."""
        self._runner, self._snapshot, self._outer, self._final = runner, snapshot, outer, final
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def whole(self, model: str, messages: Messages, params: Parameters) -> ChatResponse:
        """The answer at once. Raises `Failure`."""
        surface = _Within()
        async with aclosing(self._read(surface, model, messages, {**params, "stream": False})) as pieces:
            body = b"".join([piece async for piece in pieces])
        return DIALECTS[surface.dialect].read(body, Asked(model, int(time.time())))

    async def stream(self, model: str, messages: Messages, params: Parameters) -> AsyncGenerator[Chunk]:
        """The answer as it comes, its usage last. Raises `Failure`."""
        surface, decoder = _Within(), sse.Decoder()
        reader = DIALECTS[surface.dialect].reader(Asked(model, int(time.time())))
        asked = {**params, "stream": True, "stream_options": {"include_usage": True}}
        async with aclosing(self._read(surface, model, messages, asked)) as pieces:
            async for piece in pieces:
                for event, data in decoder.feed(piece):
                    for chunk in reader.feed(event, data):
                        yield chunk
        for chunk in reader.close():
            yield chunk

    async def close(self) -> None:
        """End what is still under way, and wait for its end."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _read(
        self, surface: _Within, model: str, messages: Messages, params: Parameters
    ) -> AsyncGenerator[bytes]:
        """The bytes of the answer; when it is left, so is the call. Raises the call's `Failure`."""
        call, sink = self._call(surface, model, messages, params), Memory()
        if self._closed:
            raise asyncio.CancelledError
        task = asyncio.ensure_future(self._runner.run(call, surface, self._snapshot, sink))
        self._tasks.add(task)
        task.add_done_callback(lambda _: sink.close())
        try:
            while data := await sink.read():
                yield data
            if not sink.ended:  # by `close`
                raise asyncio.CancelledError
        except BaseException:
            task.cancel()
            raise
        finally:
            await asyncio.wait({task})
            self._tasks.discard(task)
        if surface.failure is not None:
            raise surface.failure

    def _call(self, surface: Chat, model: str, messages: Messages, params: Mapping[str, Any]) -> Call:
        outer = self._outer
        if outer.depth >= DEPTH:
            text = f"the function model {outer.model!r} may not call {model!r}: {DEPTH} such calls are nested already"
            raise Failure("internal_error", text)
        body = msgspec.json.encode({"model": model, "messages": messages, **params}, enc_hook=_plain)
        key = msgspec.structs.replace(outer.key, models=())  # functions are the operator's: they may ask any model
        call = surface.decode(body, request_id(), key)
        call.client_request_id = outer.client_request_id
        call.depth, call.deadline, call.parent_id = outer.depth + 1, self._final, outer.id
        return call


class _Within(Chat):
    """The chat surface for a caller in this process: a failure stays what it is."""

    def __init__(self) -> None:
        self.failure: Failure | None = None

    def error(self, failure: Failure) -> bytes:
        self.failure = failure
        return b""


class Memory:
    """Implements `engine.Sink`: what is written waits here to be read."""

    def __init__(self) -> None:
        self.started = False
        self.ended = False
        self._held = bytearray()
        self._over = False
        self._changed = asyncio.Event()

    @property
    def full(self) -> bool:
        return len(self._held) >= ROOM

    def respond(self, status: int, head: bytes, body: bytes) -> None:
        self.start(status, head)
        self.end(body)

    def start(self, status: int, head: bytes) -> None:
        self.started = True

    def write(self, data: bytes) -> None:
        self._held += data
        self._changed.set()

    def end(self, data: bytes) -> None:
        self.ended = True
        self.write(data)

    async def drain(self) -> None:
        while self.full and not self._over:
            await self._wait()

    async def read(self) -> bytes:
        """What has come; b"" at the end."""
        while not (self._held or self.ended or self._over):
            await self._wait()
        data = bytes(self._held)
        self._held.clear()
        self._changed.set()
        return data

    def close(self) -> None:
        """Nothing more will come."""
        self._over = True
        self._changed.set()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()


def _plain(value: Any) -> Any:
    """What JSON has no form for: text with something beside it, which is what models' answers are."""
    if isinstance(value, str):
        return str(value)
    raise TypeError(f"a {type(value).__name__} cannot be sent to a model")

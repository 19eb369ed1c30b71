"""Who answers `polymux chat`: the running gateway over HTTP, or the gateway's own engine within this process."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import msgspec

from polymux.discovery import ask
from polymux.errors import Failure, Truncated
from polymux.http.serve import Front
from polymux.ids import request_id
from polymux.providers.base import Asked
from polymux.providers.dialects import DIALECTS
from polymux.schema.chat import Chunk
from polymux.surfaces.assemble import chunks_of
from polymux.surfaces.chat import Chat
from polymux.transport import Transport
from polymux.types import Deployment, Key, Link, Timeouts, WireRequest
from polymux.wire import sse

KEY = Key("cli", "polymux chat")  # in the records of calls without a gateway
PATIENT = Timeouts(connect=5.0, first_token=3600.0, idle=3600.0, total=3600.0)  # the gateway has its own
QUICK = Timeouts(connect=1.0, first_token=2.0, total=2.0)  # is anybody there?

log = logging.getLogger("polymux")


class Answer(Protocol):
    """An HTTP answer, or what would have been one."""

    @property
    def status(self) -> int: ...
    def header_map(self) -> Mapping[str, str]: ...
    async def whole(self) -> bytes: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...


class Backend(Protocol):
    """`where` is a line for the user."""

    @property
    def where(self) -> str: ...

    def ask(self, body: bytes, stream: bool) -> AbstractAsyncContextManager[Answer]:
        """The answer to a chat request; leaving the context early cancels it. Raises `Failure`."""
        ...

    async def models(self) -> Sequence[str]: ...
    async def close(self) -> None: ...


async def chunks(backend: Backend, request: Mapping[str, Any]) -> AsyncGenerator[Chunk, None]:
    """The answer as chunks, whichever way it comes. Raises `Failure`."""
    adapter, model, stream = DIALECTS[Chat.dialect], request["model"], bool(request.get("stream"))
    asked = Asked(model, int(time.time()))
    reader, decoder = adapter.reader(asked), sse.Decoder()
    try:
        body = msgspec.json.encode(request)
    except UnicodeEncodeError:
        raise Failure("invalid_value", "what is to be sent is not text in UTF-8") from None
    try:
        async with backend.ask(body, stream) as answer:
            if answer.status != 200:
                raise adapter.failure(answer.status, answer.header_map(), await answer.whole())
            if not stream:
                for chunk in chunks_of(adapter.read(await answer.whole(), asked)):
                    yield chunk
                return
            async for data in answer:
                for event in decoder.feed(data):
                    for chunk in reader.feed(*event):
                        yield chunk
                if reader.done:
                    break
            for chunk in reader.close():
                yield chunk
    except Truncated:
        raise Failure("upstream_truncated", "the answer ended before it was complete") from None


class Gateway:
    """A gateway at a URL (without `/v1`). `key`: "" = none. `link`: how to trust it."""

    def __init__(self, url: str, key: str, link: Link) -> None:
        self.url = url
        self.where = f"through the gateway at {url}"
        headers = (("authorization", f"Bearer {key}"),) if key else ()
        self._transport = Transport()
        self._to = Deployment("gateway", "gateway", "", Chat.dialect, f"{url}/v1", headers, timeouts=PATIENT, link=link)

    async def healthy(self) -> bool:
        """Whether a gateway answers there, soon."""
        to = msgspec.structs.replace(self._to, timeouts=QUICK)
        request = WireRequest("GET", f"{self.url}/health", (), framing="whole")
        try:
            reply = await self._transport.send(request, to, self._final(QUICK), stream=False)
            try:
                return reply.status == 200 and b"healthy" in await reply.whole()
            finally:
                self._transport.release(reply)
        except (Failure, Truncated):
            return False

    @asynccontextmanager
    async def ask(self, body: bytes, stream: bool) -> AsyncIterator[Answer]:
        request = WireRequest("POST", f"{self._to.base_url}/chat/completions", self._to.headers, body)
        reply = await self._transport.send(request, self._to, self._final(PATIENT), stream=stream)
        try:
            yield reply
            reply.finished = True
        finally:
            self._transport.release(reply)

    async def models(self) -> Sequence[str]:
        adapter = DIALECTS[self._to.dialect]
        reply = await self._transport.send(adapter.models(self._to), self._to, self._final(PATIENT), stream=False)
        try:
            body = await reply.whole()
        finally:
            self._transport.release(reply)
        if reply.status != 200:
            raise adapter.failure(reply.status, reply.header_map(), body)
        try:
            return adapter.read_models(body)
        except msgspec.MsgspecError as error:
            raise Failure("upstream_unavailable", f"the answer is not a list of models: {error}") from None

    async def close(self) -> None:
        await self._transport.close()

    def _final(self, timeouts: Timeouts) -> float:
        return self._transport.loop.time() + timeouts.total


class Inside:
    """The engine, without HTTP around it."""

    where = "without a gateway: none is running, so this process asks the providers itself"

    def __init__(self, front: Front) -> None:
        self._front = front
        self._listed = False

    @asynccontextmanager
    async def ask(self, body: bytes, stream: bool) -> AsyncIterator[Answer]:
        front, sink = self._front, _Sink()
        call = front.surface.decode(body, request_id(), KEY)
        try:
            front.snapshot.registry.find(call.model, KEY)
        except Failure:
            await self._list()  # perhaps a provider knows the name; if not, the engine says so
        task = asyncio.create_task(front.engine.run(call, front.surface, front.snapshot, sink))
        try:
            await sink.begun.wait()
            yield sink
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def models(self) -> Sequence[str]:
        await self._list()
        return [name for name, _ in self._front.snapshot.registry.names(KEY)]

    async def close(self) -> None:
        await self._front.engine.close()
        self._front.database.close()

    async def _list(self) -> None:
        """Ask the providers that list their own models, once."""
        if self._listed:
            return
        self._listed = True
        registry = self._front.snapshot.registry
        sources = [source for source in registry.sources.values() if source.discover]
        found = await asyncio.gather(*(ask(self._front.engine, one) for one in sources), return_exceptions=True)
        for source, names in zip(sources, found, strict=True):
            if isinstance(names, BaseException):
                log.warning("%s: its models cannot be listed: %s", source.name, names)
            else:
                registry = registry.with_models(source.name, names)
        self._front.snapshot = msgspec.structs.replace(self._front.snapshot, registry=registry)


class _Sink:
    """Implements `engine.Sink` and `Answer`: what the engine writes can be read."""

    full = False  # who reads is in the same loop, and keeps up

    def __init__(self) -> None:
        self.status = 0
        self.begun = asyncio.Event()
        self._head = b""
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue()

    @property
    def started(self) -> bool:
        return self.begun.is_set()

    def respond(self, status: int, head: bytes, body: bytes) -> None:
        self.start(status, head)
        self.end(body)

    def start(self, status: int, head: bytes) -> None:
        self.status, self._head = status, head
        self.begun.set()

    def write(self, data: bytes) -> None:
        self._parts.put_nowait(data)

    def end(self, data: bytes) -> None:
        self._parts.put_nowait(data)
        self._parts.put_nowait(None)

    async def drain(self) -> None:
        pass

    def header_map(self) -> Mapping[str, str]:
        lines = self._head.decode("latin-1").split("\r\n")
        return {name: value for name, _, value in (line.partition(": ") for line in lines if line)}

    async def whole(self) -> bytes:
        return b"".join([data async for data in self])

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (data := await self._parts.get()) is not None:
            yield data

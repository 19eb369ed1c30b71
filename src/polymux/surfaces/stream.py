"""The translated lane of a stream: upstream bytes -> frames -> pivot chunks -> client events. All state is here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol

from polymux.errors import Failure
from polymux.providers.base import Reader
from polymux.schema.chat import Chunk
from polymux.surfaces.assemble import usage_of
from polymux.surfaces.base import Alter, Talking
from polymux.types import NO_USAGE, Call, Usage
from polymux.wire import ndjson, sse


class Decoder(Protocol):
    """Bytes as they come -> events: name and data."""

    def feed(self, data: bytes) -> list[tuple[str, bytes]]: ...
    def close(self) -> list[tuple[str, bytes]]: ...


DECODERS: Final[Mapping[str, Callable[[], Decoder]]] = MappingProxyType(
    {"sse": sse.Decoder, "ndjson": ndjson.Decoder}
)  # by `WireRequest.framing`


class Writer:
    """Pivot chunks in, client events out. Remembers whether content was seen, and the usage."""

    __slots__ = ("_alter", "_call", "_surface", "content", "events", "failed", "source", "usage")

    def __init__(self, surface: Talking, call: Call, alter: Alter | None = None) -> None:
        self._surface, self._call, self._alter = surface, call, alter
        self.source = "upstream"  # of the usage: upstream | estimated
        self.content = False
        self.events = 0  # given out, about: a chunk of usage alone may not be
        self.failed: Failure | None = None
        self.usage = NO_USAGE

    @property
    def done(self) -> bool:
        return False  # chunks end by themselves

    def feed(self, chunks: Sequence[Chunk]) -> bytes:
        if self._alter:
            chunks = [altered for chunk in chunks if (altered := self._alter(chunk)) is not None]
        for chunk in chunks:
            if chunk.usage:
                self.usage = usage_of(chunk.usage, self.source)
            if not self.content:
                self.content = any(choice.delta.has_content() for choice in chunk.choices)
        self.events += len(chunks)
        return self._surface.events(self._call, chunks)

    def close(self) -> bytes:
        return self._surface.end()


class Translated:
    """A `Writer` behind a frame decoder and a dialect's reader."""

    __slots__ = ("_decoder", "_reader", "_writer")

    def __init__(self, reader: Reader, writer: Writer, framing: str = "sse") -> None:
        self._decoder = DECODERS[framing]()
        self._reader, self._writer = reader, writer

    @property
    def content(self) -> bool:
        return self._writer.content

    @property
    def events(self) -> int:
        return self._writer.events

    @property
    def usage(self) -> Usage:
        """What was said of it so far; it is complete when the answer is."""
        told = self._reader.usage if self._writer.usage is NO_USAGE else None
        return usage_of(told) if told else self._writer.usage

    @property
    def failed(self) -> Failure | None:
        return self._writer.failed

    @property
    def done(self) -> bool:
        return self._reader.done

    def feed(self, data: bytes) -> bytes:
        return self._events(self._decoder.feed(data))

    def close(self) -> bytes:
        """Raises `failed`, or `Truncated` when the upstream's end mark was not seen."""
        last = self._events(self._decoder.close())
        if self._writer.failed:
            raise self._writer.failed
        return last + self._writer.feed(self._reader.close()) + self._writer.close()

    def _events(self, events: list[tuple[str, bytes]]) -> bytes:
        read = self._reader.feed
        chunks: list[Chunk] = []
        try:
            for event, payload in events:
                chunks += read(event, payload)
        except Failure as failure:
            self._writer.failed = failure
        return self._writer.feed(chunks) if chunks else b""

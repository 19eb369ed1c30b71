"""The contract of a surface: what clients call, and in what form they ask and are answered. Everything here is pure.

A surface is a file here and a row of the route table. It is served by every provider whose row says so (`serves`), and
by those that serve what it can be translated to (`types.OVER`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from polymux.errors import Failure
from polymux.providers.base import Adapter, Asked, Flow
from polymux.schema.chat import ChatRequest, ChatResponse, Chunk
from polymux.types import Call, Key, Usage

Alter = Callable[[Chunk], Chunk | None]  # what hooks make of a chunk; None = nothing


class Surface(Protocol):
    """Decodes requests once and writes answers; the engine calls nothing else of it. One for all requests."""

    @property
    def name(self) -> str:
        """As rows (`serves`) and usage records call it."""
        ...

    def decode(self, body: bytes, id_: str, key: Key) -> Call:
        """The routing fields of a body; the rest stays raw. Raises `Failure` for what no provider could take."""
        ...

    def flow(self, call: Call, adapter: Adapter, asked: Asked) -> Flow:
        """The request in the form of a dialect. Raises `Failure` for what cannot be translated."""
        ...

    def unknown(self, call: Call) -> tuple[str, ...]:
        """Top-level members that are lost in translation without the dialect's knowing: they are to be signalled."""
        ...

    def read(self, call: Call, adapter: Adapter, body: bytes, asked: Asked, alter: Alter | None) -> tuple[bytes, Usage]:
        """The client's answer, of a whole answer in the form of a dialect."""
        ...

    def prompt(self, call: Call) -> list[memoryview]:
        """What a request asks, as JSON: its size tells about how many tokens it is."""
        ...

    def longest(self, call: Call) -> int:
        """The tokens that the answer may have, as far as the client says."""
        ...

    def said(self, data: bytes) -> int:
        """Bytes of text in an answer or in an event: all that output tokens are counted for."""
        ...

    def comment(self) -> bytes:
        """What keeps a silent stream alive; clients skip it."""
        ...

    def error(self, failure: Failure) -> bytes:
        """The error envelope."""
        ...

    def error_event(self, failure: Failure) -> bytes:
        """The same inside a stream; nothing follows it."""
        ...


class Talking(Surface, Protocol):
    """A surface whose requests a chat can answer, and so every model that chats: in one piece, or as it comes."""

    def request(self, call: Call) -> ChatRequest:
        """The whole request, typed. Raises `Failure` naming the member at fault."""
        ...

    def answer(self, call: Call, response: ChatResponse, alter: Alter | None, source: str) -> tuple[bytes, Usage]:
        """A whole answer. source: where its usage comes from, upstream | estimated."""
        ...

    def events(self, call: Call, chunks: Sequence[Chunk]) -> bytes:
        """Chunks as the client's events; the usage chunk only for those who asked."""
        ...

    def end(self) -> bytes:
        """What ends a complete stream."""
        ...

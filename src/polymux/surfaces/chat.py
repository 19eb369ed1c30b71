"""The surface `/v1/chat/completions`: client requests in, client bytes out. Source: OpenAI's API description."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from polymux.errors import Failure
from polymux.providers.base import Adapter, Asked, Flow
from polymux.schema.chat import DONE, ChatRequest, ChatResponse, Chunk
from polymux.surfaces.assemble import settled
from polymux.surfaces.base import Alter
from polymux.surfaces.openai import Common, encode, tokens_of, typed
from polymux.types import Call, Usage
from polymux.wire import sse

_request = msgspec.json.Decoder(ChatRequest).decode
_PROMPT: Final = ("messages", "tools", "functions", "response_format")
_NO_TEXT: Final = ("role", "id", "type")  # members of a message, and of the calls in it


class _Choice(msgspec.Struct):
    delta: Any = None
    message: Any = None


class _Said(msgspec.Struct):
    """An answer or an event, as far as it says something."""

    choices: list[_Choice] | None = None


_said = msgspec.json.Decoder(_Said).decode


class Chat(Common):
    """Implements `surfaces.base.Talking`."""

    name = "chat"
    wanted = "messages"

    def request(self, call: Call) -> ChatRequest:
        request = typed(_request, call.body)
        if not request.messages:
            raise Failure("invalid_value", "'messages' must hold at least one message", param="messages")
        return request

    def flow(self, call: Call, adapter: Adapter, asked: Asked) -> Flow:
        return adapter.flow(self.request(call), asked)

    def unknown(self, call: Call) -> tuple[str, ...]:
        return tuple(name for name in call.fields if name not in ChatRequest.__struct_fields__)

    def prompt(self, call: Call) -> list[memoryview]:
        return [memoryview(call.fields[name]) for name in _PROMPT if name in call.fields]

    def longest(self, call: Call) -> int:
        return max(0, tokens_of(call, "max_completion_tokens", "max_tokens") or 0)

    def said(self, data: bytes) -> int:
        """Bytes of text: reasoning and calls are counted too."""
        try:
            choices = _said(data).choices or ()
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return 0
        return sum(_size(choice.delta) + _size(choice.message) for choice in choices)

    def read(self, call: Call, adapter: Adapter, body: bytes, asked: Asked, alter: Alter | None) -> tuple[bytes, Usage]:
        return self.answer(call, adapter.read(body, asked), alter, "upstream")

    def answer(self, call: Call, response: ChatResponse, alter: Alter | None, source: str) -> tuple[bytes, Usage]:
        response, usage = settled(response, alter, source)
        return encode(response), usage

    def events(self, call: Call, chunks: Sequence[Chunk]) -> bytes:
        return b"".join(
            [sse.encode(encode(chunk)) for chunk in chunks if chunk.choices or (chunk.usage and call.wants_usage)]
        )

    def end(self) -> bytes:
        return DONE


def _size(value: Any) -> int:
    """Bytes of the strings in a message or delta, as JSON writes them."""
    if isinstance(value, str):
        return len(encode(value)) - 2
    if isinstance(value, dict):
        return sum(_size(member) for name, member in value.items() if name not in _NO_TEXT)
    return sum(map(_size, value)) if isinstance(value, list) else 0

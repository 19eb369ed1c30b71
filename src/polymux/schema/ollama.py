"""Ollama's own API on the wire: `/api/chat`, `/api/embed`, `/api/tags`.

Source: Ollama's API documentation (docs/api.md) and its Go types (api/types.go). What a server sends is decoded
leniently: every member has a default and unknown ones are skipped. Request members at their default are left out.
"""

from __future__ import annotations

from typing import Any

import msgspec

Json = dict[str, Any]


class _Wire(msgspec.Struct, omit_defaults=True):
    pass


# ---- request ---------------------------------------------------------------------------------------------------


class FunctionCall(_Wire):
    name: str
    arguments: msgspec.Raw  # a JSON object


class ToolCall(_Wire):
    function: FunctionCall
    id: str = ""


class Message(_Wire):
    """One message of a conversation. `images` are base64 alone; `tool_name` is whose result a tool's message is."""

    role: str
    content: str
    images: list[str] = []
    thinking: str = ""
    tool_calls: list[ToolCall] = []
    tool_name: str = ""
    tool_call_id: str = ""


class Function(_Wire):
    name: str
    parameters: Json
    description: str | None = None


class Tool(_Wire):
    function: Function
    type: str = msgspec.field(default_factory=lambda: "function")  # a factory's value is never left out


class ChatRequest(msgspec.Struct):
    """What is None is left out. `stream` is always sent: servers stream unless told otherwise.

    think: false, true or how much. format: "json" or a JSON Schema. keep_alive: how long the model stays loaded, a
    duration ("10m") or seconds, 0 = not at all, -1 = for ever. truncate, shift: false = refuse a prompt that is longer
    than the context, and end an answer that fills it, instead of forgetting the beginning.
    """

    model: str
    messages: list[Message]
    stream: bool = False
    tools: list[Tool] | None = None
    think: bool | str | None = None
    format: str | Json | None = None
    keep_alive: str | int | float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    truncate: bool | None = None
    shift: bool | None = None
    options: Json | None = None  # of the model, by name: temperature, num_ctx ...


class EmbedRequest(msgspec.Struct):
    """As in `ChatRequest`. truncate: false = refuse a text that is longer than the context."""

    model: str
    input: list[str]
    dimensions: int | None = None
    keep_alive: str | int | float | None = None
    truncate: bool | None = None
    options: Json | None = None


# ---- answer ----------------------------------------------------------------------------------------------------


class ReplyFunction(msgspec.Struct):
    name: str | None = None
    arguments: Any = None


class ReplyCall(msgspec.Struct):
    id: str | None = None
    function: ReplyFunction | None = None


class ReplyMessage(msgspec.Struct):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[ReplyCall] | None = None


class Line(msgspec.Struct):
    """A line of a streamed answer, or a whole one. The last line, `done`, has the counts; zeros are left out there.

    created_at: RFC 3339, down to the nanosecond.
    """

    created_at: str | None = None
    message: ReplyMessage | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    logprobs: list[Json] | None = None
    error: Any = None


class Embeddings(msgspec.Struct):
    embeddings: list[list[float]] | None = None
    prompt_eval_count: int | None = None
    error: Any = None


class ModelEntry(msgspec.Struct):
    name: str


class ModelList(msgspec.Struct):
    models: list[ModelEntry]

"""Anthropic's Messages API on the wire, version 2023-06-01 and later.

Source: the types of Anthropic's SDK and its API reference (Messages, Streaming, Errors, Models). What a provider sends
is decoded leniently: every member has a default and unknown ones are skipped. Request members at their default are
left out.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Json = dict[str, Any]


class _Wire(msgspec.Struct, omit_defaults=True):
    pass


# ---- request ---------------------------------------------------------------------------------------------------


class Base64Source(_Wire, tag_field="type", tag="base64"):
    media_type: str
    data: str


class UrlSource(_Wire, tag_field="type", tag="url"):
    url: str


class TextSource(_Wire, tag_field="type", tag="text"):
    media_type: Literal["text/plain"]
    data: str


class TextBlock(_Wire, tag_field="type", tag="text"):
    text: str
    cache_control: Json | None = None


class ImageBlock(_Wire, tag_field="type", tag="image"):
    source: Base64Source | UrlSource
    cache_control: Json | None = None


class DocumentBlock(_Wire, tag_field="type", tag="document"):
    source: Base64Source | TextSource
    title: str | None = None
    cache_control: Json | None = None


class ToolUseBlock(_Wire, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: msgspec.Raw  # a JSON object
    cache_control: Json | None = None


class ToolResultBlock(_Wire, tag_field="type", tag="tool_result"):
    tool_use_id: str
    content: str | list[TextBlock | ImageBlock | DocumentBlock] = ""
    cache_control: Json | None = None


ContentBlock = TextBlock | ImageBlock | DocumentBlock
Block = ContentBlock | ToolUseBlock | ToolResultBlock | Json  # a dict is a thinking block, sent back as it came


class Turn(_Wire):
    role: Literal["user", "assistant"]
    content: list[Block]


class Tool(_Wire):
    name: str
    input_schema: Json
    description: str | None = None
    strict: bool | None = None
    cache_control: Json | None = None


class UserLocation(_Wire, tag_field="type", tag="approximate"):
    city: str | None = None
    country: str | None = None
    region: str | None = None
    timezone: str | None = None


class WebSearchTool(_Wire, tag_field="type", tag="web_search_20250305"):
    name: str
    user_location: UserLocation | None = None


class ToolChoice(_Wire):
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class OutputFormat(_Wire, tag_field="type", tag="json_schema"):
    schema: Json


class OutputConfig(_Wire):
    effort: str | None = None
    format: OutputFormat | None = None


class Metadata(_Wire):
    user_id: str


class MessagesRequest(_Wire):
    model: str
    max_tokens: int
    messages: list[Turn]
    system: list[TextBlock] = []
    stream: bool = False
    stop_sequences: list[str] = []
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    tools: list[Tool | WebSearchTool] = []
    tool_choice: ToolChoice | None = None
    thinking: Json | None = None
    output_config: OutputConfig | None = None
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    cache_control: Json | None = None


# ---- answer ----------------------------------------------------------------------------------------------------


class OutputDetails(_Wire):
    thinking_tokens: int | None = None


class Written(_Wire):
    """What was written to the cache, by how long it is kept."""

    ephemeral_1h_input_tokens: int | None = None


class Usage(_Wire):
    """`input_tokens` is the part that the cache did not touch. None = not said (here)."""

    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: OutputDetails | None = None
    cache_creation: Written | None = None

    def updated(self, later: Usage) -> Usage:
        """Counts in `message_delta` are running totals: each one that is said replaces the earlier."""
        pairs = zip(msgspec.structs.astuple(later), msgspec.structs.astuple(self), strict=True)
        return Usage(*(new if new is not None else old for new, old in pairs))


class ErrorBody(_Wire):
    type: str = ""
    message: str = ""


class Citation(_Wire):
    """Of a web search, when `url` is set. The other kinds point into documents of the request."""

    type: str = ""
    url: str = ""
    title: str | None = None


class BlockKind(_Wire):
    type: str = ""


class ReplyBlock(_Wire):
    """A block of an answer; `type` says which of the members is meant."""

    type: str
    text: str = ""
    citations: list[Citation] | None = None
    id: str = ""
    name: str = ""
    input: msgspec.Raw = msgspec.Raw(b"{}")
    thinking: str = ""
    signature: str = ""


class Reply(_Wire):
    """A whole answer, or an error in the place of one. Blocks stay raw: reasoning goes back as it came."""

    type: str = ""
    id: str = ""
    content: list[msgspec.Raw] | None = None
    stop_reason: str | None = None
    usage: Usage | None = None
    error: ErrorBody | None = None


class EventDelta(_Wire):
    """`delta` of a content_block_delta (`type` says which member is meant) or of a message_delta."""

    type: str = ""
    text: str = ""
    partial_json: str = ""
    thinking: str = ""
    signature: str = ""
    citation: Citation | None = None
    stop_reason: str | None = None


class EventMessage(_Wire):
    """What counts of the answer object in message_start; the rest of it is empty there."""

    id: str = ""
    usage: Usage | None = None


class Event(_Wire):
    """Any event of a stream; `type` says which of the members is meant."""

    type: str = ""
    index: int = 0
    delta: EventDelta | None = None
    content_block: msgspec.Raw = msgspec.Raw()
    message: EventMessage | None = None
    usage: Usage | None = None
    error: ErrorBody | None = None


# ---- models ----------------------------------------------------------------------------------------------------


class Model(_Wire):
    id: str


class ModelList(_Wire):
    data: list[Model] = []

"""What OpenAI-shaped servers send, read leniently: only the members a gateway acts on.

Source: OpenAI's API description; the deviations of compatible servers are listed in the golden cases.
"""

from __future__ import annotations

from typing import Any

import msgspec

from polymux.schema.chat import CompletionDetails, PromptDetails

Json = dict[str, Any]


class OpeningDelta(msgspec.Struct):
    content: Any = None
    refusal: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    tool_calls: Any = None
    function_call: Any = None
    audio: Any = None

    def has_content(self) -> bool:
        """A role alone is not content."""
        return bool(
            self.content
            or self.tool_calls
            or self.reasoning_content
            or self.reasoning
            or self.refusal
            or self.function_call
            or self.audio
        )


class OpeningChoice(msgspec.Struct):
    delta: OpeningDelta | None = None
    text: Any = None  # of completions, which have no delta


class Opening(msgspec.Struct):
    """A chunk before the first content: is this the first?"""

    choices: list[OpeningChoice] | None = None


class GlanceChoice(msgspec.Struct, gc=False):
    finish_reason: Any = None
    usage: Any = None


class Counts(msgspec.Struct, gc=False):
    """A usage object as OpenAI writes it, and two places where others put the cached tokens."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    cached_tokens: int | None = None
    prompt_cache_hit_tokens: int | None = None


class Glance(msgspec.Struct, gc=False):
    """All that is looked at in a chunk that passes: nothing of the text."""

    choices: list[GlanceChoice] | None = None
    usage: Counts | None = None
    error: Any = None


class LooseGlance(msgspec.Struct, gc=False):
    """The same of a chunk whose usage is of types that OpenAI does not send."""

    choices: list[GlanceChoice] | None = None
    usage: Any = None
    error: Any = None


class Whole(msgspec.Struct, gc=False):
    """A buffered answer."""

    choices: list[GlanceChoice] | None = None
    usage: Counts | None = None
    error: Any = None


class Vector(msgspec.Struct):
    """An embedding, still raw: numbers or base64."""

    embedding: msgspec.Raw
    index: int | None = None


class Vectors(msgspec.Struct):
    """An answer of embeddings."""

    data: list[Vector] | None = None
    usage: Any = None
    error: Any = None


class Thought(msgspec.Struct, gc=False):
    """A message or a delta, as far as it tells of reasoning and of what it led to."""

    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    tool_calls: Any = None


class ThoughtChoice(msgspec.Struct, gc=False):
    index: int = 0
    delta: Thought | None = None
    message: Thought | None = None


class Thinking(msgspec.Struct, gc=False):
    """A chunk or a whole answer, likewise."""

    choices: list[ThoughtChoice] | None = None


class ModelEntry(msgspec.Struct):
    id: str


class ModelList(msgspec.Struct):
    data: list[ModelEntry]

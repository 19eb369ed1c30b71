"""What OpenAI-shaped servers send, read leniently: only the members a gateway acts on.

Source: OpenAI's API description; the deviations of compatible servers are listed in the golden cases.
"""

from __future__ import annotations

from typing import Any

import msgspec

Json = dict[str, Any]


class GlanceDelta(msgspec.Struct):
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


class GlanceChoice(msgspec.Struct):
    finish_reason: Any = None
    delta: GlanceDelta | None = None
    usage: Any = None


class Glance(msgspec.Struct):
    """A chunk before the first content."""

    choices: list[GlanceChoice] | None = None
    usage: Any = None
    error: Any = None


class TailChoice(msgspec.Struct):
    finish_reason: Any = None
    usage: Any = None


class Tail(msgspec.Struct):
    """A chunk after the first content: nothing of the text is looked at."""

    choices: list[TailChoice] | None = None
    usage: Any = None
    error: Any = None


class Whole(msgspec.Struct):
    """A buffered answer."""

    choices: list[TailChoice] | None = None
    usage: Any = None
    error: Any = None


class ModelEntry(msgspec.Struct):
    id: str


class ModelList(msgspec.Struct):
    data: list[ModelEntry]

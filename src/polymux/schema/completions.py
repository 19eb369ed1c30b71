"""Completions as they were before chats: one text in, its continuation out.

Source: OpenAI's API description (completions, legacy).
"""

from __future__ import annotations

from typing import Any

import msgspec

from polymux.schema.chat import Json, StreamOptions, TokenUsage


class CompletionRequest(msgspec.Struct, omit_defaults=True):
    """What a client asks for. Bounds are the provider's to judge; types are ours."""

    model: str
    prompt: str | list[str | int | list[int]] | None  # a text, texts, the tokens of a text, or those of several
    best_of: int | None = None
    echo: bool | None = None
    frequency_penalty: float | None = None
    logit_bias: Json | None = None
    logprobs: int | None = None
    max_tokens: int | None = None
    n: int | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    suffix: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    user: str | None = None


class CompletionChoice(msgspec.Struct):
    """`finish_reason` is null in all events of a stream but the last of a choice."""

    text: str
    index: int = 0
    logprobs: Json | None = None
    finish_reason: str | None = None


class Completion(msgspec.Struct, tag_field="object", tag="text_completion"):
    """An answer, or an event of a streamed one: the two have the same form."""

    id: str
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: TokenUsage | msgspec.UnsetType | None = msgspec.UNSET
    system_fingerprint: Any = msgspec.UNSET

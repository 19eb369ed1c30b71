"""Embeddings: the one form of a request and of an answer that every dialect is translated to and from.

Source: OpenAI's API description (embeddings).
"""

from __future__ import annotations

from typing import Literal

import msgspec


class EmbeddingRequest(msgspec.Struct, omit_defaults=True):
    """What a client asks for. Bounds (2048 inputs ...) are the provider's to judge; types are ours."""

    model: str
    input: str | list[str | int | list[int]]  # a text, texts, the tokens of a text, or those of several
    dimensions: int | None = None
    encoding_format: Literal["float", "base64"] | None = None
    user: str | None = None

    def inputs(self) -> list[str | list[int]]:
        """What is to be embedded, one by one: texts, or lists of tokens."""
        if isinstance(self.input, str):
            return [self.input]
        tokens = [one for one in self.input if isinstance(one, int)]
        return [tokens] if tokens else [one for one in self.input if not isinstance(one, int)]


class EmbeddingObject(msgspec.Struct, tag_field="object", tag="embedding"):
    """A vector: numbers, or the base64 of little-endian float32 values. Index: of the input that it is of."""

    index: int
    embedding: list[float] | str


class EmbeddingUsage(msgspec.Struct):
    prompt_tokens: int = 0
    total_tokens: int = 0


class EmbeddingResponse(msgspec.Struct, tag_field="object", tag="list"):
    """Vectors in the order of the inputs. Usage: None where the upstream does not tell it."""

    data: list[EmbeddingObject]
    model: str
    usage: EmbeddingUsage | None = None

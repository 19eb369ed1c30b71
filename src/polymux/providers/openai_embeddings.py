"""Answers of OpenAI-shaped servers to embeddings requests. They come as numbers or as base64, whatever was asked for:
servers that know only numbers send these. Source: OpenAI's API description (embeddings).
"""

from __future__ import annotations

from typing import Any

import msgspec

from polymux.errors import Failure
from polymux.providers.openai_errors import in_band
from polymux.providers.replies import UNREADABLE
from polymux.schema.embeddings import EmbeddingObject, EmbeddingResponse, EmbeddingUsage
from polymux.schema.openai import Vector, Vectors
from polymux.types import NO_USAGE, Call, Usage
from polymux.wire import vectors

_vectors = msgspec.json.Decoder(Vectors).decode
_vector = msgspec.json.Decoder(list[float] | str).decode
_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def read_vectors(body: bytes, model: str) -> EmbeddingResponse:
    """An answer in the common form, its vectors as they came."""
    seen = _seen(body)
    try:
        found = [
            EmbeddingObject(number if one.index is None else one.index, _vector(one.embedding))
            for number, one in enumerate(seen.data or ())
        ]
    except UNREADABLE:
        raise _not_embeddings() from None
    used = _tokens(seen.usage)
    usage = EmbeddingUsage(used, used) if used else None
    return EmbeddingResponse(sorted(found, key=lambda one: one.index), model, usage)


def relay_vectors(body: bytes, call: Call) -> tuple[bytes, Usage]:
    """An answer as it came, unless its vectors are not in the form that the client asked for, and what it used."""
    seen = _seen(body)
    used = _tokens(seen.usage)
    usage = Usage(used) if used else NO_USAGE
    packed = _packed(call)
    if packed is None or all(_is_packed(one) == packed for one in seen.data or ()):
        return body, usage
    answer = _any(body)
    try:
        for one in answer["data"]:
            given = one["embedding"]
            if isinstance(given, str) != packed:
                one["embedding"] = vectors.pack(given) if packed else vectors.unpack(given)
    except (TypeError, ValueError):
        raise _not_embeddings() from None
    return _encode(answer), usage


def _seen(body: bytes) -> Vectors:
    """Raises `Failure` for what is no answer."""
    try:
        seen = _vectors(body)
    except UNREADABLE:
        raise _not_embeddings() from None
    if seen.error:
        raise in_band(seen.error)
    if not seen.data:  # SDKs break on none at all
        raise Failure("upstream_unavailable", "the upstream's answer has no embeddings")
    return seen


def _is_packed(one: Vector) -> bool:
    return bytes(one.embedding).lstrip().startswith(b'"')


def _packed(call: Call) -> bool | None:
    """Whether base64 was asked for; None = a form of the provider's own."""
    form = _any(call.fields["encoding_format"]) if "encoding_format" in call.fields else None
    return {None: False, "float": False, "base64": True}.get(form) if isinstance(form, str | None) else None


def _tokens(usage: Any) -> int:
    """Of the prompt; 0 = not told. Some servers tell only the total."""
    found = [usage.get(name) for name in ("prompt_tokens", "total_tokens")] if isinstance(usage, dict) else []
    return next((number for number in found if isinstance(number, int) and number > 0), 0)


def _not_embeddings() -> Failure:
    return Failure("upstream_unavailable", "the upstream's answer is not a list of embeddings")

"""The surface `/v1/embeddings`: the client gets its vectors as numbers or as base64, as it asked, whichever way the
upstream gives them. Source: OpenAI's API description.
"""

from __future__ import annotations

import msgspec

from polymux.errors import Failure
from polymux.providers.base import Adapter, Asked, Embedding, Flow
from polymux.schema.embeddings import EmbeddingObject, EmbeddingRequest, EmbeddingUsage
from polymux.surfaces.base import Alter
from polymux.surfaces.openai import Common, encode, typed
from polymux.types import NO_USAGE, Call, Usage
from polymux.wire import vectors

_request = msgspec.json.Decoder(EmbeddingRequest).decode


class Embeddings(Common):
    """Implements `surfaces.base.Surface`."""

    name = "embeddings"
    wanted = "input"
    streams = False

    def request(self, call: Call) -> EmbeddingRequest:
        """The whole request, typed. Raises `Failure` naming the member at fault."""
        request = typed(_request, call.body)
        inputs = request.input
        if not inputs:
            raise Failure("invalid_value", "'input' must not be empty", param="input")
        if not isinstance(inputs, str) and len({type(one) for one in inputs}) > 1:
            text = "'input' must be one of: a text, texts, the tokens of a text, those of several"
            raise Failure("invalid_type", text, param="input")
        return request

    def flow(self, call: Call, adapter: Adapter, asked: Asked) -> Flow:
        return _making(adapter, asked).embed(self.request(call), asked)

    def unknown(self, call: Call) -> tuple[str, ...]:
        return tuple(name for name in call.fields if name not in EmbeddingRequest.__struct_fields__)

    def read(self, call: Call, adapter: Adapter, body: bytes, asked: Asked, alter: Alter | None) -> tuple[bytes, Usage]:
        request, response = self.request(call), _making(adapter, asked).read_embeddings(body, asked)
        if len(response.data) != len(request.inputs()):
            text = f"the upstream gave {len(response.data)} embeddings for {len(request.inputs())} inputs"
            raise Failure("upstream_unavailable", text)
        told = response.usage
        if told is None:  # clients want a number: about, as usage records have it (`routing.limits`)
            about = -(-sum(map(len, self.prompt(call))) // 4)
            response.usage = EmbeddingUsage(about, about)
        try:
            response.data = [_formed(one, request.encoding_format == "base64") for one in response.data]
        except ValueError as error:
            raise Failure("upstream_unavailable", f"the upstream's embeddings cannot be read: {error}") from None
        return encode(response), Usage(told.prompt_tokens) if told else NO_USAGE

    def prompt(self, call: Call) -> list[memoryview]:
        return [memoryview(call.fields["input"])]

    def longest(self, call: Call) -> int:
        return 0

    def said(self, data: bytes) -> int:
        return 0


def _making(adapter: Adapter, asked: Asked) -> Embedding:
    """Raises `Failure` for a dialect that has no embeddings."""
    if not isinstance(adapter, Embedding):
        raise Failure("unsupported_operation", f"{asked.to.provider} makes no embeddings", param="model")
    return adapter


def _formed(one: EmbeddingObject, packed: bool) -> EmbeddingObject:
    """With its vector in the form that was asked for."""
    if isinstance(one.embedding, str) != packed:
        given = one.embedding
        one.embedding = vectors.unpack(given) if isinstance(given, str) else vectors.pack(given)
    return one

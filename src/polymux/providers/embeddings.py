"""What dialects that make embeddings have in common. The vectors themselves: `surfaces.embeddings`."""

from __future__ import annotations

from polymux.errors import Failure
from polymux.schema.embeddings import EmbeddingRequest


def texts(request: EmbeddingRequest) -> list[str]:
    """What is to be embedded, for upstreams that know nothing of our clients' tokens. Raises `Failure`."""
    given = request.inputs()
    found = [one for one in given if isinstance(one, str)]
    if len(found) != len(given):
        text = "this model takes text as 'input', and no tokens: each model counts its own"
        raise Failure("unsupported_content", text, param="input")
    return found

"""The surface `/v1/models`. Source: OpenAI's API description."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec


def model_object(name: str, owner: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": owner}


def model_list(models: Iterable[tuple[str, str]], created: int) -> bytes:
    """(name, owner) pairs as the list object."""
    return msgspec.json.encode(
        {"object": "list", "data": [model_object(name, owner, created) for name, owner in models]}
    )

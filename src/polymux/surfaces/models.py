"""The surface `/v1/models`. Source: OpenAI's API description; what a single model says beside it is in the terms of
OpenRouter's model list (`context_length`, `supported_parameters`) where that has one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from polymux.providers.catalog import Model
from polymux.providers.fates import PARAMETERS, Column
from polymux.types import Deployment, offered

_MODALITIES: Final = ("image", "audio", "video", "pdf")  # of prompts, as the catalogue calls them
_CAPABILITIES: Final = ("tools", "reasoning", "structured")
_PARAMETERS: Final = tuple(name for name in PARAMETERS if not set("[.=") & set(name))


def model_object(name: str, owner: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": owner}


def model_list(models: Iterable[tuple[str, str]], created: int) -> bytes:
    """(name, owner) pairs as the list object."""
    return msgspec.json.encode(
        {"object": "list", "data": [model_object(name, owner, created) for name, owner in models]}
    )


def abilities(to: Sequence[Deployment], entries: Sequence[Model | None], columns: Sequence[Column]) -> dict[str, Any]:
    """What a model can do whichever of its deployments answers. What is not known of one of them is left out.

    entries: of the catalogue, for each deployment. columns: the fates of parameters, for each that has some.
    """
    found: dict[str, Any] = {"serves": offered([one.serves for one in to])}
    known = [entry for entry in entries if entry is not None]
    if len(known) == len(to):
        common = set.intersection(*(set(entry.abilities) for entry in known))
        found["context_length"] = _least([entry.context for entry in known])
        found["max_output_tokens"] = _least([entry.max_output for entry in known])
        found["input_modalities"] = ["text", *(name for name in _MODALITIES if name in common)]
        found["capabilities"] = [name for name in _CAPABILITIES if name in common]
    if len(columns) == len(to):
        found["supported_parameters"] = [
            name
            for name in _PARAMETERS
            if all(fates[name].what not in ("dropped", "refused") for fates in columns)
            and not any(name in one.quirks.drop for one in to)
        ]
    return {name: value for name, value in found.items() if value is not None}


def _least(limits: Sequence[int | None]) -> int | None:
    known = [limit for limit in limits if limit is not None]
    return min(known) if known and len(known) == len(limits) else None

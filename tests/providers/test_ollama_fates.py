"""The columns of Ollama's dialect; that they hold is test_fates.py's business."""

from __future__ import annotations

import pytest

from polymux.providers.fates import EMBEDDINGS
from polymux.providers.ollama_fates import EMBEDDING_FATES, FATES
from polymux.schema.ollama import ChatRequest


@pytest.mark.parametrize("name", FATES)
def test_a_parameter_becomes_a_member_of_the_request_or_none(name: str) -> None:
    fate = FATES[name]
    if fate.what in ("dropped", "refused"):
        assert not fate.to
    elif fate.what != "emulated":
        assert (fate.to or name).partition(".")[0].removesuffix("[]") in ChatRequest.__struct_fields__


def test_every_kind_of_fate_is_met_with() -> None:
    assert {fate.what for fate in FATES.values()} == {"forwarded", "mapped", "emulated", "dropped", "refused"}
    assert tuple(EMBEDDING_FATES) == EMBEDDINGS

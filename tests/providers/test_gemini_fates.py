"""The columns of Gemini's dialect; that they hold is test_fates.py's business."""

from __future__ import annotations

import json

import pytest

from polymux.providers.base import Asked
from polymux.providers.gemini import Gemini
from polymux.providers.gemini_fates import EMBEDDING_FATES, FATES
from polymux.schema.embeddings import EmbeddingRequest
from polymux.schema.gemini import GenerateRequest
from polymux.types import Deployment
from support.parameters import found


@pytest.mark.parametrize("name", FATES)
def test_a_parameter_becomes_a_member_of_the_request_or_none(name: str) -> None:
    fate = FATES[name]
    if fate.what in ("dropped", "refused"):
        assert not fate.to
    elif fate.what != "emulated":
        members = {"url", *GenerateRequest.__struct_encode_fields__}
        assert fate.to.partition(".")[0].removesuffix("[]") in members


def test_every_kind_of_fate_is_met_with() -> None:
    assert {fate.what for fate in FATES.values()} == {"forwarded", "mapped", "emulated", "dropped", "refused"}


def test_the_parameters_of_embeddings_meet_their_fates() -> None:
    asked = {"model": "m", "input": ["a", "b"], "dimensions": 3, "encoding_format": "base64", "user": "u"}
    to = Deployment("p/e", "p", "gemini-embedding-001", "gemini", "https://p.example/v1beta")
    with pytest.raises(StopIteration) as stop:
        next(Gemini().embed(EmbeddingRequest(**asked), Asked("m", 7, to)))
    wire = stop.value.value
    body = json.loads(wire.body)
    for name, fate in EMBEDDING_FATES.items():
        if fate.what == "forwarded":
            assert found(body, fate.to) == [asked[name]] * 2
        elif fate.what == "mapped":
            assert len(found(body, fate.to)) == 2
    assert wire.dropped == tuple(name for name, fate in EMBEDDING_FATES.items() if fate.what == "dropped")

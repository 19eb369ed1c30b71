"""What dialects that make embeddings have in common, and that each keeps its word about every parameter."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec
import pytest

from polymux.app import table
from polymux.errors import Failure
from polymux.providers.base import Asked, Embedding
from polymux.providers.dialects import DIALECTS
from polymux.providers.embeddings import texts
from polymux.providers.fates import EMBEDDINGS
from polymux.schema.embeddings import EmbeddingRequest
from polymux.types import Deployment, WireRequest

MAKING: Final[dict[str, Any]] = {name: one for name, one in DIALECTS.items() if isinstance(one, Embedding)}
EXAMPLES: Final[dict[str, EmbeddingRequest]] = {
    "model": EmbeddingRequest("m", "a"),
    "input": EmbeddingRequest("m", ["Hello there", "again"]),
    "input=tokens": EmbeddingRequest("m", [12345, 6789]),
    "dimensions": EmbeddingRequest("m", "a", dimensions=321),
    "encoding_format": EmbeddingRequest("m", "a", encoding_format="base64"),
    "user": EmbeddingRequest("m", "a", user="user-77"),
}
VALUES: Final = {"input": "Hello there", "input=tokens": "12345", "dimensions": "321", "user": "user-77"}
CELLS: Final = [pytest.param(dialect, name, id=f"{dialect}:{name}") for dialect in MAKING for name in EMBEDDINGS]


def sent(dialect: str, request: EmbeddingRequest) -> WireRequest:
    to = Deployment("p/m", "p", "wired-model", dialect, "https://llm.example/v1")
    with pytest.raises(StopIteration) as stop:
        next(MAKING[dialect].embed(request, Asked("m", 7, to)))
    return stop.value.value


def test_every_row_has_an_example() -> None:
    assert list(EXAMPLES) == list(EMBEDDINGS)
    assert {name.partition("=")[0] for name in EMBEDDINGS} == set(EmbeddingRequest.__struct_fields__)


def test_somebody_makes_embeddings() -> None:
    assert "openai" in MAKING
    assert "anthropic" not in MAKING


@pytest.mark.parametrize("dialect", MAKING)
def test_every_row_has_a_cell(dialect: str) -> None:
    assert list(MAKING[dialect].embedding_fates) == list(EMBEDDINGS)


@pytest.mark.parametrize(("dialect", "name"), CELLS)
def test_a_parameter_meets_its_fate(dialect: str, name: str) -> None:
    fate, request = MAKING[dialect].embedding_fates[name], EXAMPLES[name]
    if fate.what == "refused":
        with pytest.raises(Failure) as found:
            sent(dialect, request)
        assert found.value.param == name.partition("=")[0]
        assert found.value.status == 400
        return
    wire = sent(dialect, request)
    assert wire.dropped == ((name,) if fate.what == "dropped" else ())
    said = wire.url + wire.body.decode()
    if name == "model":
        assert "wired-model" in said
    if fate.what in ("forwarded", "mapped") and name in VALUES:
        assert VALUES[name] in said
    if fate.what == "forwarded" and "[]" not in fate.to:
        member = (fate.to or name).partition("=")[0]
        assert json.loads(wire.body)[member] == msgspec.to_builtins(request)[name.partition("=")[0]]


def test_rows_claim_embeddings_for_dialects_alone_that_make_them() -> None:
    claiming = {row.dialect for row in table().values() if "embeddings" in row.serves}
    assert claiming == set(MAKING)


@pytest.mark.parametrize(("given", "found"), [("a", ["a"]), (["a", ""], ["a", ""])])
def test_texts(given: Any, found: list[str]) -> None:
    assert texts(EmbeddingRequest("m", given)) == found


@pytest.mark.parametrize("given", [[1], [[1], [2]]])
def test_tokens_are_no_texts(given: Any) -> None:
    with pytest.raises(Failure) as found:
        texts(EmbeddingRequest("m", given))
    assert (found.value.kind, found.value.param) == ("unsupported_content", "input")

"""Whichever way an upstream gives its vectors, the client gets what it asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymux.errors import Failure
from polymux.providers.anthropic import Anthropic
from polymux.providers.base import Asked
from polymux.providers.openai import OpenAI
from polymux.schema.embeddings import EmbeddingRequest
from polymux.surfaces.embeddings import Embeddings
from polymux.types import NO_USAGE, Call, Deployment, Key, Usage
from polymux.wire.vectors import pack, unpack

TO = Deployment("p/m", "p", "m-1", "openai", "https://llm.example/v1")
ASKED = Asked("public", 7, TO)
SINGLES = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1)


def call(**members: Any) -> Call:
    return Embeddings().decode(json.dumps({"model": "public", **members}).encode(), "1", Key("k", "k"))


def answer(*vectors: Any, usage: Any = None) -> bytes:
    data = [{"object": "embedding", "index": number, "embedding": one} for number, one in enumerate(vectors)]
    return json.dumps({"object": "list", "data": data, "model": "m-1", "usage": usage}).encode()


def read(asked: Call, body: bytes) -> tuple[Any, Usage]:
    out, usage = Embeddings().read(asked, OpenAI(), body, ASKED, None)
    return json.loads(out), usage


@given(SINGLES)
def test_any_vector_in_either_form(numbers: list[float]) -> None:
    for sent in (numbers, pack(numbers)):
        for form in ("float", "base64"):
            asked = call(input="a", encoding_format=form)
            for out in (read(asked, answer(sent))[0], json.loads(OpenAI().relay_whole(answer(sent), asked, TO)[0])):
                got = out["data"][0]["embedding"]
                assert isinstance(got, str) is (form == "base64")
                assert (unpack(got) if isinstance(got, str) else got) == numbers


def test_an_answer_in_the_common_form() -> None:
    told, usage = read(call(input=["a", "b"]), answer([1, 2], [0.5, 3], usage={"prompt_tokens": 4, "total_tokens": 4}))
    assert told == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [1.0, 2.0]},
            {"object": "embedding", "index": 1, "embedding": [0.5, 3.0]},
        ],
        "model": "public",
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }
    assert usage == Usage(4)


def test_usage_that_is_not_told_is_estimated() -> None:
    told, usage = read(call(input="twelve bytes"), answer([1.0]))
    assert usage is NO_USAGE, "the engine estimates what goes into the ledger"
    assert told["usage"] == {"prompt_tokens": 4, "total_tokens": 4}


@pytest.mark.parametrize(
    ("given", "body", "says"),
    [
        ("a", answer([1.0], [2.0]), "2 embeddings for 1 inputs"),
        (["a", "b"], answer([1.0]), "1 embeddings for 2 inputs"),
        ([1, 2, 3], answer([1.0], [2.0], [3.0]), "3 embeddings for 1 inputs"),
        ("a", answer("AAAA"), "cannot be read"),
        ("a", answer(), "no embeddings"),
        ("a", answer(None), "not a list of embeddings"),
        ("a", b"{}", "no embeddings"),
        ("a", b"<html>", "not a list of embeddings"),
    ],
)
def test_what_is_no_answer_is_a_failure(given: Any, body: bytes, says: str) -> None:
    with pytest.raises(Failure, match=says) as found:
        read(call(input=given), body)
    assert found.value.kind == "upstream_unavailable"


@pytest.mark.parametrize(
    ("members", "kind", "param"),
    [
        ({"input": []}, "invalid_value", "input"),
        ({"input": ""}, "invalid_value", "input"),
        ({"input": 5}, "invalid_type", "input"),
        ({"input": None}, "invalid_type", "input"),
        ({"input": [1.5]}, "invalid_type", "input[0]"),
        ({"input": ["a", 1]}, "invalid_type", "input"),
        ({"input": [[1], "a"]}, "invalid_type", "input"),
        ({"input": "a", "dimensions": "4"}, "invalid_type", "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "invalid_value", "encoding_format"),
        ({"input": "a", "user": 5}, "invalid_type", "user"),
    ],
)
def test_a_request_that_is_translated_is_typed(members: dict[str, Any], kind: str, param: str) -> None:
    with pytest.raises(Failure) as found:
        Embeddings().request(call(**members))
    assert (found.value.kind, found.value.param) == (kind, param)


def test_a_request_becomes_the_wires() -> None:
    asked = call(input=[[1, 2]], dimensions=3, user="u", encoding_format=None, novelty=1)
    with pytest.raises(StopIteration) as stop:
        next(Embeddings().flow(asked, OpenAI(), ASKED))
    wire = stop.value.value
    assert (wire.method, wire.url) == ("POST", "https://llm.example/v1/embeddings")
    assert json.loads(wire.body) == {"model": "m-1", "input": [[1, 2]], "dimensions": 3, "user": "u"}
    assert Embeddings().unknown(asked) == ("novelty",)
    assert Embeddings().request(asked) == EmbeddingRequest("public", [[1, 2]], 3, None, "u")


def test_a_dialect_without_embeddings_says_so() -> None:
    with pytest.raises(Failure) as found:
        Embeddings().flow(call(input="a"), Anthropic(), ASKED)
    assert found.value.kind == "unsupported_operation"


def test_what_counts() -> None:
    asked = call(input=["ab", "c"])
    assert [bytes(part) for part in Embeddings().prompt(asked)] == [b'["ab", "c"]']
    assert Embeddings().longest(asked) == Embeddings().said(answer([1.0])) == 0

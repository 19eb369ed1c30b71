"""Answers to embeddings requests: untouched when they can be, mended when not, and failures when they are none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymux.errors import Failure
from polymux.providers.base import Asked
from polymux.providers.openai import OpenAI
from polymux.providers.openai_embeddings import read_vectors, relay_vectors
from polymux.surfaces.embeddings import Embeddings
from polymux.types import NO_USAGE, Call, Deployment, Key, Quirks, Usage

NUMBERS = [0.5, -0.25, 0.125, 1.0]
PACKED = "AAAAPwAAgL4AAAA+AACAPw=="
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["data", "embedding", "index", "usage"]), inner),
)


def call(**members: Any) -> Call:
    return Embeddings().decode(json.dumps({"model": "m", "input": "a", **members}).encode(), "1", Key("k", "k"))


def answer(*data: Any, **members: Any) -> bytes:
    return json.dumps({"object": "list", "data": data, "model": "m", **members}, indent=2).encode()


@pytest.mark.parametrize(
    ("form", "sent", "got"),
    [
        ("float", NUMBERS, NUMBERS),
        ("float", PACKED, NUMBERS),
        ("base64", NUMBERS, PACKED),
        ("base64", PACKED, PACKED),
        (None, PACKED, NUMBERS),
        ("int8", PACKED, PACKED),  # a provider's own: it knows what it answers
        ("int8", NUMBERS, NUMBERS),
        (5, NUMBERS, NUMBERS),
    ],
)
def test_the_form_that_was_asked_for(form: Any, sent: Any, got: Any) -> None:
    body = answer({"index": 0, "embedding": sent, "novelty": 1}, novelty={"a": 1})
    out, _ = relay_vectors(body, call(encoding_format=form))
    assert json.loads(out)["data"][0]["embedding"] == got
    if sent == got:
        assert out == body
    else:
        told = json.loads(body)
        told["data"][0]["embedding"] = got
        assert json.loads(out) == told


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 4, "total_tokens": 4}, Usage(4)),
        ({"total_tokens": 4}, Usage(4)),
        ({"prompt_tokens": 0, "total_tokens": 0}, NO_USAGE),
        ({"prompt_tokens": "4"}, NO_USAGE),
        (None, NO_USAGE),
        ([], NO_USAGE),
    ],
)
def test_usage(usage: Any, counted: Usage) -> None:
    body = answer({"index": 0, "embedding": NUMBERS}, usage=usage)
    assert relay_vectors(body, call())[1] == counted
    told = read_vectors(body, "public").usage
    assert (told.prompt_tokens if told else 0) == counted.input


def test_vectors_come_in_the_order_of_the_inputs() -> None:
    body = answer({"index": 1, "embedding": [2]}, {"index": 0, "embedding": PACKED})
    found = read_vectors(body, "public")
    assert [(one.index, one.embedding) for one in found.data] == [(0, PACKED), (1, [2.0])]
    assert found.model == "public"
    unnumbered = read_vectors(answer({"embedding": [1]}, {"embedding": [2]}), "m")
    assert [one.index for one in unnumbered.data] == [0, 1]


@given(JSON | st.builds(lambda data: {"data": data}, st.lists(st.builds(lambda e: {"embedding": e}, JSON))))
def test_any_json_is_an_answer_or_a_failure(value: Any) -> None:
    body = json.dumps(value).encode()
    for form in ("float", "base64"):
        try:
            out, usage = relay_vectors(body, call(encoding_format=form))
        except Failure as failure:
            assert failure.kind == "upstream_unavailable"  # noqa: PT017 - most values fail
        else:
            assert json.loads(out)["data"]
            assert usage.input >= 0
        try:
            assert read_vectors(body, "m").data
        except Failure as failure:
            assert failure.kind == "upstream_unavailable"  # noqa: PT017 - likewise


def test_an_error_inside_a_success() -> None:
    with pytest.raises(Failure) as found:
        relay_vectors(b'{"error": {"message": "slow down", "code": 429}}', call())
    assert found.value.kind == "upstream_rate_limited"


def wire(quirks: Quirks, **members: Any) -> tuple[Any, tuple[str, ...]]:
    request = OpenAI().relay(call(**members), Deployment("p/m", "p", "up", "openai", "https://x/v1", quirks=quirks))
    return json.loads(request.body), request.dropped


def test_a_row_that_drops_the_format_loses_nothing() -> None:
    quirks = Quirks(drop=("encoding_format", "user"))
    asked = wire(quirks, encoding_format="base64", user="u", dimensions=2)
    assert asked == ({"model": "up", "input": "a", "dimensions": 2}, ("user",))


def test_what_rows_say_of_chats_is_not_said_of_embeddings() -> None:
    quirks = Quirks(set={"reasoning_split": True}, rename={"user": "end_user"}, thinking=True)
    assert wire(quirks, user="u") == ({"model": "up", "input": "a", "user": "u"}, ())


def test_an_answer_holds_no_reasoning_to_note() -> None:
    asked = Asked("m", 7, Deployment("p/m", "p", "m", "openai", quirks=Quirks(replay="reasoning_details")))
    OpenAI().note(answer({"index": 0, "embedding": NUMBERS}), asked)
    assert asked.remembered == {}

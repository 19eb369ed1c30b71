"""What OpenAI's surfaces have in common: every one of them takes requests apart alike."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from polymux.errors import Failure
from polymux.surfaces.chat import Chat
from polymux.surfaces.completions import Completions
from polymux.surfaces.embeddings import Embeddings
from polymux.surfaces.openai import invalid, tokens_of, typed
from polymux.types import Call, Key

KEY = Key("k", "k")
SURFACES = [Chat(), Completions(), Embeddings()]


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.name)
def test_routing_fields(surface: Any) -> None:
    body = {"model": "m", surface.wanted: "x", "new": 1, "stream": True, "stream_options": {"include_usage": True}}
    call = surface.decode(json.dumps(body).encode(), "id", KEY)
    assert (call.id, call.surface, call.key, call.model) == ("id", surface.name, KEY, "m")
    assert list(call.fields) == list(body)
    assert call.stream is call.wants_usage is surface.streams


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.name)
@pytest.mark.parametrize(
    ("members", "kind", "param"),
    [
        ("", "missing_required_parameter", "model"),
        ('"model": "m"', "missing_required_parameter", ""),
        ('"model": 5', "invalid_type", "model"),
        ('"model": "m", "model": "m"', "invalid_json", "model"),
        ('"model": "m", ', "invalid_json", None),
    ],
)
def test_what_no_provider_could_take_is_refused(surface: Any, members: str, kind: str, param: str | None) -> None:
    with pytest.raises(Failure) as found:
        surface.decode(f"{{{members}}}".encode(), "id", KEY)
    assert (found.value.kind, found.value.param) == (kind, surface.wanted if param == "" else param)


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.name)
def test_errors_have_the_envelope(surface: Any) -> None:
    failure = Failure("upstream_rejected", "m\n", param="p", sent=(422, "t", None))
    envelope = {"error": {"message": "m\n", "type": "t", "param": "p", "code": None}}
    assert json.loads(surface.error(failure)) == envelope
    assert json.loads(surface.error_event(failure).removeprefix(b"data: ")) == envelope
    assert surface.comment().startswith(b":")


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ({}, None),
        ({"a": 5}, 5),
        ({"b": 7}, 7),
        ({"a": 5, "b": 7}, 7),
        ({"a": None}, None),
        ({"a": 1.5}, None),
        ({"c": 9}, None),
    ],
)
def test_the_tokens_that_a_client_asks_for(members: dict[str, Any], found: int | None) -> None:
    fields = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in members.items()}
    assert tokens_of(Call("1", "chat", KEY, "m", False, fields, b""), "a", "b") == found


def test_a_typed_request_or_the_reason_why_not() -> None:
    decode = msgspec.json.Decoder(dict[str, int]).decode
    assert typed(decode, b'{"a": 1}') == {"a": 1}
    for body, kind in ((b'{"a": "x"}', "invalid_type"), (b"{", "invalid_json"), (b'{"\xff": 1}', "invalid_json")):
        with pytest.raises(Failure) as found:
            typed(decode, body)
        assert found.value.kind == kind


@pytest.mark.parametrize(
    ("message", "kind", "param", "told"),
    [
        ("Expected `str`, got `int` - at `$.a.b`", "invalid_type", "a.b", "'a.b': expected str, got int"),
        ("Expected `object`, got `array`", "invalid_type", None, "expected object, got array"),
        ("Object missing required field `a`", "missing_required_parameter", "a", "'a' is missing"),
        ("Object missing required field `a` - at `$.b`", "missing_required_parameter", "b.a", "'b.a' is missing"),
        ("Invalid enum value 'x' - at `$.a`", "invalid_value", "a", "'a': invalid enum value 'x'"),
    ],
)  # fmt: skip
def test_a_failed_check_is_told_in_the_clients_terms(message: str, kind: str, param: str | None, told: str) -> None:
    failure = invalid(message)
    assert (failure.kind, failure.param, failure.message) == (kind, param, told)

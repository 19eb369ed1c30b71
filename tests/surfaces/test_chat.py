"""Client requests in, client bytes out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymux.errors import Failure
from polymux.schema.chat import DONE, ChatResponse, Choice, Chunk, ChunkChoice, Delta, TokenUsage
from polymux.surfaces.chat import Chat
from polymux.types import Call, Key, Usage

KEY = Key("k", "k")
PLAIN = '"model": "m", "messages": [{"role": "user", "content": "a"}]'


def decode(body: str | bytes) -> Call:
    return Chat().decode(body.encode() if isinstance(body, str) else body, "id", KEY)


def refused(body: str | bytes) -> tuple[str, str | None]:
    with pytest.raises(Failure) as found:
        decode(body)
    return found.value.kind, found.value.param


def test_the_routing_fields_are_read_and_the_rest_stays_raw() -> None:
    body = f'{{{PLAIN}, "stream" : true , "new": 1e0}}'
    call = decode(body)
    assert (call.id, call.surface, call.key, call.model, call.stream) == ("id", "chat", KEY, "m", True)
    assert call.body == body.encode()
    assert bytes(call.fields["new"]) == b"1e0"
    assert call.wants_usage is False


@pytest.mark.parametrize(
    ("members", "stream", "usage"),
    [
        ("", False, False),
        (', "stream": false', False, False),
        (', "stream": null', False, False),
        (', "stream": true', True, False),
        (', "stream": true, "stream_options": null', True, False),
        (', "stream": true, "stream_options": {}', True, False),
        (', "stream": true, "stream_options": {"include_usage": null}', True, False),
        (', "stream": true, "stream_options": {"include_usage": true, "new": 1}', True, True),
        (', "stream": false, "stream_options": {"include_usage": true}', False, False),
    ],
)
def test_streaming_and_usage(members: str, stream: bool, usage: bool) -> None:
    call = decode(f"{{{PLAIN}{members}}}")
    assert (call.stream, call.wants_usage) == (stream, usage)


@pytest.mark.parametrize(
    ("body", "kind", "param"),
    [
        ("", "invalid_json", None),
        ("{", "invalid_json", None),
        ("[]", "invalid_json", None),
        (b'{"\xff": 1}', "invalid_json", None),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "invalid_json", None),
        (f'{{{PLAIN}, "model": "n"}}', "invalid_json", "model"),
        (f'{{{PLAIN}, "mod\\u0065l": "n"}}', "invalid_json", "model"),
        (f'{{{PLAIN}, "x": 1, "x": 1}}', "invalid_json", "x"),
        ('{"messages": []}', "missing_required_parameter", "model"),
        ('{"model": "", "messages": []}', "missing_required_parameter", "model"),
        ('{"model": "m"}', "missing_required_parameter", "messages"),
        ('{"model": 5, "messages": []}', "invalid_type", "model"),
        ('{"model": null, "messages": []}', "invalid_type", "model"),
        ('{"model": ["m"], "messages": []}', "invalid_type", "model"),
        (f'{{{PLAIN}, "stream": "true"}}', "invalid_type", "stream"),
        (f'{{{PLAIN}, "stream": 1}}', "invalid_type", "stream"),
        (f'{{{PLAIN}, "stream": true, "stream_options": 5}}', "invalid_type", "stream_options"),
        (f'{{{PLAIN}, "stream": true, "stream_options": {{"include_usage": 1}}}}', "invalid_type", "stream_options"),
    ],
)
def test_what_no_provider_could_take_is_refused(body: str | bytes, kind: str, param: str | None) -> None:
    assert refused(body) == (kind, param)


@pytest.mark.parametrize(
    ("messages", "more", "kind", "param"),
    [
        ('"hi"', "", "invalid_type", "messages"),
        ('[{"role": "user", "content": 5}]', "", "invalid_type", "messages[0].content"),
        ('[{"role": "robot"}]', "", "invalid_value", "messages[0].role"),
        ('[{"content": "a"}]', "", "missing_required_parameter", "messages[0].role"),
        ("[]", ', "temperature": "hot"', "invalid_type", "temperature"),
        ("[]", ', "tools": [{"function": {}}]', "missing_required_parameter", "tools[0].function.name"),
        ("[]", ', "max_tokens": 1.5', "invalid_type", "max_tokens"),
    ],
)
def test_a_request_that_is_translated_is_typed(messages: str, more: str, kind: str, param: str) -> None:
    call = decode(f'{{"model": "m", "messages": {messages}{more}}}')
    with pytest.raises(Failure) as found:
        Chat().request(call)
    assert (found.value.kind, found.value.param) == (kind, param)
    assert repr(param) in found.value.message
    assert "`" not in found.value.message


def test_a_good_request_is_typed() -> None:
    request = Chat().request(decode(f'{{{PLAIN}, "new": 1}}'))
    assert (request.model, request.messages[0].content) == ("m", "a")


def test_members_that_the_pivot_does_not_know_are_named() -> None:
    assert Chat().unknown(decode(f'{{{PLAIN}, "new": 1, "seed": 2, "Seed": 3}}')) == ("new", "Seed")


@settings(derandomize=True, deadline=None)
@given(st.binary() | st.text(alphabet='{}[]":, modelstruen').map(str.encode))
def test_no_body_breaks_it(body: bytes) -> None:
    try:
        Chat().request(decode(body))
    except Failure as failure:
        assert failure.row.fault == "client"  # noqa: PT017 - most bodies fail, and how is the point


def chunk(choices: list[ChunkChoice], **members: Any) -> Chunk:
    return Chunk("i", 1, "m", choices, **members)


def test_events_are_one_each_and_usage_is_for_those_who_asked() -> None:
    chunks = [chunk([ChunkChoice(delta=Delta(content="ä\n"))]), chunk([], usage=TokenUsage(1, 2, 3)), chunk([])]
    without = Chat().events(decode(f'{{{PLAIN}, "stream": true}}'), chunks)
    with_ = Chat().events(decode(f'{{{PLAIN}, "stream": true, "stream_options": {{"include_usage": true}}}}'), chunks)
    assert without.count(b"data: ") == 1
    assert with_.startswith(without)
    assert with_.count(b"data: ") == 2
    assert all(json.loads(line[6:]) for line in with_.decode().split("\n\n") if line)


def test_the_end_and_whole_answers() -> None:
    assert Chat().end() == DONE == b"data: [DONE]\n\n"
    told = ChatResponse("i", 1, "m", [Choice()], usage=TokenUsage(1, 2, 3))
    whole, usage = Chat().answer(decode(f"{{{PLAIN}}}"), told, None, "estimated")
    assert json.loads(whole)["id"] == "i"
    assert usage == Usage(1, 2, source="estimated")


def test_errors_have_the_envelope() -> None:
    failure = Failure("upstream_rejected", "m\n", param="p", sent=(422, "t", None))
    envelope = {"error": {"message": "m\n", "type": "t", "param": "p", "code": None}}
    assert json.loads(Chat().error(failure)) == envelope
    event = Chat().error_event(failure)
    assert event.startswith(b"data: {")
    assert event.endswith(b"}\n\n")
    assert json.loads(event[6:]) == envelope

"""What golden files cannot show: odd answers, odd errors, the list of models."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from polymux.errors import Failure, Truncated
from polymux.providers.anthropic import Anthropic
from polymux.providers.base import Asked
from polymux.schema.chat import Chunk
from polymux.types import Deployment

ADAPTER = Anthropic()
TO = Deployment(
    id="claude/m",
    provider="claude",
    model="claude-sonnet-4-5",
    dialect="anthropic",
    base_url="https://api.anthropic.com/v1",
    headers=(("x-api-key", "sk-ant-test"), ("anthropic-version", "2023-06-01")),
)

START = {"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 3}}}
STOP = [{"type": "message_delta", "delta": {"stop_reason": "end_turn"}}, {"type": "message_stop"}]


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
    ]


def read(events: Iterable[dict[str, Any]], named: bool = True) -> list[Chunk]:
    reader = ADAPTER.reader(Asked("m", 7))
    chunks: list[Chunk] = []
    for event in events:
        chunks += reader.feed(event["type"] if named else "", json.dumps(event).encode())
    return [*chunks, *reader.close()]


def text_of(chunks: list[Chunk]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


# ---- streams -----------------------------------------------------------------------------------------------------


def test_servers_that_do_not_name_their_events_are_understood() -> None:
    events = [START, *block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "hi"}), *STOP]
    assert read(events, named=False) == read(events)


def test_text_in_the_start_of_a_block_counts() -> None:
    chunks = read([START, *block(0, {"type": "text", "text": "He"}, {"type": "text_delta", "text": "llo"}), *STOP])
    assert text_of(chunks) == "Hello"


def test_reasoning_in_the_start_of_a_block_counts_and_is_part_of_what_comes_back() -> None:
    start = {"type": "thinking", "thinking": "He", "signature": "", "new": 1}
    deltas = {"type": "thinking_delta", "thinking": "llo"}, {"type": "signature_delta", "signature": "s"}
    deltas_of = [chunk.choices[0].delta for chunk in read([START, *block(0, start, *deltas), *STOP]) if chunk.choices]
    assert "".join(delta.reasoning_content or "" for delta in deltas_of) == "Hello"
    assert [delta.reasoning_details for delta in deltas_of if delta.reasoning_details] == [
        [{"type": "thinking", "thinking": "Hello", "signature": "s", "new": 1}]
    ]


def test_blocks_that_overlap_or_are_never_closed_stay_apart() -> None:
    calls = [{"type": "tool_use", "id": f"t{n}", "name": "f", "input": {}} for n in range(3)]
    first, second, third = (block(n + 4, call) for n, call in enumerate(calls))
    late = {"type": "input_json_delta", "partial_json": '{"a":1}'}
    fragment = {"type": "content_block_delta", "index": 4, "delta": late}
    found: dict[int, str] = {}
    for chunk in read([START, *first, *second, *third, fragment, *STOP]):
        for choice in chunk.choices:
            for call in choice.delta.tool_calls or ():
                assert call.function is not None
                found[call.index] = found.get(call.index, "") + call.function.arguments
    assert found == {0: '{"a":1}', 1: "{}", 2: "{}"}


def test_blocks_of_unknown_kinds_may_hold_anything() -> None:
    odd = {"type": "hologram", "text": {"a": 1}, "name": 7}
    whole = {
        "type": "message",
        "id": "msg_1",
        "content": [odd, {"type": "text", "text": "hi"}],
        "stop_reason": "end_turn",
    }
    streamed = [*block(0, odd, {"type": "hologram_delta"}), *block(1, {"type": "text", "text": "hi"})]
    assert text_of(read([START, *streamed, *STOP])) == "hi"
    assert ADAPTER.read(json.dumps(whole).encode(), Asked("m", 7)).choices[0].message.content == "hi"


def test_an_answer_without_an_id_is_given_one() -> None:
    start = {"type": "message_start"}
    assert {chunk.id for chunk in read([start, *STOP])} == {"msg_7"}
    body = b'{"type":"message","content":[],"stop_reason":"end_turn"}'
    assert ADAPTER.read(body, Asked("m", 7)).id == "msg_7"


def test_nothing_counts_after_the_end() -> None:
    late = [*block(0, {"type": "text", "text": "x"}, {"type": "text_delta", "text": "x"}), START, *STOP]
    error = {"type": "error", "error": {"type": "api_error", "message": "late"}}
    assert read([START, *STOP, *late, error]) == read([START, *STOP])


@pytest.mark.parametrize(
    "events",
    [
        [],
        [START],
        STOP,
        [*block(0, {"type": "text", "text": "hi"}), *STOP],
        [START, {"type": "message_stop"}],
        [START, {"type": "message_delta", "delta": {"stop_reason": None}}, {"type": "message_stop"}],
        [START, STOP[0]],
    ],
    ids=["nothing", "no end", "no start", "no start but text", "no stop reason", "null stop reason", "no message_stop"],
)
def test_an_incomplete_stream_is_truncated(events: list[dict[str, Any]]) -> None:
    with pytest.raises(Truncated):
        read(events)


@pytest.mark.parametrize(
    ("event", "data"),
    [
        ("content_block_delta", b'{"type":"content_block_delta","index":0,"delta":{"type":"text_del'),
        ("", b'{"type":"content_block_delta","delta":{"type":"text_delta","text":5}}'),
        ("content_block_delta", b'{"type":"content_block_delta","delta":{"type":"text_delta","text":"\xff"}}'),
        ("content_block_delta", b'{"type":"content_block_delta","x":' + b"[" * 100_000),
    ],
    ids=["cut", "wrong type", "not UTF-8", "deep"],
)
def test_an_event_that_cannot_be_read_is_left_out_and_counted(event: str, data: bytes) -> None:
    """One malformed event does not end a good answer."""
    reader = ADAPTER.reader(Asked("m", 7))
    reader.feed("message_start", json.dumps(START).encode())
    assert list(reader.feed(event, data)) == []
    assert reader.malformed == 1


@pytest.mark.parametrize(
    "data",
    [
        b'{"type":"content_block_start","content_block":{"type":"tool_use","id":5}}',
        b'{"type":"content_block_start"}',
    ],
    ids=["wrong type in a block", "no block"],
)
def test_a_block_that_cannot_be_read_ends_the_answer(data: bytes) -> None:
    """All that follows in the block would be without its beginning."""
    reader = ADAPTER.reader(Asked("m", 7))
    reader.feed("message_start", json.dumps(START).encode())
    with pytest.raises(Truncated):
        reader.feed("content_block_start", data)


# ---- whole answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'"text"', b'{"content":[5]}', b'{"content":"text"}', b"\xff", b"[" * 100_000]
)
def test_a_success_that_is_no_message_is_a_failure(body: bytes) -> None:
    with pytest.raises(Failure) as caught:
        ADAPTER.read(body, Asked("m", 7))
    assert caught.value.kind == "upstream_unavailable"


def test_arguments_are_passed_on_as_written() -> None:
    call = b'{"type":"tool_use","id":"t","name":"f","input":{"n": 1.10, "big": 123456789012345678901}}'
    response = ADAPTER.read(b'{"content":[' + call + b'],"stop_reason":"tool_use"}', Asked("m", 7))
    message = response.choices[0].message
    assert message.content is None
    assert message.tool_calls
    assert message.tool_calls[0].function is not None
    assert message.tool_calls[0].function.arguments == '{"n": 1.10, "big": 123456789012345678901}'


# ---- errors ------------------------------------------------------------------------------------------------------

IN_BAND = {
    "invalid_request_error": ("upstream_rejected", 400),
    "authentication_error": ("upstream_auth_failed", 502),
    "billing_error": ("upstream_auth_failed", 502),
    "permission_error": ("upstream_auth_failed", 502),
    "not_found_error": ("upstream_model_not_found", 404),
    "conflict_error": ("upstream_rejected", 409),
    "request_too_large": ("upstream_rejected", 413),
    "rate_limit_error": ("upstream_rate_limited", 429),
    "api_error": ("upstream_unavailable", 502),
    "timeout_error": ("upstream_timeout", 504),
    "overloaded_error": ("upstream_overloaded", 503),
    "an_error_of_the_future": ("upstream_unavailable", 502),
    "": ("upstream_unavailable", 502),
}


@pytest.mark.parametrize("type_", IN_BAND)
def test_an_error_means_the_same_in_a_stream_and_in_a_success(type_: str) -> None:
    body = {"type": "error", "error": {"type": type_, "message": "token sk-ant-abcdefgh12345"}}
    with pytest.raises(Failure) as streamed:
        read([START, body])
    with pytest.raises(Failure) as whole:
        ADAPTER.read(json.dumps(body).encode(), Asked("m", 7))
    for failure in (streamed.value, whole.value):
        assert (failure.kind, failure.status) == IN_BAND[type_]
        assert failure.message == "token sk-a…"


def test_an_unnamed_error_of_a_compatible_server_is_an_error() -> None:
    with pytest.raises(Failure) as caught:
        ADAPTER.reader(Asked("m", 7)).feed("", b'{"error":{"message":"boom"}}')
    assert caught.value.message == "boom"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, "upstream_unavailable"),
        (400, "upstream_rejected"),
        (422, "upstream_rejected"),
        (500, "upstream_unavailable"),
        (502, "upstream_unavailable"),
        (503, "upstream_overloaded"),
        (520, "upstream_unavailable"),
        (529, "upstream_overloaded"),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>sk-ant-abcdefgh123</html>", b'{"error":{}}', b"[1]", b"\xff"])
def test_an_unreadable_error_still_says_its_status(status: int, kind: str, body: bytes) -> None:
    failure = ADAPTER.failure(status, {"content-type": "text/html"}, body)
    assert failure.kind == kind
    assert str(status) in failure.message
    assert "html>" not in failure.message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": "m"}, "m"),
        ({"detail": "m"}, "m"),
        ([{"message": "m"}], "m"),
        ({"error": {"message": "m", "code": 7}}, "m"),
    ],
)
def test_errors_in_other_shapes_are_read_as_well(body: object, message: str) -> None:
    """Proxies stand before this protocol, too."""
    assert ADAPTER.failure(400, {}, json.dumps(body).encode()).message == message


@pytest.mark.parametrize("status", [400, 429])
def test_money_spent_is_no_fault_of_the_request_and_no_rate_limit(status: int) -> None:
    text = "Your credit balance is too low to access the Anthropic API."
    body = json.dumps({"type": "error", "error": {"type": "rate_limit_error", "message": text}}).encode()
    failure = ADAPTER.failure(status, {}, body)
    assert (failure.kind, failure.row.retry) == ("upstream_auth_failed", "next")


@pytest.mark.parametrize(
    "message",
    [
        "prompt is too long: 210000 tokens > 200000 maximum",
        "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
    ],
)
def test_a_prompt_too_long_is_told_from_other_400s(message: str) -> None:
    body = json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": message}}).encode()
    assert ADAPTER.failure(400, {}, body).kind == "context_length_exceeded"


@pytest.mark.parametrize("message", ["Your credit balance is too low to access the API.", "Spend limit reached"])
def test_spent_money_is_told_from_other_400s(message: str) -> None:
    body = json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": message}}).encode()
    failure = ADAPTER.failure(400, {}, body)
    assert (failure.status, failure.code) == (502, "upstream_auth_failed")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "12"}, 12.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "soon"}, None),
        ({"anthropic-ratelimit-requests-reset": "2026-11-21T00:00:00Z"}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503, 529])
def test_retry_after_is_known_where_it_can_help(status: int, headers: dict[str, str], seconds: float | None) -> None:
    assert ADAPTER.failure(status, headers, b"").retry_after == seconds


# ---- models ------------------------------------------------------------------------------------------------------


def test_models_are_listed() -> None:
    request = ADAPTER.models(TO)
    assert (request.method, request.url) == ("GET", "https://api.anthropic.com/v1/models?limit=1000")
    assert request.headers == TO.headers
    body = b'{"data":[{"type":"model","id":"claude-opus-5-5"},{"id":"claude-sonnet-5","new":1}],"has_more":false}'
    assert ADAPTER.read_models(body) == ["claude-opus-5-5", "claude-sonnet-5"]

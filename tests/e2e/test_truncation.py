"""A truncated or failed answer is an error and never looks like a success."""

from __future__ import annotations

import json
from typing import Any

import pytest

from support.gateway import Gateway
from support.raw import Answer, post
from support.scripts import SSE, Ask, Script, choose, events_in
from support.upstream import Upstream

DIALECTS = {"corp": "openai", "claude": "anthropic"}
PROVIDERS = sorted(DIALECTS)
TEXT = "Hello, 世界!"
USAGE = {"stream_options": {"include_usage": True}}


def finish_at(provider: str) -> int:
    """The number of events that come before the one that says why the answer ended."""
    body = {"stream": True, "messages": [{"role": "user", "content": "x"}], "max_tokens": 9, "model": "m", **USAGE}
    if provider == "claude":
        del body["stream_options"]
    frames = choose(Ask(DIALECTS[provider], f"cut-{events_in(DIALECTS[provider])}", body)).frames
    marks = (b'"finish_reason":"stop"', b'"stop_reason":"end_turn"')
    return next(k for k, frame in enumerate(frames) if any(mark in frame for mark in marks))


def text_of(events: list[bytes]) -> str:
    chunks = [json.loads(data) for data in events if data != b"[DONE]"]
    return "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk.get("choices") or [])


def check_failed(answer: Answer, codes: set[str]) -> None:
    """An error: by status when nothing had been sent, else by an event that is the last."""
    if answer.status != 200:
        assert answer.status == 502
        error = answer.error()
    else:
        events = answer.events()
        assert b"[DONE]" not in events
        error = json.loads(events[-1])["error"]
        assert {"message", "type", "param", "code"} <= set(error)
        assert not any(b'"error":{' in data for data in events[:-1])
        assert not any(b'"finish_reason":"stop"' in data for data in events)
        assert TEXT.startswith(text_of(events[:-1]))
    assert error["type"] == "upstream_error"
    assert error["code"] in codes
    assert error["message"]


CUTS = [(p, k) for p in PROVIDERS for k in range(events_in(DIALECTS[p]) + 1)]


@pytest.mark.parametrize(
    ("fault", "codes"),
    [
        ("cut", {"upstream_truncated"}),
        ("ended", {"upstream_truncated"}),
        ("torn", {"upstream_truncated", "upstream_unavailable"}),
    ],
)
@pytest.mark.parametrize(("provider", "k"), CUTS)
def test_a_stream_cut_after_any_event_is_an_error(
    gateway: Gateway, upstream: Upstream, provider: str, k: int, fault: str, codes: set[str]
) -> None:
    """Up to the event that says why the answer ended; from there on all of the text has come."""
    answer = gateway.chat(f"{provider}/{fault}-{k}", stream=True, **USAGE)
    if k <= finish_at(provider):
        check_failed(answer, codes)
        return
    if fault == "torn" and answer.status == 502:  # a reset may take with it what had not been read
        return
    assert answer.status == 200
    events = answer.events()
    if b"[DONE]" in events:
        assert text_of(events) == TEXT
        assert sum(b'"finish_reason":"stop"' in data for data in events) == 1
    else:
        assert json.loads(events[-1])["error"]["code"] in codes


@pytest.mark.parametrize("fault", ["cut-1", "torn-1", "reset", "close"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_whole_answer_that_breaks_off_is_an_error(
    gateway: Gateway, upstream: Upstream, provider: str, fault: str
) -> None:
    answer = gateway.chat(f"{provider}/{fault}")
    assert answer.status == 502
    check_failed(answer, {"upstream_truncated", "upstream_unavailable"})


@pytest.mark.parametrize("fault", ["reset", "close"])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_no_answer_at_all_is_an_error(gateway: Gateway, upstream: Upstream, provider: str, fault: str) -> None:
    answer = gateway.chat(f"{provider}/{fault}", stream=True)
    assert answer.status == 502
    assert answer.error()["code"] in ("upstream_unavailable", "upstream_truncated")


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(("provider", "status"), [("corp", 502), ("claude", 503)])
def test_an_error_inside_a_success_gets_its_status(
    gateway: Gateway, upstream: Upstream, provider: str, status: int, streamed: bool
) -> None:
    answer = gateway.chat(f"{provider}/errorinside", stream=streamed)
    assert answer.status == status
    error = answer.error()
    assert (error["type"], error["code"]) == ("upstream_error", "upstream_unavailable")
    assert "The server had an error." in error["message"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_error_in_mid_stream_is_the_last_event(gateway: Gateway, upstream: Upstream, provider: str) -> None:
    with gateway.wire() as wire:
        body = {"model": f"{provider}/errorlater", "messages": [{"role": "user", "content": "x"}], "stream": True}
        wire.send(post(gateway.key, body))
        assert wire.head().status == 200
        upstream.wait("errorlater").release()
        events = list(wire.events())
    assert text_of(events[:-1]) == {"corp": "Hello, 世界", "claude": "Hel"}[provider]
    error = json.loads(events[-1])["error"]
    assert (error["type"], error["code"]) == ("upstream_error", "upstream_unavailable")
    assert "The server had an error." in error["message"]
    assert b"[DONE]" not in events


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_web_page_is_not_an_answer(gateway: Gateway, upstream: Upstream, provider: str, streamed: bool) -> None:
    answer = gateway.chat(f"{provider}/html", stream=streamed)
    assert answer.status == 502
    assert answer.error()["type"] == "upstream_error"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_one_malformed_event_does_not_end_a_good_stream(gateway: Gateway, upstream: Upstream, provider: str) -> None:
    events = gateway.chat(f"{provider}/malformed", stream=True).events()
    assert events[-1] == b"[DONE]"
    assert text_of(events) == TEXT


def test_a_missing_done_is_supplied(gateway: Gateway, upstream: Upstream) -> None:
    events = gateway.chat("corp/unended", stream=True).events()
    assert events[-1] == b"[DONE]"
    assert text_of(events) == TEXT


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("body", [b'{"choices":[]}', b"{}", b"[]", b"null", b"", b"\xff\xfe"])
def test_an_empty_or_senseless_answer_is_an_error(
    gateway: Gateway, upstream: Upstream, body: bytes, streamed: bool
) -> None:
    framed = Script(headers=SSE, frames=(b"data: " + body + b"\n\n",)) if streamed else Script(frames=(body,))
    upstream.script("senseless", framed)
    answer = gateway.chat("corp/senseless", stream=streamed)
    assert answer.status == 502
    assert answer.error()["type"] == "upstream_error"


TOLD: dict[int, tuple[int, str, str | None]] = {
    400: (400, "invalid_request_error", "invalid_value"),
    401: (502, "upstream_error", "upstream_auth_failed"),
    403: (502, "upstream_error", "upstream_auth_failed"),
    404: (404, "invalid_request_error", "model_not_found"),
    413: (413, "invalid_request_error", None),
    422: (422, "invalid_request_error", None),
    429: (429, "rate_limit_error", "upstream_rate_limited"),
    500: (502, "upstream_error", "upstream_unavailable"),
    503: (503, "upstream_error", "upstream_unavailable"),
    529: (503, "upstream_error", "upstream_unavailable"),
}


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("status", sorted(TOLD))
def test_an_error_status_of_the_provider(gateway: Gateway, upstream: Upstream, status: int, streamed: bool) -> None:
    answer = gateway.chat(f"corp/status-{status}", stream=streamed)
    error: Any = answer.error()
    assert (answer.status, error["type"], error["code"]) == TOLD[status]
    if status in (429, 503):
        assert 1 <= int(answer.headers["retry-after"]) <= 7
    if status in (401, 403):
        assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("status", "expected"), [(400, 400), (401, 502), (403, 502), (413, 413), (429, 429), (500, 502), (529, 503)]
)
def test_an_error_status_of_an_anthropic_provider(
    gateway: Gateway, upstream: Upstream, status: int, expected: int
) -> None:
    answer = gateway.chat(f"claude/status-{status}")
    assert answer.status == expected
    assert answer.error()["message"]

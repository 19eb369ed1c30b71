"""Streams stream: an event reaches the client before the provider has sent the next one."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from support.gateway import Gateway
from support.raw import Wire, post
from support.scripts import Ask as Asked
from support.scripts import Script, choose
from support.upstream import Upstream

BODY = {"messages": [{"role": "user", "content": "Hi"}], "stream": True}
PIECES = ("Hel", "lo, ", "世界", "!")
# provider, and how many of its events come before the first that holds text, itself included
LANES = [pytest.param("corp", 2, id="openai"), pytest.param("claude", 4, id="anthropic")]


def text_until(events: Iterator[bytes], wanted: str) -> str:
    """Read events until the text has grown to what is wanted."""
    text = ""
    while len(text) < len(wanted):
        data = next(events)
        assert data != b"[DONE]"
        for choice in json.loads(data)["choices"]:
            text += choice["delta"].get("content") or ""
    return text


@pytest.mark.parametrize(("provider", "before"), LANES)
def test_each_event_reaches_the_client_before_the_next_is_sent(
    gateway: Gateway, upstream: Upstream, provider: str, before: int
) -> None:
    with gateway.wire() as wire:
        wire.send(post(gateway.key, {**BODY, "model": f"{provider}/gate"}))
        seen = upstream.wait("gate")
        seen.release(before)
        head = wire.head()
        assert head.status == 200
        assert head.headers["content-type"].startswith("text/event-stream")
        events = wire.events()
        assert text_until(events, PIECES[0]) == PIECES[0]
        for piece in PIECES[1:]:
            seen.release()
            assert text_until(events, piece) == piece
        seen.release(20)
        rest = list(events)
    assert rest[-1] == b"[DONE]"
    assert sum(b'"finish_reason":"stop"' in data for data in rest) == 1


@pytest.mark.parametrize("provider", ["corp", "claude"])
def test_no_status_is_sent_before_the_first_content(gateway: Gateway, upstream: Upstream, provider: str) -> None:
    """A provider that fails after its preamble is answered with an error status, not with a broken stream."""
    answer = gateway.chat(f"{provider}/torn-1", stream=True)
    assert answer.status == 502
    assert answer.error()["code"] in ("upstream_truncated", "upstream_unavailable")


def test_a_function_model_streams(gateway: Gateway) -> None:
    answer = gateway.chat("meow", stream=True)
    assert answer.status == 200
    *chunks, done = answer.events()
    assert done == b"[DONE]"
    deltas = [choice["delta"] for chunk in chunks for choice in json.loads(chunk)["choices"]]
    assert [delta["content"] for delta in deltas if delta.get("content")] == ["喵", "!"]
    assert deltas[0]["role"] == "assistant"


@pytest.mark.parametrize("provider", ["corp", "claude"])
@pytest.mark.parametrize("wanted", [True, False])
def test_usage_comes_last_and_only_when_it_was_asked_for(
    gateway: Gateway, upstream: Upstream, provider: str, wanted: bool
) -> None:
    options = {"stream_options": {"include_usage": True}} if wanted else {}
    *chunks, done = gateway.chat(f"{provider}/text", stream=True, **options).events()
    assert done == b"[DONE]"
    decoded = [json.loads(chunk) for chunk in chunks]
    with_usage = [position for position, chunk in enumerate(decoded) if chunk.get("usage")]
    assert with_usage == ([len(decoded) - 1] if wanted else [])
    if wanted:
        assert decoded[-1]["choices"] == []
        usage = decoded[-1]["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (11, 7, 18)
        assert usage["prompt_tokens_details"]["cached_tokens"] == 3
        assert usage["completion_tokens_details"]["reasoning_tokens"] == 2
    if provider == "corp":
        assert upstream.wait("text").json["stream_options"]["include_usage"] is True


def test_events_of_the_same_dialect_pass_unchanged(gateway: Gateway, upstream: Upstream) -> None:
    """Unknown members, the padding and the order of members survive; only framing is normalised."""
    sent = choose(Asked("openai", "tools", {**BODY, "model": "tools", "stream_options": {"include_usage": True}}))
    answer = gateway.chat("corp/tools", stream=True, stream_options={"include_usage": True})
    assert answer.body == b"".join(sent.frames)


@pytest.mark.parametrize("provider", ["corp", "claude"])
def test_stray_framing_is_not_passed_on(gateway: Gateway, upstream: Upstream, provider: str) -> None:
    """`id:` lines, `retry:` and events without data break the official readers, so none reaches a client."""
    answer = gateway.chat(f"{provider}/stray", stream=True)
    *chunks, done = answer.events()  # refuses any line but data and comments
    assert done == b"[DONE]"
    assert b"id: 7" not in answer.body
    assert b"retry" not in answer.body
    text = "".join(c["delta"].get("content") or "" for chunk in chunks for c in json.loads(chunk)["choices"])
    assert text == "".join(PIECES)


def test_a_character_cut_between_two_writes_survives(gateway: Gateway, upstream: Upstream) -> None:
    whole = b"".join(choose(Asked("openai", "text", {**BODY, "model": "text"})).frames)
    at = whole.index("世".encode()) + 1
    framing = Script(headers=(("content-type", "text/event-stream"),), framing="chunked")
    upstream.script("split", Script(framing.status, framing.headers, (whole[:at], whole[at:]), "chunked", gate=True))
    with gateway.wire() as wire:
        wire.send(post(gateway.key, {**BODY, "model": "corp/split"}))
        upstream.wait("split").release()
        wire.head()
        events = wire.events()
        assert text_until(events, "Hello, ") == "Hello, "
        upstream.wait("split").release()
        assert text_until(events, "世界") == "世界"


def test_a_stream_leaves_the_connection_usable(gateway: Gateway, upstream: Upstream) -> None:
    with Wire(gateway.url) as wire:
        for _ in range(6):
            wire.send(post(gateway.key, {**BODY, "model": "corp/text"}))
            assert wire.answer().events()[-1] == b"[DONE]"
    # the upstream's end may come after the client has the last event, and has asked again
    assert len({seen.connection for seen in upstream.seen("text")}) <= 2

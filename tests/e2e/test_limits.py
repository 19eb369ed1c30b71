"""What a key may do in a minute, and how large a request may be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.gateway import Gateway
from support.raw import build, post
from support.settings import providers
from support.upstream import Upstream

KEYS = ("sk-limits-first", "sk-limits-second", "sk-limits-third", "sk-limits-fourth")
LARGEST = 64 << 10


@pytest.fixture(scope="module")
def tight(scripted: Upstream) -> Iterator[Gateway]:
    """Three requests a minute per key, 64 KiB a request."""
    listed = ", ".join(f'"{key}"' for key in KEYS)
    config = f'[server]\nmax_body = "64KiB"\n\n[auth]\nkeys = [{listed}]\n\n[limits]\nrpm = 3\n\n{providers(scripted)}'
    with Gateway(config, key=KEYS[0]) as running:
        yield running


@pytest.fixture
def limited(tight: Gateway, upstream: Upstream) -> Gateway:
    return tight


def test_the_fourth_request_of_a_minute_is_refused(limited: Gateway, upstream: Upstream) -> None:
    body = {"model": "corp/text", "messages": [{"role": "user", "content": "Hi"}]}
    with limited.wire() as wire:
        answers = []
        for _ in range(4):
            wire.send(post(KEYS[0], body))
            answers.append(wire.answer())
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["x-ratelimit-limit-requests"] for answer in answers] == ["3"] * 4
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["2", "1", "0", "0"]
    refused = answers[3]
    error = refused.error()
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert 1 <= int(refused.headers["retry-after"]) <= 61  # the oldest of sixty one-second buckets counts whole
    assert refused.headers["x-ratelimit-reset-requests"]
    assert len(upstream.seen("text")) == 3


def test_keys_are_counted_apart(limited: Gateway, upstream: Upstream) -> None:
    body = {"model": "corp/text", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    with limited.wire() as wire:
        for expected in (200, 200, 200, 429):
            wire.send(post(KEYS[1], body))
            assert wire.answer().status == expected
        wire.send(post(KEYS[2], body))
        assert wire.answer().status == 200


def test_requests_at_the_same_time(scripted: Upstream, upstream: Upstream) -> None:
    """Places come free however a request ends."""
    config = f'[auth]\nkeys = ["{KEYS[0]}"]\n\n[limits]\nconcurrency = 1\n\n{providers(scripted)}'
    body = {"model": "corp/gate", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
    with Gateway(config, key=KEYS[0]) as gateway:
        for leaves in (True, False):
            upstream.clear()
            with gateway.wire() as wire:
                wire.send(post(KEYS[0], body))
                seen = upstream.wait("gate")
                refused = gateway.chat("corp/text")
                assert (refused.status, refused.error()["code"]) == (429, "rate_limit_exceeded")
                assert refused.headers["retry-after"] == "1"
                if not leaves:
                    seen.release(20)
                    assert wire.answer().status == 200
            if leaves:
                seen.wait_gone()
            assert gateway.chat("corp/text").status == 200


def test_tokens_of_a_minute(scripted: Upstream, upstream: Upstream) -> None:
    config = f'[auth]\nkeys = ["{KEYS[0]}"]\n\n[limits]\ntpm = 40\n\n{providers(scripted)}'
    with Gateway(config, key=KEYS[0]) as gateway:
        answers = [gateway.chat("corp/text") for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]  # 18 tokens each
    assert [answer.headers["x-ratelimit-limit-tokens"] for answer in answers] == ["40"] * 3
    assert answers[2].headers["x-ratelimit-remaining-tokens"] == "4"
    assert 1 <= int(answers[2].headers["retry-after"]) <= 61


def body_of(size: int) -> bytes:
    """A chat request of exactly that many bytes."""
    head, tail = b'{"model":"corp/text","messages":[{"role":"user","content":"', b'"}]}'
    return head + b"x" * (size - len(head) - len(tail)) + tail


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize(("size", "status"), [(LARGEST, 200), (LARGEST + 1, 413)])
def test_the_size_of_a_request_is_bounded(
    limited: Gateway, upstream: Upstream, size: int, status: int, chunked: bool
) -> None:
    body = body_of(size)
    bearer = {"authorization": f"Bearer {KEYS[3]}", "content-type": "application/json"}
    request = build("POST", "/v1/chat/completions", bearer, body)
    if chunked:
        request = build("POST", "/v1/chat/completions", {**bearer, "transfer-encoding": "chunked"})
        request += b"%x\r\n%s\r\n0\r\n\r\n" % (size, body)
    with limited.wire() as wire:
        wire.send(request)
        answer = wire.answer()
    assert answer.status == status
    if status == 413:
        assert answer.error()["code"] == "request_too_large"
        assert upstream.requests == []


def test_a_body_announced_too_large_is_refused_before_it_comes(limited: Gateway) -> None:
    bearer = {"authorization": f"Bearer {KEYS[3]}", "content-length": str(1 << 40)}
    with limited.wire() as wire:
        wire.send(build("POST", "/v1/chat/completions", bearer) + b"{")
        answer = wire.answer()
    assert answer.status == 413
    assert answer.error()["code"] == "request_too_large"

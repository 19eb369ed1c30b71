"""The edge of a real gateway: many clients, slow ones, more than it may have, and none that harms another."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator

import pytest

from support.gateway import KEY, Gateway
from support.raw import Wire, ask, build, post
from support.settings import providers
from support.upstream import Upstream

IDLE = 1000
HEALTH = build("GET", "/health", {})
HELD = 16 << 20


@pytest.fixture(autouse=True)
def _many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 1 << 16), hard))


@contextlib.contextmanager
def gateway_with(upstream: Upstream, server: str = "") -> Iterator[Gateway]:
    config = f'[server]\n{server}\n[auth]\nkeys = ["{KEY}"]\n[limits]\nrpm = 1000000\n{providers(upstream)}'
    with Gateway(config) as running:
        yield running
        running.stop()
        assert "Traceback" not in running.log(), running.log()


def stream(model: str) -> bytes:
    return post(KEY, {"model": f"corp/{model}", "messages": [{"role": "user", "content": "x"}], "stream": True})


def test_a_thousand_idle_clients_do_no_harm(upstream: Upstream) -> None:
    with gateway_with(upstream) as gateway, contextlib.ExitStack() as open_:
        assert gateway.chat("corp/text").status == 200
        before = gateway.rss()
        idle = [open_.enter_context(Wire(gateway.url)) for _ in range(IDLE)]
        for number, wire in enumerate(idle):  # some have never asked, some were answered, some have begun
            wire.send((b"", HEALTH, HEALTH + HEALTH[:20])[number % 3])
            if number % 3:
                assert wire.answer().status == 200
        assert gateway.rss() - before < HELD
        for _ in range(10):
            assert gateway.chat("corp/text").status == 200
        for wire in idle[1::3]:
            wire.send(HEALTH)
            assert wire.answer().status == 200


def test_no_more_connections_than_the_configuration_allows(upstream: Upstream) -> None:
    with gateway_with(upstream, "max_connections = 3") as gateway, contextlib.ExitStack() as open_:
        streams = [open_.enter_context(Wire(gateway.url)) for _ in range(3)]
        for wire in streams:
            wire.send(stream("gate"))
            upstream.wait("gate", streams.index(wire) + 1)
        answer = ask(gateway.url, HEALTH)
        assert (answer.status, answer.error()["code"]) == (503, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["connection"] == "close"
        for number, wire in enumerate(streams):
            upstream.wait("gate", number + 1).release(100)
            assert wire.head().status == 200
            assert list(wire.events())[-1] == b"[DONE]"
        for _ in range(10):  # those are idle now, and make room
            assert ask(gateway.url, HEALTH).status == 200


def test_when_there_are_no_more_files_the_others_are_served(upstream: Upstream) -> None:
    """Those that cannot be taken are closed at once, and may come again when there is room."""
    with gateway_with(upstream) as gateway, Wire(gateway.url) as first, contextlib.ExitStack() as crowd:
        first.send(stream("text"))
        first.answer()
        assert gateway.process is not None
        resource.prlimit(gateway.process.pid, resource.RLIMIT_NOFILE, (64, 64))
        for _ in range(128):
            crowd.enter_context(Wire(gateway.url))
        for _ in range(100):
            first.send(HEALTH)
            assert first.answer().status == 200
        crowd.close()
        assert 200 in (status_of(gateway) for _ in range(1000))


def status_of(gateway: Gateway) -> int:
    """0 while connections are closed at once."""
    try:
        return ask(gateway.url, HEALTH).status
    except (AssertionError, ConnectionError):
        return 0


@pytest.mark.parametrize("streamed", [True, False])
def test_a_client_that_reads_a_kilobyte_now_and_then(gateway: Gateway, upstream: Upstream, streamed: bool) -> None:
    """The upstream of a stream is told to wait; a whole answer is held once. Nobody else notices."""
    model = "huge-48" if streamed else "huge-8"
    before = gateway.rss()
    body = {"model": f"corp/{model}", "messages": [{"role": "user", "content": "x"}], "stream": streamed}
    with gateway.wire(receive_buffer=64 << 10) as slow, Wire(gateway.url) as other:
        slow.send(post(gateway.key, body))
        seen = upstream.wait(model)
        assert slow.head().status == 200
        pieces = iter(lambda: slow.socket.recv(1024), b"")
        for _ in range(100):
            assert next(pieces)
            other.send(HEALTH)
            assert other.answer().status == 200
        assert seen.done.is_set() != streamed
        assert gateway.rss() - before < 3 * HELD
        size = sum(map(len, pieces_of(slow, 7 << 20)))
    assert size >= 7 << 20


def pieces_of(wire: Wire, count: int) -> Iterator[bytes]:
    while count > 0:
        piece = wire.socket.recv(1 << 20)
        assert piece
        count -= len(piece)
        yield piece


def test_who_has_no_key_is_told_before_a_large_body_has_come(gateway: Gateway) -> None:
    head = build("POST", "/v1/chat/completions", {"authorization": "Bearer sk-wrong", "origin": "https://a.example"})
    for more, sent in (
        (f"content-length: {20 << 20}", bytes(100_000)),
        ("content-length: 9\r\nexpect: 100-continue", b""),
    ):
        with gateway.wire() as wire:
            wire.send(head[:-2] + f"{more}\r\n\r\n".encode() + sent)
            answer = wire.answer()
            assert (answer.status, answer.error()["code"]) == (401, "invalid_api_key")
            assert answer.headers["access-control-allow-origin"] == "*"
            assert wire.ended()


def test_who_speaks_tls_to_a_plain_port_is_told_so(gateway: Gateway) -> None:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(506)
    answer = ask(gateway.url, hello)
    assert answer.status == 400
    assert "plain http" in answer.error()["message"]

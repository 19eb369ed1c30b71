"""SIGTERM: what is under way is finished, and nothing new begins. The second one breaks off. Events, no clock."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from support.gateway import KEY, Gateway
from support.raw import Wire, build, post
from support.settings import providers
from support.upstream import Seen, Upstream


@pytest.fixture
def own(upstream: Upstream) -> Iterator[Gateway]:
    config = f'[auth]\nkeys = ["{KEY}"]\n[defaults]\nretries = 0\n{providers(upstream)}'
    with Gateway(config) as running:
        yield running
        assert "Traceback" not in running.log(), running.log()


def chat(streamed: bool, **headers: str) -> bytes:
    body = {"model": "corp/gate", "messages": [{"role": "user", "content": "x"}], "stream": streamed}
    return post(KEY, body, **headers)


def signalled(gateway: Gateway, *idle: Wire) -> None:
    """SIGTERM has arrived: idle connections are closed by it."""
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGTERM)
    for wire in idle:
        assert wire.ended()


def refused(url: str) -> bool:
    parts = urlsplit(url)
    with socket.socket() as probe, contextlib.suppress(ConnectionResetError):
        return probe.connect_ex((parts.hostname or "", parts.port or 0)) != 0 or not probe.recv(1)
    return True


def begun(upstream: Upstream, wire: Wire, streamed: bool) -> Seen:
    """A request whose upstream has been asked; of a stream the first words have come."""
    wire.send(chat(streamed))
    seen = upstream.wait("gate")
    if streamed:
        seen.release(3)
        assert wire.head().status == 200
    return seen


@pytest.mark.parametrize("streamed", [True, False])
def test_what_is_under_way_is_finished(own: Gateway, upstream: Upstream, streamed: bool) -> None:
    with Wire(own.url) as wire, Wire(own.url) as idle:
        seen = begun(upstream, wire, streamed)
        signalled(own, idle)
        assert refused(own.url)
        seen.release(100)
        if streamed:
            assert list(wire.events())[-1] == b"[DONE]"
        else:
            answer = wire.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert wire.ended()
        assert own.stop() in (0, -signal.SIGTERM)


def test_requests_that_have_been_received_are_answered(own: Gateway, upstream: Upstream) -> None:
    with Wire(own.url) as wire, Wire(own.url) as half, Wire(own.url) as idle:
        wire.send(chat(False) + build("GET", "/health", {}))
        upstream.wait("gate")
        ready = build("GET", "/ready", {})
        half.send(build("GET", "/health", {}) + ready[:-2])
        assert half.answer().status == 200
        half.send(b"x: y\r\n")  # so that more than the tail of a read is here
        signalled(own, idle)
        half.send(b"\r\n")
        answer = half.answer()
        assert (answer.status, answer.error()["code"]) == (503, "overloaded")
        assert answer.headers["connection"] == "close"
        assert half.ended()
        upstream.wait("gate").release(100)
        first, second = wire.answer(), wire.answer()
        assert (first.status, second.status) == (200, 200)
        assert ("connection" in first.headers, second.headers["connection"]) == (False, "close")
        assert wire.ended()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("streamed", [True, False])
def test_the_second_signal_breaks_off_in_words(
    own: Gateway, upstream: Upstream, streamed: bool, number: signal.Signals
) -> None:
    with Wire(own.url) as wire, Wire(own.url) as idle:
        seen = begun(upstream, wire, streamed)
        signalled(own, idle)
        assert own.process is not None
        own.process.send_signal(number)
        if streamed:
            last = json.loads(list(wire.events())[-1])
            assert last["error"]["code"] == "overloaded"
        else:
            answer = wire.answer()
            assert (answer.status, answer.error()["code"]) == (503, "overloaded")
        assert wire.ended()
        seen.wait_gone()
        own.process.wait(20)

"""HTTPS: `tls_cert` and `tls_key`, with clients that behave and clients that do not."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest
import trustme

from support.gateway import KEY, Gateway
from support.raw import Wire, build, post
from support.settings import providers
from support.upstream import Upstream

HEALTH = build("GET", "/health", {})


class Secure(NamedTuple):
    gateway: Gateway
    trust: ssl.SSLContext

    def wire(self) -> Wire:
        return Wire(self.gateway.url, trust=self.trust)

    def raw(self) -> socket.socket:
        """A connection below TLS."""
        parts = urlsplit(self.gateway.url)
        return socket.create_connection((parts.hostname, parts.port or 0), timeout=20)


@pytest.fixture
def secure(upstream: Upstream) -> Iterator[Secure]:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    files = {
        "cert.pem": "".join(blob.bytes().decode() for blob in issued.cert_chain_pems),
        "key.pem": issued.private_key_pem.bytes().decode(),
    }
    config = f'[server]\ntls_cert = "cert.pem"\ntls_key = "key.pem"\n[auth]\nkeys = ["{KEY}"]\n{providers(upstream)}'
    with Gateway(config, files=files) as running:
        assert running.url.startswith("https://")
        yield Secure(running, trust)


def chat(model: str, streamed: bool) -> bytes:
    body = {"model": f"corp/{model}", "messages": [{"role": "user", "content": "x"}], "stream": streamed}
    return post(KEY, body)


def test_answers_and_streams_on_one_connection(secure: Secure) -> None:
    with secure.wire() as wire:
        for _ in range(2):
            wire.send(chat("text", False))
            assert wire.answer().json()["choices"][0]["message"]["content"] == "Hello, 世界!"
            wire.send(chat("text", True))
            assert wire.head().status == 200
            assert list(wire.events())[-1] == b"[DONE]"
        wire.send(chat("huge-8", False))
        assert len(wire.answer().body) > 8 << 20


def test_a_client_that_closes_its_side_is_gone(secure: Secure, upstream: Upstream) -> None:
    with secure.wire() as wire:
        wire.send(chat("gate", True))
        seen = upstream.wait("gate")
        with contextlib.suppress(OSError):
            wire.socket.shutdown(socket.SHUT_WR)
        seen.wait_gone()


def test_plain_http_is_closed_and_does_no_harm(secure: Secure) -> None:
    with secure.raw() as plain:
        plain.sendall(HEALTH)
        with contextlib.suppress(ConnectionResetError):
            while read := plain.recv(65536):
                assert not read.startswith(b"HTTP")  # at most an alert
    with secure.wire() as wire:
        wire.send(HEALTH)
        assert wire.answer().status == 200
    secure.gateway.stop()
    assert "Traceback" not in secure.gateway.log()


def test_a_stream_is_finished_before_the_end(secure: Secure, upstream: Upstream) -> None:
    with secure.wire() as wire, secure.wire() as idle:
        wire.send(chat("gate", True))
        seen = upstream.wait("gate")
        seen.release(3)
        assert wire.head().status == 200
        assert secure.gateway.process is not None
        secure.gateway.process.send_signal(signal.SIGTERM)
        assert idle.ended()
        seen.release(100)
        assert list(wire.events())[-1] == b"[DONE]"
        assert wire.ended()


def test_handshakes_that_never_complete_hold_up_nobody(secure: Secure) -> None:
    with contextlib.ExitStack() as open_:
        for begun in (b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"):
            for _ in range(10):
                open_.enter_context(secure.raw()).sendall(begun)
        with secure.wire() as wire:
            wire.send(HEALTH)
            assert wire.answer().status == 200

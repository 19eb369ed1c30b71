"""A client that does not read holds up its own provider call and nothing else."""

from __future__ import annotations

import pytest

from support.gateway import Gateway
from support.raw import Wire, build, post
from support.scripts import MEBIBYTE
from support.upstream import Upstream

SENT = 64  # MiB
HELD = 24 * MEBIBYTE  # what may lie in the gateway and in the sockets of both sides


@pytest.mark.parametrize("provider", ["corp", "claude"])
def test_a_slow_client_blocks_the_provider_and_not_the_gateway(
    gateway: Gateway, upstream: Upstream, provider: str
) -> None:
    model = f"huge-{SENT}"
    before = gateway.rss()
    with gateway.wire(receive_buffer=64 << 10) as slow, Wire(gateway.url) as other:
        body = {"model": f"{provider}/{model}", "messages": [{"role": "user", "content": "x"}], "stream": True}
        slow.send(post(gateway.key, body))
        seen = upstream.wait(model)
        assert slow.head().status == 200
        quiet, sent = 0, -1
        while quiet < 100:  # the others are answered a hundred times while nothing more is taken from the provider
            other.send(build("GET", "/health", {}))
            assert other.answer().status == 200
            quiet, sent = (quiet + 1, sent) if sent == seen.sent else (0, seen.sent)
            assert seen.sent < HELD
        assert not seen.done.is_set()
        assert gateway.rss() - before < HELD
        size = sum(map(len, slow.pieces()))
    seen.wait_done()
    assert size > SENT * MEBIBYTE

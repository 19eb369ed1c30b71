"""When the client leaves, the call to the provider ends, whatever state it is in."""

from __future__ import annotations

import pytest

from support.gateway import Gateway
from support.raw import post
from support.upstream import Upstream

MESSAGES = [{"role": "user", "content": "Hi"}]
PROVIDERS = ["corp", "claude"]
WAYS = [pytest.param(False, id="closed"), pytest.param(True, id="reset")]


@pytest.mark.parametrize("reset", WAYS)
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_leaving_before_the_first_byte_ends_the_call(
    gateway: Gateway, upstream: Upstream, provider: str, streamed: bool, reset: bool
) -> None:
    with gateway.wire() as wire:
        wire.send(post(gateway.key, {"model": f"{provider}/stall", "messages": MESSAGES, "stream": streamed}))
        seen = upstream.wait("stall")
        wire.leave(reset)
    seen.wait_gone()
    assert not seen.done.is_set()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_leaving_before_the_first_token_ends_the_call(gateway: Gateway, upstream: Upstream, provider: str) -> None:
    """The provider has sent its preamble, which is held back, so the client has seen nothing yet."""
    with gateway.wire() as wire:
        wire.send(post(gateway.key, {"model": f"{provider}/gate", "messages": MESSAGES, "stream": True}))
        seen = upstream.wait("gate")
        seen.release()
        wire.leave()
    seen.wait_gone()


@pytest.mark.parametrize("reset", WAYS)
@pytest.mark.parametrize(("provider", "before"), [("corp", 2), ("claude", 4)])
def test_leaving_in_mid_stream_ends_the_call(
    gateway: Gateway, upstream: Upstream, provider: str, before: int, reset: bool
) -> None:
    with gateway.wire() as wire:
        wire.send(post(gateway.key, {"model": f"{provider}/gate", "messages": MESSAGES, "stream": True}))
        seen = upstream.wait("gate")
        seen.release(before)
        wire.head()
        assert b"Hel" in next(wire.pieces())
        wire.leave(reset)
    seen.wait_gone()
    assert not seen.done.is_set()


@pytest.mark.parametrize("provider", PROVIDERS)
def test_leaving_while_a_whole_answer_is_written_ends_the_call(
    gateway: Gateway, upstream: Upstream, provider: str
) -> None:
    """Headers have come from the provider, the body has not."""
    with gateway.wire() as wire:
        wire.send(post(gateway.key, {"model": f"{provider}/gate", "messages": MESSAGES}))
        seen = upstream.wait("gate")
        wire.leave()
    seen.wait_gone()


def test_others_are_not_disturbed(gateway: Gateway, upstream: Upstream) -> None:
    """One of two calls in flight is left; the other gets its answer."""
    with gateway.wire() as leaving, gateway.wire() as staying:
        for wire in (leaving, staying):
            wire.send(post(gateway.key, {"model": "corp/gate", "messages": MESSAGES, "user": str(wire is leaving)}))
        both = {upstream.wait("gate", n).json["user"]: upstream.wait("gate", n) for n in (1, 2)}
        leaving.leave()
        both["True"].wait_gone()
        both["False"].release()
        assert staying.answer().status == 200
    both["False"].wait_done()

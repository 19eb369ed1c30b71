"""Every fault of the mock through a real gateway: the whole answer, or an error that looks like one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from polymux.mock.banner import config
from polymux.mock.faults import FAULTS
from polymux.mock.provider import Options, Provider
from polymux.mock.replies import DIALECTS
from polymux.mock.server import Exchange, Server
from support.gateway import KEY, Gateway

PATIENCE = 20.0
LONG = {"stall", "no-answer", "huge-body", "endless-event"}  # these have tests of their own
TURNS = {"500-once", "flapping"}  # these depend on what was asked before
# Flaws that a gateway mends or does not mind.
GOOD = {"prefill", "slow-head", "slow-first-token", "trickle", "malformed-event", "double-finish", "gzip"}
GOOD |= {"wrong-content-type"}
GOOD_IN = {("no-done", "openai", True), ("no-done", "openai", False), ("no-done", "anthropic", False)}


@pytest.fixture(scope="module")
def faulty() -> Iterator[Gateway]:
    """A gateway with both dialects of the mock as providers."""
    options, end, loop = Options(slow=0.01), asyncio.Event(), asyncio.new_event_loop()
    server = Server(Provider(options).script, Exchange)
    with contextlib.closing(loop), socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=loop.run_until_complete, args=(server.run(listening, end),), daemon=True)
        thread.start()
        head = f'[auth]\nkeys = ["{KEY}"]\n[limits]\nrpm = 100000\n[defaults]\nretries = 0\n'
        with Gateway(head + config(url, options)) as gateway:
            yield gateway
            gateway.stop()
            assert "Traceback" not in gateway.log(), gateway.log()
        loop.call_soon_threadsafe(end.set)
        thread.join(PATIENCE)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", sorted(set(FAULTS) - LONG - TURNS))
def test_a_fault_is_mended_or_told(faulty: Gateway, name: str, dialect: str, stream: bool) -> None:
    answer = faulty.chat(f"mock-{dialect}/fault:{name}", "Hello there", stream=stream)
    whole = answer.status == 200 and (answer.events()[-1] == b"[DONE]" if stream else "choices" in answer.json())
    assert whole == (name in GOOD or (name, dialect, stream) in GOOD_IN), answer
    if not whole:
        told = answer.events()[-1] if answer.status == 200 else answer.body
        assert told.startswith(b'{"error":{"message":"')
    if name.isdigit() and 400 <= int(name) < 500 and int(name) not in (401, 403, 408):
        assert answer.status == int(name)

"""House rule 9: what one request may cost on the hot path, counted, not timed.

The gateway runs in this thread, on the loop it is meant for; client and provider run in threads of their own. Counted
are calls of Python functions (ours, uvicorn's, the standard library's) and of msgspec's decoders and encoders, from
the client's connecting to its leaving. Streams
go in lock-step, the next event leaves the provider when the client has the last one, so that every event is a read of
its own and the counts are the same on every machine.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import uvicorn
from uvicorn.server import ServerState

from polymux.app import build, prepare
from polymux.http.protocol import PolymuxProtocol
from polymux.mock import replies
from polymux.mock.replies import Reply
from support.gateway import KEY
from support.raw import Wire, post
from support.scripts import SSE, Script
from support.settings import providers
from support.upstream import Upstream

CHUNKS: Final = 32
# what is asked for here has a price, as nearly all models have
PRICES: Final = "".join(
    f'[providers.{name}.price]\ntext = {{ input = "2.5", output = "10" }}\nlong = {{ input = "1", output = "3" }}\n'
    for name in ("corp", "claude")
)
WARM: Final = 3  # requests before the count: connections, caches
ROUNDS: Final = 10  # the least of them counts: a timer may fall into any


class Cost(NamedTuple):
    """Calls of Python functions, and of JSON decoders and encoders."""

    python: int
    decodes: int
    encodes: int


# About a tenth above what was counted (CPython 3.11): the numbers in the comments.
BUDGET: Final = {
    "small": Cost(127, 4, 2),  # 115, 4, 2
    "stream": Cost(795, 41, 2),  # 723, 38, 2
    "translated": Cost(1260, 48, 39),  # 1146, 44, 36
}


@contextmanager
def counting(counts: Counter[str]) -> Iterator[None]:
    """Count into `counts` what this thread calls."""

    def see(frame: Any, event: str, called: Any) -> None:
        if event == "call":
            counts["python"] += 1
        elif event == "c_call" and type(getattr(called, "__self__", None)).__module__.startswith("msgspec"):
            counts[called.__name__.partition("_")[0]] += 1  # decode, encode, encode_lines ...

    sys.setprofile(see)
    try:
        yield
    finally:
        sys.setprofile(None)


def ask_small(url: str, upstream: Upstream) -> None:
    with Wire(url) as wire:
        wire.send(post(KEY, {"model": "corp/text", "messages": [{"role": "user", "content": "Hi"}]}))
        assert wire.answer().status == 200


def ask_stream(provider: str) -> Callable[[str, Upstream], None]:
    def ask(url: str, upstream: Upstream) -> None:
        upstream.clear()
        said = Reply(text=("word ",) * CHUNKS)
        frames = (
            replies.openai_events(said, "long", True) if provider == "corp" else replies.anthropic_events(said, "long")
        )
        first, last = (
            next(number for number in order if b"word" in frames[number])
            for order in (range(len(frames)), reversed(range(len(frames))))
        )
        opening, ending = b"".join(frames[: first + 1]), b"".join(frames[last + 1 :])  # what comes at once
        frames = (opening, *frames[first + 1 : last + 1], ending)
        upstream.script("long", Script(headers=SSE, framing="chunked", frames=frames, gate=True, free=1))
        body = {"model": f"{provider}/long", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
        with Wire(url) as wire:
            wire.send(post(KEY, body))
            seen = upstream.wait("long")
            assert wire.head().status == 200
            for event in wire.events():
                if b"word" in event:
                    seen.release()
        seen.wait_done()

    return ask


async def measure(url: str, upstream: Upstream, ask: Callable[[str, Upstream], None]) -> Cost:
    """The least that one request cost, without what it costs to have the client in a thread."""

    async def once(work: Callable[[str, Upstream], None]) -> Cost:
        counts: Counter[str] = Counter()
        with counting(counts):
            await asyncio.to_thread(work, url, upstream)
        return Cost(counts["python"], counts["decode"], counts["encode"])

    for _ in range(WARM):
        await asyncio.to_thread(ask, url, upstream)
    idle = min([await once(lambda url, upstream: None) for _ in range(ROUNDS)])
    found = [await once(ask) for _ in range(ROUNDS)]
    return Cost(*(min(column) - base for column, base in zip(zip(*found, strict=True), idle, strict=True)))


async def serve(config: Path, data: Path, upstream: Upstream, ask: Callable[[str, Upstream], None]) -> Cost:
    """The gateway as `polymux serve` runs it, and one measurement."""
    front = build(prepare(str(config)), data)
    settings = uvicorn.Config(
        front,  # type: ignore[arg-type]  # as `polymux serve` does
        lifespan="off",
        interface="asgi3",
        ws="none",
        proxy_headers=False,
        log_config=None,
        access_log=False,
    )
    settings.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: PolymuxProtocol(settings, state, {}), "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        return await measure(f"http://{host}:{port}", upstream, ask)
    finally:
        server.close()
        await front.engine.close()
        front.database.close()


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop does not exist there, and the budget is the Linux one")
@pytest.mark.parametrize(
    ("name", "ask"),
    [("small", ask_small), ("stream", ask_stream("corp")), ("translated", ask_stream("claude"))],
)
def test_a_request_stays_within_its_budget(
    name: str, ask: Callable[[str, Upstream], None], tmp_path: Path, upstream: Upstream
) -> None:
    import uvloop

    config = tmp_path / "polymux.toml"
    config.write_text(f'[auth]\nkeys = ["{KEY}"]\n\n[limits]\nrpm = 1000000\n{providers(upstream)}\n{PRICES}')
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        cost = runner.run(serve(config, tmp_path / "data", upstream, ask))
    assert min(cost) > 0
    counted = zip(Cost._fields, cost, BUDGET[name], strict=True)
    over = [f"{what}: {number} of {most}" for what, number, most in counted if number > most]
    assert not over, f"{name} request: {', '.join(over)}"


def test_the_count_counts() -> None:
    import msgspec

    decode, encode = msgspec.json.Decoder(int).decode, msgspec.json.Encoder().encode

    def three() -> None:
        decode(b"1")
        encode(1)
        encode(2)

    counts: Counter[str] = Counter()
    with counting(counts):
        three()
        three()
    assert (counts["decode"], counts["encode"]) == (2, 4)
    assert counts["python"] >= 2

"""100,000 mixed requests with faults and leaving clients: every answer as documented, and nothing is left behind.

`POLYMUX_SOAK` sets another number of requests.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import statistics
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import pytest
import uvloop

from support.gateway import Gateway
from support.ledger import ADMIN
from support.raw import build, post
from torture.load import Wire, connect

REQUESTS: Final = int(os.environ.get("POLYMUX_SOAK", "100000"))
WORKERS: Final = 32
KEY: Final = "sk-soak-0123456789abcdef"
ALLOWED: Final = {"authorization": f"Bearer {KEY}"}
FUNCTIONS: Final = """
import asyncio
from polymux import model

@model("echo")
def echo(messages):
    return messages[-1]["content"]

@model("count")
async def count(messages):
    for number in range(20):
        await asyncio.sleep(0)
        yield f"{number} "

@model("chain")
async def chain(messages, call):
    async for piece in call.chat("count", messages, stream=True):
        yield piece

@model("broken")
def broken(messages):
    raise ValueError("broken on purpose")
"""


class Kind(NamedTuple):
    """A kind of request: its share, its body, the statuses it may have, and after how many bytes the client leaves."""

    share: int
    model: str
    statuses: tuple[int, ...] = (200,)
    stream: bool = False
    leave_after: int = -1
    raw: bytes = b""


def call(model: str, stream: bool) -> bytes:
    body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": "Say something. 说点什么。"}]}
    return post(KEY, {**body, "stream": True} if stream else body)


KINDS: Final = {
    "whole": Kind(30, "openai/mock"),
    "stream": Kind(20, "openai/mock", stream=True),
    "translated": Kind(10, "claude/mock"),
    "translated stream": Kind(10, "claude/mock", stream=True),
    "function": Kind(5, "echo"),
    "function stream": Kind(3, "count", stream=True),
    "nested": Kind(2, "chain", stream=True),
    "broken function": Kind(1, "broken", (500,)),
    "failing over": Kind(3, "spare"),
    "failing over, stream": Kind(3, "spare", stream=True),
    "429": Kind(1, "openai/fault:429", (429,)),
    "500": Kind(1, "openai/fault:500", (502,)),
    "reset": Kind(1, "openai/fault:reset", (502, 200), stream=True),
    "truncate": Kind(1, "openai/fault:truncate", (200,), stream=True),
    "truncate, translated": Kind(1, "claude/fault:truncate", (200,), stream=True),
    "garbage": Kind(1, "openai/fault:garbage", (502,)),
    "html": Kind(1, "openai/fault:html", (502,)),
    "error event": Kind(1, "openai/fault:error-event", (200, 502), stream=True),
    "leaves at once": Kind(2, "openai/mock", (0, 200), leave_after=0),
    "leaves a stream": Kind(2, "openai/mock", (0, 200), stream=True, leave_after=200),
    "leaves a function": Kind(1, "count", (0, 200), stream=True, leave_after=100),
    "unknown model": Kind(1, "nothing", (404,)),
    "not json": Kind(
        1, "", (400,), raw=build("POST", "/v1/chat/completions", {"authorization": f"Bearer {KEY}"}, b"{")
    ),
    "no key": Kind(1, "", (401,), raw=build("POST", "/v1/chat/completions", {}, b"{}")),
    "models": Kind(1, "", (200,), raw=build("GET", "/v1/models", {"authorization": f"Bearer {KEY}"})),
}


@contextmanager
def mock_provider() -> Iterator[str]:
    """`polymux mock` as a process of its own; its address."""
    command = [sys.executable, "-m", "polymux", "mock", "--port", "0", "--slow", "30"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            first = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+", first)
            assert found, first
            threading.Thread(target=process.stdout.read, daemon=True).start()
            yield found[0]
        finally:
            process.terminate()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with mock_provider() as url:
        spare = [f'{{ provider = "openai", model = "fault:{name}" }}' for name in ("500", "reset", "429")]
        config = f"""
            [auth]
            keys = ["{KEY}"]
            admin_key = "{ADMIN}"
            [limits]
            rpm = 0
            [server]
            log = "off"
            [defaults]
            retries = 0
            timeouts = {{ connect = "2s", first_token = "5s", idle = "5s", total = "20s" }}
            [providers.openai]
            preset = "openai-compatible"
            base_url = "{url}/v1"
            api_key = "sk-mock"
            [providers.claude]
            preset = "anthropic-compatible"
            base_url = "{url}/v1"
            api_key = "sk-mock"
            [models.spare]
            strategy = "ordered"
            deployments = [{", ".join(spare)}, {{ provider = "openai", model = "mock" }}]
            retries = 3
        """
        files = {"functions.py": FUNCTIONS}
        with Gateway(config, files=files, arguments=("--functions", "functions.py"), data=tmp_path, key=KEY) as made:
            yield made


class Soak:
    """The load, and what was seen of it."""

    def __init__(self, gateway: Gateway) -> None:
        self.port = urlsplit(gateway.url).port or 0
        self.chance = random.Random(1)
        self.seen: Counter[tuple[str, int]] = Counter()
        self.wrong: list[str] = []
        self.answered: set[str] = set()
        self.left = 0

    async def run(self, requests: int) -> None:
        self.left = requests
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._worker())

    async def _worker(self) -> None:
        wire = await connect(self.port)
        names, shares = list(KINDS), [kind.share for kind in KINDS.values()]
        while self.left > 0:
            self.left -= 1
            (name,) = self.chance.choices(names, shares)
            kind = KINDS[name]
            await wire.ask(kind.raw or call(kind.model, kind.stream), kind.leave_after)
            self._judge(name, kind, wire)
            if not wire.keep or not wire.open:
                await wire.end()
                wire = await connect(self.port)
        await wire.end()

    def _judge(self, name: str, kind: Kind, wire: Wire) -> None:
        self.seen[name, wire.status] += 1
        if wire.status not in kind.statuses or (kind.leave_after < 0 and not wire.complete):
            self.wrong.append(
                f"{name}: {wire.status} {'' if wire.complete else 'incomplete '}{bytes(wire.body[:300])!r}"
            )
        if wire.complete and not kind.raw:
            self.answered.add(wire.id)


def descriptors(gateway: Gateway) -> int:
    assert gateway.process is not None
    return len(os.listdir(f"/proc/{gateway.process.pid}/fd"))


def settle(gateway: Gateway) -> None:
    """All usage is in the database: what SQLite keeps at hand has grown as large as it may."""
    answer = gateway.get("/admin/api/usage", authorization=f"Bearer {ADMIN}")
    assert answer.status == 200, answer.body


def test_a_hundred_thousand_requests_leave_nothing_behind(gateway: Gateway) -> None:
    soak, memory = Soak(gateway), []
    step = REQUESTS // 20
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(soak.run(step * 8))  # pools, caches and the allocator settle
        settle(gateway)
        before = descriptors(gateway)
        for _ in range(12):
            runner.run(soak.run(step))
            settle(gateway)
            memory.append(gateway.rss())
            print(f"{sum(soak.seen.values()):>8} requests, {memory[-1] / 2**20:.1f} MiB", flush=True)
    assert not soak.wrong, (len(soak.wrong), soak.wrong[:5])
    slope = statistics.linear_regression(range(0, 12 * step, step), memory).slope
    print(f"{slope:.1f} bytes a request; {descriptors(gateway)} descriptors, {before} before")
    assert slope < 20
    assert descriptors(gateway) <= before + WORKERS  # connections that are kept for a while
    metrics = gateway.get("/metrics").body.decode()
    in_flight = [line for line in metrics.splitlines() if line.startswith("polymux_in_flight")]
    assert in_flight
    assert all(line.endswith(" 0.0") for line in in_flight), in_flight
    gateway.stop()
    lines = [line for file in (gateway.data / "journal").iterdir() for line in file.read_text("utf-8").splitlines()]
    ids = Counter(json.loads(line)["id"] for line in lines)
    assert soak.answered <= set(ids)
    assert max(ids.values()) == 1
    assert gateway.log().count("Traceback") == soak.seen["broken function", 500]  # none but these

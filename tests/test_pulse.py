"""A silent stream says that it is alive: the clock is an argument, nothing waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from polymux.engine import Engine
from polymux.errors import Failure
from polymux.functions import Functions
from polymux.pulse import SILENCE, Pulse
from polymux.routing.registry import Registry
from polymux.run import Snapshot
from polymux.store.memory import LocalCounters, LocalMemory
from polymux.surfaces.chat import Chat
from polymux.transport import Transport
from polymux.types import Deployment, Key, Record, Route

BODY = b'{"model":"slow","stream":true,"messages":[{"role":"user","content":"hi"}]}'


class Stream:
    def __init__(self) -> None:
        self.beat = 0.0
        self.said = 0

    def comment(self) -> None:
        self.said += 1


class Sink:
    """What a client would have seen."""

    def __init__(self) -> None:
        self.started, self.full, self.sent = False, False, b""

    def respond(self, status: int, head: bytes, body: bytes) -> None:
        self.started, self.sent = True, b"%d %b%b" % (status, head, body)

    def start(self, status: int, head: bytes) -> None:
        self.started, self.sent = True, b"%d %b" % (status, head)

    def write(self, data: bytes) -> None:
        self.sent += data

    def end(self, data: bytes) -> None:
        self.sent += data + b"<end>"

    async def drain(self) -> None:
        raise AssertionError("nobody is slow here")


class Records:
    def __init__(self) -> None:
        self.kept: list[Record] = []

    def append(self, records: Sequence[Record]) -> None:
        self.kept += records

    def close(self) -> None:
        pass


def test_only_the_silent_speak_and_each_silence_once() -> None:
    async def run() -> None:
        pulse, loop = Pulse(), asyncio.get_running_loop()
        talker, silent = Stream(), Stream()
        pulse.watch(talker, loop)
        pulse.watch(silent, loop)
        now = loop.time()
        talker.beat = now + 5
        for at, said in (
            (SILENCE - 1, (0, 0)),
            (SILENCE + 1, (0, 1)),
            (SILENCE + 2, (0, 1)),
            (2 * SILENCE + 2, (1, 2)),
        ):
            pulse.check(now + at)
            assert (talker.said, silent.said) == said
        pulse.forget(silent)
        pulse.check(now + 9 * SILENCE)
        assert silent.said == 2

    asyncio.run(run())


def answer(fail: bool) -> tuple[Sink, Records]:
    """A function model that is silent until the pulse has been checked twice."""
    sink, records = Sink(), Records()

    async def run() -> None:
        gate = asyncio.Event()

        async def slow(messages: list[Any]) -> AsyncIterator[str]:
            await gate.wait()
            if fail:
                raise Failure("overloaded", "too much")
            yield "here"

        engine = Engine({}, Transport(), LocalCounters(), records, LocalMemory())
        call = Chat().decode(BODY, "req_1", Key("k", "k"))
        route = Route("slow", (Deployment("functions/slow", "functions", "slow", "function"),))
        snapshot = Snapshot(Registry((route,), (), route, 0), Functions({"slow": slow}))
        task = asyncio.ensure_future(engine.run(call, Chat(), snapshot, sink))
        await asyncio.sleep(0)
        now = asyncio.get_running_loop().time()
        engine.pulse.check(now + 1)
        assert sink.sent == b""
        engine.pulse.check(now + SILENCE + 1)
        engine.pulse.check(now + 2 * SILENCE + 2)
        gate.set()
        await task

    asyncio.run(run())
    return sink, records


def test_after_the_silence_comes_the_status_then_comments_then_the_answer() -> None:
    sink, records = answer(fail=False)
    head, _, body = sink.sent.partition(b": keep-alive\n\n")
    assert head.startswith(b"200 content-type: text/event-stream")
    assert body.startswith(b": keep-alive\n\ndata: ")
    assert b'"content":"here"' in body
    assert body.endswith(b"data: [DONE]\n\n<end>")
    assert [record.status for record in records.kept] == [200]


def test_a_failure_after_the_comments_is_told_in_the_stream() -> None:
    sink, records = answer(fail=True)
    assert sink.sent.startswith(b"200 ")
    assert b'"code":"overloaded"' in sink.sent
    assert b"[DONE]" not in sink.sent
    assert sink.sent.endswith(b"\n\n<end>")
    assert [record.status for record in records.kept] == [503]

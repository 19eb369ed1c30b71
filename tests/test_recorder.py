"""A sink that copies: what passes is the same, what is kept is bounded, and the room for it is given back."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from msgspec import structs

from polymux.recorder import FRAMING, Recorder
from polymux.run import Sink
from polymux.store.base import Keeping, Spoken
from polymux.surfaces.chat import Chat
from polymux.types import Call, Key
from store.test_journal import record
from support.house import Client, House, error, route
from support.peer import looped
from support.upstream import Upstream

BODY = b'{"model": "m", "messages": []}'


class Log:
    """Implements `store.base.Conversations`."""

    def __init__(self, room: int = 10**9) -> None:
        self.room = room
        self.spoken: list[Spoken] = []

    def take(self, size: int) -> bool:
        if size > self.room:
            return False
        self.room -= size
        return True

    def put(self, spoken: Spoken) -> None:
        self.room += spoken.size
        self.spoken.append(spoken)


def call() -> Call:
    return Chat().decode(BODY, "req_1", Key("k", "ada"))


def recording(log: Log, max_size: int = 1000) -> tuple[Recorder, Client]:
    client = Client([])
    return Recorder(call(), Keeping(log, max_size=max_size), client), client


def kept(recorder: Recorder, log: Log) -> Spoken:
    recorder.keep(record("req_1"))
    (spoken,) = log.spoken
    return spoken


def test_a_whole_answer_passes_and_is_kept() -> None:
    log = Log()
    recorder, client = recording(log)
    sink: Sink = recorder
    assert not sink.started
    sink.respond(200, b"a: b\r\n", b"answer" * 1000)  # however large: it is there anyway
    assert (client.status, client.body, sink.started) == (200, b"answer" * 1000, True)
    spoken = kept(recorder, log)
    assert (spoken.request, spoken.answer, spoken.streamed, spoken.cut) == (BODY, [b"answer" * 1000], False, False)
    assert log.room == 10**9


def test_a_stream_passes_and_is_kept() -> None:
    log = Log()
    recorder, client = recording(log)
    recorder.start(200, b"a: b\r\n")
    recorder.write(b"one")
    client.full = True
    assert recorder.full
    client.drained.set()
    asyncio.run(recorder.drain())
    recorder.end(b"two")
    assert client.body == b"onetwo"
    spoken = kept(recorder, log)
    assert (spoken.answer, spoken.streamed, spoken.cut) == ([b"one", b"two"], True, False)


def test_when_the_client_leaves_it_goes_on() -> None:
    log = Log()
    recorder, client = recording(log)
    recorder.start(200, b"a: b\r\n")
    recorder.to = Client([])
    recorder.start(200, b"a: b\r\n")
    recorder.write(b"more")
    assert client.body == b""
    assert kept(recorder, log).answer == [b"more"]


@pytest.mark.parametrize(
    ("room", "max_size", "request_", "answer"),
    [
        (10**9, 1, BODY, [b"x" * FRAMING]),  # about as much as a conversation may have
        (len(BODY) + FRAMING, 1000, BODY, [b"x" * FRAMING]),  # as much room as there is
        (len(BODY) - 1, 1000, b"", []),
    ],
)
def test_what_is_too_much_is_cut_and_passes(room: int, max_size: int, request_: bytes, answer: Any) -> None:
    log = Log(room)
    recorder, client = recording(log, max_size)
    recorder.start(200, b"a: b\r\n")
    recorder.write(b"x" * FRAMING)
    recorder.write(b"y")
    recorder.end(b"z")
    assert client.body == b"x" * FRAMING + b"yz"
    spoken = kept(recorder, log)
    assert (spoken.request, spoken.answer, spoken.cut) == (request_, answer, True)
    assert log.room == room


def test_notes_of_a_function_have_a_place() -> None:
    log, one = Log(), call()
    recorder = Recorder(one, Keeping(log), Client([]))
    assert one.notes == []
    one.notes.append("looked up")
    assert kept(recorder, log).notes == ["looked up"]


# ---- in the engine -------------------------------------------------------------------------------------------------


class Place(House):
    """With a log, for the models that begin with `pub`, and for keys that have it on."""

    def __init__(self, upstream: Upstream, *, log: bool = False, models: str = "", **functions: Any) -> None:
        super().__init__(upstream, **functions)
        self.talks = Log()
        self.key = structs.replace(self.key, log=log)
        keeping = Keeping(self.talks, re.compile(models) if models else None)
        self.snapshot = structs.replace(self.snapshot, keeping=keeping)

    @property
    def spoken(self) -> Spoken:
        """The only conversation."""
        (one,) = self.talks.spoken
        assert self.engine._recording == {}
        assert self.talks.room == 10**9
        return one


@looped
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("log", "models", "kept"),
    [(False, "", False), (True, "", True), (False, "pub", True), (False, "other", False), (True, "other", True)],
)
async def test_what_is_recorded(upstream: Upstream, log: bool, models: str, kept: bool, stream: bool) -> None:
    house = Place(upstream, log=log, models=models)
    client = await house.ask(house.openai("text"), stream=stream)
    assert client.status == 200
    assert len(house.talks.spoken) == kept
    if kept:
        assert b"".join(house.spoken.answer) == client.body
        assert (house.spoken.record, house.spoken.streamed) == (house.record, stream)


@looped
async def test_without_a_log_nothing_is_recorded(upstream: Upstream) -> None:
    house = House(upstream)
    house.key = structs.replace(house.key, log=True)
    assert (await house.ask(house.openai("text"))).status == 200


@looped
async def test_what_is_read_to_its_end_for_nobody_is_recorded(upstream: Upstream) -> None:
    house = Place(upstream, log=True)
    house.snapshot = structs.replace(house.snapshot, drain=True)
    client, running = house.start(route(house.openai("gate")), stream=True)
    seen = await asyncio.to_thread(upstream.wait, "gate")
    seen.release(2)
    await client.wrote.wait()
    running.cancel()
    await asyncio.wait({running})
    seen.release(100)
    await asyncio.wait(house.engine._draining)
    await asyncio.sleep(0)
    assert client.text() == "Hel"
    assert (house.spoken.record.status, house.spoken.record.error_code) == (499, "client_disconnected")
    assert house.spoken.answer[-1].endswith(b"data: [DONE]\n\n")


@looped
async def test_who_leaves_before_anything_came_is_recorded(upstream: Upstream) -> None:
    house = Place(upstream, log=True)
    _, running = house.start(route(house.openai("stall")), stream=True)
    await asyncio.to_thread(upstream.wait, "stall")
    running.cancel()
    await asyncio.wait({running})
    assert (house.spoken.record.status, house.spoken.answer) == (499, [])


@looped
async def test_a_refusal_is_recorded(upstream: Upstream) -> None:
    house = Place(upstream, models="pub")
    house.key = Key("k", "ada", models=("other",))
    client = await house.ask(house.openai("text"))
    assert error(client)["code"] == "model_not_allowed"
    assert json.loads(b"".join(house.spoken.answer)) == client.json()


@looped
async def test_a_call_of_a_function_is_one_of_its_own(upstream: Upstream) -> None:
    def ask(messages: Any, call: Any) -> Any:
        call.log("asking")
        return call.chat("inner", messages)

    house = Place(upstream, log=True, ask=ask)
    client, running = house.start(
        route(house.function("ask")), structs.replace(route(house.openai("text")), name="inner")
    )
    await running
    assert client.status == 200
    inner, outer = house.talks.spoken
    assert (inner.record.model, inner.record.parent_id, [*inner.notes]) == ("inner", outer.record.id, [])
    assert (outer.record.model, outer.notes) == ("public", ["asking"])

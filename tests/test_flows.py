"""What a dialect keeps between requests, asks for before one, and says when the client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import pytest
from msgspec import structs

from polymux.providers.anthropic import Anthropic, Reader
from polymux.providers.base import Asked, Flow, Recall
from polymux.providers.dialects import DIALECTS
from polymux.schema.chat import ChatRequest, ChatResponse, Chunk
from polymux.store.base import LARGEST, Unusable
from polymux.store.memory import LocalMemory
from polymux.types import Key, WireRequest
from support.house import Client, House, route
from support.peer import looped
from support.upstream import Upstream


class Counting(Anthropic):
    """Counts a caller's requests in what is remembered, and names the count in the model that it asks for."""

    def flow(self, request: ChatRequest, asked: Asked) -> Flow:
        name = f"count:{asked.to.provider}:{asked.caller}"
        known = yield Recall((name, "count:nobody"))
        assert set(known) <= {name}
        listed = yield WireRequest("GET", f"{asked.to.base_url}/models", asked.to.headers, framing="whole")
        assert listed.status == 200
        asked.remembered[name] = known.get(name, b"") + b"i"
        asked.remembered["too large"] = b"x" * (LARGEST + 1)
        return (yield from super().flow(request, asked))

    def reader(self, asked: Asked) -> Reader:
        return Telling(asked)

    def read(self, body: bytes, asked: Asked) -> ChatResponse:
        asked.remembered["whole"] = b"yes"
        return super().read(body, asked)

    def stop(self, asked: Asked) -> WireRequest | None:
        headers = (*asked.to.headers, ("x-task", asked.task))
        return WireRequest("POST", f"{asked.to.base_url}/stop", headers, b"{}") if asked.task else None


class Streaming(Anthropic):
    """Says that its answers are streams, and they are, if `truly`."""

    def __init__(self, truly: bool = True) -> None:
        self.truly = truly

    def flow(self, request: ChatRequest, asked: Asked) -> Flow:
        wire: WireRequest = yield from super().flow(structs.replace(request, stream=self.truly), asked)
        return structs.replace(wire, streams=True)


class Once(Anthropic):
    """Names what it recalls in the model that it asks for."""

    def flow(self, request: ChatRequest, asked: Asked) -> Flow:
        known = yield Recall(("one", "none"), once=True)
        asked.remembered["seen"] = b"".join(known.values()) or b"nothing"
        return (yield from super().flow(request, asked))


class Telling(Reader):
    def __init__(self, asked: Asked) -> None:
        super().__init__(asked)
        self.asked = asked

    def feed(self, event: str, data: bytes) -> Sequence[Chunk]:
        chunks = super().feed(event, data)
        if chunks:
            self.asked.task = chunks[0].id
        return chunks


class Place(House):
    adapters = MappingProxyType({**DIALECTS, "anthropic": Counting()})

    def counted(self) -> bytes | None:
        return self.memory.get("acme", "count:claude:static-1")


@looped
@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_remembered_can_be_recalled(upstream: Upstream, stream: bool) -> None:
    house = Place(upstream)
    for count in (1, 2):
        client = await house.ask(house.anthropic("text"), stream=stream)
        assert client.status == 200
        assert house.counted() == b"i" * count
    assert (house.memory.get("acme", "whole") is None) is stream
    assert house.memory.get("acme", "too large") is None
    assert house.memory.get("default", "count:claude:static-1") is None


@looped
async def test_it_is_kept_before_the_client_has_the_end(upstream: Upstream) -> None:
    house = Place(upstream)
    kept: list[bytes | None] = []

    def end(client: Client, data: bytes) -> None:
        kept.append(house.counted())
        Client.end(client, data)

    client, running = house.start(route(house.anthropic("text")), stream=True)
    client.end = end.__get__(client)  # type: ignore[method-assign]  # this one client alone
    await running
    await asyncio.sleep(0)
    assert kept == [b"i"]


@looped
async def test_tenants_are_apart(upstream: Upstream) -> None:
    house = Place(upstream)
    await house.ask(house.anthropic("text"))
    house.key = Key("static-1", "ada", "other")
    await house.ask(house.anthropic("text"))
    assert house.memory.get("other", "count:claude:static-1") == b"i"


@looped
async def test_a_memory_that_fails_is_done_without(upstream: Upstream, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(LocalMemory):
        async def load(self, tenant: str, name: str) -> bytes | None:
            raise Unusable("the disk is gone")

    house = Place(upstream)
    house.engine._flows._memory = Failing()
    assert (await house.ask(house.anthropic("text"))).status == 200
    assert "the disk is gone" in caplog.text


@looped
@pytest.mark.parametrize("content", [False, True])
async def test_who_does_not_notice_that_the_client_has_left_is_told_so(upstream: Upstream, content: bool) -> None:
    house = Place(upstream)
    client, running = house.start(route(house.anthropic("gate" if content else "stall")), stream=True)
    seen = await asyncio.to_thread(upstream.wait, "gate" if content else "stall")
    if content:
        seen.release(5)
        await client.wrote.wait()
    running.cancel()
    await asyncio.wait({running})
    await asyncio.to_thread(seen.wait_gone)
    while house.engine._flows._telling:
        await asyncio.wait(house.engine._flows._telling)
    told: list[Any] = [one for one in upstream.requests if one.path.endswith("/stop")]
    assert [dict(one.headers)["x-task"] for one in told] == (["msg_up1"] if content else [])


@looped
async def test_what_is_recalled_once_is_gone(upstream: Upstream) -> None:
    house = House(upstream)
    house.engine._adapters = {**DIALECTS, "anthropic": Once()}
    house.memory.put("acme", "one", b"1", 60)
    for seen in (b"1", b"nothing"):
        assert (await house.ask(house.anthropic("text"))).status == 200
        assert house.memory.get("acme", "seen") == seen


@looped
@pytest.mark.parametrize("truly", [True, False])
async def test_a_whole_answer_of_an_upstream_that_streams(upstream: Upstream, truly: bool) -> None:
    house = House(upstream)
    plain = (await house.ask(house.anthropic("text"))).json()
    house.engine._adapters = {**DIALECTS, "anthropic": Streaming(truly)}
    client = await house.ask(house.anthropic("text"))
    assert client.head["content-type"] == "application/json"
    assert {**client.json(), "created": 0} == {**plain, "created": 0}
    assert house.ledger.records[0].output_tokens
    assert len({record.output_tokens for record in house.ledger.records}) == 1


@looped
@pytest.mark.parametrize(("model", "status"), [("cut-4", 502), ("errorinside", 503)])
async def test_a_stream_that_ends_badly_is_no_whole_answer(upstream: Upstream, model: str, status: int) -> None:
    house = House(upstream)
    house.engine._adapters = {**DIALECTS, "anthropic": Streaming()}
    to = [house.anthropic(model), house.anthropic("text")]
    assert (await house.ask(to[0])).status == status
    assert (await house.ask(*to)).status == 200

"""A key's limits: what a request takes of them, what it is told, and what it gives back."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import pytest
from msgspec import structs

from polymux.functions import FunctionCall
from polymux.types import Route
from support.house import House, error, route
from support.peer import looped
from support.upstream import Upstream

PROMPT: Final = 9  # tokens that the house's messages are estimated at
USED: Final = 18  # tokens of the answer "text" and its prompt


def limited(upstream: Upstream, **limits: int) -> House:
    house = House(upstream)
    house.key = structs.replace(house.key, **limits)
    return house


def left(house: House, name: str, limit: int) -> int:
    """What of a limit is left; asking takes nothing."""
    return house.counters.admit(f"{name}:{house.key.id}", limit, 0).remaining


@looped
@pytest.mark.parametrize("stream", [False, True])
async def test_tokens_are_reserved_and_then_known(upstream: Upstream, stream: bool) -> None:
    house = limited(upstream, tpm=1000)
    client = await house.ask(house.openai("text"), stream=stream, max_tokens=100)
    assert client.head["x-ratelimit-limit-tokens"] == "1000"
    assert client.head["x-ratelimit-remaining-tokens"] == str(1000 - PROMPT - 100)
    assert client.head["x-ratelimit-reset-tokens"] == "1m1s"
    assert "x-ratelimit-limit-requests" not in client.head
    assert left(house, "tpm", 1000) == 1000 - USED


@looped
async def test_too_many_tokens_are_429_with_all_headers(upstream: Upstream) -> None:
    house = limited(upstream, tpm=100, rpm=10)
    client = await house.ask(house.openai("text"), max_completion_tokens=50)
    assert client.status == 200
    client = await house.ask(house.openai("text"), max_tokens=80)
    assert (client.status, error(client)["code"]) == (429, "rate_limit_exceeded")
    assert "100 tokens per minute" in error(client)["message"]
    assert client.head["retry-after"] == "61"
    assert client.head["x-ratelimit-remaining-tokens"] == str(100 - USED)
    assert len(upstream.requests) == 1
    assert left(house, "rpm", 10) == 9, "what is refused does not count as a request either"
    assert house.ledger.records[1].error_code == "rate_limit_exceeded"


@looped
async def test_what_is_larger_than_the_limit_takes_all_of_it(upstream: Upstream) -> None:
    house = limited(upstream, tpm=50)
    client, running = house.start(route(house.openai("gate")), max_tokens=100_000)
    seen = await asyncio.to_thread(upstream.wait, "gate")
    assert (await house.ask(house.openai("text"))).status == 429
    seen.release(20)
    await running
    assert client.status == 200
    assert left(house, "tpm", 50) == 50 - USED


@looped
async def test_what_was_estimated_too_low_counts_in_the_end(upstream: Upstream) -> None:
    house = limited(upstream, tpm=20)
    assert (await house.ask(house.openai("text"))).status == 200  # 9 were reserved, 18 used
    client = await house.ask(house.openai("text"))
    assert (client.status, client.head["x-ratelimit-remaining-tokens"]) == (429, "2")


@looped
async def test_a_failure_gives_its_tokens_back(upstream: Upstream) -> None:
    house = limited(upstream, tpm=100)
    assert (await house.ask(house.openai("status-400"), max_tokens=80)).status == 400
    assert left(house, "tpm", 100) == 100


@pytest.mark.parametrize("wrong", ["many", 1.5, -7, None, {}])
@looped
async def test_a_wrong_max_tokens_is_the_providers_to_judge(upstream: Upstream, wrong: Any) -> None:
    house = limited(upstream, tpm=100)
    client = await house.ask(house.openai("text"), max_tokens=wrong)
    assert client.head["x-ratelimit-remaining-tokens"] == str(100 - PROMPT)


@looped
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("leaves", [False, True])
async def test_requests_at_the_same_time(upstream: Upstream, stream: bool, leaves: bool) -> None:
    house = limited(upstream, concurrency=2, rpm=10)
    both = [house.start(route(house.openai("gate")), stream=stream)[1] for _ in range(2)]
    first = await asyncio.to_thread(upstream.wait, "gate", 2)
    client = await house.ask(house.openai("text"))
    assert (client.status, error(client)["code"], client.head["retry-after"]) == (429, "rate_limit_exceeded", "1")
    assert "2 requests at the same time" in error(client)["message"]
    assert left(house, "rpm", 10) == 8
    if leaves:
        both[0].cancel()
        both[1].cancel()
    else:
        for seen in upstream.seen("gate"):
            seen.release(20)
    await asyncio.wait(both)
    assert first is not None
    assert (await house.ask(house.openai("text"))).status == 200
    assert house.counters.enter(f"concurrency:{house.key.id}", 1), "nobody is left"


@looped
@pytest.mark.parametrize("model", ["status-500", "reset", "cut-3", "no-such-model"])
async def test_a_place_is_given_back_however_it_ends(upstream: Upstream, model: str) -> None:
    house = limited(upstream, concurrency=1, rpm=1, tpm=1000)
    for status in (None, 429):  # the second is beyond another limit
        _, running = house.start(route(house.openai(model), retries=0), stream=True)
        await running
        assert status in (None, house.ledger.records[-1].status)
        assert house.counters.enter(f"concurrency:{house.key.id}", 1)
        house.counters.leave(f"concurrency:{house.key.id}")


@looped
async def test_a_function_may_call_models_though_it_is_the_only_one(upstream: Upstream) -> None:
    async def asks(messages: Any, call: FunctionCall) -> str:
        return await call.chat("inner", messages)

    house = House(upstream, asks=asks)
    house.key = structs.replace(house.key, concurrency=1, rpm=10, tpm=1000)
    inner = Route("inner", (house.openai("text"),))
    client, running = house.start(route(house.function("asks")), inner)
    await running
    assert client.status == 200, json.loads(client.body)
    assert left(house, "rpm", 10) == 8
    assert left(house, "tpm", 1000) <= 1000 - 2 * USED + 5

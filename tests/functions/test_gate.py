"""Places of a model: first come, first served, bounded, given back in every way out."""

from __future__ import annotations

import asyncio
from math import inf

import pytest

from polymux.errors import Failure
from polymux.functions.gate import Gate
from support.peer import looped


@looped
async def test_no_bound_no_waiting() -> None:
    gate = Gate("m", 0, 0)
    for _ in range(100):
        await gate.enter(inf)


@looped
async def test_the_next_waits_and_comes_in_order() -> None:
    gate, order = Gate("m", 1, 5), []

    async def one(number: int) -> None:
        with await gate.enter(inf):
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(one(number) for number in range(5)))
    assert order == [0, 1, 2, 3, 4]


@looped
async def test_a_full_queue_is_503_with_retry_after() -> None:
    gate = Gate("m", 2, 1)
    places = [await gate.enter(inf) for _ in range(2)]
    waiting = asyncio.create_task(gate.enter(inf))
    await asyncio.sleep(0)
    with pytest.raises(Failure, match="the model 'm' is busy: 2 calls of it run, and 1 more wait") as caught:
        await gate.enter(inf)
    assert (caught.value.status, caught.value.code, caught.value.retry_after) == (503, "overloaded", 1.0)
    places[0].leave()
    await waiting


@looped
async def test_no_queue_refuses_at_once() -> None:
    gate = Gate("m", 1, 0)
    with await gate.enter(inf), pytest.raises(Failure, match="0 more wait"):
        await gate.enter(inf)
    await gate.enter(inf)


@looped
async def test_waiting_ends_with_the_deadline() -> None:
    gate = Gate("m", 1, 5)
    with await gate.enter(inf), pytest.raises(Failure, match="did not come free in time") as caught:
        await gate.enter(asyncio.get_running_loop().time())
    assert caught.value.status == 503
    await gate.enter(inf)


@looped
async def test_who_leaves_the_queue_makes_room_in_it() -> None:
    gate = Gate("m", 1, 1)
    place = await gate.enter(inf)
    leaving = asyncio.create_task(gate.enter(inf))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait({leaving})
    staying = asyncio.create_task(gate.enter(inf))
    await asyncio.sleep(0)
    place.leave()
    await staying


@looped
async def test_a_place_is_given_back_once() -> None:
    gate = Gate("m", 1, 0)
    place = await gate.enter(inf)
    place.leave()
    place.leave()
    with await gate.enter(inf), pytest.raises(Failure):
        await gate.enter(inf)


@looped
async def test_a_kept_place_outlives_the_block() -> None:
    gate = Gate("m", 1, 0)
    with await gate.enter(inf) as place:
        place.keep()
    with pytest.raises(Failure):
        await gate.enter(inf)
    place.leave()
    await gate.enter(inf)

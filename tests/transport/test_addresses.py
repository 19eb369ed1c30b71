"""The addresses of names, with a resolver and a clock of the test's own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from socket import AF_INET, AF_INET6

import pytest

from polymux.transport.addresses import (
    FRESH,
    MOST,
    STALE,
    SULK,
    Address,
    Addresses,
    interleave,
    listed,
    numeric,
    race,
)
from support.peer import looped, until

ONE, TWO, THREE = (Address(AF_INET, (f"192.0.2.{number}", 443)) for number in (1, 2, 3))
SIX, SEVEN = (Address(AF_INET6, (f"2001:db8::{number}", 443, 0, 0)) for number in (6, 7))


class Names:
    """A resolver that says what it is told to, and a clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked: list[str] = []
        self.answer: Sequence[Address] | Exception = (ONE, TWO)
        self.gate = asyncio.Event()
        self.gate.set()
        self.addresses = Addresses(self.resolve, lambda: self.now)

    async def resolve(self, host: str, port: int) -> Sequence[Address]:
        self.asked.append(host)
        await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def find(self, host: str = "llm.example") -> list[Address]:
        return list(await self.addresses.find(host, 443))


# ---- looking up ------------------------------------------------------------------------------------------------


@looped
async def test_a_name_is_looked_up_once_in_a_while() -> None:
    names = Names()
    assert await names.find() == [ONE, TWO]
    names.answer, names.now = [THREE], names.now + FRESH - 0.001
    assert await names.find() == [ONE, TWO]
    assert len(names.asked) == 1


@looped
async def test_what_is_no_longer_fresh_serves_while_a_new_look_up_is_made() -> None:
    names = Names()
    await names.find()
    names.answer, names.now = [THREE], names.now + FRESH
    names.gate.clear()
    assert await names.find() == [ONE, TWO]
    assert await names.find() == [ONE, TWO]
    names.gate.set()
    await until(lambda: not names.addresses._asking)
    assert await names.find() == [THREE]
    assert len(names.asked) == 2


@looped
async def test_what_is_too_old_waits_for_the_new_look_up() -> None:
    names = Names()
    await names.find()
    names.answer, names.now = [THREE], names.now + FRESH + STALE
    assert await names.find() == [THREE]


@looped
@pytest.mark.parametrize("later", [FRESH, FRESH + STALE])
@pytest.mark.parametrize("answer", [socket.gaierror(-3, "Temporary failure in name resolution"), ()])
async def test_when_the_look_up_fails_the_old_addresses_serve(
    later: float, answer: Sequence[Address] | Exception
) -> None:
    names = Names()
    await names.find()
    names.answer, names.now = answer, names.now + later
    assert await names.find() == [ONE, TWO]
    await until(lambda: not names.addresses._asking)
    assert await names.find() == [ONE, TWO]


@looped
async def test_a_name_that_was_never_known_fails() -> None:
    names = Names()
    names.answer = socket.gaierror(-2, "Name or service not known")
    with pytest.raises(socket.gaierror, match="not known"):
        await names.find()
    names.answer = ()
    with pytest.raises(OSError, match="has no address"):
        await names.find()
    names.answer = UnicodeError("label too long")
    with pytest.raises(OSError, match="no valid host name"):
        await names.find()
    names.answer = (ONE,)
    assert await names.find() == [ONE]


@looped
async def test_those_who_ask_at_once_share_a_look_up() -> None:
    names = Names()
    names.gate.clear()
    finding = [asyncio.ensure_future(names.find()) for _ in range(3)]
    await until(lambda: bool(names.asked))
    finding[0].cancel()  # who leaves does not take it along
    names.gate.set()
    assert [await one for one in finding[1:]] == [[ONE, TWO]] * 2
    assert len(names.asked) == 1


@looped
async def test_so_many_names_are_remembered() -> None:
    names = Names()
    for number in range(MOST + 5):
        await names.find(f"{number}.example")
    assert len(names.addresses._known) == MOST
    await names.find(f"{MOST}.example")
    assert len(names.asked) == MOST + 5


@looped
async def test_a_look_up_ends_with_the_transport() -> None:
    names = Names()
    names.gate.clear()
    finding = asyncio.ensure_future(names.find())
    await until(lambda: bool(names.asked))
    names.addresses.close()
    with pytest.raises(asyncio.CancelledError):
        await finding


@looped
async def test_an_address_is_not_looked_up() -> None:
    names = Names()
    assert await names.find("192.0.2.1") == [ONE]
    assert await names.find("2001:db8::6") == [SIX]
    assert names.asked == []
    assert numeric("localhost", 80) == ()
    assert numeric("a" * 300, 80) == ()


# ---- order -----------------------------------------------------------------------------------------------------


@looped
async def test_an_address_that_failed_goes_last_for_a_while() -> None:
    names = Names()
    names.answer = (ONE, TWO, THREE)
    names.addresses.failed(ONE)
    names.now += SULK / 2
    names.addresses.failed(TWO)
    assert await names.find() == [THREE, ONE, TWO]
    names.addresses.worked(TWO)
    assert await names.find() == [TWO, THREE, ONE]
    names.now += SULK / 2
    assert await names.find() == [ONE, TWO, THREE]
    names.addresses.failed(THREE)
    assert list(names.addresses._failed) == [THREE], "what is over is forgotten"


def test_families_take_turns() -> None:
    assert interleave([SIX, SEVEN, ONE, TWO, THREE]) == (SIX, ONE, SEVEN, TWO, THREE)
    assert interleave([ONE, SIX]) == (ONE, SIX)
    assert interleave([ONE, TWO]) == (ONE, TWO)
    assert interleave([]) == ()


def test_what_the_system_says_twice_counts_once() -> None:
    assert listed([(AF_INET, 1, 6, "", ONE.at), (AF_INET, 2, 17, "", ONE.at)]) == (ONE,)


# ---- the race --------------------------------------------------------------------------------------------------


class Attempts:
    """What each address answers: a word, an error, or nothing until told."""

    def __init__(self, **answers: str | Exception | None) -> None:
        self.answers = answers
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.discarded: list[str] = []
        self.gate = asyncio.Event()

    async def __call__(self, address: Address) -> str:
        name = str(address.at[0])
        self.begun.append(name)
        answer = self.answers["n" + name[-1]]
        try:
            if answer is None:
                await self.gate.wait()
                return f"late {name}"
        finally:
            self.ended.append(name)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def race(self, *addresses: Address, delay: float = 1000.0) -> str:
        return await race(addresses, self, self.discarded.append, delay)


@looped
async def test_the_first_that_answers_is_taken() -> None:
    attempts = Attempts(n1="one", n2="two")
    assert await attempts.race(ONE, TWO) == "one"
    assert attempts.begun == ["192.0.2.1"]
    assert await attempts.race(TWO) == "two"


@looped
async def test_a_failure_makes_the_next_begin_at_once() -> None:
    attempts = Attempts(n1=OSError("refused"), n2="two", n3="three")
    assert await attempts.race(ONE, TWO, THREE) == "two"
    assert attempts.begun == ["192.0.2.1", "192.0.2.2"]


@looped
async def test_silence_makes_the_next_begin_after_a_while() -> None:
    attempts = Attempts(n1=None, n2=None, n3="three")
    assert await attempts.race(ONE, TWO, THREE, delay=0.0) == "three"
    await until(lambda: len(attempts.ended) == 3)
    assert attempts.discarded == []


@looped
async def test_when_all_fail_the_last_word_is_told() -> None:
    attempts = Attempts(n1=OSError("unreachable"), n2=OSError("refused"))
    with pytest.raises(OSError, match="refused"):
        await attempts.race(ONE, TWO)


@looped
async def test_who_comes_too_late_is_discarded() -> None:
    """Two answer in the same turn of the loop."""
    attempts = Attempts(n1=None, n2=None)
    racing = asyncio.ensure_future(attempts.race(ONE, TWO, delay=0.0))
    await until(lambda: len(attempts.begun) == 2)
    attempts.gate.set()
    won = await racing
    await until(lambda: bool(attempts.discarded))
    assert {won, *attempts.discarded} == {"late 192.0.2.1", "late 192.0.2.2"}


@looped
async def test_who_gives_up_leaves_no_attempt_behind() -> None:
    attempts = Attempts(n1=None, n2=None)
    racing = asyncio.ensure_future(attempts.race(ONE, TWO, delay=0.0))
    await until(lambda: len(attempts.begun) == 2)
    racing.cancel()
    await until(lambda: len(attempts.ended) == 2)
    assert racing.cancelled()

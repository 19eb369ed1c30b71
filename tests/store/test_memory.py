"""The seams in this process: keys by digest, windows by name, values that expire and keep to their tenant."""

from __future__ import annotations

import asyncio

from polymux.routing.limits import Verdict
from polymux.store import base
from polymux.store.memory import LocalCounters, LocalMemory, StaticKeys, digest
from polymux.types import Key

ADA = Key("static-1", "ada")
SECRET = "sk-ada-0123456789"


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_key_is_found_by_its_secret_alone() -> None:
    keys = StaticKeys([(SECRET, ADA)])
    assert keys.find(SECRET) is ADA
    for other in ("", SECRET[:-1], SECRET + " ", SECRET.upper(), "嗯", digest(SECRET).hex()):
        assert keys.find(other) is None


def test_a_secret_with_lone_surrogates_or_any_byte_is_merely_unknown() -> None:
    keys = StaticKeys([(SECRET, ADA)])
    assert keys.find(bytes(range(256)).decode("latin-1")) is None


def test_only_digests_stay_in_memory() -> None:
    keys = StaticKeys([(SECRET, ADA)])
    assert SECRET not in repr(vars(keys))
    assert len(digest(SECRET)) == 32


def test_counters_are_apart_by_name_and_limits_hold() -> None:
    counters = LocalCounters(Clock())
    assert [counters.admit("rpm:a", 2).admitted for _ in range(3)] == [True, True, False]
    assert counters.admit("rpm:b", 2) == Verdict(True, 1, 61.0, 0.0, 1000)


def test_counters_follow_the_clock() -> None:
    clock = Clock()
    counters = LocalCounters(clock)
    assert counters.admit("rpm:a", 1).admitted
    refused = counters.admit("rpm:a", 1)
    assert not refused.admitted
    clock.now += refused.wait - 0.5
    assert not counters.admit("rpm:a", 1).admitted
    clock.now += 0.5
    assert counters.admit("rpm:a", 1).admitted


def test_amounts_are_corrected() -> None:
    counters = LocalCounters(Clock())
    second = counters.admit("tpm:a", 10, 8).second
    counters.correct("tpm:a", second, -5)
    assert counters.admit("tpm:a", 10, 7).admitted
    counters.correct("tpm:nobody", second, 5)
    assert counters.admit("tpm:nobody", 10, 10).admitted


def test_who_is_here_at_the_same_time() -> None:
    counters = LocalCounters(Clock())
    assert [counters.enter("a", 2) for _ in range(3)] == [True, True, False]
    assert counters.enter("b", 1)
    counters.leave("a")
    assert [counters.enter("a", 2) for _ in range(2)] == [True, False]
    for _ in range(5):
        counters.leave("a")
    assert [counters.enter("a", 2) for _ in range(3)] == [True, True, False]


def test_counters_are_bounded_and_the_oldest_window_makes_room() -> None:
    counters = LocalCounters(Clock(), most=2)
    for name in ("a", "b", "c"):
        counters.admit(name, 9)
    assert counters.admit("b", 9).remaining == 7
    assert counters.admit("a", 9).remaining == 8


def test_a_value_lives_as_long_as_was_said() -> None:
    clock = Clock()
    memory = LocalMemory(clock)
    memory.put("default", "conversation", b"abc", 10.0)
    clock.now += 9.9
    assert memory.get("default", "conversation") == b"abc"
    clock.now += 0.1
    assert memory.get("default", "conversation") is None


def test_tenants_are_apart() -> None:
    memory = LocalMemory(Clock())
    memory.put("one", "name", b"1", 10.0)
    assert memory.get("two", "name") is None
    memory.put("two", "name", b"2", 10.0)
    assert (memory.get("one", "name"), memory.get("two", "name")) == (b"1", b"2")


def test_a_value_may_be_empty_and_is_replaced_whole() -> None:
    memory = LocalMemory(Clock())
    memory.put("t", "name", b"old", 10.0)
    memory.put("t", "name", b"", 10.0)
    assert memory.get("t", "name") == b""


def test_memory_is_bounded_and_the_oldest_goes_first() -> None:
    memory = LocalMemory(Clock(), most=2)
    for name in ("a", "b", "a", "c"):  # written again, a is younger than b
        memory.put("t", name, name.encode(), 10.0)
    assert [memory.get("t", name) for name in ("a", "b", "c")] == [b"a", None, b"c"]


def test_what_is_taken_is_gone() -> None:
    memory: base.Memory = LocalMemory()
    memory.put("t", "a", b"1", 60)
    assert asyncio.run(memory.take("u", "a")) is None
    assert asyncio.run(memory.take("t", "a")) == b"1"
    assert asyncio.run(memory.take("t", "a")) is None

"""Values over the database: at hand at once, written soon, seen elsewhere, apart by tenant, gone after their time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from polymux.store import base, values
from polymux.store.base import Unusable
from polymux.store.database import Database
from polymux.store.memory import LocalMemory
from polymux.store.tables import MEMORY
from polymux.store.values import FRESH, LARGEST, SWEEP, StoredMemory
from support.waiting import until

NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database("sqlite", tmp_path)
    yield made
    made.close()


@pytest.fixture
def memory(database: Database, clock: Clock) -> Iterator[StoredMemory]:
    made = StoredMemory(database, clock)
    yield made
    made.close()


def load(memory: base.Memory, tenant: str, name: str) -> bytes | None:
    return asyncio.run(memory.load(tenant, name))


def rows(database: Database) -> dict[tuple[str, str], bytes]:
    with database.connect() as connection:
        return {(row.tenant, row.name): row.value for row in connection.execute(select(MEMORY))}


def test_what_is_put_is_at_hand_and_written_soon(memory: StoredMemory, database: Database) -> None:
    as_memory: base.Memory = memory
    as_memory.put("t", "a", b"1", 60)
    assert as_memory.get("t", "a") == load(as_memory, "t", "a") == b"1"
    until(lambda: rows(database) == {("t", "a"): b"1"})
    as_memory.put("t", "a", b"2", 60)
    as_memory.put("t", "b", b"3", 60)
    until(lambda: rows(database) == {("t", "a"): b"2", ("t", "b"): b"3"})
    as_memory.delete("t", "a")
    assert as_memory.get("t", "a") is None
    until(lambda: rows(database) == {("t", "b"): b"3"})
    assert load(as_memory, "t", "a") is None


@pytest.mark.parametrize("kind", ["stored", "local"])
def test_tenants_are_apart(memory: StoredMemory, kind: str) -> None:
    one: base.Memory = memory if kind == "stored" else LocalMemory()
    one.put("t", "a", b"1", 60)
    assert one.get("u", "a") is None
    assert load(one, "u", "a") is None
    one.delete("u", "a")
    assert load(one, "t", "a") == b"1"
    one.delete("t", "a")
    assert load(one, "t", "a") is None


def test_another_process_finds_it(memory: StoredMemory, database: Database, clock: Clock) -> None:
    other = StoredMemory(database, clock)
    memory.put("t", "a", b"1", 60)
    memory.flush()
    assert other.get("t", "a") is None  # not at hand
    assert load(other, "t", "a") == b"1"
    assert other.get("t", "a") == b"1"
    memory.put("t", "a", b"2", 60)
    memory.flush()
    assert load(other, "t", "a") == b"1"
    clock.now += FRESH
    assert other.get("t", "a") is None
    assert load(other, "t", "a") == b"2"
    other.close()


def test_a_clock_that_is_set_back_makes_nothing_old(memory: StoredMemory, database: Database, clock: Clock) -> None:
    memory.put("t", "a", b"1", SWEEP)
    memory.flush()
    clock.now -= 10 * SWEEP
    other = StoredMemory(database, clock)
    other.put("t", "a", b"2", SWEEP)
    other.close()
    assert load(memory, "t", "a") == b"2"
    clock.now += 2 * SWEEP
    memory.flush()
    assert rows(database) == {}


def test_what_is_not_there_is_not_asked_for_again_at_once(
    memory: StoredMemory, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load(memory, "t", "a") is None
    with monkeypatch.context() as patched:
        patched.setattr(memory, "_read", lambda place: pytest.fail("it was just looked for"))
        assert load(memory, "t", "a") is None
        memory.put("t", "a", b"1", 60)
        assert load(memory, "t", "a") == b"1"


def test_values_end_with_their_time(memory: StoredMemory, database: Database, clock: Clock) -> None:
    memory.put("t", "a", b"1", 60)
    memory.put("t", "b", b"2", 600)
    memory.flush()
    clock.now += 60
    assert memory.get("t", "a") is None
    assert load(memory, "t", "a") is None
    assert load(memory, "t", "b") == b"2"
    clock.now += SWEEP
    memory.flush()
    assert rows(database) == {("t", "b"): b"2"}


def test_what_has_ended_before_it_was_written_is_not_written(
    memory: StoredMemory, database: Database, clock: Clock
) -> None:
    memory.put("t", "a", b"1", 60)
    memory.flush()
    memory.put("t", "a", b"2", 0)
    memory.flush()
    assert rows(database) == {}


def test_a_value_has_a_largest_size(memory: StoredMemory) -> None:
    memory.put("t", "a", b"x" * LARGEST, 60)
    with pytest.raises(ValueError, match="65537 bytes are more than the 65536"):
        memory.put("t", "b", b"x" * (LARGEST + 1), 60)
    assert memory.get("t", "b") is None


def test_what_is_at_hand_is_bounded(database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "ROOM", 1000)
    memory = StoredMemory(database, clock, most=3)
    for name in "abcd":
        memory.put("t", name, name.encode(), 60)
        memory.flush()
    assert [memory.get("t", name) for name in "abcd"] == [None, b"b", b"c", b"d"]
    assert load(memory, "t", "a") == b"a"
    for name in "xyz":
        memory.put("t", name, b"x" * 400, 60)
        memory.flush()
    assert [memory.get("t", name) is None for name in "xyz"] == [True, False, False]
    assert load(memory, "t", "x") == b"x" * 400
    memory.close()


def test_trouble_loses_nothing_and_is_told_once(
    memory: StoredMemory, database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failed = 0

    def fail() -> None:
        nonlocal failed
        failed += 1
        raise Unusable("the database is gone")

    monkeypatch.setattr(values, "EVERY", 0.001)
    with monkeypatch.context() as broken, caplog.at_level(logging.WARNING):
        broken.setattr(database, "begin", fail)
        memory.put("t", "a", b"1", 60)
        until(lambda: failed > 3)
        assert memory.get("t", "a") == b"1"
        memory.put("t", "a", b"2", 60)
    until(lambda: rows(database) == {("t", "a"): b"2"})
    assert caplog.text.count("the database is gone") == 1


def test_the_rest_is_written_at_the_end(database: Database, clock: Clock) -> None:
    memory = StoredMemory(database, clock)
    for number in range(100):
        memory.put("t", str(number), b"1", 60)
    memory.close()
    assert len(rows(database)) == 100


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["put", "delete", "get", "load", "flush", "wait"]),
        st.sampled_from(["t", "u"]),
        st.sampled_from(["a", "b"]),
        st.binary(max_size=3),
        st.sampled_from([1.0, 10.0, 100.0]),
    ),
    max_size=30,
)


@given(ACTIONS)
@settings(max_examples=40, deadline=None)
def test_it_says_what_a_dictionary_says(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, str, str, bytes, float]]
) -> None:
    clock = Clock()
    database = Database("sqlite", tmp_path_factory.mktemp("values"))
    memory, model = StoredMemory(database, clock), LocalMemory(clock)
    for action, tenant, name, value, ttl in actions:
        if action == "put":
            memory.put(tenant, name, value, ttl)
            model.put(tenant, name, value, ttl)
        elif action == "delete":
            memory.delete(tenant, name)
            model.delete(tenant, name)
        elif action == "flush":
            memory.flush()
        elif action == "wait":
            clock.now += ttl
        elif action == "load":
            assert load(memory, tenant, name) == model.get(tenant, name)
        else:
            assert memory.get(tenant, name) in (None, model.get(tenant, name))
    memory.close()
    database.close()


# ---- taken -------------------------------------------------------------------------------------------------------


def take(memory: base.Memory, tenant: str, name: str) -> bytes | None:
    return asyncio.run(memory.take(tenant, name))


def test_what_is_taken_is_gone_everywhere(memory: StoredMemory, database: Database, clock: Clock) -> None:
    other = StoredMemory(database, clock)
    memory.put("t", "a", b"1", 60)
    memory.put("u", "a", b"2", 60)
    memory.flush()
    assert load(other, "t", "a") == b"1"
    assert take(other, "t", "a") == b"1"
    assert take(other, "t", "a") is None
    assert take(memory, "t", "a") is None, "although it was at hand here"
    assert memory.get("t", "a") is other.get("t", "a") is None
    assert rows(database) == {("u", "a"): b"2"}
    other.close()


def test_what_is_not_written_yet_can_be_taken_and_put_again(memory: StoredMemory, database: Database) -> None:
    memory.put("t", "a", b"1", 60)
    assert take(memory, "t", "a") == b"1"
    assert take(memory, "t", "a") is None
    memory.flush()
    assert rows(database) == {}
    memory.put("t", "a", b"2", 60)
    assert memory.get("t", "a") == take(memory, "t", "a") == b"2"


def test_what_has_expired_is_not_taken(memory: StoredMemory, clock: Clock) -> None:
    memory.put("t", "a", b"1", 60)
    clock.now += 60
    assert take(memory, "t", "a") is None


def test_of_many_who_take_it_at_once_one_gets_it(database: Database, clock: Clock) -> None:
    workers = [StoredMemory(database, clock) for _ in range(4)]
    for n in range(10):
        workers[0].put("t", f"a{n}", b"1", 60)

    async def all_at_once() -> list[bytes | None]:
        return await asyncio.gather(*(worker.take("t", f"a{n}") for worker in workers for n in range(10)))

    found = asyncio.run(all_at_once())
    assert sorted(value is None for value in found) == [False] * 10 + [True] * 30
    for worker in workers:
        worker.close()


def test_taking_from_a_broken_database_says_so(memory: StoredMemory, database: Database) -> None:
    database.close()
    with database.begin() as connection:
        connection.execute(MEMORY.delete())
        connection.exec_driver_sql("ALTER TABLE memory RENAME TO gone")
    with pytest.raises(Unusable):
        take(memory, "t", "a")
    with database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE gone RENAME TO memory")

"""From journals to the database: everything once, in spite of deaths, damage, and others who do the same."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select

from polymux.store import shipper as module
from polymux.store.base import Unusable
from polymux.store.database import Database
from polymux.store.journal import Journal
from polymux.store.lines import HOUR
from polymux.store.shipper import Shipper
from polymux.store.tables import HOURS, JOURNALS, RECORDS, STATE
from store.test_journal import record
from support.waiting import until

_encode = msgspec.json.encode


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database("sqlite", tmp_path)
    yield made
    made.close()


@pytest.fixture
def shipper(database: Database, tmp_path: Path) -> Iterator[Shipper]:
    (tmp_path / "journal").mkdir()
    made = Shipper(database, tmp_path)
    yield made
    if not made._closing.is_set():  # a test may have
        made.close()


def lines(*ids: str, **members: Any) -> bytes:
    return b"".join(_encode(record(id_, **members)) + b"\n" for id_ in ids)


def left(directory: Path, data: bytes, name: str = "journal-1-20260101-0123456789ab.jsonl") -> Path:
    """The journal of a process that has ended."""
    path = directory / "journal" / name
    path.write_bytes(data)
    return path


def ids(database: Database) -> list[str]:
    with database.connect() as connection:
        return list(connection.execute(select(RECORDS.c.id).order_by(RECORDS.c.seq)).scalars())


def counted(database: Database) -> int:
    with database.connect() as connection:
        return connection.execute(select(func.sum(HOURS.c.requests))).scalar() or 0


def test_a_record_becomes_a_row(tmp_path: Path, database: Database, shipper: Shipper) -> None:
    left(tmp_path, lines("req_1", model='嗯 "x"', cost_usd="1.5", error_code="x", first_token_ms=2.5))
    assert shipper.ship()
    with database.connect() as connection:
        (row,) = connection.execute(select(RECORDS)).mappings()
    assert (row["id"], row["model"], row["cost"], row["error_code"]) == ("req_1", '嗯 "x"', 1_500_000_000_000, "x")
    assert (row["at"], row["first_token_ms"], row["stream"]) == (1_793_552_400.25, 2.5, False)
    assert counted(database) == 1


def test_what_is_written_meanwhile_follows(tmp_path: Path, database: Database, shipper: Shipper) -> None:
    journal = Journal(tmp_path / "journal")
    for number in range(3):
        journal.append([record(f"req_{number}")])
        shipper.ship()
        assert ids(database) == [f"req_{n}" for n in range(number + 1)]
    with journal.path.open("ab") as half:
        half.write(lines("req_3")[:50])
    shipper.ship()
    assert counted(database) == 3
    with journal.path.open("ab") as half:
        half.write(lines("req_3")[50:])
    shipper.ship()
    assert ids(database)[-1] == "req_3"
    assert shipper.bad == 0
    journal.close()


def test_many_are_moved_in_several_transactions(tmp_path: Path, database: Database, shipper: Shipper) -> None:
    names = [f"req_{number}" for number in range(2 * module.BATCH + 100)]
    path = left(tmp_path, lines(*names))
    shipper.ship()
    assert ids(database) == names
    assert counted(database) == len(names)
    with database.connect() as connection:
        assert dict(connection.execute(select(JOURNALS.c.name, JOURNALS.c.offset)).all()) == {
            path.name: path.stat().st_size
        }


def test_what_is_there_already_is_not_counted_twice(tmp_path: Path, database: Database, shipper: Shipper) -> None:
    left(tmp_path, lines("req_1", "req_2", "req_1"))
    left(tmp_path, lines("req_2", "req_3"), "journal-2-20260101-0123456789ab.jsonl")
    shipper.ship()
    assert ids(database) == ["req_1", "req_2", "req_3"]
    assert counted(database) == 3
    with database.begin() as connection:
        connection.execute(delete(JOURNALS))  # as if nothing were known of what has been moved
    shipper.close()
    Shipper(database, tmp_path).close()  # which moves everything
    assert counted(database) == 3
    assert ids(database) == ["req_1", "req_2", "req_3"]


@pytest.mark.parametrize("where", ["records", "hours", "journals", "COMMIT"])
def test_a_transaction_that_fails_leaves_nothing_behind(
    tmp_path: Path, database: Database, shipper: Shipper, where: str
) -> None:
    left(tmp_path, lines("req_1", "req_2"))
    with database.begin() as connection:
        if where == "COMMIT":
            connection.exec_driver_sql(
                "CREATE TABLE trap (id INTEGER REFERENCES keys (id) DEFERRABLE INITIALLY DEFERRED)"
            )
            connection.exec_driver_sql(
                "CREATE TRIGGER t AFTER INSERT ON journals BEGIN INSERT INTO trap VALUES (1); END"
            )
        else:
            connection.exec_driver_sql(
                f"CREATE TRIGGER t BEFORE INSERT ON {where} BEGIN SELECT RAISE(ABORT, 'no'); END"
            )
    with pytest.raises(Exception, match=r"no|FOREIGN KEY"):
        shipper.ship()
    assert ids(database) == []
    assert counted(database) == 0
    with database.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER t")
    shipper.ship()
    assert ids(database) == ["req_1", "req_2"]
    assert counted(database) == 2


# ---- damage


@pytest.mark.parametrize("tail", [lines("req_9")[:-2], lines("req_9")[:1], b"\x00" * 5000, b"\xff\n\n{}\n"])
def test_a_damaged_end_is_skipped_and_told_once(
    tmp_path: Path, database: Database, shipper: Shipper, caplog: pytest.LogCaptureFixture, tail: bytes
) -> None:
    good = lines("req_1", "req_2")
    path = left(tmp_path, good + tail)
    for _ in range(3):
        shipper.ship()
    assert ids(database) == ["req_1", "req_2"]
    assert shipper.bad == max(1, tail.count(b"\n"))
    assert caplog.text.count(f"{path}: what stands at byte {len(good)} ") == 1
    assert shipper.behind() == 0


def test_a_last_line_that_lacks_its_end_alone_is_good(tmp_path: Path, database: Database, shipper: Shipper) -> None:
    left(tmp_path, lines("req_1", "req_2")[:-1])
    shipper.ship()
    assert ids(database) == ["req_1", "req_2"]
    assert shipper.bad == 0


def test_a_long_line_is_read_and_a_longer_mess_skipped(tmp_path: Path, database: Database, shipper: Shipper) -> None:
    long = lines("req_long", model="m" * (3 * module.CHUNK))
    left(tmp_path, lines("req_1") + long + b"\x00" * (2 * module.CHUNK) + b"\n" + lines("req_2"))
    shipper.ship()
    assert ids(database) == ["req_1", "req_long", "req_2"]
    assert shipper.bad == 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 3000), st.sampled_from(["ship", "again"])), max_size=5), st.booleans())
def test_a_file_that_grows_by_any_bytes_is_moved_once(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, str]], whole: bool
) -> None:
    """However much of a file is there when it is looked at, and whoever looks."""
    directory = tmp_path_factory.mktemp("grows")
    (directory / "journal").mkdir()
    data = lines(*(f"req_{number}" for number in range(8)))
    data = data if whole else data[:-20]
    path = left(directory, b"")
    database = Database("sqlite", directory)
    shipper = Shipper(database, directory)
    with path.open("ab", buffering=0) as writer:
        flock(writer, LOCK_EX)
        written = 0
        for size, what in steps:
            writer.write(data[written : written + size])
            written += size
            if what == "again":
                shipper.close()
                shipper = Shipper(database, directory)
            shipper.ship()
            assert ids(database) == [f"req_{n}" for n in range(data[:written].count(b"\n"))]
        writer.write(data[written:])
    shipper.close()
    count = 8 if whole else 7
    assert ids(database) == [f"req_{number}" for number in range(count)]
    assert counted(database) == count
    database.close()


# ---- one at a time


def test_of_two_one_moves_and_the_other_takes_over(tmp_path: Path, database: Database, shipper: Shipper) -> None:
    left(tmp_path, lines("req_1"))
    other = Shipper(database, tmp_path)
    assert other.ship()
    assert not shipper.ship()
    left(tmp_path, lines("req_2"), "journal-2-20260101-0123456789ab.jsonl")
    assert not shipper.ship()
    other.close()  # which moves what is there
    assert ids(database) == ["req_1", "req_2"]
    left(tmp_path, lines("req_3"), "journal-3-20260101-0123456789ab.jsonl")
    assert shipper.ship()
    assert ids(database) == ["req_1", "req_2", "req_3"]


def test_a_thread_moves_what_comes_and_the_end_what_is_left(tmp_path: Path, database: Database) -> None:
    journal = Journal(tmp_path / "journal")
    shipper = Shipper(database, tmp_path)
    threads = threading.active_count()
    shipper.start()
    journal.append([record("req_1")])
    assert shipper.catch_up(20)
    assert ids(database) == ["req_1"]
    journal.append([record("req_2")])
    journal.close()
    shipper.close()
    assert ids(database) == ["req_1", "req_2"]
    assert threading.active_count() == threads - 1  # the journal's has ended as well


@pytest.mark.parametrize("reason", ["nobody is busy", "it is asked", "a lot has piled up"])
def test_requests_come_first_but_not_for_ever(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    busy = threading.Event()
    busy.set()
    (tmp_path / "journal").mkdir()
    shipper = Shipper(database, tmp_path, busy=busy.is_set)
    left(tmp_path, lines("req_1"))
    monkeypatch.setattr(module, "EVERY", 0.01)
    assert not shipper.due()
    if reason == "nobody is busy":
        busy.clear()
    elif reason == "a lot has piled up":
        monkeypatch.setattr(module, "PILE", len(lines("req_1")))
    shipper.start()
    if reason == "it is asked":
        assert shipper.catch_up(20)
    else:
        until(lambda: ids(database) == ["req_1"])
    shipper.close()
    assert ids(database) == ["req_1"]


def test_a_busy_gateway_moves_nothing_by_itself(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []

    def busy() -> bool:
        asked.append(True)
        return True

    (tmp_path / "journal").mkdir()
    shipper = Shipper(database, tmp_path, busy=busy)
    left(tmp_path, lines("req_1"))
    monkeypatch.setattr(module, "EVERY", 0.001)
    shipper.start()
    until(lambda: len(asked) > 5)
    assert ids(database) == []
    shipper.close()
    assert ids(database) == ["req_1"]  # the end leaves nothing behind


def test_catching_up_has_an_end(tmp_path: Path, database: Database, shipper: Shipper) -> None:
    left(tmp_path, lines("req_1"))
    assert shipper.behind() == len(lines("req_1"))
    assert not shipper.catch_up(0)  # nobody moves anything


def test_a_database_that_fails_is_waited_for(
    tmp_path: Path, database: Database, shipper: Shipper, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    monkeypatch.setattr(module, "EVERY", 0.01)
    monkeypatch.setattr(module, "LONGEST", 0.02)
    left(tmp_path, lines("req_1"))
    with sqlite3.connect(database.path) as other:
        other.execute("ALTER TABLE journals RENAME TO gone")
    told = threading.Event()
    monkeypatch.setattr(module.log, "filter", lambda line: told.set() or True)
    shipper.start()
    assert told.wait(20)
    with sqlite3.connect(database.path) as other:
        other.execute("ALTER TABLE gone RENAME TO journals")
    other.close()
    assert shipper.catch_up(20)
    shipper.close()
    assert caplog.text.count("stay in the journal for now") == 1
    assert "go into the database again" in caplog.text
    assert ids(database) == ["req_1"]


# ---- what is removed


def test_a_file_is_removed_some_time_after_it_was_moved(tmp_path: Path, database: Database, shipper: Shipper) -> None:
    journal = Journal(tmp_path / "journal")
    journal.append([record("req_0")])
    os.utime(journal.path, (0, 0))
    old, young = left(tmp_path, lines("req_1")), left(tmp_path, lines("req_2"), "journal-2-20260101-0123456789ab.jsonl")
    empty = left(tmp_path, b"", "journal-3-20260101-0123456789ab.jsonl")
    os.utime(old, (0, time.time() - module.KEEP - 1))
    shipper.ship()
    assert (old.exists(), young.exists(), empty.exists(), journal.path.exists()) == (False, True, False, True)
    os.utime(young, (0, 0))
    shipper.ship()
    assert not young.exists()
    journal.close()
    shipper.ship()
    with database.connect() as connection:
        assert connection.execute(select(JOURNALS.c.name)).scalars().all() == []
    assert sorted(ids(database)) == ["req_0", "req_1", "req_2"]


def test_records_are_kept_for_as_long_as_they_shall(tmp_path: Path, database: Database) -> None:
    (tmp_path / "journal").mkdir()
    now = time.time()
    left(tmp_path, lines("req_old", at=now - 10 * HOUR) + lines("req_new", at=now - HOUR) + lines("req_next", at=now))
    shipper = Shipper(database, tmp_path, retention=5 * HOUR)
    shipper.ship()
    shipper.close()
    assert ids(database) == ["req_new", "req_next"]
    assert counted(database) == 3
    with database.connect() as connection:
        since = connection.execute(select(STATE.c.value).where(STATE.c.name == module.KEPT_FROM)).scalar()
    assert since is not None
    assert since % HOUR == 0
    assert now - 10 * HOUR < since <= now - 9 * HOUR


def test_a_data_directory_that_is_gone_is_an_oserror(database: Database, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Shipper(database, tmp_path / "gone")


def test_an_end_without_a_database_is_told(
    tmp_path: Path, database: Database, shipper: Shipper, caplog: pytest.LogCaptureFixture
) -> None:
    path = left(tmp_path, lines("req_1"))
    with database.begin() as connection:
        connection.exec_driver_sql("DROP TABLE journals")
    with pytest.raises(Unusable):
        shipper.ship()
    shipper.close()
    assert "stay in the journal until the next start" in caplog.text
    assert path.exists()

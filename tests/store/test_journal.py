"""The journal: one line a record, safe when `append` returns, in files that others can tell to be complete."""

from __future__ import annotations

import errno
import os
import re
import resource
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any

import msgspec
import pytest

from polymux.store import journal as module
from polymux.store.journal import Journal
from polymux.types import Record


def record(id_: str, **members: Any) -> Record:
    plain: dict[str, Any] = {
        "id": id_,
        "at": 1_793_552_400.25,
        "key_id": "static-1",
        "key_name": "key 1",
        "tenant": "default",
        "surface": "chat",
        "model": "corp/gpt",
        "provider": "corp",
        "upstream_model": "gpt",
        "status": 200,
        "error_code": None,
        "stream": False,
        "input_tokens": 11,
        "output_tokens": 7,
        "cached_tokens": 3,
        "cache_write_tokens": 0,
        "reasoning_tokens": 2,
        "usage_source": "upstream",
        "cost_usd": None,
        "attempts": 1,
        "cache": "off",
        "duration_ms": 1.5,
        "first_token_ms": None,
        "overhead_ms": 0.1,
    }
    return Record(**{**plain, **members})


def read(path: Path) -> list[Record]:
    return msgspec.json.Decoder(Record).decode_lines(path.read_bytes())


class Disk:
    """`os` as the journal sees it, with every sync recorded (and, on demand, held)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.syncs: list[str] = []
        self.synced = threading.Event()
        real = os.fsync

        def fsync(fd: int) -> None:
            real(fd)
            self.syncs.append(threading.current_thread().name)
            self.synced.set()

        monkeypatch.setattr(module.os, "fsync", fsync)


def test_a_record_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number in range(3):
        journal.append([record(f"req_{number}")])
        assert [one.id for one in read(journal.path)] == [f"req_{n}" for n in range(number + 1)]
    journal.close()


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    written = record("req_1", model='嗯 "quoted"\nline', cost_usd="0.000125", client_request_id="mine", error_code="x")
    journal = Journal(tmp_path)
    journal.append([written])
    journal.close()
    assert read(journal.path) == [written]
    assert journal.path.read_bytes().count(b"\n") == 1


def test_each_journal_has_a_file_of_its_own(tmp_path: Path) -> None:
    paths = []
    for id_ in ("req_before", "req_after"):
        journal = Journal(tmp_path)
        journal.append([record(id_)])
        journal.close()
        paths.append(journal.path)
    assert [one.id for path in paths for one in read(path)] == ["req_before", "req_after"]
    assert sorted(paths) == sorted(tmp_path.glob(module.FILES))


def test_the_journal_is_for_its_owner_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "data" / "journal")
    journal.close()
    assert re.fullmatch(rf"journal-{os.getpid()}-\d{{8}}-[0-9a-f]{{12}}\.jsonl", journal.path.name)
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(journal.path.parent.stat().st_mode) == 0o700


def test_who_writes_a_file_holds_its_lock(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with journal.path.open("rb") as other:
        with pytest.raises(BlockingIOError):
            flock(other, LOCK_EX | LOCK_NB)
        journal.close()
        flock(other, LOCK_EX | LOCK_NB)


def test_a_file_that_is_removed_before_it_is_locked_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swept(fd: int, how: int) -> None:
        monkeypatch.undo()
        for path in tmp_path.glob(module.FILES):
            path.unlink()
        flock(fd, how)

    monkeypatch.setattr(module, "flock", swept)
    journal = Journal(tmp_path)
    journal.append([record("req_1")])
    journal.close()
    assert [one.id for one in read(journal.path)] == ["req_1"]


def test_a_large_file_is_followed_by_a_new_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path, largest=1000)
    paths = []
    for number in range(10):
        journal.append([record(f"req_{number}")])
        if journal.path not in paths:
            paths.append(journal.path)
    journal.close()
    assert len(paths) == 5
    assert [one.id for path in paths for one in read(path)] == [f"req_{number}" for number in range(10)]
    with paths[0].open("rb") as first:
        flock(first, LOCK_EX | LOCK_NB)  # it has been let go


def test_each_day_has_a_file(tmp_path: Path) -> None:
    now = time.time()
    journal = Journal(tmp_path)
    first = journal.path
    journal.append([record("req_1", at=now)])
    journal.append([record("req_2", at=now - 10 * module.DAY)])  # the clock was set back: no reason for a new one
    assert journal.path == first
    journal.append([record("req_3", at=now + 3 * module.DAY)])
    assert journal.path != first
    journal.append([record("req_4", at=now + 3 * module.DAY)])
    journal.close()
    assert [one.id for one in read(first)] == ["req_1", "req_2"]
    assert [one.id for one in read(journal.path)] == ["req_3", "req_4"]


def test_where_no_new_file_can_be_made_the_old_one_is_continued(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, largest=1000)

    def refused(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module.os, "open", refused)
        for number in range(5):
            journal.append([record(f"req_{number}")])
        assert len(read(journal.path)) == 5
    assert caplog.text.count("no new journal could be begun") == 2
    journal.close()


def test_nothing_to_append_is_fine(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([])
    journal.close()
    assert journal.path.read_bytes() == b""


# ---- a disk that is full


@contextmanager
def room(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes, as on a disk that is full: a write takes what fits, the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 1, 100, 700, 1100])
def test_what_the_disk_does_not_take_waits_for_it(tmp_path: Path, caplog: pytest.LogCaptureFixture, size: int) -> None:
    journal = Journal(tmp_path)
    with room(size):
        for number in range(20):
            journal.append([record(f"req_{number}")])
        assert journal.failing
        assert journal.path.stat().st_size == size
    assert caplog.text.count("cannot be written") == 1, "it is said loudly, and not with every request"
    journal.append([record("req_20")])
    assert not journal.failing
    assert "written again; 0 were lost" in caplog.text
    journal.append([record("req_21")])
    journal.close()
    assert [one.id for one in read(journal.path)] == [f"req_{number}" for number in range(22)]


def test_it_is_written_even_if_nothing_more_comes(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with room(10):
        journal.append([record("req_1")])
    journal.close()
    assert [one.id for one in read(journal.path)] == ["req_1"]


def test_what_is_too_much_to_wait_is_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKLOG", 2000)
    journal = Journal(tmp_path)
    with room(700):
        for number in range(20):
            journal.append([record(f"req_{number}")])
        assert journal.lost > 10
    journal.append([record("req_last")])
    journal.close()
    kept = [one.id for one in read(journal.path)]
    assert kept == [*(f"req_{number}" for number in range(len(kept) - 1)), "req_last"]
    assert len(kept) - 1 + journal.lost == 20
    assert f"{journal.lost} were lost" in caplog.text


def test_an_end_with_a_full_disk_says_what_is_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(tmp_path)
    with room(10):
        journal.append([record("req_1"), record("req_2")])
        journal.close()
    assert "2 usage records were never written" in caplog.text


def test_a_sync_that_fails_is_told_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    journal = Journal(tmp_path, "always")
    with monkeypatch.context() as patched:
        patched.setattr(module.os, "fsync", broken)
        for number in range(3):
            journal.append([record(f"req_{number}")])
    journal.close()
    assert len(read(journal.path)) == 3
    assert caplog.text.count("may not survive a power cut: Input/output error") == 1


# ---- the disk, in time


def test_always_syncs_each_record_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    journal = Journal(tmp_path, "always")
    for number in range(3):
        journal.append([record(f"req_{number}")])
        assert disk.syncs == [threading.current_thread().name] * (number + 1)
    journal.close()


def test_by_default_a_thread_syncs_and_append_never_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    journal = Journal(tmp_path)
    journal.append([record("req_1")])
    assert disk.synced.wait(20), "the record was never synced"
    assert set(disk.syncs) == {"polymux-journal"}
    journal.close()


def test_close_syncs_what_is_left_and_lets_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    threads = threading.active_count()
    journal = Journal(tmp_path)
    journal.append([record("req_1")])
    journal.close()
    assert disk.syncs[-1] == threading.current_thread().name
    assert threading.active_count() == threads
    with pytest.raises(OSError, match="Bad file descriptor"):
        journal.append([record("req_2")])


def test_an_idle_journal_closes_at_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.close()
    assert journal.path.read_bytes() == b""


def test_a_directory_that_cannot_be_made_is_an_oserror(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        Journal(tmp_path / "file" / "journal")


def test_a_record_that_is_only_half_written_does_not_spoil_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """write(2) may write less than asked (a disk nearly full); the rest follows."""
    real = os.write
    monkeypatch.setattr(module.os, "write", lambda fd, data: real(fd, data[:10]))
    journal = Journal(tmp_path)
    journal.append([record("req_1")])
    journal.append([record("req_2")])
    journal.close()
    assert [one.id for one in read(journal.path)] == ["req_1", "req_2"]


def test_an_echo_gets_what_is_written(tmp_path: Path) -> None:
    class Echo:
        def __init__(self) -> None:
            self.heard: list[tuple[Sequence[Record], bytes]] = []

        def wrote(self, records: Sequence[Record], lines: bytes) -> None:
            self.heard.append((records, lines))

    echo = Echo()
    journal = Journal(tmp_path, echo=echo)
    records = [record("req_1"), record("req_2")]
    journal.append(records)
    journal.close()
    assert echo.heard == [(records, journal.path.read_bytes())]

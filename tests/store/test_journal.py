"""The journal: one line a record, safe when `append` returns, appended to after a restart."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Sequence
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


def test_a_restart_appends(tmp_path: Path) -> None:
    for id_ in ("req_before", "req_after"):
        journal = Journal(tmp_path)
        journal.append([record(id_)])
        journal.close()
    assert [one.id for one in read(journal.path)] == ["req_before", "req_after"]


def test_the_journal_is_for_its_owner_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "data" / "journal")
    journal.close()
    assert journal.path.name == f"journal-{os.getpid()}.jsonl"
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(journal.path.parent.stat().st_mode) == 0o700


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

"""`polymux conversations export` as a process: lines of JSON, all that is wanted, and nobody else can read the file."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from polymux.store.database import Database
from polymux.store.tables import CONVERSATIONS
from store.test_conversations import BODY, row
from support.terminal import environment, run

DAY = 86400


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """With a data directory that no gateway is running on."""
    now = time.time()
    rows = [
        row("req_1", at=now - 20 * DAY),
        row("req_2", at=now - 5 * DAY, key_id="key_ba9876543210", key_name="本", tenant="acme"),
        row("req_3", at=now - DAY, model="quick"),
        row("req_4", at=now - 60),
    ]
    database = Database("sqlite", tmp_path / "data")
    with database.begin() as connection:
        connection.execute(insert(CONVERSATIONS), rows)
    database.close()
    return tmp_path


def export(home: Path, *arguments: str) -> list[dict[str, Any]]:
    done = run(home, "conversations", "export", "--data-dir", "data", *arguments)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.stderr == f"{len(lines)} conversation{'' if len(lines) == 1 else 's'}\n"
    return lines


@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        ((), "234"),
        (("--since", "30d"), "1234"),
        (("--since", "30d", "--until", "2d"), "12"),
        (("--key", "本"), "2"),
        (("--key", "key_ba9876543210", "--tenant", "acme"), "2"),
        (("--model", "quick"), "3"),
        (("--tenant", "nobody"), ""),
    ],
)
def test_what_is_wanted(home: Path, arguments: tuple[str, ...], ids: str) -> None:
    assert [one["id"] for one in export(home, *arguments)] == [f"req_{number}" for number in ids]


def test_a_line_tells_all(home: Path) -> None:
    (line,) = export(home, "--model", "quick")
    assert {name: line[name] for name in BODY} == BODY
    expected = row("req_3", at=line["at"], model="quick")
    assert set(line) == set(expected) - {"body"} | set(BODY)
    assert (line["key_name"], line["status"], line["cut"]) == ("ada", 200, False)


def test_a_file_is_for_its_owner(home: Path) -> None:
    for arguments in (("-o", "talks.jsonl"), ("--output", "talks.jsonl", "--model", "quick")):
        done = run(home, "conversations", "export", "--data-dir", "data", *arguments)
        assert (done.returncode, done.stdout) == (0, "")
    file = home / "talks.jsonl"
    assert [json.loads(line)["id"] for line in file.read_text("utf-8").splitlines()] == ["req_3"]
    assert file.stat().st_mode & 0o777 == 0o600


def test_who_reads_no_further_is_no_fault(home: Path) -> None:
    database = Database("sqlite", home / "data")
    with database.begin() as connection:
        many = [
            row(f"req_x{number}", at=time.time() - 1, body=json.dumps({"request": "x" * 10_000}))
            for number in range(200)
        ]
        connection.execute(insert(CONVERSATIONS), many)
    database.close()
    command = [sys.executable, "-m", "polymux", "conversations", "export", "--data-dir", "data"]
    with subprocess.Popen(
        command, cwd=home, env=environment(home, {}), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--since", "yesterday"), 2, "'yesterday' is no time"),
        (("-o", "missing/talks.jsonl"), 1, "cannot write missing/talks.jsonl: No such file or directory"),
        (("--config", "missing.toml"), 1, "missing.toml"),
    ],
)
def test_mistakes(home: Path, arguments: tuple[str, ...], status: int, words: str) -> None:
    done = run(home, "conversations", "export", "--data-dir", "data", *arguments)
    assert done.returncode == status
    assert words in done.stderr


def test_help_has_an_example(home: Path) -> None:
    for command in ((), ("export",)):
        assert "polymux conversations export" in run(home, "conversations", *command, "--help").stdout

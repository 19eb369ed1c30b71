"""`polymux usage` as a process: tables and bars for people, plain rows for programs, with and without a gateway."""

from __future__ import annotations

import csv
import io
import json
import re
import time
from collections.abc import Iterator
from decimal import Decimal
from fcntl import LOCK_EX, flock
from pathlib import Path

import msgspec
import pytest

from store.test_journal import record
from support.gateway import Gateway
from support.terminal import Terminal, run

HOUR = 3600


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A data directory whose gateway has died, with its journal in it."""
    now = time.time()
    journal = tmp_path / "data" / "journal"
    journal.mkdir(parents=True)
    used = [
        record("req_1", at=now - 30 * 24 * HOUR, model="old", cost_usd="99"),
        record("req_2", at=now - 26 * HOUR, model="smart", key_id="team", key_name="团队", cost_usd="10.5"),
        record("req_3", at=now - 60, model="smart", key_id="team", key_name="团队", cost_usd="0.000000000001"),
        record("req_4", at=now - 30, model="[red]a\x1b[31m", cost_usd=None),
        record("req_5", at=now - 20, model="made-up", error_code="model_not_found", status=404, usage_source="none"),
    ]
    (journal / "journal-1-20260101-0123456789ab.jsonl").write_bytes(msgspec.json.Encoder().encode_lines(used))
    return tmp_path


def usage(home: Path, *arguments: str) -> str:
    done = run(home, "usage", "--data-dir", "data", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_programs_get_rows(home: Path) -> None:
    rows = [line.split("\t") for line in usage(home).splitlines()]
    assert rows == [
        ["model", "requests", "errors", "tokens in", "cached", "tokens out", "unpriced", "cost in USD"],
        ["smart", "2", "0", "22", "6", "14", "0", "10.500000000001"],
        ["(no such model)", "1", "1", "11", "3", "7", "0", "0"],
        ["[red]a\\x1b[31m", "1", "0", "11", "3", "7", "1", "unknown"],
        ["total", "4", "1", "44", "12", "28", "1", "10.500000000001"],
    ]


def test_people_get_a_table_with_bars(home: Path) -> None:
    with Terminal(home, "usage", "--data-dir", "data", COLUMNS="140") as terminal:
        assert terminal.status() == 0
        shown = re.sub(r"\x1b\[[0-9;]*m", "", terminal.shown)
    assert "\x1b[31m" not in terminal.shown, "nobody's name steers the terminal"
    assert re.search(r"smart +2 +0 +22 +6 +14 +0 +10\.500000000001 +█{24}", shown)
    assert "[red]a\\x1b[31m" in shown
    assert "Nobody knows what the unpriced requests have cost" in shown


def test_bars_are_of_requests_where_nothing_costs(tmp_path: Path) -> None:
    journal = tmp_path / "data" / "journal"
    journal.mkdir(parents=True)
    now = time.time()
    lines = [record(f"req_{n}", at=now, model="a" if n else "b", cost_usd="0") for n in range(1000)]
    (journal / "journal-1-20260101-0123456789ab.jsonl").write_bytes(msgspec.json.Encoder().encode_lines(lines))
    with Terminal(tmp_path, "usage", "--data-dir", "data", COLUMNS="140", NO_COLOR="1") as terminal:
        assert terminal.status() == 0
    assert "█" * 24 in terminal.shown
    assert "▏" in terminal.shown, "one of a thousand shows"


def test_json_is_the_api_s(home: Path) -> None:
    told = json.loads(usage(home, "--by", "key", "--since", "60d", "--json"))
    keys = [(one["key_id"], one["key_name"], one["requests"]) for one in told["data"]]
    assert keys == [("static-1", "key 1", 3), ("team", "团队", 2)]
    assert told["total"]["cost_usd"] == "109.500000000001"
    assert told["total"]["unpriced_requests"] == 1
    assert json.loads(usage(home, "--last", "2", "--json"))[-1]["id"] == "req_5"


def test_csv_has_the_members_of_json(home: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(usage(home, "--by", "day", "--csv"))))
    assert sum(Decimal(row["cost_usd"] or 0) for row in rows) == Decimal("10.500000000001")
    assert {"day", "requests", "unpriced_requests", "duration_ms"} < set(rows[0])
    records = list(csv.DictReader(io.StringIO(usage(home, "--last", "100", "--csv"))))
    assert [row["id"] for row in records] == [f"req_{n}" for n in range(1, 6)]
    assert records[3]["model"] == "[red]a\x1b[31m", "as it was"
    assert {row["stream"] for row in records} == {"false"}


def test_spans(home: Path) -> None:
    def requests(*span: str) -> int:
        return int(json.loads(usage(home, "--json", *span))["total"]["requests"])

    assert requests() == 4
    assert requests("--since", "1h") == 3
    assert requests("--since", "0", "--until", "20d") == 1
    assert requests("--since", "60d", "--until", "1h") == 2
    assert requests("--since", time.strftime("%Y-%m-%d", time.gmtime(time.time() + 2 * 24 * HOUR))) == 0


def test_the_last_requests_one_by_one(home: Path) -> None:
    rows = [line.split("\t") for line in usage(home, "--last", "2").splitlines()]
    assert [row[-1] for row in rows] == ["id", "req_4", "req_5"]
    assert rows[2][1:5] == ["404 model_not_found", "made-up", "corp", "key 1"]
    assert rows[1][6] == "unknown"


def test_nothing_was_used(tmp_path: Path) -> None:
    done = run(tmp_path, "usage", "--data-dir", "data")
    assert (done.returncode, done.stdout) == (0, "")
    assert "Nothing was used since" in done.stderr
    assert usage(tmp_path, "--csv").startswith("key_id,")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--since", "yesterday"), 2, "Invalid value for --since: 'yesterday' is no time; say 7d (ago)"),
        (("--until", "7x"), 2, "--until"),
        (("--by", "weather"), 2, "'weather' is not one of 'key', 'model', 'provider', 'tenant', 'day', 'hour'"),
        (("--csv", "--json"), 2, "--csv and --json"),
        (("--config", "nope.toml"), 1, "nope.toml"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, arguments: tuple[str, ...], status: int, words: str) -> None:
    done = run(tmp_path, "usage", "--data-dir", "data", *arguments)
    assert done.returncode == status
    assert words in done.stderr


def test_a_data_directory_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    done = run(tmp_path, "usage", "--data-dir", "data")
    assert done.returncode == 1
    assert "data directory" in done.stderr


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    with Gateway(None, data=tmp_path / "data") as running:
        running.key = (running.data / "first-run.key").read_text("ascii").strip()
        yield running


def test_beside_a_gateway_the_last_request_is_in(gateway: Gateway, tmp_path: Path) -> None:
    for number in range(1, 4):
        assert gateway.chat("meow").status == 200
        assert usage(tmp_path).splitlines()[1].split("\t")[:2] == ["meow", str(number)]


def test_who_does_not_move_its_records_is_told_of(home: Path) -> None:
    with (home / "data" / "journal.lock").open("w") as other:
        flock(other, LOCK_EX)
        done = run(home, "usage", "--data-dir", "data")
    assert done.returncode == 0
    assert "still moving usage records" in done.stderr
    assert "Nothing was used" in done.stderr

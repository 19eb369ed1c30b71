"""What the routes of usage ask of the database, and what they make of a query. End to end: tests/e2e/test_ledger.py."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from polymux.admin.usage import call, records, usage
from polymux.errors import Failure
from polymux.store.database import Database
from polymux.store.memory import digest
from polymux.store.shipper import Shipper
from store.test_journal import record

ADMIN = "admin-secret"
START = 1_793_552_400  # 2026-11-01T17:00:00Z


class Front:
    """The gateway, as far as it is asked. Its journal has three records that nobody has moved yet."""

    def __init__(self, directory: Path) -> None:
        self.settings = SimpleNamespace(admin=digest(ADMIN))
        lines = [record(f"req_{n}", at=START + n * 3600, cost_usd="0.25") for n in range(3)]
        (directory / "journal").mkdir()
        path = directory / "journal" / "journal-1-20260101-0123456789ab.jsonl"
        path.write_bytes(msgspec.json.Encoder().encode_lines(lines))
        self.database = Database("sqlite", directory)
        self.shipper = Shipper(self.database, directory)
        self.shipper.start()
        self.refused: Failure | None = None

    def refuse(self, exchange: Any, failure: Failure) -> None:
        self.refused = failure

    def ask(self, handler: Any, query: str = "", rest: str = "", key: str = ADMIN) -> Any:
        """The answer, or the failure."""
        told: list[Any] = []
        exchange = SimpleNamespace(
            headers={b"authorization": f"Bearer {key}".encode()},
            target=f"/admin/api/x?{query}".encode() if query else b"/admin/api/x",
            respond=lambda status, head, body: told.append(json.loads(body)),
        )
        try:
            asyncio.run(handler(self, exchange, rest))
        except Failure as failure:
            return failure
        return told[0] if told else self.refused


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Front]:
    made = Front(tmp_path)
    yield made
    made.shipper.close()
    made.database.close()


def test_what_is_in_the_journal_is_moved_first(front: Front) -> None:
    told = front.ask(usage)
    assert (told["data"][0]["requests"], told["data"][0]["cost_usd"], told["next"]) == (3, "0.75", None)


@pytest.mark.parametrize(
    ("query", "requests"),
    [
        ("since=2026-11-01T18:00:00Z", 2),
        ("until=2026-11-01T18:00:00Z", 1),
        ("since=2026-11-02T02:00:00%2B08:00&until=2026-11-02T02:00:01+08:00", 1),
        ("since=2026-11-01+18:00", 2),
        (f"since={START + 1}&until={START + 7200}", 1),
        ("since=&until=&by=", 3),
    ],
)
def test_spans_may_be_written_in_many_ways(front: Front, query: str, requests: int) -> None:
    assert front.ask(usage, query)["total"]["requests"] == requests


@pytest.mark.parametrize(
    ("handler", "query", "rest", "param"),
    [
        (usage, "by=x", "", "by"),
        (usage, "since=x", "", "since"),
        (usage, "until=2026-99-01", "", "until"),
        (usage, "limit=1", "", "limit"),
        (records, "limit=1001", "", "limit"),
        (records, "after=nobody", "", "after"),
        (call, "", "nobody", None),
        (call, "a=b", "req_1", "a"),
    ],
)
def test_mistakes_are_failures(front: Front, handler: Any, query: str, rest: str, param: str | None) -> None:
    failure = front.ask(handler, query, rest)
    assert isinstance(failure, Failure)
    assert failure.param == param
    assert failure.status in (400, 404)


@pytest.mark.parametrize("handler", [usage, records, call])
def test_they_are_for_the_administrator(front: Front, handler: Any) -> None:
    failure = front.ask(handler, key="somebody's")
    assert isinstance(failure, Failure)
    assert failure.kind == "invalid_api_key"


def test_records_and_a_call(front: Front) -> None:
    page = front.ask(records, "limit=2")
    assert ([row["id"] for row in page["data"]], page["next"]) == (["req_0", "req_1"], "req_1")
    page = front.ask(records, f"limit=2&after={page['next']}")
    assert ([row["id"] for row in page["data"]], page["next"]) == (["req_2"], None)
    assert front.ask(call, rest="req_2")["attempts"] == []

"""What was used: sums equal to the records' to the last digit, for any span, by anything."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event, insert

from polymux.store.database import Database
from polymux.store.lines import DAY, HOUR, UNKNOWN, Line, hours, parse
from polymux.store.shipper import KEPT_FROM, Shipper
from polymux.store.sums import BY, END
from polymux.store.tables import RECORDS, STATE
from polymux.store.usage import call, latest, records, usage
from polymux.types import Record, Try
from store.test_journal import record

START = 1_793_552_400  # 2026-11-01T17:00:00Z


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database("sqlite", tmp_path)
    yield made
    made.close()


def fill(database: Database, *given: Record) -> None:
    """As a gateway does."""
    directory = database.path.parent / "journal"
    directory.mkdir(exist_ok=True)
    number = len(list(directory.iterdir()))
    path = directory / f"journal-{number}-20260101-0123456789ab.jsonl"
    path.write_bytes(msgspec.json.Encoder().encode_lines(given))
    Shipper(database, database.path.parent).close()


def told(database: Database, by: str = "", since: float = 0, until: float = END) -> list[dict[str, Any]]:
    with database.connect() as connection:
        return msgspec.to_builtins(usage(connection, by, since, until).data)


def test_nothing_comes_to_nothing(database: Database) -> None:
    (sums,) = told(database)
    assert set(sums.values()) == {0, "0"}
    for by in set(BY) - {""}:
        assert told(database, by) == []


def test_sums_have_all_members(database: Database) -> None:
    fill(
        database,
        record("req_1", cost_usd="0.1", duration_ms=1.001, cache_write_tokens=5),
        record("req_2", cost_usd="0.2", duration_ms=2.002),
        record("req_3", cost_usd=None, error_code="upstream_timeout", status=504),
    )
    assert told(database) == [
        {
            "requests": 3,
            "errors": 1,
            "input_tokens": 33,
            "output_tokens": 21,
            "cached_tokens": 9,
            "cache_write_tokens": 5,
            "reasoning_tokens": 6,
            "cost_usd": "0.3",
            "unpriced_requests": 1,
            "duration_ms": 4.503,
        }
    ]


def test_an_unknown_price_is_no_zero(database: Database) -> None:
    fill(database, record("req_1", model="free", cost_usd="0"), record("req_2", model="new", cost_usd=None))
    costs = {row["model"]: (row["cost_usd"], row["unpriced_requests"]) for row in told(database, "model")}
    assert costs == {"free": ("0", 0), "new": (None, 1)}


@pytest.mark.parametrize(
    ("by", "labels"),
    [
        ("model", [{"model": "b"}, {"model": "a"}]),
        ("provider", [{"provider": "p"}, {"provider": ""}]),
        ("tenant", [{"tenant": "t"}, {"tenant": "default"}]),
        ("key", [{"key_id": "k2", "key_name": "new name"}, {"key_id": "k1", "key_name": "key 1"}]),
        ("day", [{"day": "2026-11-01"}, {"day": "2026-11-02"}]),
        ("hour", [{"hour": "2026-11-01T17:00:00Z"}, {"hour": "2026-11-02T01:00:00Z"}]),
    ],
)
def test_usage_by_anything(database: Database, by: str, labels: list[dict[str, str]]) -> None:
    late = START + 8 * HOUR
    dear = {"model": "b", "provider": "p", "tenant": "t", "key_id": "k2"}
    fill(
        database,
        record("req_1", at=START, model="a", provider="", key_id="k1", cost_usd="0.5"),
        record("req_3", at=late, key_name="new name", cost_usd="2", **dear),
        record("req_2", at=START, key_name="old name", cost_usd="0.25", **dear),
    )
    found = told(database, by)
    assert [{name: one[name] for name in labels[0]} for one in found] == labels
    assert sum(one["requests"] for one in found) == 3
    assert sum(Decimal(one["cost_usd"]) for one in found) == Decimal("2.75")
    assert not (set().union(*BY.values()) | {"day", "hour"}) - set(labels[0]) & set(found[0])


def test_names_that_are_made_up_have_no_row_of_their_own(database: Database) -> None:
    fill(database, *(record(f"req_{n}", at=START + n, model=f"made-up-{n}", error_code=UNKNOWN) for n in range(5)))
    for since in (0, START + 1):
        (row,) = told(database, "model", since)
        assert (row["model"], row["requests"]) == ("", 5 if not since else 4)


def test_sums_of_money_beyond_what_64_bits_hold(database: Database) -> None:
    each = Decimal("9999.999999999999")  # twelve million in all
    fill(database, *(record(f"req_{number}", at=START + number * HOUR, cost_usd=f"{each}") for number in range(1200)))
    assert Decimal(told(database)[0]["cost_usd"]) == each * 1200
    assert Decimal(told(database, "tenant", START + 1)[0]["cost_usd"]) == each * 1199


SPANS = st.one_of(st.floats(0, 5 * HOUR), st.floats(0, 4 * DAY)).map(lambda seconds: START + seconds)
MONEY = st.none() | st.integers(0, 10**14).map(lambda amount: f"{Decimal(amount).scaleb(-12):f}")


@st.composite
def several(draw: st.DrawFn) -> list[Record]:
    return [
        record(
            f"req_{number}",
            at=draw(SPANS),
            model=draw(st.sampled_from("ab")),
            key_id=draw(st.sampled_from("xy")),
            key_name=draw(st.sampled_from("mn")),
            cost_usd=draw(MONEY),
            error_code=draw(st.sampled_from([None, "x", UNKNOWN])),
            usage_source=draw(st.sampled_from(["none", "upstream"])),
            input_tokens=draw(st.integers(0, 10**9)),
            duration_ms=draw(st.integers(0, 10**9)) / 1000,
        )
        for number in range(draw(st.integers(0, 12)))
    ]


def expected(found: list[Record]) -> dict[str, Any]:
    """What `store.lines` makes of them, as if all were of one hour and one key."""
    one = {"at": 0.0, "key_id": "", "key_name": "", "tenant": "", "model": "", "provider": ""}
    lines = [parse(msgspec.json.encode(each)) for each in found]
    together = hours([Line(msgspec.structs.replace(line.record, **one), line.cost) for line in lines])
    return together[0] if together else {}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(several(), SPANS, SPANS, st.sampled_from(list(BY)))
def test_sums_are_those_of_the_records(
    tmp_path_factory: pytest.TempPathFactory, given: list[Record], since: float, until: float, by: str
) -> None:
    database = Database("sqlite", tmp_path_factory.mktemp("sums"))
    fill(database, *given)
    wanted = expected([one for one in given if since <= one.at < until])
    with database.connect() as connection:
        found = usage(connection, by, since, until)
    database.close()
    total = found.total
    assert total.requests == wanted.get("requests", 0)
    assert total.errors == wanted.get("errors", 0)
    assert total.input_tokens == wanted.get("input", 0)
    assert total.unpriced_requests == wanted.get("unpriced", 0)
    assert Decimal(total.cost_usd or 0).scaleb(12) == wanted.get("cost", 0)
    assert total.duration_ms == wanted.get("duration", 0) / 1000
    for name in ("requests", "errors", "input_tokens", "unpriced_requests"):
        assert sum(getattr(one, name) for one in found.data) == getattr(total, name)
    assert sum(Decimal(one.cost_usd or 0) for one in found.data) == Decimal(total.cost_usd or 0)


def test_where_records_are_gone_spans_begin_with_whole_hours(database: Database) -> None:
    fill(database, *(record(f"req_{n}", at=START + n * 1800) for n in range(8)))
    with database.begin() as connection:
        connection.execute(RECORDS.delete().where(RECORDS.c.at < START + 2 * HOUR))
        connection.execute(insert(STATE).values(name=KEPT_FROM, value=START + 2 * HOUR))
    assert told(database)[0]["requests"] == 8
    assert told(database, since=START + HOUR + 60)[0]["requests"] == 6, "the whole hour"
    assert told(database, since=START + 2 * HOUR + 60)[0]["requests"] == 3, "the part"
    assert told(database, until=START + 60)[0]["requests"] == 2


# ---- records


def test_records_come_in_pages_that_inserts_do_not_upset(database: Database) -> None:
    fill(database, *(record(f"req_{n}", at=START + n) for n in range(5)))
    seen: list[str] = []
    with database.connect() as connection:
        page = records(connection, 2)
    assert page is not None
    fill(database, record("req_late", at=START - 100), record("req_5", at=START + 5))
    while page is not None:
        seen += [one["id"] for one in page.data]
        if page.next is None:
            break
        assert page.next == seen[-1]
        with database.connect() as connection:
            page = records(connection, 2, page.next)
    assert seen == [*(f"req_{n}" for n in range(5)), "req_late", "req_5"]


def test_a_page_after_the_last_is_empty_and_after_nobody_is_none(database: Database) -> None:
    fill(database, record("req_1"))
    with database.connect() as connection:
        last = records(connection, 10, "req_1")
        assert last is not None
        assert (last.data, last.next) == ([], None)
        assert records(connection, 10, "req_2") is None


def test_a_record_is_told_as_it_was(database: Database) -> None:
    written = record("req_1", cost_usd="0.25", stream=True, tries=[Try("a/b", "a", "b", "first", "ok", 200, 0.0, 1.0)])
    fill(database, written)
    members = msgspec.to_builtins(written)
    del members["tries"]
    with database.connect() as connection:
        page = records(connection, 10)
        assert page is not None
        assert msgspec.to_builtins(page.data) == [members]
        assert latest(connection, 10) == page.data
        assert msgspec.json.encode(page.data[0]["stream"]) == b"true"


def test_the_latest_come_last(database: Database) -> None:
    fill(database, *(record(f"req_{n}") for n in range(5)))
    with database.connect() as connection:
        assert [one["id"] for one in latest(connection, 2)] == ["req_3", "req_4"]


def test_a_call_in_full(database: Database) -> None:
    tries = [
        Try("a/b", "a", "b", "first", "upstream_timeout", 504, 0.5, 7.25),
        Try("c/d", "c", "d", "next deployment", "ok", 200, 8.0, 1.0, 3, 4, "0.5"),
    ]
    children = [record("req_2", parent_id="req_1", at=START + 1), record("req_3", parent_id="req_1", at=START)]
    fill(database, record("req_1", tries=tries, attempts=2), *children, record("req_4"))
    with database.connect() as connection:
        found = call(connection, "req_1")
        assert call(connection, "req_9") is None
        assert call(connection, "") is None
        lone = call(connection, "req_4")
    assert found is not None
    assert found["attempts"] == tries
    assert [one["id"] for one in found["children"]] == ["req_3", "req_2"]
    assert lone is not None
    assert (lone["attempts"], lone["children"]) == ([], [])


# ---- speed


def plans(connection: Connection, work: Any) -> list[str]:
    """The plans of the statements that are run meanwhile."""
    found: list[str] = []

    def explain(conn: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        raw = conn.connection.driver_connection
        found.extend(line[3] for line in raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters))

    event.listen(connection, "before_cursor_execute", explain)
    work(connection)
    event.remove(connection, "before_cursor_execute", explain)
    return found


@pytest.mark.parametrize("by", BY)
def test_no_query_reads_all_records(database: Database, by: str) -> None:
    """So 10 million records take no longer than a few: tests/torture/test_ledger.py has the times."""

    def works(connection: Connection) -> None:
        usage(connection, by)
        usage(connection, by, START + 60, START + 5 * HOUR + 60)
        assert call(connection, "req_1")

    fill(database, record("req_1"))
    with database.connect() as connection:
        found = [line for line in plans(connection, works) if "records" in line]
        assert len(found) == 4
        assert all(line.startswith("SEARCH records USING INDEX") for line in found), found
        paged = plans(connection, lambda c: (records(c, 10), latest(c, 10)))
        assert paged == ["SCAN records", "SCAN records"], (
            "in the order of the table, up to the limit: nothing is sorted"
        )

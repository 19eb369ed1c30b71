"""Lines of a journal: whatever becomes of the bytes, whole lines are read, once, and become the right rows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymux.routing.price import picodollars
from polymux.store.lines import COLUMNS, DAY, GROUP, MOST, SUMS, cut, days, hours, parse, row, totals, unpriced
from polymux.store.tables import DAYS, HOURS, RECORDS, TOTALS
from polymux.types import Record, Try
from store.test_journal import record

_encode = msgspec.json.encode


def line(id_: str = "req_1", **members: Any) -> bytes:
    return _encode(record(id_, **members))


def test_the_columns_are_those_of_the_tables() -> None:
    assert [*COLUMNS] == [column.name for column in RECORDS.columns if column.name != "seq"]
    assert [*GROUP, *SUMS] == [column.name for column in HOURS.columns]
    assert [*GROUP] == [column.name for column in HOURS.primary_key]
    assert ["day", *GROUP[1:], *SUMS] == [column.name for column in DAYS.columns]
    assert [GROUP[0], *SUMS] == [column.name for column in TOTALS.columns]


# ---- lines


def test_whole_lines_are_cut_off() -> None:
    assert cut(b"a\nbc\nd", complete=False) == ([b"a", b"bc"], 5)
    assert cut(b"a\nbc\nd", complete=True) == ([b"a", b"bc", b"d"], 6)
    assert cut(b"a\nbc\n", complete=True) == ([b"a", b"bc"], 5)
    assert cut(b"abc", complete=False) == ([], 0)


@given(st.lists(st.binary(max_size=20), max_size=8), st.lists(st.integers(0, 200), max_size=6))
def test_lines_are_the_same_however_they_come(pieces: list[bytes], ends: list[int]) -> None:
    """A file that grows between looks: each line once, in order, and at the end what is left."""
    data = b"\n".join(pieces)
    found: list[bytes] = []
    offset = 0
    for end in [*sorted(ends), len(data)]:
        texts, taken = cut(data[offset:end], complete=False)
        found += texts
        offset += taken
    texts, taken = cut(data[offset:], complete=True)
    assert offset + taken == len(data)
    assert found + texts == (data.removesuffix(b"\n").split(b"\n") if data else [])


@given(
    st.integers(1, 5),
    st.integers(0, 4000),
    st.integers(0, 200),
    st.binary(max_size=300).filter(lambda b: b"{" not in b),
)
def test_what_is_spoiled_spoils_no_other_line(count: int, start: int, length: int, junk: bytes) -> None:
    """Any bytes of the file replaced by any others: the lines that were not touched are all read, and once."""
    texts = [line(f"req_{number}") for number in range(count)]
    data = b"".join(text + b"\n" for text in texts)
    end = start + length
    spoiled = data[:start] + junk + data[end:]
    found = []
    for text in cut(spoiled, complete=True)[0]:
        try:
            found.append(parse(text).record.id)
        except ValueError:
            continue
    assert len(found) == len(set(found))
    position = 0
    for number, text in enumerate(texts):
        begin, position = position, position + len(text) + 1
        if position <= start or begin > end:  # with the end of the line before it
            assert f"req_{number}" in found


# ---- records


def test_a_line_is_read_as_it_was_written() -> None:
    tried = Try("corp/gpt", "corp", "gpt", "first", "ok", 200, 0.5, 7.25, 3, 4, "0.01")
    written = record("req_1", tries=[tried], cost_usd="0.000000000001", price="input=1 output=2")
    assert parse(_encode(written)) == (written, 1)


def test_a_row_has_the_values_of_the_columns() -> None:
    tried = Try("corp/gpt", "corp", "gpt", "first", "ok", 200, 0.5, 7.25)
    values = dict(zip(COLUMNS, row(parse(line(tries=[tried], cost_usd="1.25"))), strict=True))
    assert values["id"] == "req_1"
    assert values["cost"] == 1_250_000_000_000
    assert msgspec.json.decode(values["tries"], type=list[Try]) == [tried]
    assert {type(value) for value in values.values()} <= {str, int, float, bool, type(None)}
    assert dict(zip(COLUMNS, row(parse(line())), strict=True))["tries"] == "[]"


def test_earlier_and_later_versions_are_read() -> None:
    members = msgspec.json.decode(line())
    optional = [name for name in msgspec.structs.fields(Record) if not name.required]
    for name in optional:
        del members[name.name]
    assert parse(_encode({**members, "invented_later": {"a": [1]}})).record == record("req_1")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\x00" * 100,
        b"{}",
        b"[]",
        b'{"id":"req_1"}',
        line()[:-1],
        line() + line(),
        line().replace(b'"corp"', b'"\xff"'),
        line().replace(b'"corp"', b'"\\ud800"'),
        line().replace(b"200", b'"200"'),
        line().replace(b"200", b"9" * 30),
        line().replace(b"200", b"-200"),
        line(at=1e300),
        line(at=-1.0),
        line().replace(b'"at":1793552400.25', b'"at":1e999'),
        line(duration_ms=1e200),
        line(cost_usd="-1"),
        line(cost_usd="1e3"),
        line(cost_usd="many"),
        line().replace(b'"id"', b'"new":' + b"[" * 100_000 + b"]" * 100_000 + b',"id"'),
    ],
)
def test_what_is_no_record_is_a_valueerror(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - what it says is the decoder's matter
        parse(text)


def test_an_upstreams_nonsense_is_bounded_and_the_request_kept() -> None:
    found = parse(line(input_tokens=10**30, output_tokens=-5, cost_usd="99999999999"))
    assert (found.record.input_tokens, found.record.output_tokens, found.cost) == (MOST, 0, None)
    assert unpriced(found)


# ---- hours


@pytest.mark.parametrize(
    ("members", "flagged"),
    [
        ({"cost_usd": None}, True),
        ({"cost_usd": "0"}, False),
        ({"cost_usd": None, "usage_source": "estimated", "error_code": "client_disconnected"}, True),
        ({"cost_usd": None, "usage_source": "none", "error_code": "model_not_found"}, False),
        ({"cost_usd": None, "usage_source": "none"}, True),
    ],
)
def test_a_price_that_is_not_known_is_flagged(members: dict[str, Any], flagged: bool) -> None:
    assert unpriced(parse(line(**members))) is flagged


def test_hours_are_what_records_come_to() -> None:
    at = 1_793_552_400.0
    lines = [
        line("req_1", at=at + 0.5, cost_usd="0.1", duration_ms=1.001),
        line("req_2", at=at + 3599.9, cost_usd="0.000000000002", duration_ms=2.0),
        line("req_3", at=at + 1, error_code="upstream_timeout", status=504),
        line("req_4", at=at + 3600, cost_usd="1"),
        line("req_5", at=at, key_id="other", cost_usd="2"),
    ]
    found = {(one["hour"], one["key_id"]): one for one in hours(map(parse, lines))}
    assert set(found) == {(at, "static-1"), (at + 3600, "static-1"), (at, "other")}
    assert found[at, "static-1"] == {
        "hour": at,
        "key_id": "static-1",
        "key_name": "key 1",
        "tenant": "default",
        "model": "corp/gpt",
        "provider": "corp",
        "requests": 3,
        "errors": 1,
        "input": 33,
        "output": 21,
        "cached": 9,
        "cache_write": 0,
        "reasoning": 6,
        "cost": picodollars("0.100000000002"),
        "unpriced": 1,
        "duration": 1001 + 2000 + 1500,
    }
    assert list(hours([])) == []


def test_days_and_totals_are_what_hours_come_to() -> None:
    at = 1_793_552_400.0 // DAY * DAY
    lines = [
        *(line(f"req_{n}", at=at + n * 3600, cost_usd="0.1") for n in range(24)),
        line("req_24", at=at + 5 * 3600, key_id="other"),
        line("req_25", at=at + DAY),
    ]
    found = hours(map(parse, lines))
    assert len(found) == 26
    by_day = {(one["day"], one["key_id"]): (one["requests"], one["cost"]) for one in days(found)}
    assert by_day == {
        (at, "static-1"): (24, picodollars("2.4")),
        (at, "other"): (1, 0),
        (at + DAY, "static-1"): (1, 0),
    }
    by_hour = {one["hour"]: one["requests"] for one in totals(found)}
    assert by_hour == {at + n * 3600: 2 if n == 5 else 1 for n in range(25)}

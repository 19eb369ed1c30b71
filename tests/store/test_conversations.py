"""The conversation log as it is read: what is found, in pages and in all, and how one is deleted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select

from polymux.store import conversations as module
from polymux.store.conversations import NoCursor, every, get, page, remove
from polymux.store.database import Database
from polymux.store.tables import AUDIT, CONVERSATIONS
from polymux.store.talks import Talk, Wanted

NOW = 1_800_000_000.0
BODY = {"request": {"model": "m"}, "response": None, "notes": ["looked up"]}


def row(id_: str, **members: Any) -> dict[str, Any]:
    plain = {"key_id": "key_0123456789ab", "key_name": "ada", "tenant": "default", "surface": "chat", "model": "smart"}
    served = {"provider": "corp", "upstream_model": "m", "status": 200, "error_code": None, "stream": False}
    counts = dict.fromkeys(("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens"), 1)
    said = {"parent_id": "", "cut": False, "body": json.dumps(BODY)}
    return {"id": id_, "at": NOW, **plain, **served, **counts, **said, **members}


ROWS = (
    row("req_1", at=NOW - 50, key_id="key_ba9876543210", key_name="ben"),
    row("req_2", at=NOW - 40, model="quick", status=499, error_code="client_disconnected"),
    row("req_3", at=NOW - 30, tenant="acme", stream=True),
    row("req_4", at=NOW - 20, tenant="acme", model="quick"),
    row("req_5", at=NOW - 20, cut=True),
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database("sqlite", tmp_path)
    with made.begin() as connection:
        connection.execute(insert(CONVERSATIONS), ROWS)
    yield made
    made.close()


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with database.connect() as made:
        yield made


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (Wanted(), "54321"),
        (Wanted(key="key_ba9876543210"), "1"),
        (Wanted(key="ada"), "5432"),
        (Wanted(key="nobody"), ""),
        (Wanted(model="quick"), "42"),
        (Wanted(tenant="acme"), "43"),
        (Wanted(key="ada", model="quick", tenant="acme"), "4"),
        (Wanted(since=NOW - 40, until=NOW - 20), "32"),
    ],
)
def test_what_is_wanted(database: Database, connection: Connection, wanted: Wanted, ids: str) -> None:
    found = page(connection, wanted, 10)
    assert [one.id for one in found.data] == [f"req_{number}" for number in ids]
    assert found.next is None
    assert [one.id for one in every(database, wanted)] == [f"req_{number}" for number in reversed(ids)]


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_pages_follow_each_other(connection: Connection, limit: int) -> None:
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        found = page(connection, Wanted(), limit, cursor)
        seen += [one.id for one in found.data]
        cursor = found.next
    assert seen == ["req_5", "req_4", "req_3", "req_2", "req_1"]


@pytest.mark.parametrize("cursor", ["x", "~req_1", "req_1"])
def test_no_cursor(connection: Connection, cursor: str) -> None:
    with pytest.raises(NoCursor):
        page(connection, Wanted(), 1, cursor)


def test_a_page_tells_who_and_one_tells_what(connection: Connection) -> None:
    told = {name: value for name, value in ROWS[2].items() if name != "body"}
    (talk,) = page(connection, Wanted(tenant="acme", model="smart"), 1).data
    assert {name: getattr(talk, name) for name in Talk.__struct_fields__} == told
    whole = get(connection, "req_3")
    assert whole is not None
    assert {name: getattr(whole, name) for name in whole.__struct_fields__} == told | BODY
    assert get(connection, "req_9") is None


@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_all_are_read_in_pages(database: Database, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(module, "PAGE", size)
    assert [one.id for one in every(database, Wanted())] == ["req_1", "req_2", "req_3", "req_4", "req_5"]


def test_one_is_deleted_and_noted(database: Database) -> None:
    with database.begin() as connection:
        assert remove(connection, "req_3", "admin", NOW)
        assert not remove(connection, "req_3", "admin", NOW)
        assert get(connection, "req_3") is None
        (note,) = connection.execute(select(AUDIT)).mappings()
    assert (note["at"], note["actor"], note["action"]) == (NOW, "admin", "delete conversation")
    assert (note["subject"], note["change"]) == ("req_3", "{}")
    assert len(list(every(database, Wanted()))) == 4

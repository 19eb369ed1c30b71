"""What the routes of conversations ask of the database, and what they make of a query."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from admin.office import Office
from polymux.admin.conversations import delete_conversation, get_conversation, list_conversations
from polymux.store.base import Unusable
from polymux.store.keeper import Keeper
from polymux.store.tables import AUDIT, CONVERSATIONS
from store.test_conversations import NOW, ROWS
from store.test_keeper import spoken


class Archive(Office):
    """An office with conversations, of which one has not been written yet."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        with self.database.begin() as connection:
            connection.execute(insert(CONVERSATIONS), ROWS)
        self.keeper = Keeper(self.database, 10.0**9)
        self.keeper.put(spoken(self.keeper, "req_6", at=NOW))


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Archive]:
    made = Archive(tmp_path)
    yield made
    made.keeper.close()
    made.database.close()


def test_what_has_ended_is_there(office: Archive) -> None:
    exchange = office.ask(list_conversations)
    assert exchange.status == 200
    assert [one["id"] for one in exchange.told["data"]] == [f"req_{number}" for number in (6, 5, 4, 3, 2, 1)]
    assert "request" not in exchange.told["data"][0]


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("?key=ben", "1"),
        ("?model=quick&tenant=acme", "4"),
        (f"?since={NOW - 40}&until={NOW - 20}", "32"),
        ("?since=2027-01-15T08:00:00Z", "6"),
        ("?key=&model=&tenant=&until=2000-01-01", ""),
    ],
)
def test_what_is_asked_for(office: Archive, query: str, ids: str) -> None:
    assert [one["id"] for one in office.ask(list_conversations, "", query).told["data"]] == [
        f"req_{id_}" for id_ in ids
    ]


def test_pages(office: Archive) -> None:
    seen: list[str] = []
    cursor: Any = ""
    while cursor is not None:
        told = office.ask(list_conversations, "", f"?limit=4&after={cursor}").told
        seen += [one["id"] for one in told["data"]]
        cursor = told["next"]
    assert len(seen) == len(set(seen)) == 6


def test_one_in_full(office: Archive) -> None:
    told = office.ask(get_conversation, "req_6").told
    assert (told["id"], told["request"]["model"], told["response"], told["notes"]) == ("req_6", "m", {"a": "b"}, [])


def test_one_is_deleted_for_good_and_noted(office: Archive) -> None:
    assert office.ask(delete_conversation, "req_6").status == 204
    assert office.ask(get_conversation, "req_6").status == 404
    assert office.ask(delete_conversation, "req_6").status == 404
    with office.database.connect() as connection:
        (note,) = connection.execute(select(AUDIT)).mappings()
    assert (note["actor"], note["action"], note["subject"]) == ("admin", "delete conversation", "req_6")


def test_what_is_there_can_be_read_when_nothing_can_be_written(
    office: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise Unusable("the disk is full")

    monkeypatch.setattr(office.keeper, "flush", full)
    assert office.ask(get_conversation, "req_1").status == 200
    assert office.ask(get_conversation, "req_6").status == 404
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("handler", "query", "rest", "status", "param"),
    [
        (list_conversations, "?limit=1001", "", 400, "limit"),
        (list_conversations, "?after=x", "", 400, "after"),
        (list_conversations, "?after=nan~x", "", 400, "after"),
        (list_conversations, "?since=yesterday", "", 400, "since"),
        (list_conversations, "?user=ada", "", 400, "user"),
        (get_conversation, "", "nobody", 404, None),
        (get_conversation, "?a=b", "req_1", 400, "a"),
        (delete_conversation, "?a=b", "req_1", 400, "a"),
    ],
)
def test_mistakes(office: Archive, handler: Any, query: str, rest: str, status: int, param: str | None) -> None:
    exchange = office.ask(handler, rest, query)
    assert (exchange.status, exchange.told["error"]["param"]) == (status, param)


@pytest.mark.parametrize("handler", [list_conversations, get_conversation, delete_conversation])
def test_they_are_for_the_administrator(office: Archive, handler: Any) -> None:
    office.settings = type(office.settings)(office.snapshot, office.live, admin=b"another")
    assert office.ask(handler, "req_1").status == 401

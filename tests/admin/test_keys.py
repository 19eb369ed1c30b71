"""`/admin/api/keys` and `/admin/api/audit`: what administrators can do with keys, and what they are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.admin.office import STATIC, Exchange, Office

from polymux.admin import keys
from polymux.store.base import Unusable

ALL = (
    *(keys.list_keys, keys.create_key, keys.get_key, keys.update_key, keys.revoke_key, keys.rotate_key),
    keys.audit,
)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    yield made
    made.database.close()


def create(office: Office, **given: Any) -> Any:
    exchange = office.ask(keys.create_key, body=given)
    assert exchange.status == 201, exchange.told
    return exchange.told


def test_a_key_is_made_and_good_at_once(office: Office) -> None:
    told = create(office, name="ada", models=["gpt-*"], budget_usd="12.50", expires_at=4_000_000_000)
    assert told == {
        "id": told["id"],
        "name": "ada",
        "prefix": told["key"][:11],
        "tenant": "default",
        "models": ["gpt-*"],
        "rpm": 42,  # of the configuration
        "tpm": 0,
        "concurrency": 0,
        "budget_usd": "12.50",
        "budget_period": "total",
        "expires_at": 4_000_000_000.0,
        "enabled": True,
        "log": False,
        "origin": "database",
        "created_at": told["created_at"],
        "updated_at": told["created_at"],
        "old_until": None,
        "key": told["key"],
    }
    found = office.live.find(told["key"])
    assert found is not None
    assert (found.id, found.models, found.rpm) == (told["id"], ("gpt-*",), 42)


def test_the_secret_is_told_once(office: Office) -> None:
    told = create(office, name="ada")
    new = office.ask(keys.rotate_key, "ada").told
    assert new["key"] != told["key"]
    others = [
        office.ask(keys.get_key, "ada").told,
        office.ask(keys.update_key, "ada", body={"rpm": 1}).told,
        office.ask(keys.list_keys).told,
        office.ask(keys.audit).told,
    ]
    for secret in (told["key"], new["key"]):
        assert secret not in str(others)
    assert "key" not in others[0]


def test_a_change_holds_at_once(office: Office) -> None:
    told = create(office, name="ada")
    assert office.ask(keys.update_key, told["id"], body={"rpm": 7, "models": []}).told["rpm"] == 7
    found = office.live.find(told["key"])
    assert found is not None
    assert found.rpm == 7
    office.ask(keys.update_key, "ada", body={"enabled": False})
    assert office.live.find(told["key"]) is None
    office.ask(keys.update_key, "ada", body={"enabled": True})
    assert office.live.find(told["key"]) is not None
    exchange = office.ask(keys.revoke_key, "ada")
    assert (exchange.status, exchange.told) == (204, None)
    assert office.live.find(told["key"]) is None
    assert office.ask(keys.get_key, "ada").status == 404


@pytest.mark.parametrize(("body", "old_is_good"), [(None, True), ({"overlap": "1h"}, True), ({"overlap": 0}, False)])
def test_rotation(office: Office, body: Any, old_is_good: bool) -> None:
    told = create(office, name="ada")
    new = office.ask(keys.rotate_key, "ada", body=body)
    assert new.status == 200
    assert (new.told["old_until"] is not None) is old_is_good
    assert office.live.find(new.told["key"]) is not None
    assert (office.live.find(told["key"]) is not None) is old_is_good


def test_lists_begin_with_the_configuration_and_go_on_with_a_cursor(office: Office) -> None:
    for name in "abcde":
        create(office, name=name)
    first = office.ask(keys.list_keys, query="?limit=2").told
    assert [(key["name"], key["origin"]) for key in first["data"]] == [
        ("key 1", "static"),
        ("a", "database"),
        ("b", "database"),
    ]
    second = office.ask(keys.list_keys, query=f"?limit=2&after={first['next']}").told
    third = office.ask(keys.list_keys, query=f"?limit=2&after={second['next']}").told
    assert [key["name"] for key in second["data"] + third["data"]] == ["c", "d", "e"]
    assert third["next"] is None
    assert STATIC not in str(first)


def test_the_audit_log_names_the_administrator(office: Office) -> None:
    told = create(office, name="ada")
    office.store.update("ada", {"rpm": 1}, "cli")
    first = office.ask(keys.audit, query="?limit=1").told
    second = office.ask(keys.audit, query=f"?limit=1&after={first['next']}").told
    assert second["next"] is None
    notes = first["data"] + second["data"]
    assert [(note["actor"], note["action"], note["subject"]) for note in notes] == [
        ("cli", "update", told["id"]),
        ("admin", "create", told["id"]),
    ]
    assert notes[0]["change"] == {"rpm": [42, 1]}


@pytest.mark.parametrize(
    ("handler", "rest", "query", "body", "told"),
    [
        (keys.create_key, "", "", {}, (400, "missing_required_parameter", "name")),
        (keys.create_key, "", "", {"name": 5}, (400, "invalid_type", "name")),
        (keys.create_key, "", "", {"name": "x", "rpm": "5"}, (400, "invalid_type", "rpm")),
        (keys.create_key, "", "", {"name": "x", "budget_usd": 5}, (400, "invalid_type", "budget_usd")),
        (keys.create_key, "", "", {"name": "x", "expires_at": "soon"}, (400, "invalid_value", "expires_at")),
        (keys.create_key, "", "", {"name": "x", "rmp": 5}, (400, "unsupported_parameter", "rmp")),
        (keys.create_key, "", "", {"name": "x", "key": "sk-own"}, (400, "unsupported_parameter", "key")),
        (keys.create_key, "", "", {"name": "ada"}, (409, "conflict", "name")),
        (keys.create_key, "", "", None, (400, "invalid_json", None)),
        (keys.update_key, "ada", "", {"id": "x"}, (400, "unsupported_parameter", "id")),
        (keys.update_key, "nobody", "", {"rpm": 5}, (404, "not_found", None)),
        (keys.update_key, "static-1", "", {"rpm": 5}, (409, "conflict", None)),
        (keys.revoke_key, "key 1", "", None, (409, "conflict", None)),
        (keys.revoke_key, "nobody", "", None, (404, "not_found", None)),
        (keys.rotate_key, "static-1", "", None, (409, "conflict", None)),
        (keys.rotate_key, "ada", "", {"overlap": "x"}, (400, "invalid_value", "overlap")),
        (keys.rotate_key, "ada", "", {"other": 1}, (400, "unsupported_parameter", "other")),
        (keys.get_key, "nobody", "", None, (404, "not_found", None)),
        (keys.list_keys, "", "?limit=0", None, (400, "invalid_value", "limit")),
        (keys.list_keys, "", "?after=x", None, (400, "invalid_value", "after")),
        (keys.list_keys, "", "?page=2", None, (400, "unsupported_parameter", "page")),
        (keys.audit, "", "?after=x", None, (400, "invalid_value", "after")),
    ],
)
def test_what_is_refused_and_in_which_words(
    office: Office,
    handler: Callable[..., Any],
    rest: str,
    query: str,
    body: Any,
    told: tuple[int, str, str | None],
) -> None:
    create(office, name="ada")
    exchange = office.ask(handler, rest, query, body)
    error = exchange.told["error"]
    assert (exchange.status, error["code"], error["param"]) == told
    assert len(office.store.audit(10)[0]) == 1


def test_static_keys_can_be_read(office: Office) -> None:
    told = office.ask(keys.get_key, "static-1").told
    assert (told["name"], told["origin"], told["rpm"], told["prefix"]) == ("key 1", "static", 9, "")


@pytest.mark.parametrize("handler", ALL)
@pytest.mark.parametrize("key", ["", STATIC, "nonsense"])
def test_all_of_it_is_for_the_administrator(office: Office, handler: Callable[..., Any], key: str) -> None:
    exchange = Exchange("/", {"name": "eve"}, key)
    office.give(handler, exchange, "static-1")
    assert (exchange.status, exchange.told["error"]["code"]) == (401, "invalid_api_key")
    assert office.store.audit(10) == ([], None)


def test_trouble_with_the_database_is_told(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(durable: bool = False) -> None:
        raise Unusable("cannot write to the data directory /x: the disk is full")

    monkeypatch.setattr(office.database, "begin", fail)
    exchange = office.ask(keys.create_key, body={"name": "ada"})
    assert (exchange.status, exchange.told["error"]["code"]) == (503, "overloaded")
    assert "the disk is full" in exchange.told["error"]["message"]

"""Keys in the database: against a plain model, from several threads and processes, with their audit log."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import select

from polymux.errors import Failure
from polymux.store.database import Database
from polymux.store.keys import KeyStore
from polymux.store.memory import digest
from polymux.store.tables import KEYS

NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database("sqlite", tmp_path)
    yield made
    made.close()


@pytest.fixture
def store(database: Database) -> KeyStore:
    return KeyStore(database, Clock())


def test_a_new_key(store: KeyStore) -> None:
    given = {"name": "ada", "models": ["gpt-*"], "rpm": 5, "budget_usd": "2.50", "expires_at": "30d", "log": True}
    key, secret = store.create(given, "cli")
    assert re.fullmatch(r"sk-pmx-[A-Za-z0-9]{32}", secret)
    assert re.fullmatch(r"key_[0-9a-f]{12}", key.id)
    assert key.prefix == secret[:11]
    assert (key.name, key.tenant, key.models, key.rpm, key.tpm) == ("ada", "default", ("gpt-*",), 5, 0)
    assert (key.budget_usd, key.budget_period, key.log, key.enabled) == ("2.50", "total", True, True)
    assert key.expires_at == NOW + 1 + 30 * 86400
    assert key.origin == "database"
    assert store.get(key.id) == store.get("ada") == key


def test_nothing_kept_is_a_secret(store: KeyStore, database: Database) -> None:
    _, first = store.create({"name": "ada"}, "cli")
    _, second = store.rotate("ada", "cli")
    database.close()  # all of it in one file
    for path in database.path.parent.iterdir():
        for secret in (first, second):
            assert secret.encode() not in path.read_bytes()
            assert secret[12:].encode() not in path.read_bytes()
    assert digest(second) in database.path.read_bytes()
    notes, _ = store.audit(10)
    assert digest(second).hex() not in str(notes)


@pytest.mark.parametrize(
    ("given", "kind", "param"),
    [
        ({}, "missing_required_parameter", "name"),
        ({"name": "taken"}, "conflict", "name"),
        ({"name": "new", "rpm": -1}, "invalid_value", "rpm"),
        ({"name": "new", "digest": "x"}, "unsupported_parameter", "digest"),
    ],
)
def test_what_cannot_be_created(store: KeyStore, given: dict[str, Any], kind: str, param: str) -> None:
    store.create({"name": "taken"}, "cli")
    before = store.snapshot()
    with pytest.raises(Failure) as caught:
        store.create(given, "cli")
    assert (caught.value.kind, caught.value.param) == (kind, param)
    assert store.snapshot() == before


def test_updates_change_what_is_given(store: KeyStore) -> None:
    key, _ = store.create({"name": "ada", "rpm": 5, "expires_at": "30d"}, "cli")
    new = store.update("ada", {"name": "eda", "expires_at": None, "enabled": False}, "admin")
    assert new == msgspec.structs.replace(key, name="eda", expires_at=None, enabled=False, updated_at=new.updated_at)
    assert new.updated_at > key.updated_at
    assert store.get("eda") == new
    store.create({"name": "bob"}, "cli")
    with pytest.raises(Failure, match="name 'bob' already"):
        store.update("eda", {"name": "bob"}, "cli")
    assert store.get("eda") == new


def test_a_change_that_changes_nothing_leaves_no_trace(store: KeyStore) -> None:
    key, _ = store.create({"name": "ada", "rpm": 5}, "cli")
    before, notes = store.snapshot(), store.audit(10)
    assert store.update("ada", {"rpm": 5, "name": "ada"}, "cli") == key
    assert store.audit(10) == notes
    after = store.snapshot()
    assert before is not None
    assert after is not None
    assert after.entries == before.entries


@pytest.mark.parametrize("change", ["get", "update", "revoke", "rotate"])
def test_unknown_keys_are_told(store: KeyStore, change: str) -> None:
    calls = {
        "get": lambda: store.get("nobody"),
        "update": lambda: store.update("nobody", {"rpm": 1}, "cli"),
        "revoke": lambda: store.revoke("nobody", "cli"),
        "rotate": lambda: store.rotate("nobody", "cli"),
    }
    with pytest.raises(Failure, match="there is no key with the id or name 'nobody'") as caught:
        calls[change]()
    assert caught.value.kind == "not_found"
    assert store.audit(10) == ([], None)


def test_rotation_keeps_one_old_secret(store: KeyStore) -> None:
    key, first = store.create({"name": "ada"}, "cli")
    _, second = store.rotate("ada", "cli", 60)
    new, third = store.rotate(key.id, "cli", 60)
    assert new.old_until == new.updated_at + 60
    snapshot = store.snapshot()
    assert snapshot is not None
    (entry,) = snapshot.entries
    assert (entry.digest, entry.old) == (digest(third), digest(second))
    assert digest(first) not in entry
    last, fourth = store.rotate("ada", "cli", 0)
    assert last.old_until is None
    snapshot = store.snapshot()
    assert snapshot is not None
    assert (snapshot.entries[0].digest, snapshot.entries[0].old) == (digest(fourth), None)


def test_every_change_is_in_the_audit_log(store: KeyStore) -> None:
    key, _ = store.create({"name": "ada", "rpm": 5}, "cli")
    store.update("ada", {"rpm": 6, "models": ["m"]}, "admin")
    new, _ = store.rotate("ada", "cli", 60)
    store.revoke("ada", "admin")
    notes, cursor = store.audit(10)
    assert cursor is None
    assert [(note.actor, note.action, note.subject) for note in notes] == [
        ("admin", "revoke", key.id),
        ("cli", "rotate", key.id),
        ("admin", "update", key.id),
        ("cli", "create", key.id),
    ]
    assert [note.change for note in notes] == [
        {"name": ["ada", None], "prefix": [new.prefix, None]},
        {"prefix": [key.prefix, new.prefix], "old_until": [None, new.old_until]},
        {"models": [[], ["m"]], "rpm": [5, 6]},
        {"name": [None, "ada"], "rpm": [None, 5], "prefix": [None, key.prefix]},
    ]
    assert [note.id for note in notes] == sorted((note.id for note in notes), reverse=True)


def test_a_change_that_fails_leaves_no_audit(store: KeyStore, database: Database) -> None:
    store.create({"name": "ada"}, "cli")
    with pytest.raises(Failure):
        store.create({"name": "ada"}, "cli")
    assert len(store.audit(10)[0]) == 1


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
def test_lists_go_page_by_page(database: Database, limit: int) -> None:
    store = KeyStore(database, lambda: NOW)  # all of one moment
    names = {store.create({"name": f"key {number} of many"}, "cli")[0].name for number in range(7)}
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        keys, cursor = store.page(limit, cursor)
        assert len(keys) <= limit
        found += [key.name for key in keys]
    assert len(found) == 7
    assert set(found) == names
    seen: list[int] = []
    after: int | None = None
    while True:
        notes, after = store.audit(limit, after)
        seen += [note.id for note in notes]
        if after is None:
            break
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == 7


@pytest.mark.parametrize("cursor", ["x", "~", "1x~key_1"])
def test_a_bad_cursor_is_told(store: KeyStore, cursor: str) -> None:
    with pytest.raises(Failure, match="cursor"):
        store.page(10, cursor)


def test_a_snapshot_is_made_only_after_a_change(store: KeyStore) -> None:
    first = store.snapshot()
    assert first is not None
    assert store.snapshot(first.revision) is None
    store.create({"name": "ada"}, "cli")
    second = store.snapshot(first.revision)
    assert second is not None
    assert [entry.key.name for entry in second.entries] == ["ada"]
    assert store.snapshot(second.revision) is None


def test_threads_change_keys_at_once(database: Database) -> None:
    stores = [KeyStore(database) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: stores[n % 4].create({"name": f"n{n}"}, "cli"), range(40)))
        list(pool.map(lambda key: stores[0].update(key[0].id, {"rpm": 3}, "cli"), made[:20]))
        list(pool.map(lambda key: stores[1].revoke(key[0].id, "cli"), made[20:]))
    keys, _ = stores[2].page(100)
    assert {(key.id, key.rpm) for key in keys} == {(key.id, 3) for key, _ in made[:20]}
    assert len(stores[3].audit(1000)[0]) == 80
    with database.connect() as connection:
        assert len(connection.execute(select(KEYS.c.digest)).all()) == 20


class Keys(RuleBasedStateMachine):
    """Whatever is done, the database says what a dictionary says."""

    NAMES = st.sampled_from(["ada", "bob", "小明", "x y"])
    VALUES = st.fixed_dictionaries(
        {},
        optional={
            "rpm": st.integers(0, 10**9),
            "models": st.lists(st.sampled_from(["a*", "b", "c?"]), max_size=3, unique=True),
            "enabled": st.booleans(),
            "budget_usd": st.sampled_from(["", "1.50", "0.000000000001"]),
            "tenant": st.sampled_from(["default", "team"]),
        },
    )

    @initialize()
    def begin(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.database = Database("sqlite", Path(self.directory.name))
        self.store = KeyStore(self.database, Clock())
        self.model: dict[str, dict[str, Any]] = {}
        self.secrets: dict[str, tuple[str, str | None]] = {}
        self.changes = 0

    @rule(name=NAMES, values=VALUES)
    def create(self, name: str, values: dict[str, Any]) -> None:
        if name in self.model:
            with pytest.raises(Failure):
                self.store.create({**values, "name": name}, "cli")
            return
        _, secret = self.store.create({**values, "name": name}, "cli")
        self.model[name] = values
        self.secrets[name] = (secret, None)
        self.changes += 1

    @rule(name=NAMES, values=VALUES)
    def update(self, name: str, values: dict[str, Any]) -> None:
        if name not in self.model:
            with pytest.raises(Failure):
                self.store.update(name, values, "admin")
            return
        before = self.store.get(name)
        self.changes += self.store.update(name, values, "admin") != before
        self.model[name] = {**self.model[name], **values}

    @rule(name=NAMES, overlap=st.sampled_from([0.0, 60.0]))
    def rotate(self, name: str, overlap: float) -> None:
        if name in self.model:
            _, secret = self.store.rotate(name, "cli", overlap)
            self.secrets[name] = (secret, self.secrets[name][0] if overlap else None)
            self.changes += 1

    @rule(name=NAMES)
    def revoke(self, name: str) -> None:
        if name in self.model:
            self.store.revoke(name, "cli")
            del self.model[name], self.secrets[name]
            self.changes += 1

    @invariant()
    def same(self) -> None:
        keys, _ = self.store.page(100)
        assert {key.name for key in keys} == set(self.model)
        for key in keys:
            for name, value in self.model[key.name].items():
                assert getattr(key, name) == (tuple(value) if isinstance(value, list) else value)
        snapshot = self.store.snapshot()
        assert snapshot is not None
        digests = {entry.key.name: (entry.digest, entry.old) for entry in snapshot.entries}
        assert digests == {
            name: (digest(secret), digest(old) if old else None) for name, (secret, old) in self.secrets.items()
        }
        assert len(self.store.audit(10_000)[0]) == self.changes

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()
            self.directory.cleanup()


Keys.TestCase.settings = settings(max_examples=15, stateful_step_count=20, deadline=None)
TestKeys = Keys.TestCase

"""Keys as requests see them: what changes in the database holds soon, and what is no longer good says why."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from polymux.store import base, live
from polymux.store.base import Unusable
from polymux.store.database import Database
from polymux.store.keys import KeyStore, Snapshot
from polymux.store.live import LiveKeys, said
from polymux.store.memory import StaticKeys
from polymux.types import Key
from support.waiting import until

STATIC = StaticKeys([("sk-static", Key("static-1", "key 1"))])
NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[KeyStore]:
    database = Database("sqlite", tmp_path)
    yield KeyStore(database, clock)
    database.close()


@pytest.fixture
def keys(store: KeyStore, clock: Clock) -> Iterator[LiveKeys]:
    made = LiveKeys(store, STATIC, clock)
    yield made
    made.close()


def test_it_is_what_the_seam_asks_for(keys: LiveKeys) -> None:
    as_keys: base.Keys = keys
    assert as_keys.find("sk-static") == Key("static-1", "key 1")
    assert as_keys.find("sk-other") is None
    assert as_keys.find("") is None
    assert as_keys.reason("sk-other") == as_keys.reason("sk-static") == ""


def test_keys_of_both_places_are_found(keys: LiveKeys, store: KeyStore) -> None:
    key, secret = store.create({"name": "ada", "rpm": 7}, "cli")
    assert keys.find(secret) is None
    keys.refresh()
    assert keys.find(secret) == key
    assert keys.find("sk-static") is not None
    store.revoke("ada", "cli")
    keys.refresh()
    assert keys.find(secret) is None
    assert keys.reason(secret) == ""


def test_a_reload_replaces_the_keys_of_the_configuration_alone(keys: LiveKeys, store: KeyStore) -> None:
    _, secret = store.create({"name": "ada"}, "cli")
    keys.refresh()
    keys.follow(StaticKeys([("sk-new", Key("static-1", "key 1"))]))
    assert keys.find("sk-static") is None
    assert keys.find("sk-new") is not None
    assert keys.find(secret) is not None
    store.update("ada", {"rpm": 3}, "cli")
    keys.refresh()
    assert keys.find("sk-new") is not None


def test_an_expired_key_says_when_it_expired(keys: LiveKeys, store: KeyStore, clock: Clock) -> None:
    key, secret = store.create({"name": "ada", "expires_at": "1h"}, "cli")
    keys.refresh()
    assert keys.find(secret) == key
    assert keys.reason(secret) == ""
    clock.now += 3600
    assert keys.find(secret) is None
    assert keys.reason(secret) == f"expired on {said(NOW + 3600)}" == "expired on 2027-01-15 09:00 UTC"
    store.update("ada", {"expires_at": "1h"}, "cli")
    keys.refresh()
    assert keys.find(secret) is not None


def test_a_disabled_key_says_so(keys: LiveKeys, store: KeyStore) -> None:
    _, secret = store.create({"name": "ada", "enabled": False, "expires_at": "1h"}, "cli")
    keys.refresh()
    assert keys.find(secret) is None
    assert keys.reason(secret) == "is disabled"
    store.update("ada", {"enabled": True}, "cli")
    keys.refresh()
    assert keys.find(secret) is not None


def test_both_secrets_are_good_while_they_overlap(keys: LiveKeys, store: KeyStore, clock: Clock) -> None:
    _, old = store.create({"name": "ada"}, "cli")
    key, new = store.rotate("ada", "cli", 60)
    keys.refresh()
    assert keys.find(old) == keys.find(new) == key
    clock.now += 60
    assert keys.find(new) == key
    assert keys.find(old) is None
    assert keys.reason(old) == f"was replaced, and was good until {said(NOW + 60)}"


@pytest.mark.parametrize(("expires", "words"), [(30, "expired on"), (90, "was replaced")])
def test_the_end_that_comes_first_counts(
    keys: LiveKeys, store: KeyStore, clock: Clock, expires: int, words: str
) -> None:
    _, old = store.create({"name": "ada", "expires_at": f"{expires}s"}, "cli")
    store.rotate("ada", "cli", 60)
    keys.refresh()
    clock.now += min(expires, 60) - 1
    assert keys.find(old) is not None
    clock.now += 1
    assert keys.find(old) is None
    assert keys.reason(old).startswith(words)


def test_disabling_ends_the_old_secret_too(keys: LiveKeys, store: KeyStore) -> None:
    _, old = store.create({"name": "ada"}, "cli")
    _, new = store.rotate("ada", "cli", 60)
    store.update("ada", {"enabled": False}, "cli")
    keys.refresh()
    for secret in (old, new):
        assert keys.find(secret) is None
        assert keys.reason(secret) == "is disabled"


def test_a_change_elsewhere_is_seen_by_polling(keys: LiveKeys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "EVERY", 0.01)
    keys.begin()
    elsewhere = Database("sqlite", tmp_path)
    _, secret = KeyStore(elsewhere).create({"name": "ada"}, "cli")
    until(lambda: keys.find(secret) is not None)
    KeyStore(elsewhere).revoke("ada", "cli")
    until(lambda: keys.find(secret) is None)
    elsewhere.close()


def test_it_is_looked_at_often_enough() -> None:
    assert live.EVERY <= 0.5


def test_trouble_keeps_the_last_keys_and_is_told_once(
    keys: LiveKeys, store: KeyStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, secret = store.create({"name": "ada"}, "cli")
    keys.refresh()
    failed = 0

    def fail(known: int = -1) -> Snapshot | None:
        nonlocal failed
        failed += 1
        raise Unusable("the database is gone")

    monkeypatch.setattr(live, "EVERY", 0.001)
    with monkeypatch.context() as broken, caplog.at_level(logging.WARNING):
        broken.setattr(store, "snapshot", fail)
        keys.begin()
        until(lambda: failed > 5)
        assert keys.find(secret) is not None
        with pytest.raises(Unusable):
            keys.refresh()
    until(lambda: "can be read again" in caplog.text)
    assert caplog.text.count("the database is gone; until that is over the keys are those read last") == 1
    _, other = store.create({"name": "bob"}, "cli")
    until(lambda: keys.find(other) is not None)


def test_without_keys_at_first_it_does_not_begin(tmp_path: Path) -> None:
    database = Database("sqlite", tmp_path)
    with database.begin() as connection:
        connection.exec_driver_sql("DROP TABLE keys")
    with pytest.raises(Unusable, match="no such table"):
        LiveKeys(KeyStore(database), STATIC)
    database.close()


def test_finding_a_key_costs_one_digest_and_one_look(
    keys: LiveKeys, store: KeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, secret = store.create({"name": "ada"}, "cli")
    keys.refresh()
    digests: list[str] = []
    real = live.digest
    monkeypatch.setattr(live, "digest", lambda text: digests.append(text) or real(text))
    monkeypatch.setattr(keys, "_clock", lambda: pytest.fail("the time matters only to keys that have an end"))
    assert keys.find(secret) is not None
    assert keys.find("sk-static") is not None
    assert digests == [secret, "sk-static"]

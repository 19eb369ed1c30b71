"""What can be said of a key: good values as they are kept, bad ones with words that name the member."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from polymux.config import Limits
from polymux.errors import Failure
from polymux.store.fields import (
    FIELDS,
    OVERLAP,
    Stored,
    changeable,
    checked,
    elsewhere,
    initial,
    overlap_of,
    shown,
)
from polymux.types import Key

NOW = 1_800_000_000.0
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("name", "ada", "ada"),
        ("name", "小明 的密钥", "小明 的密钥"),
        ("models", ["gpt-*", "gpt-*", "meow"], ("gpt-*", "meow")),
        ("models", [], ()),
        ("rpm", 0, 0),
        ("tpm", 10**9, 10**9),
        ("concurrency", 3, 3),
        ("budget_usd", "12.50", "12.50"),
        ("budget_usd", "0.000000000001", "0.000000000001"),
        ("budget_usd", "", ""),
        ("budget_usd", None, ""),
        ("budget_period", "month", "month"),
        ("tenant", "team a", "team a"),
        ("expires_at", None, None),
        ("expires_at", "", None),
        ("expires_at", "30d", NOW + 30 * 86400),
        ("expires_at", "1.5h", NOW + 5400),
        ("expires_at", NOW + 1, NOW + 1),
        ("expires_at", int(NOW) + 1, NOW + 1),
        ("expires_at", "2030-12-31", datetime(2030, 12, 31, tzinfo=UTC).timestamp()),
        ("expires_at", "2030-12-31T12:00:00+08:00", datetime(2030, 12, 31, 4, tzinfo=UTC).timestamp()),
        ("expires_at", "2030-12-31T12:00:00Z", datetime(2030, 12, 31, 12, tzinfo=UTC).timestamp()),
        ("enabled", False, False),
        ("log", True, True),
    ],
)
def test_good_values(name: str, value: Any, kept: Any) -> None:
    assert checked({name: value}, NOW) == {name: kept}


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("name", "", "invalid_value"),
        ("name", " ", "invalid_value"),
        ("name", "a\nb", "invalid_value"),
        ("name", "x" * 101, "invalid_value"),
        ("name", "key_0123456789ab", "invalid_value"),
        ("name", "static-1", "invalid_value"),
        ("name", "key 1", "invalid_value"),
        ("name", "first-run key", "invalid_value"),
        ("name", None, "invalid_type"),
        ("name", 5, "invalid_type"),
        ("models", "gpt-4o", "invalid_type"),
        ("models", [5], "invalid_value"),
        ("models", [""], "invalid_value"),
        ("models", ["a b"], "invalid_value"),
        ("models", ["m"] * 1001, "invalid_value"),
        ("rpm", -1, "invalid_value"),
        ("rpm", 10**9 + 1, "invalid_value"),
        ("rpm", 1.5, "invalid_type"),
        ("rpm", True, "invalid_type"),
        ("rpm", "5", "invalid_type"),
        ("budget_usd", 5, "invalid_type"),
        ("budget_usd", 5.5, "invalid_type"),
        ("budget_usd", "-5", "invalid_value"),
        ("budget_usd", "1e5", "invalid_value"),
        ("budget_usd", "NaN", "invalid_value"),
        ("budget_usd", "١٢", "invalid_value"),
        ("budget_period", "week", "invalid_value"),
        ("tenant", "", "invalid_value"),
        ("expires_at", NOW, "invalid_value"),
        ("expires_at", "2020-01-01", "invalid_value"),
        ("expires_at", NOW * 1000, "invalid_value"),
        ("expires_at", 10**400, "invalid_value"),
        ("expires_at", "soon", "invalid_value"),
        ("expires_at", "30 days", "invalid_value"),
        ("expires_at", "0d", "invalid_value"),
        ("expires_at", True, "invalid_type"),
        ("expires_at", [], "invalid_type"),
        ("enabled", 1, "invalid_type"),
        ("enabled", "true", "invalid_type"),
        ("enabled", None, "invalid_type"),
    ],
)
def test_bad_values(name: str, value: Any, kind: str) -> None:
    with pytest.raises(Failure) as caught:
        checked({name: value}, NOW)
    assert (caught.value.kind, caught.value.param, caught.value.status) == (kind, name, 400)
    assert caught.value.message.startswith(f"{name}: expected ")


def test_unknown_members_are_named_with_the_closest() -> None:
    with pytest.raises(Failure, match="unknown member 'rmp'; did you mean 'rpm'") as caught:
        checked({"rmp": 5}, NOW)
    assert caught.value.param == "rmp"
    with pytest.raises(Failure, match="unknown member 'xyz'; there are name, models, rpm"):
        checked({"xyz": 5}, NOW)
    with pytest.raises(Failure):
        checked({"id": "key_1"}, NOW)


@given(st.dictionaries(st.sampled_from([*FIELDS, "other"]), JSON, max_size=4))
def test_whatever_comes_is_kept_or_refused(values: dict[str, Any]) -> None:
    try:
        kept = checked(values, NOW)
    except Failure as failure:
        kept, refused = {}, failure.param
        event("refused")
    else:
        refused = None
        event("kept")
    assert refused is None or refused in values
    if refused:
        return
    assert set(kept) == set(values)
    again = {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}
    assert checked(again, NOW) == kept


def test_what_a_new_key_begins_with() -> None:
    assert initial(Limits(rpm=7, tpm=8, concurrency=9)) == {"rpm": 7, "tpm": 8, "concurrency": 9}


@pytest.mark.parametrize(
    ("given", "seconds"),
    [({}, OVERLAP), ({"overlap": "1h"}, 3600), ({"overlap": 60}, 60), ({"overlap": 0.5}, 0.5), ({"overlap": 0}, 0)],
)
def test_overlaps(given: dict[str, Any], seconds: float) -> None:
    assert overlap_of(given) == seconds


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"overlap": -1}, "invalid_value"),
        ({"overlap": "long"}, "invalid_value"),
        ({"overlap": 1e300}, "invalid_value"),
        ({"overlap": None}, "invalid_type"),
        ({"overlap": False}, "invalid_type"),
        ({"overlap": {}}, "invalid_type"),
        ({"overlop": 5}, "unsupported_parameter"),
    ],
)
def test_bad_overlaps(given: dict[str, Any], kind: str) -> None:
    with pytest.raises(Failure) as caught:
        overlap_of(given)
    assert caught.value.kind == kind


def test_keys_of_the_configuration_are_read_only() -> None:
    static = [Key("static-1", "key 1"), Key("first-run", "first-run key", origin="first-run")]
    for named, words in (
        ("static-1", "stands in the conf"),
        ("key 1", "key 1"),
        ("first-run", "made at the first run"),
    ):
        with pytest.raises(Failure, match=words) as caught:
            changeable(static, named)
        assert (caught.value.kind, caught.value.status) == ("conflict", 409)
    changeable(static, "ada")
    assert elsewhere(static, "ada") is None
    assert elsewhere(static, "first-run") is static[1]


def test_a_key_is_shown_without_what_is_secret() -> None:
    told = shown(Stored("key_1", "ada", prefix="sk-pmx-abcd", budget_usd="1.50", created_at=1.0, updated_at=2.0))
    assert (told.prefix, told.budget_usd, told.created_at, told.origin) == ("sk-pmx-abcd", "1.50", 1.0, "static")
    static = shown(Key("static-1", "key 1"))
    assert (static.prefix, static.budget_usd, static.created_at, static.old_until) == ("", None, None, None)

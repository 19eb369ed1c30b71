"""JSON that is made small enough: what is left is within the bound, JSON, and a part of what was there."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymux.wire.trim import trimmed

STEADY = settings(derandomize=True, deadline=None)


def size(value: Any) -> int:
    return len(msgspec.json.encode(value))


def test_what_is_small_enough_stays() -> None:
    value = {"a": ["b", 1, None]}
    assert trimmed(value, size(value)) == (value, False)


def test_the_longest_texts_lose_their_ends() -> None:
    value = {"short": "x" * 50, "long": "y" * 900, "other": "z" * 600}
    cut, was = trimmed(value, 500)
    assert was
    assert cut["short"] == value["short"]
    for name in ("long", "other"):
        kept, _, rest = cut[name].partition("… [")
        assert value[name].startswith(kept)
        assert rest == f"{len(value[name]) - len(kept)} characters cut]"
    assert 300 < size(cut) <= 500


@pytest.mark.parametrize("secret", ["4111 1111 1111 1111", "+49 (0)30 1234567", "alice@example.com", "sk-abcdefghij"])
def test_what_a_rule_would_find_is_not_cut_in_two(secret: str) -> None:
    for before in range(200, 240):
        cut, _ = trimmed({"a": "x" * before + f" {secret} " + "y" * 500}, 270)
        kept = cut["a"].partition("…")[0]
        assert kept.rstrip() in ("x" * len(kept.rstrip()), "x" * before + f" {secret}")


def test_characters_are_whole_and_escapes_are_counted() -> None:
    cut, _ = trimmed({"a": "\n嗯\x01" * 1000}, 500)
    assert cut["a"].startswith("\n嗯\x01\n嗯\x01")
    assert 300 < size(cut) <= 500


def test_of_long_lists_the_last_entries_are_left() -> None:
    messages = [{"role": "user", "content": f"hello {number}"} for number in range(100_000)]
    cut, was = trimmed({"model": "m", "messages": messages}, 4096)
    assert was
    assert cut["model"] == "m"
    assert cut["messages"] == messages[-len(cut["messages"]) :] != []
    assert size(cut) <= 4096


@pytest.mark.parametrize("value", [[["x" * 100] * 10] * 10, {"a": 1}])
def test_what_cannot_be_made_so_small_is_nothing(value: Any) -> None:
    assert trimmed(value, 5) == (None, True)


@STEADY
@given(
    st.recursive(
        st.none() | st.integers(-(2**60), 2**60) | st.text(max_size=400),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner),
    ),
    st.integers(4, 2000),
)
def test_it_is_never_larger_than_it_may_be(value: Any, most: int) -> None:
    cut, was = trimmed(value, most)
    assert size(cut) <= most
    assert was == (size(value) > most)
    assert was or cut == value

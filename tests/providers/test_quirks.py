"""Rows on the body that is about to be sent; more of them in the golden files and with each dialect."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from polymux.providers.quirks import bend, plain
from polymux.types import Quirks


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


@pytest.mark.parametrize("wrap", [raw, lambda value: value], ids=["raw", "plain"])
@pytest.mark.parametrize(
    ("quirks", "fields", "sent", "dropped"),
    [
        ({"drop": ("a", "b")}, {"a": 1, "c": 2}, {"c": 2}, ("a",)),
        ({"drop": ("a",)}, {"a": None}, {}, ()),
        ({"drop": ("logprobs", "n")}, {"logprobs": False, "n": 1}, {}, ()),
        ({"drop": ("logprobs",)}, {"logprobs": True}, {}, ("logprobs",)),
        ({"rename": {"a": "b"}}, {"a": 1}, {"b": 1}, ()),
        ({"rename": {"a": "b"}}, {"a": 1, "b": 2}, {"b": 2}, ("a",)),
        ({"rename": {"a": "b"}}, {"a": None, "b": 2}, {"b": 2}, ()),
        ({"rename": {"a": "b"}}, {"a": 1, "b": None}, {"b": 1}, ()),
        ({"clamp": {"a": (0, 1)}}, {"a": 2}, {"a": 1}, ("a",)),
        ({"clamp": {"a": (0, 1)}}, {"a": 0.5}, {"a": 0.5}, ()),
        ({"clamp": {"a": (0, 1)}}, {"a": "hot"}, {"a": "hot"}, ()),
        ({"rename": {"a": "b"}, "clamp": {"b": (0, 1)}}, {"a": 2}, {"b": 1}, ("a",)),
        ({"rename": {"a": "b"}, "clamp": {"b": (0, 1)}}, {"b": 2}, {"b": 1}, ("b",)),
        ({"nonempty": ("a", "b")}, {"a": [], "b": [1]}, {"b": [1]}, ()),
        ({"nonempty": ("m[].t",)}, {"m": [{"t": [], "a": 1}, {"t": [1]}, 5]}, {"m": [{"a": 1}, {"t": [1]}, 5]}, ()),
        ({"nonempty": ("m[].t",)}, {"m": 't "t"'}, {"m": 't "t"'}, ()),
        ({"nonempty": ("m[].t",)}, {"a": 1}, {"a": 1}, ()),
        ({"set": {"a": 1}}, {}, {"a": 1}, ()),
        ({"set": {"a": 1}}, {"a": 1}, {"a": 1}, ()),
        ({"set": {"a": 1}}, {"a": 2}, {"a": 1}, ("a",)),
        ({"rename": {"b": "a"}, "set": {"a": 1}}, {"b": 2}, {"a": 1}, ("b",)),
        ({"clamp": {"a": (0, 1)}, "set": {"a": 1}}, {"a": 5}, {"a": 1}, ("a",)),
    ],
)
def test_members_are_bent_and_what_is_lost_is_named(
    wrap: Any, quirks: dict[str, Any], fields: dict[str, Any], sent: dict[str, Any], dropped: tuple[str, ...]
) -> None:
    given = {name: wrap(value) for name, value in fields.items()}
    assert bend(given, Quirks(**quirks)) == dropped
    assert {name: plain(value) for name, value in given.items()} == sent

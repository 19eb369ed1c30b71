"""Arguments in pieces become one object."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymux.providers.gemini_arguments import Arguments
from polymux.schema.gemini import PartialArg


def joined(*pieces: tuple[str, Any]) -> Any:
    arguments = Arguments()
    for path, value in pieces:
        piece = PartialArg(path)
        if isinstance(value, bool):
            piece.bool_value = value
        elif isinstance(value, int | float):
            piece.number_value = value
        else:
            piece.string_value = value
        arguments.add(piece)
    return json.loads(arguments.json())


@pytest.mark.parametrize(
    ("pieces", "value"),
    [
        ([], {}),
        ([("$.a", "x"), ("$.a", "y"), ("$.a", "")], {"a": "xy"}),
        ([("$.n", 0.5), ("$.n", 2), ("$.t", True), ("$.z", None)], {"n": 2, "t": True, "z": None}),
        ([("$.a[0]", "x"), ("$.a[1]", "")], {"a": ["x", ""]}),
        ([("$.a[1].b.c", 1), ("$.a[0]", "x")], {"a": ["x", {"b": {"c": 1}}]}),
        ([("$.a[0][1]", 1)], {"a": [[None, 1]]}),
        ([("$['a b'].c", 1), ('$["d.e"]', 2)], {"a b": {"c": 1}, "d.e": 2}),
        ([("$.a", 1), ("$.a.b", 2)], {"a": {"b": 2}}),
        ([("", "x"), ("$", "x"), ("$.a[999999999]", 1), ("$[0]", 1)], {"a": []}),
        ([("$" + ".a" * 100, "x")], {}),
    ],
    ids=str,
)
def test_pieces(pieces: list[tuple[str, Any]], value: Any) -> None:
    assert joined(*pieces) == value


@given(st.lists(st.tuples(st.text("$.[]'\"ab019", max_size=12), st.none() | st.text(max_size=3) | st.integers())))
def test_no_path_whatever_breaks_it(pieces: list[tuple[str, Any]]) -> None:
    assert isinstance(joined(*pieces), dict)

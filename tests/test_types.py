"""The values of a request's life: frozen where they are shared, with the defaults that are promised."""

from __future__ import annotations

import msgspec
import pytest

from polymux.types import NO_USAGE, Deployment, Key, Link, Quirks, Route, Timeouts, Usage, WireReply, WireRequest

SHARED = [
    Timeouts(),
    Link(),
    Quirks(),
    Deployment("p/m", "p", "m", "openai"),
    Route("r", ()),
    Key("k", "k"),
    Usage(),
    WireRequest("GET", "http://x", ()),
    WireReply(200, {}, b""),
]


@pytest.mark.parametrize("value", SHARED, ids=lambda value: type(value).__name__)
def test_what_requests_share_cannot_be_changed(value: msgspec.Struct) -> None:
    name = value.__struct_fields__[0]
    with pytest.raises(AttributeError):
        setattr(value, name, getattr(value, name))


def test_the_defaults_that_are_promised() -> None:
    assert (Timeouts().connect, Timeouts().idle, Timeouts().total) == (5, 60, 600)
    route = Route("r", ())
    assert (route.strategy, route.retries, route.max_attempts, route.strict) == ("weighted", 2, 6, False)
    assert Link().verify
    assert Key("k", "k").models == ()


def test_no_usage_is_told_from_usage_of_nothing() -> None:
    assert NO_USAGE.source == "none"
    assert Usage() != NO_USAGE
    assert Usage().source == "upstream"


def test_quirks_are_read_from_a_table_row() -> None:
    row = {"rename": {"a": "b"}, "drop": ["c"], "clamp": {"t": [0, 1]}, "set": {"d": [1]}, "repair": True}
    quirks = msgspec.convert(row, Quirks)
    assert quirks == Quirks(rename={"a": "b"}, drop=("c",), clamp={"t": (0.0, 1.0)}, set={"d": [1]}, repair=True)

"""Kinds of values, as tables of TOML text -> the exact faults."""

from collections.abc import Mapping
from typing import Any

import pytest

from polymux.config import ConfigError, load
from polymux.config.values import Function, HeaderName, ProviderName, Url, Word, one_of, shown

SECONDS = 'expected a duration such as "5s", "500ms", "10m", "1h" or a number of seconds, more than 0, got '
SIZE = 'expected a size such as "32MiB", "500KB" or a number of bytes, more than 0, got '
PORT = "expected a port from 1 to 65535 (0 lets the system choose), got "


def faults(text: str | None, env: Mapping[str, str] | None = None) -> list[str]:
    """`line: field: message` of every fault, or `VARIABLE: message` for the environment; empty when it loads."""
    try:
        load(text, env or {}, file="f")
    except ConfigError as error:
        return [str(fault).removeprefix("f:").removeprefix("environment: ").strip() for fault in error.faults]
    return []


FAULTS = [
    # kinds
    ("[server]\nport = 65536\n", [f"2: server.port: {PORT}65536"]),
    ("[server]\nport = -1\n", [f"2: server.port: {PORT}-1"]),
    ('[server]\nmax_body = "3 MB"\n', [f'2: server.max_body: {SIZE}"3 MB"']),
    ("[server]\nmax_body = 0\n", [f"2: server.max_body: {SIZE}0"]),
    ("[server]\nmax_body = true\n", [f"2: server.max_body: {SIZE}true"]),
    ('[cache]\nttl = "5 minutes"\n', [f'2: cache.ttl: {SECONDS}"5 minutes"']),
    ('[cache]\nttl = "-1s"\n', [f'2: cache.ttl: {SECONDS}"-1s"']),
    ("[cache]\nttl = 0\n", [f"2: cache.ttl: {SECONDS}0"]),
    ("[cache]\nttl = inf\n", [f"2: cache.ttl: {SECONDS}Infinity"]),
    ("[cache]\nttl = 1e99999999999999999999\n", [f"2: cache.ttl: {SECONDS}NaN"]),
    ("[defaults.timeouts]\nidle = false\n", [f"2: defaults.timeouts.idle: {SECONDS}false"]),
    ('[ledger]\nfsync = "never"\n', ['2: ledger.fsync: expected "second" or "always", got "never"']),
    ("[ledger]\nstore_down = 1\n", ['2: ledger.store_down: expected "open" or "closed", got 1']),
    ('functions = ["meow.py"]\n', ['1: functions[0]: expected "module:object", got "meow.py"']),
]


@pytest.mark.parametrize(("text", "lines"), FAULTS)
def test_faults(text: str, lines: list[str]) -> None:
    assert faults(text) == lines


SHOWN = [
    ("plain", '"plain"'),
    ("", '""'),
    ('a"b\\c\n', '"a\\"b\\\\c\\u000a"'),
    ("x y " * 30, '"' + ("x y " * 30)[:57] + '..."'),
    ("user:password@host", "a value that is not shown"),
    ("sk-abcdefghijklmnopqrst", "a value that is not shown"),
    (True, "true"),
    (12, "12"),
    ({}, "a table"),
    ([], "a list"),
]


@pytest.mark.parametrize(("value", "text"), SHOWN)
def test_shown(value: object, text: str) -> None:
    assert shown(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [("x", "a value that is not shown"), ("", '""'), (7, "a value that is no string")]
)
def test_a_secret_is_not_shown(value: object, text: str) -> None:
    assert shown(value, secret=True) == text


@pytest.mark.parametrize(
    ("values", "text"), [((1,), "1"), (("a", "b"), '"a" or "b"'), (("a", "b", "c"), '"a", "b" or "c"')]
)
def test_one_of(values: tuple[object, ...], text: str) -> None:
    assert one_of(values) == text


GOOD = [
    (Url, ["", "http://h", "https://h:1/v1", "http://[::1]:80/"]),
    (Function, ["a:b", "a.b:c.d", "规则:答"]),
    (ProviderName, ["a", "A_b.c-1", "functions2"]),
    (HeaderName, ["x-team", "X"]),
    (Word, ["a", "a b", "喵"]),
]
BAD = [
    (
        Url,
        ["h", "ftp://h", "http://", "http://h:0", "http://h:99999", "http://[::1", "http://h#x", "http://h\n", 1, None],
    ),
    (Function, ["a", "a:", ":b", "a/b:c", "a:b:c", "1:b", 1]),
    (ProviderName, ["", "a/b", "a b", "ä", "functions", "a\n"]),
    (HeaderName, ["", "a b", "a:", "ä"]),
    (Word, ["", " ", " a", "a ", "a\tb", "\ud800", 1]),
]


@pytest.mark.parametrize(("hint", "values"), GOOD)
def test_good(hint: Any, values: list[object]) -> None:
    assert [hint.__metadata__[0].convert(value) for value in values] == values


@pytest.mark.parametrize(("hint", "value"), [(hint, value) for hint, values in BAD for value in values])
def test_bad(hint: Any, value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the message is the scalar's phrase, not the error's
        hint.__metadata__[0].convert(value)

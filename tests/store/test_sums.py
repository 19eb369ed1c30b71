"""Moments as people write them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from polymux.store.lines import DAY, GROUP, HOUR
from polymux.store.sums import BY, END, Sums, moment

START = 1_793_552_400  # 2026-11-01T17:00:00Z


def test_what_usage_is_summed_up_by_is_known_of_hours() -> None:
    columns = [column for columns in BY.values() for column in columns]
    assert set(columns) < set(GROUP)
    assert {*columns, "day", "hour"} < set(Sums.__struct_fields__)
    assert END % DAY == 0


def test_it_is_known_without_a_database() -> None:
    script = "import sys, polymux.store.sums; raise SystemExit('sqlalchemy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("7d", 10**9 - 7 * DAY),
        ("90m", 10**9 - 5400),
        ("0.5h", 10**9 - 1800),
        ("2026-11-01", START - 17 * HOUR),
        ("2026-11-01T17:00:00Z", START),
        ("2026-11-02T01:00:00+08:00", START),
        ("2026-11-01T17:00", START),
        ("1793552400.5", START + 0.5),
        ("0", 0),
    ],
)
def test_a_moment_may_be_written_in_many_ways(text: str, at: float) -> None:
    assert moment(text, 10**9) == at


def test_nothing_is_before_the_beginning_of_time() -> None:
    assert moment("7d", 1000) == 0


@pytest.mark.parametrize("text", ["", "yesterday", "7x", "-1", "1e30", "nan", "2026-13-01", "d", "0s", "99999-01-01"])
def test_what_is_no_moment_is_a_valueerror(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - what it says is the parser's matter
        moment(text, 10**9)

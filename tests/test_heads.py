"""Blocks of header lines: well formed whatever stands in the names."""

from __future__ import annotations

import pytest

from polymux.errors import Failure
from polymux.heads import LONGEST_NAME, MOST_NAMES, failure_head, limit_head, served_head
from polymux.routing.limits import Verdict
from polymux.types import Deployment


def lines(head: bytes) -> dict[str, str]:
    assert head == b"" or head.endswith(b"\r\n")
    return dict(line.split(": ", 1) for line in head.decode("ascii").split("\r\n")[:-1])


def to(model: str) -> Deployment:
    return Deployment(f"corp/{model}", "corp", model, "openai")


def test_who_served() -> None:
    assert lines(served_head(2, to("gpt/x"), ("seed",))) == {
        "x-polymux-attempts": "2",
        "x-polymux-cache": "off",
        "x-polymux-provider": "corp",
        "x-polymux-model": "gpt/x",
        "x-polymux-dropped": "seed",
    }
    assert lines(served_head(0, None, ())) == {"x-polymux-attempts": "0", "x-polymux-cache": "off"}


@pytest.mark.parametrize(("name", "shown"), [("模型", "%E6%A8%A1%E5%9E%8B"), ("a\r\nx: y", "a%0D%0Ax%3A%20y")])
def test_names_cannot_forge_a_line(name: str, shown: str) -> None:
    head = lines(served_head(1, to(name), (name,)))
    assert (head["x-polymux-model"], head["x-polymux-dropped"]) == (shown, shown)


def test_long_lists_are_cut() -> None:
    dropped = lines(served_head(1, None, ["x" * 500] * 500))["x-polymux-dropped"]
    assert dropped == ",".join(["x" * LONGEST_NAME] * MOST_NAMES) + ",..."


@pytest.mark.parametrize(
    ("failure", "head"),
    [
        (Failure("invalid_json", "x"), {}),
        (Failure("overloaded", "x"), {"retry-after": "1"}),
        (Failure("rate_limit_exceeded", "x", retry_after=1.2), {"retry-after": "2"}),
        (Failure("upstream_unavailable", "x", retry_after=0.0), {"retry-after": "1"}),
        (Failure("upstream_auth_failed", "x"), {"x-should-retry": "false"}),
    ],
)
def test_whether_to_come_back(failure: Failure, head: dict[str, str]) -> None:
    assert lines(failure_head(failure)) == head


@pytest.mark.parametrize("what", ["requests", "tokens"])
def test_limits(what: str) -> None:
    assert lines(limit_head(what.encode(), 100, Verdict(True, 99, 60.5, 0.0, 7))) == {
        f"x-ratelimit-limit-{what}": "100",
        f"x-ratelimit-remaining-{what}": "99",
        f"x-ratelimit-reset-{what}": "1m1s",
    }

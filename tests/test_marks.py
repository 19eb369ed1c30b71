from __future__ import annotations

from typing import Any

import pytest

from polymux import ModelError, model
from polymux.marks import MARK, Mark


def test_the_decorator_marks_and_changes_nothing() -> None:
    def meow(messages):
        return "meow"

    marked = model("cat")(meow)
    assert marked is meow
    assert getattr(marked, MARK) == Mark("cat", None, 100)
    assert marked([]) == "meow"


def test_the_last_mark_counts() -> None:
    @model("b", concurrency=2, queue=0)
    @model("a")
    def f(messages):
        return ""

    assert getattr(f, MARK) == Mark("b", 2, 0)


@pytest.mark.parametrize(
    ("name", "numbers", "words"),
    [
        ("", {}, "the name of a model is a text"),
        (test_the_last_mark_counts, {}, "the name of a model is a text"),  # the parentheses forgotten
        ("a", {"concurrency": 0}, "concurrency is at least 1"),
        ("a", {"queue": -1}, "queue is at least 0"),
    ],
)
def test_what_cannot_be_a_mark(name: Any, numbers: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        model(name, **numbers)


def test_an_error_with_a_status() -> None:
    error = ModelError(429, "slowly", code="tired", retry_after=7)
    assert str(error) == error.message == "slowly"
    assert (error.status, error.code, error.retry_after, error.type) == (429, "tired", 7, None)


def test_the_words_of_an_error_can_be_sent_whatever_they_were() -> None:
    error: Any = ModelError(400, ValueError("half a pair: \ud800"), code=7, type=8)  # type: ignore[arg-type]  # on purpose
    assert (error.message, error.code, error.type) == ("half a pair: ?", "7", "8")


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_what_is_no_time_to_wait(seconds: float) -> None:
    with pytest.raises(ValueError, match="retry_after is a number of seconds, not "):
        ModelError(429, "slowly", retry_after=seconds)


@pytest.mark.parametrize("status", [200, 399, 400.5, 600, "429"])
def test_what_is_no_errors_status(status: Any) -> None:
    with pytest.raises(ValueError, match=f"400 to 599, not {status}"):
        ModelError(status, "")

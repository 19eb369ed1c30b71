from __future__ import annotations

from polymux import model
from polymux.marks import MARK


def test_the_decorator_marks_and_changes_nothing() -> None:
    def meow(messages):
        return "meow"

    marked = model("cat")(meow)
    assert marked is meow
    assert getattr(marked, MARK) == "cat"
    assert marked([]) == "meow"


def test_the_last_mark_counts() -> None:
    @model("b")
    @model("a")
    def f(messages):
        return ""

    assert getattr(f, MARK) == "b"

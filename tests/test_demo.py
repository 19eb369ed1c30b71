"""The two models of the first minute."""

from __future__ import annotations

from typing import Any

import pytest

from polymux import demo
from polymux.functions import load


def test_they_are_served_as_echo_and_meow() -> None:
    assert load(["polymux.demo"]) == {"echo": demo.echo, "meow": demo.meow}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("hello", ["hello"]),
        ("hello big  world", ["hello ", "big ", " ", "world"]),
        ("", [""]),
        (None, [""]),
        ([{"type": "text", "text": "at"}, {"type": "image_url", "image_url": {}}], ["at ", "[image_url]"]),
        ([{"type": "text", "text": None}], ["[text]"]),
    ],
)
def test_echo_says_the_last_message_word_by_word(content: Any, said: list[str]) -> None:
    messages = [{"role": "user", "content": "before"}, {"role": "user", "content": content}]
    assert list(demo.echo(messages)) == said


def test_echo_takes_a_message_without_content() -> None:
    assert "".join(demo.echo([{"role": "assistant", "tool_calls": []}])) == ""


def test_meow_agrees() -> None:
    assert "喵" in demo.meow([{"role": "user", "content": "?"}])

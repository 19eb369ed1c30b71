"""The two models that answer when nothing is configured, and the shortest examples of their kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from polymux.marks import model


@model("echo")
def echo(messages: list[dict[str, Any]]) -> Iterator[str]:
    """Says the last message again, word by word."""
    content = messages[-1].get("content") or ""
    if isinstance(content, list):
        content = " ".join(part.get("text") or f"[{part.get('type')}]" for part in content)
    words = content.split(" ")
    for number, word in enumerate(words):
        yield word if number == len(words) - 1 else word + " "


@model("meow")
def meow(messages: list[dict[str, Any]]) -> str:
    """Agrees."""
    return "Meow! 喵~"

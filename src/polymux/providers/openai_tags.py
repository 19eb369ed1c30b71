"""Reasoning within `<think>` tags where an answer's text begins: told apart from the text, however the stream cuts it.

Tags that come later are text: a model may well write about them.
"""

from __future__ import annotations

from typing import Any, Final

_OPEN: Final = "<think>"
_CLOSE: Final = "</think>"


class Tags:
    """State of one streamed answer's text."""

    def __init__(self) -> None:
        self._held = ""  # what may be a part of the tag that is looked for
        self._wanted = _OPEN  # "" = there is no further tag to look for
        self._begins = False  # the next of the text or of the reasoning is the first, whose white space goes

    def feed(self, text: str) -> dict[str, Any]:
        """The members of a delta that a piece of text comes to, `content` always."""
        if not self._wanted:
            return {"content": self._first(text)}
        self._held += text
        thought = ""
        if self._wanted == _OPEN:
            start = self._held.lstrip()
            if _OPEN.startswith(start[: len(_OPEN)]):  # it is one, or may become one
                if len(start) < len(_OPEN):
                    return {"content": ""}
                self._held, self._wanted, self._begins = start[len(_OPEN) :], _CLOSE, True
            else:
                self._wanted = ""
        if self._wanted == _CLOSE:
            thought, tag, after = self._held.partition(_CLOSE)
            if not tag:
                kept = _overlap(self._held)
                thought, self._held = self._held[: len(self._held) - kept], self._held[len(self._held) - kept :]
                thought = self._first(thought)
                return {"content": "", "reasoning_content": thought} if thought else {"content": ""}
            thought = self._first(thought)
            self._held, self._wanted, self._begins = after, "", True
        content, self._held = self._first(self._held), ""
        return {"content": content, "reasoning_content": thought} if thought else {"content": content}

    def close(self) -> dict[str, Any]:
        """What was held back to the end."""
        held, self._held = self._held, ""
        return {"reasoning_content" if self._wanted == _CLOSE else "content": held} if held else {}

    def _first(self, text: str) -> str:
        if self._begins:
            text = text.lstrip()
            self._begins = not text
        return text


def untagged(text: str) -> dict[str, Any]:
    """The same for a whole text."""
    tags = Tags()
    found, rest = tags.feed(text), tags.close()
    merged = {name: found.get(name, "") + rest.get(name, "") for name in ("content", "reasoning_content")}
    return {name: value for name, value in merged.items() if value or name == "content"}


def _overlap(text: str) -> int:
    """How many characters at the end may be the beginning of the closing tag."""
    return next((size for size in range(min(len(text), len(_CLOSE) - 1), 0, -1) if _CLOSE.startswith(text[-size:])), 0)

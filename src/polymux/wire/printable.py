"""What others wrote, as it may stand in a line of a log or on a screen."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` with what does not print escaped as in Python: it can neither end a line nor steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

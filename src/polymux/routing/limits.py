"""Limits of a key: arithmetic only; time is an argument (seconds, any monotonic clock)."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from functools import lru_cache
from math import ceil
from typing import Final

import msgspec

SPAN = 60  # seconds
_BYTES: Final = 4  # of text, a token
_FILE: Final = 1000  # tokens of an image or another file that stands in the text as base64
_INLINE: Final = re.compile(rb";base64,[A-Za-z0-9+/=_\\-]*")


class Verdict(msgspec.Struct, frozen=True):
    """admitted; what is left of the limit; seconds until all of it is back; seconds until as much again fits.

    second: in which it was counted; `correct` wants it.
    """

    admitted: bool
    remaining: int
    reset: float
    wait: float
    second: int


class Window:
    """A sliding minute of one-second buckets, the oldest counted whole: never more than the limit in any 60 s.

    What is counted is requests, or tokens.
    """

    __slots__ = ("_buckets", "_newest", "_total")

    def __init__(self) -> None:
        self._newest = [-1, 0]  # [second, count]
        self._buckets: deque[list[int]] = deque()  # such pairs, oldest first, the newest included
        self._total = 0

    def admit(self, now: float, limit: int, amount: int = 1) -> Verdict:
        """Count `amount` if it fits. `limit` is per minute and may change between calls."""
        newest = self._newest
        if now >= newest[0] + 1:  # a new second; a clock that stepped back stays in the newest one
            newest = self._turn(int(now))
        if self._total + amount > limit:
            wait = self._until(now, self._total + amount - limit)
            return Verdict(False, max(0, limit - self._total), self._until(now, self._total), wait, newest[0])
        newest[1] += amount
        self._total += amount
        return Verdict(True, limit - self._total, newest[0] + SPAN + 1 - now, 0.0, newest[0])

    def correct(self, now: float, second: int, amount: int) -> None:
        """What was counted in `second` has turned out to be more, which counts now, or less: so much comes back, if
        it is still in the window."""
        newest = self._newest
        if now >= newest[0] + 1:
            newest = self._turn(int(now))
        if amount < 0:
            newest = next((bucket for bucket in self._buckets if bucket[0] == second), [0, 0])
            amount = max(amount, -newest[1])
        newest[1] += amount
        self._total += amount

    def _turn(self, second: int) -> list[int]:
        """Open the bucket of a second; let go of those that have left the window."""
        self._newest = [second, 0]
        self._buckets.append(self._newest)
        while self._buckets[0][0] < second - SPAN:
            self._total -= self._buckets.popleft()[1]
        return self._newest

    def _until(self, now: float, leaving: int) -> float:
        """Seconds until at least `leaving` of what was counted has left the window."""
        for second, count in self._buckets:
            leaving -= count
            if leaving <= 0:
                return max(0.0, second + SPAN + 1 - now)
        return float(SPAN + 1)


def tokens(size: int) -> int:
    """About how many tokens a text of so many bytes has."""
    return -(-size // _BYTES)


def prompt_tokens(parts: Iterable[memoryview]) -> int:
    """The same of a prompt, with a fixed number for each file inside it. Nothing is copied: it may be large."""
    size = files = 0
    for part in parts:
        size += len(part)
        for found in _INLINE.finditer(part):
            size -= found.end() - found.start()
            files += 1
    return tokens(size) + files * _FILE


def duration(seconds: float) -> str:
    """As OpenAI writes it in `x-ratelimit-reset-*`: `850ms`, `6s`, `1m30s`."""
    if seconds < 1:
        return f"{ceil(seconds * 1000)}ms"
    return _minutes(ceil(seconds))


@lru_cache(128)
def _minutes(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"

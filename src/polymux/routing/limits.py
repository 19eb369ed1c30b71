"""Request limits: arithmetic only; time is an argument (seconds, any monotonic clock)."""

from __future__ import annotations

from collections import deque
from math import ceil

import msgspec

SPAN = 60  # seconds


class Verdict(msgspec.Struct, frozen=True):
    """admitted; what is left of the limit; seconds until all of it is back; seconds until one more request fits."""

    admitted: bool
    remaining: int
    reset: float
    wait: float


class Window:
    """A sliding minute of one-second buckets, the oldest counted whole: never more than the limit in any 60 s."""

    __slots__ = ("_buckets", "_newest", "_total")

    def __init__(self) -> None:
        self._newest = [-1, 0]  # [second, requests]
        self._buckets: deque[list[int]] = deque()  # such pairs, oldest first, the newest included
        self._total = 0

    def admit(self, now: float, limit: int) -> Verdict:
        """Count one request if it fits. `limit` is per minute and may change between calls."""
        newest = self._newest
        if now >= newest[0] + 1:  # a new second; a clock that stepped back stays in the newest one
            newest = self._turn(int(now))
        if self._total >= limit:
            wait = self._until(now, self._total - limit + 1)
            return Verdict(False, 0, self._until(now, self._total), wait)
        newest[1] += 1
        self._total += 1
        return Verdict(True, limit - self._total, newest[0] + SPAN + 1 - now, 0.0)

    def _turn(self, second: int) -> list[int]:
        """Open the bucket of a second; let go of those that have left the window."""
        self._newest = [second, 0]
        self._buckets.append(self._newest)
        while self._buckets[0][0] < second - SPAN:
            self._total -= self._buckets.popleft()[1]
        return self._newest

    def _until(self, now: float, leaving: int) -> float:
        """Seconds until at least `leaving` requests have left the window."""
        for second, count in self._buckets:
            leaving -= count
            if leaving <= 0:
                return max(0.0, second + SPAN + 1 - now)
        return float(SPAN + 1)


def duration(seconds: float) -> str:
    """As OpenAI writes it in `x-ratelimit-reset-*`: `850ms`, `6s`, `1m30s`."""
    if seconds < 1:
        return f"{ceil(seconds * 1000)}ms"
    minutes, rest = divmod(ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"

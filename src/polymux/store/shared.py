"""Limits that hold across the workers of one machine: sliding minutes in memory that they share.

A file without a name is mapped by every worker. It is a table of SETS x WAYS slots; a slot is one name's window: the
name's digest, its newest second and 61 one-second buckets, as `routing.limits.Window` has them. A name's slot is in the
set its digest says; when a set is full, the slot that was used longest ago makes room, so up to SETS x WAYS names have
a window, and up to about a quarter of that at a time before two of them are likely to meet in a full set.

A set is guarded by a lock on one byte of the file (POSIX record locks), which the kernel lets go when a process dies.
Writes are so ordered that a death between them counts too much or nothing, never too little.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time
from bisect import bisect_left
from collections.abc import Callable
from fcntl import LOCK_EX, LOCK_UN, lockf
from hashlib import blake2b
from itertools import accumulate

from polymux.routing.limits import SPAN, Verdict

SETS = 1024
WAYS = 16
_BUCKETS = SPAN + 1
_DIGEST = 4  # words of 32 bits
_SLOT = _DIGEST + 1 + _BUCKETS  # then the newest second, then the buckets; a bucket of second s stands at s % 61
_SET = WAYS * _SLOT
_WORD = 4


def shared_file() -> int:
    """The descriptor of a new, empty table; workers inherit it. Nothing is left of it when the last one is closed."""
    size = SETS * _SET * _WORD  # pages that nobody touches take no memory
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("polymux-limits")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, size)
    return fd


class SharedCounters:
    """Implements `store.base.Counters` over a `shared_file`. `clock` must be the same for all processes (monotonic)."""

    def __init__(self, fd: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._fd = fd
        self._clock = clock
        self._words = memoryview(mmap.mmap(fd, SETS * _SET * _WORD)).cast("I")
        self._names: dict[str, tuple[int, memoryview, int]] = {}  # -> set, digest, slot at which it was last

    def admit(self, name: str, limit: int) -> Verdict:
        """Count one request against `limit` per minute, if it fits."""
        place = self._names.get(name)
        if place is None:
            place = self._learn(name)
        number, digest, at = place
        lockf(self._fd, LOCK_EX, 1, number)
        try:
            now = self._clock()  # within the lock, so that time only goes forward
            words = self._words
            if words[at : at + _DIGEST] != digest:
                at = self._slot(number, digest)
                self._names[name] = (number, digest, at)
            return self._count(at + _DIGEST, now, limit)
        finally:
            lockf(self._fd, LOCK_UN, 1, number)

    def _learn(self, name: str) -> tuple[int, memoryview, int]:
        if len(self._names) >= SETS * WAYS:
            self._names.clear()
        digest = memoryview(blake2b(name.encode(), digest_size=_DIGEST * _WORD).digest()).cast("I")
        number = digest[0] % SETS
        place = self._names[name] = (number, digest, number * _SET)
        return place

    def _slot(self, number: int, digest: memoryview) -> int:
        """Where the name's window is in its set, or a new one."""
        words = self._words
        slots = range(number * _SET, (number + 1) * _SET, _SLOT)
        for at in slots:
            if words[at : at + _DIGEST] == digest:
                return at
        oldest = min(slots, key=lambda at: words[at + _DIGEST])  # a free one is at second 0
        words[oldest : oldest + _SLOT] = memoryview(bytes(_SLOT * _WORD)).cast("I")
        words[oldest : oldest + _DIGEST] = digest
        return oldest

    def _count(self, at: int, now: float, limit: int) -> Verdict:
        """As `Window.admit`. `at`: the slot's newest second, which the buckets follow."""
        words = self._words
        newest, first = words[at], at + 1
        if now >= newest + 1:
            second = int(now)
            for gone in range(max(newest, second - _BUCKETS) + 1, second + 1):  # what left the window, before it turns
                words[first + gone % _BUCKETS] = 0
            newest = words[at] = second
        buckets = words[first : first + _BUCKETS]
        total = sum(buckets)
        if total >= limit:
            turn = (newest + 1) % _BUCKETS
            left = list(accumulate(buckets[turn:].tolist() + buckets[:turn].tolist()))  # by age, the oldest first
            waits = [newest + 1 + bisect_left(left, leaving) - now for leaving in (total, total - limit + 1)]
            return Verdict(False, 0, max(0.0, waits[0]), max(0.0, waits[1]))
        buckets[newest % _BUCKETS] += 1
        return Verdict(True, limit - total - 1, newest + SPAN + 1 - now, 0.0)

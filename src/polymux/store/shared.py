"""Limits that hold across the workers of one machine: sliding minutes in memory that they share.

A file without a name is mapped by every worker. It is a table of SETS x WAYS slots; a slot is one name's window: the
name's digest, its newest second and 61 one-second buckets, as `routing.limits.Window` has them. A name's slot is in the
set its digest says; when a set is full, the slot that was used longest ago makes room, so up to SETS x WAYS names have
a window, and up to about a quarter of that at a time before two of them are likely to meet in a full set.

A name that counts what runs at the same time has a cell for each worker instead of the buckets: how many that worker
runs, and in which of its lives. The lives of the workers stand behind the table; a worker that starts in a dead one's
place begins a new life there, and the cells of the old one count no more.

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
_LIVES = SETS * _SET  # where they begin
_WORD = 4
_SIZE = (_LIVES + _BUCKETS) * _WORD
MOST = 2**32 - 1  # a minute: larger limits count as this
TOGETHER = 2**16 - 1  # at the same time, in one worker; so many lives has its place, then they repeat


def shared_file() -> int:
    """The descriptor of a new, empty table; workers inherit it. Nothing is left of it when the last one is closed."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("polymux-limits")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, _SIZE)  # pages that nobody touches take no memory
    return fd


class SharedCounters:
    """Implements `store.base.Counters` over a `shared_file`. `clock` must be the same for all processes (monotonic).

    worker: this process's place, which no other that lives has. With more than 61 workers some share their cells: when
    one of those dies, what the other runs is not counted.
    """

    def __init__(self, fd: int, clock: Callable[[], float] = time.monotonic, worker: int = 0) -> None:
        self._fd = fd
        self._clock = clock
        self._words = memoryview(mmap.mmap(fd, _SIZE)).cast("I")
        self._names: dict[str, tuple[int, memoryview, int]] = {}  # -> set, digest, slot at which it was last
        self._cell = worker % _BUCKETS
        self._life = self._words[_LIVES + self._cell] + 1 & TOGETHER
        self._words[_LIVES + self._cell] = self._life

    def admit(self, name: str, limit: int, amount: int = 1) -> Verdict:
        number, at = self._locked(name)
        try:
            return self._count(at, self._turned(at), min(limit, MOST), amount)
        finally:
            lockf(self._fd, LOCK_UN, 1, number)

    def correct(self, name: str, second: int, amount: int) -> None:
        number, at = self._locked(name)
        try:
            words = self._words
            self._turned(at)
            newest = words[at]
            if amount > 0:
                second = newest
            elif not newest - _BUCKETS < second <= newest:
                return
            bucket = at + 1 + second % _BUCKETS
            words[bucket] = min(max(0, words[bucket] + amount), MOST)
        finally:
            lockf(self._fd, LOCK_UN, 1, number)

    def enter(self, name: str, limit: int) -> bool:
        number, at = self._locked(name)
        try:
            words = self._words
            cells, lives = words[at + 1 : at + 1 + _BUCKETS], words[_LIVES : _LIVES + _BUCKETS]
            here = [cell & TOGETHER if cell >> 16 == life else 0 for cell, life in zip(cells, lives, strict=True)]
            own = here[self._cell]
            if sum(here) >= limit or own == TOGETHER:
                return False
            cells[self._cell] = self._life << 16 | own + 1
            words[at] = max(words[at], int(self._clock()))
            return True
        finally:
            lockf(self._fd, LOCK_UN, 1, number)

    def leave(self, name: str) -> None:
        number, at = self._locked(name)
        try:
            own = self._words[at + 1 + self._cell]
            if own >> 16 == self._life and own & TOGETHER:
                self._words[at + 1 + self._cell] = own - 1
        finally:
            lockf(self._fd, LOCK_UN, 1, number)

    def _locked(self, name: str) -> tuple[int, int]:
        """The name's set, which is locked now, and where the newest second of its slot is; the rest follows that."""
        place = self._names.get(name)
        if place is None:
            place = self._learn(name)
        number, digest, at = place
        lockf(self._fd, LOCK_EX, 1, number)
        if self._words[at : at + _DIGEST] != digest:
            at = self._slot(number, digest)
            self._names[name] = (number, digest, at)
        return number, at + _DIGEST

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

    def _turned(self, at: int) -> float:
        """Now, and the slot's buckets are those of this second. Within the lock, so that time only goes forward."""
        now, words = self._clock(), self._words
        newest, first = words[at], at + 1
        if now >= newest + 1:
            second = int(now)
            for gone in range(max(newest, second - _BUCKETS) + 1, second + 1):  # what left the window, before it turns
                words[first + gone % _BUCKETS] = 0
            words[at] = second
        return now

    def _count(self, at: int, now: float, limit: int, amount: int) -> Verdict:
        """As `Window.admit`."""
        words = self._words
        newest, first = words[at], at + 1
        buckets = words[first : first + _BUCKETS]
        total = sum(buckets)
        if total + amount > limit:
            turn = (newest + 1) % _BUCKETS
            left = list(accumulate(buckets[turn:].tolist() + buckets[:turn].tolist()))  # by age, the oldest first
            waits = [newest + 1 + bisect_left(left, leaving) - now for leaving in (total, total + amount - limit)]
            return Verdict(False, max(0, limit - total), max(0.0, waits[0]), max(0.0, waits[1]), newest)
        buckets[newest % _BUCKETS] += amount
        return Verdict(True, limit - total - amount, newest + SPAN + 1 - now, 0.0, newest)

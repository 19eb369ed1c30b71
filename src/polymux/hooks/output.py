"""Lines to a descriptor, without ever waiting for who reads them: a thread writes, and what is too much is dropped."""

from __future__ import annotations

import atexit
import os
import select
import stat
import threading
from collections import deque
from collections.abc import Callable

GATHER = 0.05  # seconds in which lines gather for one write
MOST = 4 * 1024 * 1024  # bytes that wait for a slow reader; what comes on top is dropped
ATOMIC = 4096  # bytes that a pipe takes as one piece from one of several writers (PIPE_BUF)
PATIENCE = 1.0  # seconds for the rest, at the end


class Output:
    """Writes to `fd`. note: makes a line of the number of lines that were dropped.

    Each counter is written by one thread alone: `_put` and `_dropped` by the caller's, the others by the writer.
    """

    def __init__(self, fd: int, note: Callable[[int], bytes]) -> None:
        self._fd = fd
        self._note = note
        self._waiting: deque[bytes] = deque()
        self._put = self._taken = 0  # bytes
        self._dropped = self._told = 0  # lines
        self._dirty = threading.Event()
        self._closing = threading.Event()
        self._piece = ATOMIC if stat.S_ISFIFO(os.fstat(fd).st_mode) else MOST
        self._writer = threading.Thread(target=self._work, name="polymux-output", daemon=True)
        self._writer.start()
        atexit.register(self.close)

    def put(self, lines: bytes) -> None:
        """Whole lines, to be written soon. Takes no time and raises nothing."""
        if self._put - self._taken > MOST:
            self._dropped += lines.count(b"\n")
            return
        self._put += len(lines)
        self._waiting.append(lines)
        if not self._dirty.is_set():
            self._dirty.set()

    def close(self) -> None:
        """Write what waits, unless nobody reads it."""
        atexit.unregister(self.close)
        self._closing.set()
        self._dirty.set()
        self._writer.join(PATIENCE)

    def _work(self) -> None:
        try:
            while not self._closing.is_set():
                self._dirty.wait()
                self._closing.wait(GATHER)
                self._dirty.clear()
                self._write()
            self._write()
        except OSError:  # nobody reads any more; that is no reason to end
            return

    def _write(self) -> None:
        lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
        size = sum(map(len, lines))
        if (dropped := self._dropped) > self._told:
            lines.append(self._note(dropped - self._told))
            self._told = dropped
        for piece in pieces(b"".join(lines), self._piece):
            self._all(piece)
        self._taken += size

    def _all(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._fd, data) :]
            except BlockingIOError:  # who started us made it so
                select.select((), (self._fd,), ())


def pieces(data: bytes, size: int) -> list[bytes]:
    """The same in pieces of at most `size` bytes that end with a line; a longer line is a piece of its own."""
    found, start = [], 0
    while len(data) - start > size:
        end = (data.rfind(b"\n", start, start + size) + 1) or (data.find(b"\n", start) + 1) or len(data)
        found.append(data[start:end])
        start = end
    return [*found, data[start:]] if start < len(data) else found

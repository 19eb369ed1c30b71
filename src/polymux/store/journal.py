"""The ledger's first form: append-only files of JSON lines, one usage record a line.

`append` is one `write(2)` for all it is given, so a record that was appended survives the death of the process.
Against a power cut the file is synced by a thread, at most once a second and never in the way of a request, or at each
write ("always").

Each process has files of its own, a new one each day and whenever one has grown large. It holds a lock (flock) on the
one that it writes: a file that can be locked is complete. `store.shipper` moves the files into the database.

What the disk does not take stays in memory, up to BACKLOG, and is written as soon as there is room: in order, and from
the very byte at which the disk was full, so that no half line is left in the middle of a file.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Sequence
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Final, Protocol

import msgspec

from polymux.types import Record

LARGEST: Final = 64 * 1024 * 1024  # bytes of a file
BACKLOG: Final = 16 * 1024 * 1024  # bytes that wait for a disk that is full
DAY: Final = 86400.0
AGAIN: Final = 10.0  # seconds between two complaints
FILES: Final = "journal-*.jsonl"

_encode = msgspec.json.Encoder().encode_lines

log = logging.getLogger("polymux")


class Echo(Protocol):
    """Gets what is written, as it is written. It must not raise, and must not keep us waiting."""

    def wrote(self, records: Sequence[Record], lines: bytes) -> None: ...


class Journal:
    """Appends to `directory/journal-PID-DAY-CHANCE.jsonl`. Raises OSError when the first file cannot be opened.

    path: of the file that is written. failing: the disk does not take what is appended. lost: records that were dropped
    because that went on too long. largest: bytes after which a new file is begun.
    """

    def __init__(
        self, directory: Path, fsync: str = "second", echo: Echo | None = None, largest: int = LARGEST
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self._largest = largest
        self._echo = echo
        self._always = fsync == "always"
        self.failing = False
        self.lost = 0
        self._waiting = bytearray()  # what the disk has not taken
        self._flushing = threading.Lock()  # held by who writes while `failing`
        self._complained = 0.0
        self._retired: deque[int] = deque()  # files that are complete, to be synced and closed
        self._open(time.time())
        self._dirty = threading.Event()
        self._closing = threading.Event()
        self._syncer = threading.Thread(target=self._sync, name="polymux-journal", daemon=True)
        self._syncer.start()

    def append(self, records: Sequence[Record]) -> None:
        """Raises OSError after `close` alone."""
        if not records:
            return
        lines = _encode(records)
        if self._echo is not None:
            self._echo.wrote(records, lines)
        if self.failing:
            self._wait(lines)
            return
        if records[0].at >= self._until or self._size >= self._largest:
            self._rotate(records[0].at)
        try:
            written = os.write(self._fd, lines)
            while written < len(lines):
                lines = lines[written:]
                written = os.write(self._fd, lines)
        except OSError as error:
            if self._closing.is_set():
                raise
            self._fail(lines, error)
        self._size += len(lines)
        if self._always:
            self._synced(self._fd)
        elif not self._dirty.is_set():
            self._dirty.set()

    def close(self) -> None:
        """Sync and close; afterwards nothing can be appended."""
        self._closing.set()
        self._dirty.set()
        self._syncer.join()
        if self.failing and not self._flush():
            log.error("%d usage records were never written: the disk has not taken them", self._count())
        self._finish(self._fd)

    # ---- files

    def _open(self, at: float) -> None:
        day = time.strftime("%Y%m%d", time.gmtime(at))
        while True:
            path = self._directory / f"journal-{os.getpid()}-{day}-{secrets.token_hex(6)}.jsonl"
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            flock(fd, LOCK_EX)
            if os.fstat(fd).st_nlink:
                break
            os.close(fd)  # it was found before it was locked, and removed as one that somebody has left
        self.path, self._fd, self._size, self._entered = path, fd, 0, False
        self._until = at - at % DAY + DAY

    def _rotate(self, at: float) -> None:
        old = self._fd
        try:
            self._open(at)
        except OSError as error:
            log.error("no new journal could be begun, the old one is continued: %s", error)
            self._size, self._until = 0, at + DAY
            return
        self._retired.append(old)

    def _finish(self, fd: int) -> None:
        """Sync and close, which unlocks."""
        self._synced(fd)
        os.close(fd)

    def _synced(self, fd: int) -> None:
        try:
            os.fsync(fd)
        except OSError as error:
            self._complain(f"usage records may not survive a power cut: {error.strerror}")

    def _enter(self) -> bool:
        """Sync the directory: a new file is in it even after a power cut. False: not now."""
        try:
            self._finish(os.open(self._directory, os.O_RDONLY))
        except OSError:  # as many files are open as may be; it is tried again
            return False
        return True

    def _sync(self) -> None:
        while not self._closing.is_set():
            self._dirty.wait()
            self._dirty.clear()
            self._synced(self._fd)
            if not self._entered:
                self._entered = self._enter()
            while self._retired:
                self._finish(self._retired.popleft())
            self._closing.wait(1.0)
            if self.failing and not self._flush():
                self._dirty.set()

    # ---- a disk that is full

    def _fail(self, lines: bytes, error: OSError) -> None:
        with self._flushing:
            self.failing = True
            self._complained = 0.0
            self._hold(lines)
            self._dirty.set()
        self._complain(f"usage records cannot be written: {error.strerror}")

    def _wait(self, lines: bytes) -> None:
        """Append, behind what waits already."""
        room = self._flush()
        with self._flushing:
            self._hold(lines)
        if room:
            self._flush()

    def _hold(self, lines: bytes) -> None:
        if len(self._waiting) + len(lines) <= BACKLOG:
            self._waiting += lines
        else:
            self.lost += lines.count(b"\n")

    def _flush(self) -> bool:
        """Try to write what waits; whether all is written."""
        with self._flushing:
            try:
                while self._waiting:
                    del self._waiting[: os.write(self._fd, self._waiting)]
            except OSError as error:
                self._complain(
                    f"usage records cannot be written: {error.strerror}; {self._count()} wait in memory, "
                    f"{self.lost} are lost"
                )
                return False
            if self.failing:
                self.failing = False
                log.error("usage records are written again; %d were lost", self.lost)
            return True

    def _count(self) -> int:
        return self._waiting.count(b"\n")

    def _complain(self, text: str) -> None:
        now = time.monotonic()
        if not self._complained or now - self._complained >= AGAIN:
            self._complained = now
            log.error("%s", text)

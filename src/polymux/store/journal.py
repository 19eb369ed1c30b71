"""The ledger's first form: an append-only file of JSON lines, one usage record a line.

`append` is one `write(2)` for all it is given, so a record that was appended survives the death of the process.
Against a power cut the file is synced by a thread, at most once a second and never in the way of a request, or at each
write ("always").
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from polymux.types import Record

_encode = msgspec.json.Encoder().encode_lines


class Echo(Protocol):
    """Gets what is written, as it is written. It must not raise, and must not keep us waiting."""

    def wrote(self, records: Sequence[Record], lines: bytes) -> None: ...


class Journal:
    """Appends to `directory/journal-PID.jsonl`. Raises OSError when the file cannot be opened or written."""

    def __init__(self, directory: Path, fsync: str = "second", echo: Echo | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path = directory / f"journal-{os.getpid()}.jsonl"
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._echo = echo
        self._always = fsync == "always"
        self._dirty = threading.Event()
        self._closing = threading.Event()
        self._syncer = threading.Thread(target=self._sync, name="polymux-journal", daemon=True)
        self._syncer.start()

    def append(self, records: Sequence[Record]) -> None:
        lines = _encode(records)
        if self._echo is not None:
            self._echo.wrote(records, lines)
        while lines:  # a write may take less than it was given
            lines = lines[os.write(self._fd, lines) :]
        if self._always:
            os.fsync(self._fd)
        elif not self._dirty.is_set():
            self._dirty.set()

    def close(self) -> None:
        """Sync and close; afterwards nothing can be appended."""
        self._closing.set()
        self._dirty.set()
        self._syncer.join()
        os.fsync(self._fd)
        os.close(self._fd)

    def _sync(self) -> None:
        while not self._closing.is_set():
            self._dirty.wait()
            self._dirty.clear()
            os.fsync(self._fd)
            self._closing.wait(1.0)

"""The keys as requests see them: those of the configuration and those of the database, in memory, soon up to date."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from polymux.store.memory import StaticKeys, digest
from polymux.types import Key

if TYPE_CHECKING:
    from polymux.store.keys import Entry, KeyStore

EVERY: Final = 0.5  # seconds between two looks at the database

log = logging.getLogger("polymux")


class _Bounded(NamedTuple):
    """A secret that is good until a moment (Unix seconds); after it, `why` it is not."""

    key: Key
    until: float
    why: str


class LiveKeys:
    """Implements `store.base.Keys`. What changes in the database holds within a second, here and in other processes.

    Raises `Unusable` when the keys cannot be read at first; later the last ones stay.
    """

    def __init__(self, store: KeyStore, static: StaticKeys, clock: Callable[[], float] = time.time) -> None:
        self.store = store
        self._clock = clock
        self._reading = threading.Lock()
        self._arranging = threading.Lock()  # never held while the disk is waited for
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing = False
        self._revision = -1
        self._entries: list[Entry] = []
        self.static = static
        self._good: dict[bytes, Key] = {}  # for good
        self._bounded: dict[bytes, _Bounded] = {}
        self.refresh()

    def find(self, secret: str) -> Key | None:
        mark = digest(secret)
        key = self._good.get(mark)
        if key is not None or mark not in self._bounded:
            return key
        bounded = self._bounded[mark]
        return bounded.key if self._clock() < bounded.until else None

    def reason(self, secret: str) -> str:
        bounded = self._bounded.get(digest(secret))
        return bounded.why if bounded and self._clock() >= bounded.until else ""

    def follow(self, static: StaticKeys) -> None:
        """Other keys are in the configuration."""
        with self._arranging:
            self.static = static
            self._arrange()

    def refresh(self) -> None:
        """Take over what has changed in the database, now. Waits for the disk. Raises `Unusable`."""
        with self._reading:
            if (found := self.store.snapshot(self._revision)) is not None:
                with self._arranging:
                    self._revision, self._entries = found
                    self._arrange()

    def begin(self) -> None:
        """Look at the database from time to time, in a thread."""
        self._thread = threading.Thread(target=self._poll, name="polymux-keys", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def _poll(self) -> None:
        while not self._closing.wait(EVERY):
            try:
                self.refresh()
            except Exception as error:  # whatever it is, the gateway goes on with the keys that it has
                if not self._failing:
                    log.warning("%s; until that is over the keys are those read last", error)
                self._failing = True
            else:
                if self._failing:
                    log.warning("the keys can be read again")
                self._failing = False

    def _arrange(self) -> None:
        good: dict[bytes, Key] = dict(self.static.by_digest)
        bounded: dict[bytes, _Bounded] = {}
        for entry in self._entries:
            key = entry.key
            whole = _bounds(key)
            if whole is None:
                good[entry.digest] = key
            else:
                bounded[entry.digest] = whole
            if entry.old is not None and key.old_until is not None:
                old = _Bounded(key, key.old_until, f"was replaced, and was good until {said(key.old_until)}")
                bounded[entry.old] = min(whole, old, key=lambda one: one.until) if whole else old
        self._good, self._bounded = good, bounded


def _bounds(key: Key) -> _Bounded | None:
    if not key.enabled:
        return _Bounded(key, 0.0, "is disabled")
    if key.expires_at is not None:
        return _Bounded(key, key.expires_at, f"expired on {said(key.expires_at)}")
    return None


def said(at: float) -> str:
    """A moment for people."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"

"""Conversations on their way into the database: put together, cleaned and written by a thread, gone after their time.

Nothing on a request's path waits. What waits to be written is bounded: when the database fails or is too slow, what is
more is not kept, counted and told. What cannot be cleaned is not kept either. See `surfaces.conversation` for how the
bytes become JSON, `wire.redact` for what is taken out of it, `store.conversations` for how it is read.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec
from sqlalchemy import delete, select

from polymux.store.base import Spoken, Unusable
from polymux.store.database import Database, insert_new
from polymux.store.tables import CONVERSATIONS
from polymux.surfaces.conversation import assembled, decoded
from polymux.wire.redact import without_media
from polymux.wire.trim import trimmed

ROOM: Final = 64 * 1024 * 1024  # bytes of what is under way or waits
MOST: Final = 10_000  # that wait
BATCH: Final = 64  # of a transaction
EVERY: Final = 0.2  # seconds in which they gather
PAUSE: Final = 0.001  # seconds in which others of this process may run, after each
LONGEST: Final = 30.0  # seconds between two attempts, while the database fails
TELL: Final = 10.0  # seconds between two lines of the log
SWEEP: Final = 600.0  # seconds between two looks for those that are too old
SWEPT: Final = 500  # of a transaction

log = logging.getLogger("polymux")

Row = dict[str, Any]


class Keeper:
    """Implements `store.base.Conversations`. `start` begins the thread, `close` writes what is left.

    retention: seconds; it may be changed. lost: what could not be kept. short: how often there was no room for all of
    one. Each of the counters is written by one thread alone: the event loop's, or whoever holds `_working`.
    """

    def __init__(
        self, database: Database, retention: float, clock: Callable[[], float] = time.time, room: int = ROOM
    ) -> None:
        self.retention = retention
        self.short = 0
        self._database = database
        self._clock = clock
        self._room = room
        self._taken = self._given = 0  # bytes of the room: by the loop, by the thread
        self._refused = self._failed = 0  # conversations: likewise
        self._waiting: deque[Spoken] = deque()
        self._rows: list[Row] = []  # ready, and not written yet
        self._told = (0, 0)  # lost and short, as the log has it
        self._told_at = 0.0
        self._swept = 0.0
        self._working = threading.Lock()
        self._changed = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def lost(self) -> int:
        return self._refused + self._failed

    # ---- on requests' paths

    def take(self, size: int) -> bool:
        held = self._taken - self._given
        if held and held + size > self._room:
            self.short += 1
            return False
        self._taken += size
        return True

    def put(self, spoken: Spoken) -> None:
        if len(self._waiting) >= MOST:
            self._taken -= spoken.size
            self._refused += 1
            return
        self._waiting.append(spoken)
        if not self._changed.is_set():
            self._changed.set()

    # ---- in threads

    def start(self) -> None:
        self._changed.set()  # at once, for what has become too old meanwhile
        self._thread = threading.Thread(target=self._run, name="polymux-conversations", daemon=True)
        self._thread.start()

    def flush(self) -> None:
        """Write what has ended up to now, and remove what is too old. Raises `Unusable`; then it is tried again."""
        with self._working:
            count = len(self._waiting)
            while count or self._rows:
                while count and len(self._rows) < BATCH:
                    self._prepare(self._waiting.popleft())
                    count -= 1
                self._write()
            self._sweep()

    def close(self) -> None:
        """Afterwards nothing is kept any more."""
        self._closing.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join()
        try:
            self.flush()
        except Unusable as error:
            self._failed += len(self._rows) + len(self._waiting)
            log.error("the last conversations are not kept: %s", error)
        self._tell(0.0)

    def _run(self) -> None:
        pause, failing = EVERY, False
        while not self._closing.wait(pause):
            if not failing:
                self._changed.wait(SWEEP)
            self._changed.clear()
            try:
                self.flush()
            except Unusable as error:
                if not failing:
                    log.error("conversations wait to be kept, as long as there is room: %s", error)
                pause, failing = min(LONGEST, pause * 2), True
            else:
                if failing:
                    log.warning("conversations are kept again")
                pause, failing = EVERY, False
            self._tell(TELL)

    def _tell(self, every: float) -> None:
        told, now = (self.lost, self.short), time.monotonic()
        if told == self._told or now - self._told_at < every:
            return
        lost, short = self.lost - self._told[0], self.short - self._told[1]
        self._told, self._told_at = told, now
        log.error("%d conversations could not be kept, and %d times there was no room for all of one", lost, short)

    def _prepare(self, spoken: Spoken) -> None:
        try:
            self._rows.append(row_of(spoken))
        except Exception:  # what cannot be cleaned is not kept
            self._failed += 1
            log.exception("a conversation could not be read, and is not kept: %s", spoken.record.id)
        self._given += spoken.size
        if self._thread is not None and not self._closing.is_set():
            time.sleep(PAUSE)

    def _write(self) -> None:
        if self._rows:
            try:
                with self._database.begin() as connection:
                    insert_new(connection, CONVERSATIONS, self._rows)
            except Unusable:
                raise
            except Exception as error:  # whatever it is, it would be in the way of all that come after them
                self._failed += len(self._rows)
                count, kind = len(self._rows), type(error).__name__  # its words may hold what was said
                log.error("%d conversations cannot be written, and are not kept: %s", count, kind)
            self._rows = []

    def _sweep(self) -> None:
        now = self._clock()
        if 0 <= now - self._swept < SWEEP:
            return
        old = select(CONVERSATIONS.c.id).where(CONVERSATIONS.c.at < now - self.retention).limit(SWEPT)
        while True:
            with self._database.connect() as connection:
                found = list(connection.execute(old).scalars())
            if found:
                with self._database.begin() as connection:
                    connection.execute(delete(CONVERSATIONS).where(CONVERSATIONS.c.id.in_(found)))
            if len(found) < SWEPT or self._closing.is_set():
                break
        self._swept = now


def row_of(spoken: Spoken) -> Row:
    """A conversation as the database has it: without what is not to be kept, and not larger than it may be."""
    record, keeping = spoken.record, spoken.keeping
    clean = keeping.redactor
    answer = b"".join(spoken.answer)
    if spoken.streamed:
        response = assembled(record.surface, answer, record.model, int(record.at))
    else:
        response = decoded(answer) if answer else None
    said = {"request": decoded(spoken.request), "response": response, "notes": [*spoken.notes]}
    short, cut = trimmed({name: without_media(one) for name, one in said.items()}, keeping.max_size)
    body, more = trimmed({name: clean.json(one) for name, one in (short or {}).items()}, keeping.max_size)
    names = ("model", "upstream_model")  # the clients' to invent
    counts = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
    who = ("key_id", "key_name", "tenant", "provider")  # in the operator's words, by which conversations are found
    same = ("id", "at", "surface", "status", "error_code", "stream", "parent_id", *who, *counts)
    return {
        **{name: getattr(record, name) for name in same},
        **{name: clean.name(getattr(record, name)) for name in names},
        "cut": cut or more or spoken.cut or (said["request"] is None and spoken.request != b""),
        "body": msgspec.json.encode(body or dict.fromkeys(said)).decode(),
    }

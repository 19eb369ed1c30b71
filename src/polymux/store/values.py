"""Small values over the database, kept apart by tenant: at hand in memory, written by a thread, gone after their time.

Nothing on a request's path waits: `get` looks at what is at hand, `put` and `delete` are written within a moment,
`load` reads in a thread, `take` reads and removes there. What another process changes is seen after `FRESH` seconds at
the latest.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from sqlalchemy import and_, delete, select

from polymux.store.base import LARGEST
from polymux.store.database import Database, upsert
from polymux.store.tables import MEMORY

AT_HAND: Final = 10_000  # values
ROOM: Final = 64 * 1024 * 1024  # bytes of all values at hand
FRESH: Final = 5.0  # seconds for which what is at hand is taken as it is
AHEAD: Final = 2 * FRESH  # what is fresh for longer, was read before the clock was set back
EVERY: Final = 0.2  # seconds between two writes
SWEEP: Final = 60.0  # seconds between two looks for what has expired

log = logging.getLogger("polymux")

Place = tuple[str, str]  # tenant, name


class _Held(NamedTuple):
    """value: None = there is none. until: Unix seconds. fresh: until when it need not be read again."""

    value: bytes | None
    until: float
    fresh: float


class _Shelf(OrderedDict[Place, _Held]):
    """What was put last; the oldest make room."""

    def __init__(self, most: int, room: int) -> None:
        super().__init__()
        self._most, self._room, self._size = most, room, 0

    def put(self, place: Place, held: _Held) -> None:
        self.drop(place)
        self[place] = held
        self._size += len(held.value or b"")
        while len(self) > self._most or self._size > self._room:
            self.drop(next(iter(self)))

    def drop(self, place: Place) -> None:
        if (held := self.pop(place, None)) is not None:
            self._size -= len(held.value or b"")


class StoredMemory:
    """Implements `store.base.Memory`. While the database fails, what was put stays at hand, and is written later."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time, most: int = AT_HAND) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._writing = threading.Lock()  # what is about to be written must not come back after it was taken
        self._held = _Shelf(most, ROOM)
        self._unwritten = _Shelf(most, ROOM)
        self._changed = threading.Event()
        self._closing = threading.Event()
        self._failing = False
        self._swept = 0.0
        self._thread: threading.Thread | None = None  # runs from the first value on

    def get(self, tenant: str, name: str) -> bytes | None:
        held = self._at_hand((tenant, name))
        return held.value if held else None

    async def load(self, tenant: str, name: str) -> bytes | None:
        """Raises `Unusable`."""
        held = self._at_hand((tenant, name))
        return held.value if held else await asyncio.to_thread(self._read, (tenant, name))

    async def take(self, tenant: str, name: str) -> bytes | None:
        """Raises `Unusable`."""
        return await asyncio.to_thread(self._take, (tenant, name))

    def put(self, tenant: str, name: str, value: bytes, ttl: float) -> None:
        if len(value) > LARGEST:
            raise ValueError(f"{len(value)} bytes are more than the {LARGEST} that are kept of one value")
        self._set((tenant, name), value, self._clock() + ttl)

    def delete(self, tenant: str, name: str) -> None:
        self._set((tenant, name), None, 0.0)

    def flush(self) -> None:
        """Write what is not written yet, and remove what has expired. Raises `Unusable`."""
        with self._writing:
            self._flush()

    def close(self) -> None:
        """Write the rest; afterwards nothing is written any more."""
        self._closing.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join()

    def _at_hand(self, place: Place) -> _Held | None:
        """None when the database has to be asked."""
        now = self._clock()
        with self._lock:
            held = self._unwritten.get(place)
            if held is None:
                held = self._held.get(place)
                if held is None or not 0 < held.fresh - now < AHEAD:
                    return None
                self._held.move_to_end(place)
        return held if now < held.until else held._replace(value=None)

    def _set(self, place: Place, value: bytes | None, until: float) -> None:
        held = _Held(value, until, self._clock() + FRESH)
        with self._lock:
            self._unwritten.put(place, held)
            self._held.put(place, held)
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="polymux-memory", daemon=True)
                self._thread.start()
        self._changed.set()

    def _read(self, place: Place) -> bytes | None:
        tenant, name = place
        query = select(MEMORY.c.value, MEMORY.c.expires_at).where(MEMORY.c.tenant == tenant, MEMORY.c.name == name)
        fresh = self._clock() + FRESH
        with self._database.connect() as connection:
            row = connection.execute(query).first()
        held = _Held(row.value, row.expires_at, fresh) if row else _Held(None, 0.0, fresh)
        with self._lock:
            newer = self._held.get(place)
            if newer is not None and 0 < newer.fresh - fresh < AHEAD:  # it was put while we were reading
                held = newer
            else:
                self._held.put(place, held)
        return held.value if self._clock() < held.until else None

    def _take(self, place: Place) -> bytes | None:
        tenant, name = place
        this = and_(MEMORY.c.tenant == tenant, MEMORY.c.name == name)
        with self._writing:
            self._flush()
            with self._database.begin() as connection:
                row = connection.execute(select(MEMORY.c.value, MEMORY.c.expires_at).where(this)).first()
                taken = connection.execute(delete(MEMORY).where(this)).rowcount == 1
        now = self._clock()
        with self._lock:
            if place not in self._unwritten:
                self._held.put(place, _Held(None, 0.0, now + FRESH))
        return row.value if row and taken and now < row.expires_at else None

    def _flush(self) -> None:
        with self._lock:
            changes = dict(self._unwritten)
        self._store(changes)
        with self._lock:
            for place, held in changes.items():
                if self._unwritten.get(place) is held:  # else it has changed since
                    self._unwritten.drop(place)

    def _store(self, changes: Mapping[Place, _Held]) -> None:
        now = self._clock()
        sweeps = not 0 <= now - self._swept < SWEEP
        if not changes and not sweeps:
            return
        kept = [
            {"tenant": tenant, "name": name, "value": held.value, "expires_at": held.until}
            for (tenant, name), held in changes.items()
            if held.value is not None and held.until > now
        ]
        with self._database.begin() as connection:
            if kept:
                upsert(connection, MEMORY, kept)
            for (tenant, name), held in changes.items():
                if held.value is None or held.until <= now:
                    connection.execute(delete(MEMORY).where(and_(MEMORY.c.tenant == tenant, MEMORY.c.name == name)))
            if sweeps:
                connection.execute(delete(MEMORY).where(MEMORY.c.expires_at <= now))
                self._swept = now

    def _write(self) -> None:
        while not self._closing.is_set():
            self._changed.wait(SWEEP)
            self._changed.clear()
            try:
                self.flush()
            except Exception as error:  # whatever it is, the next round may do better
                if not self._failing:
                    log.warning("what is remembered between requests is not written: %s", error)
                self._failing = True
                self._changed.set()
            else:
                self._failing = False
            self._closing.wait(EVERY)
        try:
            self.flush()
        except Exception as error:
            log.warning("what was remembered between requests is lost: %s", error)

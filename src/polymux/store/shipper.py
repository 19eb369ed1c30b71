"""From the journals into the database: every record once, whatever dies in between.

How far a file has been moved is written in the same transaction as its records, so a death at any moment neither loses
nor doubles one; and a record that is there already, by its id, adds nothing to the sums of its hour. Of all processes
that share a data directory one moves the files, of all of them; the others stand by and take over. A file that its
writer has let go of is complete: what is left of a line at its end will never be whole.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, bindparam, delete, func, select
from sqlalchemy.exc import IntegrityError

from polymux.store.base import Unusable
from polymux.store.database import Database, upsert
from polymux.store.journal import FILES
from polymux.store.lines import COLUMNS, HOUR, SUMS, Line, cut, days, hours, parse, row, totals
from polymux.store.tables import DAYS, HOURS, JOURNALS, RECORDS, STATE, TOTALS

EVERY: Final = 0.5  # seconds between two rounds
LONGEST: Final = 30.0  # seconds between two, while the database fails
PAUSE: Final = 0.0005  # seconds in which others of this process may run, after each slice
PILE: Final = 256 * 1024 * 1024  # bytes that may wait in journals while requests come
REST: Final = 19.0  # times the CPU it takes for a batch, it rests: one part in twenty of a core
LAST: Final = 5.0  # seconds to move what is left at the end
SLICE: Final = 64  # lines
BATCH: Final = 1024  # lines of a transaction
CHUNK: Final = 512 * 1024  # bytes to read at once
KEEP: Final = 3600.0  # seconds that a file is kept after all of it has been moved
KEPT_FROM: Final = "records_from"  # the row of `state`: there are no records before this second
SWEEP: Final = 600.0  # seconds between two looks for records that are too old
SWEPT: Final = 2000  # records of a transaction
_KNOWN: Final = select(RECORDS.c.id).where(RECORDS.c.id.in_(bindparam("ids", expanding=True)))
_LAST_OLD: Final = select(func.max(RECORDS.c.at)).where(RECORDS.c.at < bindparam("before"))
_OLD: Final = select(RECORDS.c.seq).where(RECORDS.c.at < bindparam("before")).limit(SWEPT)

log = logging.getLogger("polymux")


class Shipper:
    """Moves what stands in `data_dir/journal`. `start` does so in a thread, until `close`; `ship` does it once.

    retention: seconds that records are kept, 0 = for ever; the sums of their hours stay. bad: lines that were no
    records. busy: whether requests need the time. Raises OSError when `data_dir` cannot be written.
    """

    def __init__(
        self, database: Database, data_dir: Path, retention: float = 0.0, busy: Callable[[], bool] = lambda: False
    ) -> None:
        self._database = database
        self._directory = data_dir / "journal"
        self._retention = retention
        self.bad = 0
        self._busy = busy
        self._lock = os.open(data_dir / "journal.lock", os.O_RDWR | os.O_CREAT, 0o600)
        self._leading = False
        self._round = threading.Lock()  # of two threads of this process, one at a time
        self._offsets: dict[str, int] | None = None
        self._done: set[str] = set()  # files that are complete and have been moved
        self._pause = 0.0
        self._swept = 0.0
        self._asked = False
        self._until = 0.0  # when an end comes, the time for what is left
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._pause = PAUSE
        self._thread = threading.Thread(target=self._run, name="polymux-shipper", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Move now what there is, instead of soon."""
        self._wake.set()

    def close(self) -> None:
        """End the thread, move what is left, and let others take over."""
        self._until = time.monotonic() + LAST
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self._pause = 0.0
        try:
            self.ship()
        except (Unusable, OSError) as error:
            log.error("the last usage records stay in the journal until the next start: %s", error)
        os.close(self._lock)

    def ship(self) -> bool:
        """Move all there is; False: another process does. Raises `Unusable` and OSError."""
        with self._round:
            if not self._leads():
                return False
            try:
                for path in sorted(self._directory.glob(FILES)):
                    self._file(path)
                self._sweep()
            except (Unusable, OSError):
                self._offsets = None  # who knows what was committed
                raise
            return True

    def catch_up(self, patience: float = 1.0) -> bool:
        """Wait until what stands in the journals now is in the database, whoever moves it; whether it is."""
        end = time.monotonic() + patience
        sizes = self._sizes()
        self.wake()
        while self._behind(sizes):
            if time.monotonic() > end:
                return False
            self._closing.wait(0.02)
        return True

    def behind(self) -> int:
        """Bytes that stand in journals and not in the database yet. Raises `Unusable`."""
        return self._behind(self._sizes())

    def _behind(self, sizes: Mapping[str, int]) -> int:
        with self._database.connect() as connection:
            moved = _offsets(connection)
        return sum(max(0, size - moved.get(name, 0)) for name, size in sizes.items())

    def _sizes(self) -> dict[str, int]:
        return {path.name: _stat(path)[0] for path in self._directory.glob(FILES)}

    def due(self) -> bool:
        """Whether to move anything now: while requests need the time it waits until it is asked, or until a lot has
        piled up."""
        return self._asked or not self._busy() or self._pile() >= PILE

    def _pile(self) -> int:
        moved = self._offsets or {}
        return sum(max(0, size - moved.get(name, 0)) for name, size in self._sizes().items())

    # ---- one at a time

    def _leads(self) -> bool:
        if not self._leading and _locks(self._lock):
            self._leading, self._offsets = True, None
        return self._leading

    def _run(self) -> None:
        pause = EVERY
        while not self._closing.is_set():
            self._asked = self._wake.wait(pause)
            self._wake.clear()
            if self._closing.is_set():
                return
            if not self.due():
                continue
            try:
                self.ship()
            except (Unusable, OSError) as error:
                if pause == EVERY:
                    log.error("usage records stay in the journal for now: %s", error)
                pause = min(LONGEST, pause * 2)
            except Exception:
                if pause != LONGEST:
                    log.exception("usage records stay in the journal for now")
                pause = LONGEST
            else:
                if pause != EVERY:
                    log.warning("usage records go into the database again")
                pause = EVERY

    # ---- files

    def _file(self, path: Path) -> None:
        if path.name in self._done:
            self._forget(path)
            return
        with _opened(path) as fd:
            complete = _locks(fd)  # before its size is asked for: then it will not grow
            began = time.thread_time()
            for lines, end in self._read(path, fd, complete):
                self._move(path.name, lines, end)
                if self._closing.is_set() and time.monotonic() > self._until:
                    return  # the rest is moved at the next start
                if self._pause and not self.due():
                    return
                if self._pause and not self._asked:
                    self._asked = self._wake.wait((time.thread_time() - began) * REST)
                    began = time.thread_time()
            if complete:
                self._done.add(path.name)
                self._forget(path)

    def _known_offset(self, name: str) -> int:
        if self._offsets is None:
            with self._database.connect() as connection:
                self._offsets = _offsets(connection)
        return self._offsets.get(name, 0)

    def _read(self, path: Path, fd: int, complete: bool) -> Iterator[tuple[list[Line], int]]:
        """What has not been moved yet, in batches, and where each ends."""
        offset, size, want = self._known_offset(path.name), os.fstat(fd).st_size, CHUNK
        bad = 0
        while offset < size:
            data = os.pread(fd, min(want, size - offset), offset)
            texts, taken = cut(data, complete and offset + len(data) >= size)
            if not taken:
                if len(data) < want:
                    break  # the line is still being written
                want *= 2
                continue
            want = CHUNK
            for start in range(0, len(texts), BATCH):
                batch = texts[start : start + BATCH]
                lines, wrong = self._parse(batch)
                if wrong and not bad:
                    at = offset + sum(len(text) + 1 for text in batch[: wrong[0]])
                    log.error("%s: what stands at byte %d is no usage record, and is skipped", path, at)
                bad += len(wrong)
                moved = taken if start + BATCH >= len(texts) else sum(map(len, batch)) + BATCH
                offset, taken = offset + moved, taken - moved
                yield lines, offset
        self.bad += bad

    def _parse(self, texts: Sequence[bytes]) -> tuple[list[Line], list[int]]:
        """Lines, and the numbers of those that are none."""
        lines, wrong = [], []
        for number, text in enumerate(texts):
            try:
                lines.append(parse(text))
            except ValueError:
                wrong.append(number)
            if self._pause and not number % SLICE:
                time.sleep(self._pause)
        return lines, wrong

    def _forget(self, path: Path) -> None:
        """Remove a file that has been moved, some time after."""
        size, changed = _stat(path)
        if size and time.time() - changed < KEEP:
            return
        if size:
            with self._database.begin(durable=True) as connection:  # and with it, all that was written before
                upsert(connection, JOURNALS, [{"name": path.name, "offset": size}])
        with self._database.begin() as connection:
            connection.execute(delete(JOURNALS).filter_by(name=path.name))
            path.unlink(missing_ok=True)  # before the end: what has no offset would be moved again
        self._done.discard(path.name)

    # ---- the database

    def _move(self, name: str, lines: Sequence[Line], end: int) -> None:
        unique = list({line.record.id: line for line in lines}.values())
        try:
            with self._database.begin() as connection:
                self._insert(connection, unique)
                upsert(connection, JOURNALS, [{"name": name, "offset": end}])
        except IntegrityError:  # some are there already
            with self._database.begin() as connection:
                ids = [line.record.id for line in unique]
                known = set(connection.execute(_KNOWN, {"ids": ids}).scalars())
                self._insert(connection, [line for line in unique if line.record.id not in known])
                upsert(connection, JOURNALS, [{"name": name, "offset": end}])
        if self._offsets is not None:
            self._offsets[name] = end

    def _insert(self, connection: Connection, lines: Sequence[Line]) -> None:
        start, size = 0, SLICE  # many rows a statement: each one gives the others' threads a turn
        while start < len(lines):
            while size > len(lines) - start:
                size //= 2  # SQLite's driver keeps the statements that it has read, so there are to be few of them
            rows = [row(line) for line in lines[start : start + size]]
            start += size
            connection.exec_driver_sql(
                _statement(connection, len(rows)), tuple([value for row in rows for value in row])
            )
        if added := hours(lines):
            for table, sums in ((HOURS, added), (DAYS, days(added)), (TOTALS, totals(added))):
                upsert(connection, table, sums, add=SUMS)

    def _sweep(self) -> None:
        """Remove the records that are too old, whole hours of them."""
        now = time.time()
        if not self._retention or 0 <= now - self._swept < SWEEP:
            return
        before = int(now - self._retention) // HOUR * HOUR
        with self._database.begin() as connection:  # first: sums of parts of those hours cannot be made from now on
            kept = connection.execute(select(STATE.c.value).where(STATE.c.name == KEPT_FROM)).scalar() or 0
            last = connection.execute(_LAST_OLD, {"before": before}).scalar()
            if last is not None:  # not `before`: a clock that is ahead would spoil the sums of what is yet to come
                upsert(connection, STATE, [{"name": KEPT_FROM, "value": max(int(last) // HOUR * HOUR + HOUR, kept)}])
        while not self._closing.is_set():
            with self._database.begin() as connection:
                found = list(connection.execute(_OLD, {"before": before}).scalars())
                if found:
                    connection.execute(delete(RECORDS).where(RECORDS.c.seq.in_(found)))
            if len(found) < SWEPT:
                break
        self._swept = now


def _statement(connection: Connection, rows: int) -> str:
    """An INSERT of many rows. Written out, for SQLAlchemy's own takes as long as all the rest."""
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    values = f"({', '.join([mark] * len(COLUMNS))})"
    return f"INSERT INTO records ({', '.join(COLUMNS)}) VALUES {', '.join([values] * rows)}"  # noqa: S608 - our own names


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR)
    try:
        yield fd
    finally:
        os.close(fd)


def _locks(fd: int) -> bool:
    """Whether nobody else holds it; then we do, until it is closed."""
    try:
        flock(fd, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _offsets(connection: Connection) -> dict[str, int]:
    rows = connection.execute(select(JOURNALS.c.name, JOURNALS.c.offset))
    return {row.name: row.offset for row in rows}


def _stat(path: Path) -> tuple[int, float]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0.0
    return found.st_size, found.st_mtime

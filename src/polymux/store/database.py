"""The database: SQLite in the data directory. What SQLite alone understands is said in this file and nowhere else.

Everything here waits for a disk: it belongs in threads, not in the event loop. A `Database` may be used by many threads
and its file by many processes: readers see the last commit, one writer at a time holds the file while others wait.
Sources: SQLite's manual (WAL mode, PRAGMA, transactions, result codes); SQLAlchemy's on the SQLite dialect.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Connection, Engine, Table, create_engine, event, inspect
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError

from polymux.store.base import Unusable
from polymux.store.tables import METADATA, STATE

HEAD: Final = "0002"  # the newest revision in `migrations`
NAME: Final = "polymux.db"
BUSY: Final = 10.0  # seconds that a writer waits for another

_DAMAGED: Final = (
    "{path} is damaged, or is no database ({error}). Stop the gateway, move this file and those beside it that begin "
    "with its name out of the way, and put a backup in its place; without one Polymux starts with an empty database"
)
_NO_WRITE: Final = "cannot write to the data directory {directory}: {error}"
_REASONS: Final[Mapping[str, str]] = MappingProxyType(  # the beginning of a result code's name -> words
    {
        "SQLITE_NOTADB": _DAMAGED,
        "SQLITE_CORRUPT": _DAMAGED,
        "SQLITE_FULL": _NO_WRITE,
        "SQLITE_READONLY": _NO_WRITE,
        "SQLITE_CANTOPEN": _NO_WRITE,
        "SQLITE_IOERR": _NO_WRITE,
        "SQLITE_BUSY": "{path} is held by another process for more than " + f"{BUSY:.0f} seconds",
        "": "the database {path} failed: {error}",
    }
)


class Database:
    """A database that is there, can be written and has all tables. Every method raises `Unusable`, in words, when the
    file or the disk fails; `IntegrityError` of SQLAlchemy passes.

    url: "sqlite" is a file in `data_dir`.
    """

    def __init__(self, url: str, data_dir: Path) -> None:
        if url != "sqlite":
            raise Unusable("this version keeps its database in a file: the only database_url is 'sqlite'")
        self.path = data_dir / NAME
        self._engine = _engine(self.path)
        self._writer = self._engine.execution_options(begin="IMMEDIATE", synchronous="NORMAL")
        self._durable = self._engine.execution_options(begin="IMMEDIATE", synchronous="FULL")
        try:
            _make(self.path)
            with _locked(self.path.with_suffix(".lock")):
                self._prepare()
        except OSError as error:
            raise Unusable(_NO_WRITE.format(directory=data_dir, error=error.strerror)) from None
        except Unusable:
            self.close()
            raise

    @contextmanager
    def connect(self) -> Generator[Connection]:
        """To read: all that is read is of one moment."""
        with self._told(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def begin(self, *, durable: bool = False) -> Generator[Connection]:
        """To write: all or nothing. It survives the death of the process; durable: a power cut too."""
        with self._told(), (self._durable if durable else self._writer).begin() as connection:
            yield connection

    def close(self) -> None:
        self._engine.dispose()

    def _prepare(self) -> None:
        """Make or renew the tables, and see whether it can be written."""
        with self.begin(durable=True) as connection:
            revision = _revision(connection)
            if revision is None:
                _create(connection)
            elif revision != HEAD:
                _upgrade(connection, revision, self.path)
            upsert(connection, STATE, [{"name": "opened", "value": 1}], add=("value",))

    @contextmanager
    def _told(self) -> Generator[None]:
        try:
            yield
        except IntegrityError:
            raise
        except DBAPIError as error:
            name = getattr(error.orig, "sqlite_errorname", "")
            words = next(words for code, words in _REASONS.items() if name.startswith(code))
            raise Unusable(words.format(path=self.path, directory=self.path.parent, error=error.orig)) from error


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows whose primary key is not there yet; the others stay as they are."""
    connection.execute(_insert(connection, table).on_conflict_do_nothing(), rows)


def upsert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], add: Iterable[str] = ()) -> None:
    """Insert the rows, or replace those of the same primary key. add: columns whose values are added instead."""
    statement = _insert(connection, table)
    key = [column.name for column in table.primary_key]
    changed = {
        name: table.c[name] + statement.excluded[name] if name in add else statement.excluded[name]
        for name in rows[0]
        if name not in key
    }
    connection.execute(statement.on_conflict_do_update(index_elements=key, set_=changed), rows)


def _insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """Both have ON CONFLICT; they only are not one class."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def _engine(path: Path) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}", connect_args={"timeout": BUSY}, max_overflow=-1
    )  # threads are the bound

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the module's own way of beginning leaves reads and DDL out
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")  # what is deleted is not left in the file

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        options = connection.get_execution_options()
        if synchronous := options.get("synchronous"):
            connection.exec_driver_sql(f"PRAGMA synchronous = {synchronous}")
        connection.exec_driver_sql(f"BEGIN {options.get('begin', 'DEFERRED')}")  # a writer waits now, not at its end

    return engine


def _make(path: Path) -> None:
    """The file, for its owner alone; what SQLite puts beside it takes over its mode. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """One process and thread at a time. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        flock(descriptor, LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar())


def _create(connection: Connection) -> None:
    """All tables at once, as the migrations would leave them; without Alembic, which is slow to load."""
    METADATA.create_all(connection)
    connection.execute(STATE.insert(), [{"name": "keys", "value": 0}])
    connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    connection.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{HEAD}')")  # noqa: S608 - our own constant


def _upgrade(connection: Connection, revision: str, path: Path) -> None:
    """To HEAD, within the transaction of `connection`. Raises `Unusable` for what a later version has made."""
    from alembic.migration import MigrationContext  # seldom needed, and slow to load
    from alembic.operations import Operations
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    folder = str(Path(__file__).parent / "migrations")
    scripts = ScriptDirectory(folder, version_locations=[folder])
    try:
        scripts.get_revisions(revision)
    except CommandError:
        raise Unusable(
            f"{path} is of a later version of Polymux (revision {revision}; this one knows up to {HEAD}). "
            "Use that version, or another data directory"
        ) from None
    context = MigrationContext.configure(connection)
    with Operations.context(context):
        for step in reversed(list(scripts.iterate_revisions(HEAD, revision))):
            step.module.upgrade()
    context.stamp(scripts, HEAD)

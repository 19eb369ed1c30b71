"""The database: real files, several threads and processes, and what is said when the disk or the file is bad."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import insert, inspect, select, text
from sqlalchemy.exc import IntegrityError

from polymux.store import database as module
from polymux.store import migrations
from polymux.store.base import Unusable
from polymux.store.database import HEAD, NAME, Database, insert_new, upsert
from polymux.store.tables import AUDIT, JOURNALS, MEMORY, METADATA, STATE
from support.gateway import SOURCES


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database("sqlite", tmp_path / "data")
    yield made
    made.close()


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Another process."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    return output


def value(database: Database, name: str) -> int:
    with database.connect() as connection:
        return connection.execute(select(STATE.c.value).where(STATE.c.name == name)).scalar_one()


# ---- tables ------------------------------------------------------------------------------------------------------


def test_migrations_and_tables_say_the_same(database: Database) -> None:
    with database.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, METADATA) == []


def test_a_table_that_differs_is_seen(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(text("ALTER TABLE audit ADD COLUMN more TEXT"))
        assert compare_metadata(MigrationContext.configure(connection), METADATA) != []


def test_the_constant_is_the_newest_script() -> None:
    folder = str(Path(migrations.__file__).parent)
    scripts = ScriptDirectory(folder, version_locations=[folder])
    assert scripts.get_heads() == [HEAD]
    assert len(list(scripts.walk_revisions())) == len(list(Path(folder).glob("r[0-9]*.py")))


def test_alembic_is_imported_only_to_change_what_an_older_version_made(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from polymux.store.database import Database
Database("sqlite", Path(sys.argv[1])).close()
print("alembic" in sys.modules)
"""
    assert [ended(python(code, str(tmp_path))) for _ in range(2)] == ["False\n", "False\n"]


LATER = "9000"  # a revision


def add_script(place: Path, *lines: str) -> None:
    """Copies of our scripts, and one that follows them."""
    folder = place / "store" / "migrations"
    folder.mkdir(parents=True)
    for ours in Path(migrations.__file__).parent.glob("r[0-9]*.py"):
        (folder / ours.name).write_text(ours.read_text("utf-8"), "utf-8")
    head = f'from alembic import op\nrevision = "{LATER}"\ndown_revision = "{HEAD}"\n\n\ndef upgrade():\n    '
    (folder / f"r{LATER}_more.py").write_text(head + "\n    ".join(lines) + "\n")


def test_an_older_database_is_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one more script beside copies of ours."""
    add_script(tmp_path, 'op.execute("CREATE TABLE more (a TEXT)")')
    old = Database("sqlite", tmp_path / "data")
    with old.begin() as connection:
        upsert(connection, STATE, [{"name": "kept", "value": 7}])
    old.close()
    monkeypatch.setattr(module, "__file__", str(tmp_path / "store" / "database.py"))
    monkeypatch.setattr(module, "HEAD", LATER)
    new = Database("sqlite", tmp_path / "data")
    with new.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM more")).scalar() == 0
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == [LATER]
    assert value(new, "kept") == 7
    new.close()


def test_a_migration_that_fails_leaves_all_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Database("sqlite", tmp_path / "data").close()
    add_script(tmp_path, 'op.execute("CREATE TABLE more (a TEXT)")', 'op.execute("nonsense")')
    with monkeypatch.context() as patched:
        patched.setattr(module, "__file__", str(tmp_path / "store" / "database.py"))
        patched.setattr(module, "HEAD", LATER)
        with pytest.raises(Unusable, match="nonsense"):
            Database("sqlite", tmp_path / "data")
    left = Database("sqlite", tmp_path / "data")  # of our revision: nothing was left behind
    with left.connect() as connection:
        assert "more" not in inspect(connection).get_table_names()
    left.close()


def test_a_database_of_a_later_version_is_refused(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Unusable, match=r"polymux\.db is of a later version of Polymux \(revision 9999"):
        Database("sqlite", database.path.parent)


def test_many_processes_make_one_database(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from polymux.store.database import Database, upsert
from polymux.store.tables import STATE
database = Database("sqlite", Path(sys.argv[1]))
for _ in range(20):
    with database.begin() as connection:
        upsert(connection, STATE, [{"name": "count", "value": 1}], add=("value",))
database.close()
"""
    for process in [python(code, str(tmp_path)) for _ in range(4)]:
        ended(process)
    database = Database("sqlite", tmp_path)
    assert value(database, "count") == 80
    assert value(database, "opened") == 5
    database.close()


# ---- transactions ------------------------------------------------------------------------------------------------


def test_threads_wait_for_each_other(database: Database) -> None:
    """A read that becomes a write within a transaction fails in SQLite, unless it begins as one."""

    def count(_: int) -> None:
        with database.begin() as connection:
            now = connection.execute(select(STATE.c.value).where(STATE.c.name == "keys")).scalar_one()
            upsert(connection, STATE, [{"name": "keys", "value": now + 1}])

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(count, range(120)))
    assert value(database, "keys") == 120


def test_all_or_nothing(database: Database) -> None:
    def half() -> None:
        with database.begin() as connection:
            upsert(connection, STATE, [{"name": "keys", "value": 9}])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert value(database, "keys") == 0


def test_what_is_read_is_of_one_moment_and_hinders_no_writer(database: Database) -> None:
    query = select(STATE.c.value).where(STATE.c.name == "keys")
    with database.connect() as reader:
        assert reader.execute(query).scalar_one() == 0
        with database.begin() as writer:
            upsert(writer, STATE, [{"name": "keys", "value": 1}])
        assert reader.execute(query).scalar_one() == 0
    assert value(database, "keys") == 1


def test_a_writer_that_takes_too_long_is_told(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUSY", 0.05)
    impatient = Database("sqlite", database.path.parent)
    with database.begin() as connection:
        upsert(connection, STATE, [{"name": "keys", "value": 1}])
        with pytest.raises(Unusable, match="is held by another process"), impatient.begin():
            raise AssertionError
    impatient.close()


def test_broken_constraints_are_the_callers(database: Database) -> None:
    with pytest.raises(IntegrityError), database.begin() as connection:
        connection.execute(insert(STATE).values(name="keys", value=1))


@pytest.mark.parametrize(("durable", "mode"), [(False, 1), (True, 2)])
def test_how_it_is_set_up(database: Database, durable: bool, mode: int) -> None:
    with database.begin(durable=durable) as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == mode
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 10_000
    for path in database.path.parent.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    assert database.path.parent.stat().st_mode & 0o077 == 0


def test_rows_are_replaced_added_to_or_left(database: Database) -> None:
    rows = [{"name": "a", "offset": 1}, {"name": "b", "offset": 2}]
    with database.begin() as connection:
        upsert(connection, JOURNALS, rows)
        upsert(connection, JOURNALS, [{"name": "a", "offset": 10}], add=("offset",))
        upsert(connection, JOURNALS, [{"name": "b", "offset": 20}])
        insert_new(connection, JOURNALS, [{"name": "a", "offset": 5}, {"name": "c", "offset": 3}])
        found = {row.name: row.offset for row in connection.execute(select(JOURNALS))}
    assert found == {"a": 11, "b": 20, "c": 3}


def test_ids_of_the_audit_log_are_not_used_twice(database: Database) -> None:
    row = {"at": 1.0, "actor": "cli", "action": "create", "subject": "k", "change": "{}"}
    with database.begin() as connection:
        for _ in range(2):
            connection.execute(insert(AUDIT).values(row))
        connection.execute(text("DELETE FROM audit"))
        connection.execute(insert(AUDIT).values(row))
        assert connection.execute(select(AUDIT.c.id)).scalars().all() == [3]


# ---- bad disks and files -----------------------------------------------------------------------------------------


def test_other_databases_are_not_there_yet(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="the only database_url is 'sqlite'") as caught:
        Database("postgresql://user:secret@host/db", tmp_path)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("content", [b"this is not a database " * 400, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(Unusable, match=r"polymux\.db is damaged, or is no database .*move this file"):
        Database("sqlite", tmp_path)
    assert (tmp_path / NAME).read_bytes() == content


def test_a_file_that_is_damaged_later_is_named(tmp_path: Path) -> None:
    database = Database("sqlite", tmp_path)
    with database.begin() as connection:
        rows = [{"name": f"{number}", "value": b"value" * 200, "expires_at": 1.0} for number in range(2000)]
        upsert(connection, MEMORY, [{"tenant": "t", **row} for row in rows])
    database.close()
    with (tmp_path / NAME).open("r+b") as file:
        file.seek(-4096 * 200, os.SEEK_END)
        file.write(b"\xff" * 4096 * 100)
    damaged = Database("sqlite", tmp_path)
    with pytest.raises(Unusable, match="is damaged"), damaged.connect() as connection:
        connection.execute(select(MEMORY)).all()
    damaged.close()


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unusable, match=r"cannot write to the data directory .*file/data: Not a directory"):
        Database("sqlite", tmp_path / "file" / "data")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(Unusable, match="cannot write to the data directory"):
        Database("sqlite", tmp_path)


@pytest.mark.parametrize("limit", [0, 8192])
def test_a_full_disk_is_told_at_the_start(tmp_path: Path, limit: int) -> None:
    """A process may be given a largest size of files; for SQLite it is a disk that takes no more."""
    code = """
import resource, signal, sys
from pathlib import Path
from polymux.store.base import Unusable
from polymux.store.database import Database
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    Database("sqlite", Path(sys.argv[1]))
except Unusable as error:
    print(error)
"""
    assert f"cannot write to the data directory {tmp_path}: " in ended(python(code, str(tmp_path), str(limit)))


def test_a_disk_that_is_full_later_is_told_and_gets_well(database: Database) -> None:
    many = [{"name": f"row {number}" * 100, "value": 1} for number in range(1000)]
    with database.begin() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(Unusable, match=r"cannot write to the data directory .*full"), database._told():
            upsert(connection, STATE, many)
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    with database.begin() as connection:
        upsert(connection, STATE, many)


def test_opening_waits_for_who_is_opening(tmp_path: Path) -> None:
    opened = threading.Event()
    with module._locked(tmp_path / "polymux.lock"):
        thread = threading.Thread(target=lambda: (Database("sqlite", tmp_path).close(), opened.set()))
        thread.start()
        assert not opened.wait(0.1)
    thread.join(20)
    assert opened.is_set()

"""A database of the first revision, brought up to date, has the tables that a new one has."""

from __future__ import annotations

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine, insert, select

from polymux.store.database import NAME, Database
from polymux.store.migrations import r0001_first, r0002_conversations
from polymux.store.tables import CONVERSATIONS, METADATA, STATE


def first(path: Path) -> None:
    """A database as the first version made it."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        r0001_first.upgrade()
        connection.execute(insert(STATE), [{"name": "kept", "value": 7}])
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('0001')")
    engine.dispose()


def test_it_follows_the_first() -> None:
    assert (r0002_conversations.revision, r0002_conversations.down_revision) == ("0002", "0001")


def test_an_older_database_has_all_tables_afterwards(tmp_path: Path) -> None:
    first(tmp_path / NAME)
    database = Database("sqlite", tmp_path)
    with database.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, METADATA) == []
        assert connection.execute(select(STATE.c.value).where(STATE.c.name == "kept")).scalar_one() == 7
        assert connection.execute(select(CONVERSATIONS)).all() == []
    database.close()

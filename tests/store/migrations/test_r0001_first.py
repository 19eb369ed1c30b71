"""The first migration makes what was promised, and the revision of keys begins at 0."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import inspect, select

from polymux.store.database import Database
from polymux.store.migrations import r0001_first
from polymux.store.tables import METADATA, STATE


def test_it_is_the_first() -> None:
    assert (r0001_first.revision, r0001_first.down_revision) == ("0001", None)


def test_it_makes_all_tables(tmp_path: Path) -> None:
    database = Database("sqlite", tmp_path)
    with database.connect() as connection:
        assert set(inspect(connection).get_table_names()) == {*METADATA.tables, "alembic_version"}
        assert connection.execute(select(STATE.c.value).where(STATE.c.name == "keys")).scalar_one() == 0
    database.close()

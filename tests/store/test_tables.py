"""The tables hold what the types say. That the migrations make them is tested in test_database.py."""

from __future__ import annotations

from polymux.store.fields import FIELDS
from polymux.store.tables import HOURS, KEYS, METADATA, RECORDS
from polymux.types import Key, Record


def test_a_record_has_a_column_for_each_of_its_members() -> None:
    members = {*Record.__struct_fields__} - {"cost_usd"} | {"cost", "seq"}
    assert set(RECORDS.c.keys()) == members


def test_a_key_has_a_column_for_each_of_its_members() -> None:
    assert {*Key.__struct_fields__} - {"origin"} <= set(KEYS.c.keys())
    assert set(FIELDS) <= set(KEYS.c.keys())


def test_what_is_summed_is_whole() -> None:
    """Sums of floats depend on their order."""
    kinds = {column.name: column.type.python_type for column in HOURS.columns if not column.primary_key}
    assert set(kinds.values()) == {int}


def test_no_secret_has_a_place() -> None:
    names = {column.name for table in METADATA.tables.values() for column in table.columns}
    assert not names & {"secret", "key", "api_key", "authorization"}

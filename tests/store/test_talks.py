"""What is told of conversations has a column each, and the names of usage records."""

from __future__ import annotations

from polymux.store.tables import CONVERSATIONS
from polymux.store.talks import Conversation, Talk, Wanted
from polymux.types import Record


def test_every_column_is_told() -> None:
    assert {*Talk.__struct_fields__} == {*CONVERSATIONS.c.keys()} - {"body"}
    assert {*Conversation.__struct_fields__} - {*Talk.__struct_fields__} == {"request", "response", "notes"}


def test_members_are_called_as_in_usage_records() -> None:
    assert {*Talk.__struct_fields__} - {*Record.__struct_fields__} == {"cut"}


def test_all_are_wanted_unless_said_otherwise() -> None:
    assert Wanted().since == 0
    assert Wanted().until > 2**39

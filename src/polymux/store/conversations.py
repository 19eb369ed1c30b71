"""The conversation log as it is read: in pages, one by one, or all of it in order; and how one is deleted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf, isnan, nextafter
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, delete, insert, or_, select

from polymux.store.database import Database
from polymux.store.fields import is_id
from polymux.store.tables import AUDIT, CONVERSATIONS
from polymux.store.talks import Conversation, ConversationList, Talk, Wanted

PAGE: Final = 50  # conversations that are in memory at the same time, when all are read
_C: Final = CONVERSATIONS.c
_TALK: Final = tuple(_C[name] for name in Talk.__struct_fields__)


class NoCursor(ValueError):
    """What was given is not the cursor of an earlier answer."""


def page(connection: Connection, wanted: Wanted, limit: int, after: str = "") -> ConversationList:
    """Up to `limit`, the newest first. after: the cursor of the page before. Raises `NoCursor`."""
    query = select(*_TALK).order_by(_C.at.desc(), _C.id.desc()).limit(limit + 1)
    if after:
        at, id_ = _place(after)
        query = query.where(or_(_C.at < at, _C.id < id_))
        # not a second bound beside the first: an index is searched by one
        wanted = msgspec.structs.replace(wanted, until=min(wanted.until, nextafter(at, inf)))
    query = query.where(*_conditions(wanted))
    found = [Talk(**row) for row in connection.execute(query).mappings()]
    last = found[limit - 1] if len(found) > limit else None
    return ConversationList(found[:limit], f"{last.at!r}~{last.id}" if last else None)


def get(connection: Connection, id_: str) -> Conversation | None:
    row = connection.execute(select(*_TALK, _C.body).where(_C.id == id_)).mappings().first()
    return None if row is None else _whole(row)


def every(database: Database, wanted: Wanted) -> Iterator[Conversation]:
    """All of them, the oldest first. No reader is open between two pages, so the database goes on meanwhile."""
    query = select(*_TALK, _C.body).order_by(_C.at, _C.id).limit(PAGE)
    at, id_ = wanted.since, ""
    while True:
        further = _conditions(msgspec.structs.replace(wanted, since=at))
        with database.connect() as connection:
            rows = connection.execute(query.where(*further, or_(_C.at > at, _C.id > id_))).mappings().all()
        yield from map(_whole, rows)
        if len(rows) < PAGE:
            return
        at, id_ = rows[-1]["at"], rows[-1]["id"]


def remove(connection: Connection, id_: str, actor: str, now: float) -> bool:
    """Delete one, and note who did it; whether it was there. now: Unix seconds."""
    if not connection.execute(delete(CONVERSATIONS).where(_C.id == id_)).rowcount:
        return False
    note = {"at": now, "actor": actor, "action": "delete conversation", "subject": id_, "change": "{}"}
    connection.execute(insert(AUDIT).values(note))
    return True


def _conditions(wanted: Wanted) -> Iterator[ColumnElement[bool]]:
    yield _C.at >= wanted.since
    yield _C.at < wanted.until
    if wanted.key:
        yield (_C.key_id if is_id(wanted.key) else _C.key_name) == wanted.key
    if wanted.model:
        yield _C.model == wanted.model
    if wanted.tenant:
        yield _C.tenant == wanted.tenant


def _place(cursor: str) -> tuple[float, str]:
    at, _, id_ = cursor.partition("~")
    try:
        moment = float(at)
    except ValueError:
        raise NoCursor(cursor) from None
    if isnan(moment):
        raise NoCursor(cursor)
    return moment, id_


def _whole(row: Mapping[Any, Any]) -> Conversation:
    told = dict(row)
    said = msgspec.json.decode(told.pop("body"))
    return Conversation(**told, **said)

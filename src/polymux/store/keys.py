"""The keys that are kept in the database, and who changed what about them.

A secret is shown once, when it is made. What is kept is its digest and its first characters; neither is ever told.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, RowMapping, and_, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from polymux.errors import Failure
from polymux.store.database import Database, upsert
from polymux.store.fields import OVERLAP, Note, Stored, checked
from polymux.store.memory import digest, new_secret
from polymux.store.tables import AUDIT, KEYS, STATE
from polymux.types import Key

REVISION: Final = "keys"  # the row of `state` that goes up with every change
SHOWN: Final = 11  # characters of a secret


class Entry(NamedTuple):
    """A key by the digests of its secrets."""

    digest: bytes
    old: bytes | None
    key: Stored


class Snapshot(NamedTuple):
    revision: int
    entries: list[Entry]


_FIELDS: Final = tuple(name for name in Stored.__struct_fields__ if name != "origin")  # all of them columns
_NEW: Final = Stored("", "")
_AUDITED: Final = tuple(name for name in _FIELDS if name not in ("id", "created_at", "updated_at"))


class KeyStore:
    """Methods that change something write who did it, and make it known to every process. `actor`: cli or admin.

    Raises `Unusable`, and `Failure` for what cannot be done. A key is found by its id or its name.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def create(self, given: Mapping[str, Any], actor: str) -> tuple[Stored, str]:
        """A new key with the members that are given (`fields.FIELDS`), and its secret."""
        if "name" not in given:
            raise Failure("missing_required_parameter", "a key needs a name", param="name")
        now, secret = self._clock(), new_secret()
        plain = {name: getattr(_NEW, name) for name in _FIELDS if name in Key.__struct_fields__}
        values = {**plain, **checked(given, now), "id": f"key_{secrets.token_hex(6)}", "prefix": secret[:SHOWN]}
        key = Stored(**values, origin="database", created_at=now, updated_at=now)
        with self._changing(key.name) as connection:
            connection.execute(insert(KEYS).values(digest=digest(secret), **_columns(key)))
            self._note(connection, actor, "create", key.id, _difference(None, key))
        return key, secret

    def page(self, limit: int, after: str = "") -> tuple[list[Stored], str | None]:
        """Keys, the oldest first, and the cursor of those that follow."""
        query = select(KEYS).order_by(KEYS.c.created_at, KEYS.c.id).limit(limit + 1)
        if after:
            at, id = _place(after)
            query = query.where(or_(KEYS.c.created_at > at, and_(KEYS.c.created_at == at, KEYS.c.id > id)))
        with self._database.connect() as connection:
            found = [_stored(row) for row in connection.execute(query).mappings()]
        last = found[limit - 1] if len(found) > limit else None
        return found[:limit], f"{last.created_at!r}~{last.id}" if last else None

    def get(self, named: str) -> Stored:
        with self._database.connect() as connection:
            return _stored(_row(connection, named))

    def update(self, named: str, given: Mapping[str, Any], actor: str) -> Stored:
        """Change the members that are given."""
        now = self._clock()
        values = checked(given, now)
        with self._changing(str(values.get("name", ""))) as connection:
            old = _stored(_row(connection, named))
            new = msgspec.structs.replace(old, **values, updated_at=now)
            if change := _difference(old, new):
                connection.execute(update(KEYS).where(KEYS.c.id == old.id).values(**_columns(new)))
                self._note(connection, actor, "update", old.id, change)
        return new if change else old

    def revoke(self, named: str, actor: str) -> Stored:
        """Delete a key; what it used stays in the ledger."""
        with self._changing() as connection:
            key = _stored(_row(connection, named))
            connection.execute(delete(KEYS).where(KEYS.c.id == key.id))
            self._note(connection, actor, "revoke", key.id, {"name": [key.name, None], "prefix": [key.prefix, None]})
        return key

    def rotate(self, named: str, actor: str, overlap: float = OVERLAP) -> tuple[Stored, str]:
        """A new secret; the one before it is good for `overlap` seconds more, the one before that no longer."""
        now, secret = self._clock(), new_secret()
        with self._changing() as connection:
            row = _row(connection, named)
            old = _stored(row)
            until = now + overlap if overlap else None
            new = msgspec.structs.replace(old, prefix=secret[:SHOWN], old_until=until, updated_at=now)
            digests = {"digest": digest(secret), "old_digest": row["digest"] if overlap else None}
            connection.execute(update(KEYS).where(KEYS.c.id == old.id).values(**_columns(new), **digests))
            self._note(connection, actor, "rotate", old.id, _difference(old, new))
        return new, secret

    def audit(self, limit: int, after: int | None = None) -> tuple[list[Note], int | None]:
        """What was changed, the newest first, and the cursor of what came before."""
        query = select(AUDIT).order_by(AUDIT.c.id.desc()).limit(limit + 1)
        if after is not None:
            query = query.where(AUDIT.c.id < after)
        with self._database.connect() as connection:
            found = [
                Note(row.id, row.at, row.actor, row.action, row.subject, msgspec.json.decode(row.change))
                for row in connection.execute(query)
            ]
        return found[:limit], found[limit - 1].id if len(found) > limit else None

    def snapshot(self, known: int = -1) -> Snapshot | None:
        """All keys, unless nothing has changed since the revision that is known."""
        with self._database.connect() as connection:
            revision = connection.execute(select(STATE.c.value).where(STATE.c.name == REVISION)).scalar_one()
            if revision == known:
                return None
            rows = connection.execute(select(KEYS)).mappings()
            return Snapshot(revision, [Entry(row["digest"], row["old_digest"], _stored(row)) for row in rows])

    @contextmanager
    def _changing(self, name: str = "") -> Generator[Connection]:
        try:
            with self._database.begin(durable=True) as connection:
                yield connection
                upsert(connection, STATE, [{"name": REVISION, "value": 1}], add=("value",))
        except IntegrityError:
            raise Failure("conflict", f"there is a key with the name {name!r} already", param="name") from None

    def _note(self, connection: Connection, actor: str, action: str, subject: str, change: dict[str, Any]) -> None:
        told = msgspec.json.encode(change).decode()
        values = {"at": self._clock(), "actor": actor, "action": action, "subject": subject, "change": told}
        connection.execute(insert(AUDIT).values(values))


def _row(connection: Connection, named: str) -> RowMapping:
    row = connection.execute(select(KEYS).where(or_(KEYS.c.id == named, KEYS.c.name == named))).mappings().first()
    if row is None:
        raise Failure("not_found", f"there is no key with the id or name {named[:100]!r}")
    return row


def _stored(row: RowMapping) -> Stored:
    values = {name: row[name] for name in _FIELDS}
    return Stored(**values | {"models": tuple(msgspec.json.decode(row["models"])), "origin": "database"})


def _columns(key: Stored) -> dict[str, Any]:
    columns = {name: getattr(key, name) for name in _FIELDS}
    return columns | {"models": msgspec.json.encode(key.models).decode()}


def _difference(old: Stored | None, new: Stored) -> dict[str, Any]:
    """Of a new key, what differs from a plain one."""
    pairs = ((name, getattr(old or _NEW, name), getattr(new, name)) for name in _AUDITED)
    return {name: [before if old else None, after] for name, before, after in pairs if before != after}


def _place(cursor: str) -> tuple[float, str]:
    at, _, id = cursor.partition("~")
    try:
        return float(at), id
    except ValueError:
        raise Failure("invalid_value", "after: expected the cursor of an earlier answer", param="after") from None

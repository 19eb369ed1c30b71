"""`/admin/api/keys` and `/admin/api/audit`: the keys of clients, and who changed what about them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from polymux.admin.api import Exchange, Front, Work, administrator, answer, asked, members, rows
from polymux.errors import Failure
from polymux.store.fields import Note, Shown, Stored, changeable, elsewhere, initial, overlap_of, shown
from polymux.types import Key

if TYPE_CHECKING:
    from polymux.store.keys import KeyStore

T = TypeVar("T")

ACTOR: Final = "admin"


class KeyList(msgspec.Struct, frozen=True):
    data: list[Shown]
    next: str | None


class AuditList(msgspec.Struct, frozen=True):
    data: list[Note]
    next: str | None


class WithSecret(Shown, frozen=True):
    """The only answers that hold the secret: those of create and rotate."""

    key: str = ""


def list_keys(front: Front, exchange: Exchange, rest: str) -> Work:
    """Those of the configuration first, then those of the database, the oldest first."""
    administrator(front, exchange)
    query = asked(exchange, ("limit", "after"))
    limit, after = rows(query), query.get("after", "")

    def work() -> KeyList:
        found, cursor = front.live.store.page(limit, after)
        static = () if after else _static(front)
        return KeyList([shown(key) for key in (*static, *found)], cursor)

    return answer(front, exchange, work)


def create_key(front: Front, exchange: Exchange, rest: str) -> Work:
    administrator(front, exchange)
    given = {**initial(front.settings.limits), **members(exchange)}
    return answer(front, exchange, lambda: _made(*_changed(front, lambda store: store.create(given, ACTOR))), 201)


def get_key(front: Front, exchange: Exchange, rest: str) -> Work:
    administrator(front, exchange)
    found = elsewhere(_static(front), rest)
    return answer(front, exchange, lambda: shown(found or front.live.store.get(rest)))


def update_key(front: Front, exchange: Exchange, rest: str) -> Work:
    _own(front, exchange, rest)
    given = members(exchange)
    return answer(front, exchange, lambda: shown(_changed(front, lambda store: store.update(rest, given, ACTOR))))


def revoke_key(front: Front, exchange: Exchange, rest: str) -> Work:
    _own(front, exchange, rest)
    return answer(front, exchange, lambda: _changed(front, lambda store: store.revoke(rest, ACTOR)), 204)


def rotate_key(front: Front, exchange: Exchange, rest: str) -> Work:
    _own(front, exchange, rest)
    overlap = overlap_of(members(exchange, optional=True))
    return answer(front, exchange, lambda: _made(*_changed(front, lambda store: store.rotate(rest, ACTOR, overlap))))


def audit(front: Front, exchange: Exchange, rest: str) -> Work:
    """The newest first."""
    administrator(front, exchange)
    query = asked(exchange, ("limit", "after"))
    limit, after = rows(query), query.get("after", "")
    if after and not (after.isascii() and after.isdigit() and len(after) < 18):
        raise Failure("invalid_value", "after: expected the cursor of an earlier answer", param="after")

    def work() -> AuditList:
        found, cursor = front.live.store.audit(limit, int(after) if after else None)
        return AuditList(found, None if cursor is None else str(cursor))

    return answer(front, exchange, work)


def _static(front: Front) -> Collection[Key]:
    """The keys of the configuration."""
    return front.live.static.by_digest.values()


def _own(front: Front, exchange: Exchange, named: str) -> None:
    """Who may, and what can be changed here. Raises `Failure`."""
    administrator(front, exchange)
    changeable(_static(front), named)


def _changed(front: Front, change: Callable[[KeyStore], T]) -> T:
    """Change something, and go by it here at once; other processes see it within a second."""
    done = change(front.live.store)
    front.live.refresh()
    return done


def _made(key: Stored, secret: str) -> WithSecret:
    return WithSecret(**msgspec.structs.asdict(shown(key)), key=secret)

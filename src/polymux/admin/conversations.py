"""`/admin/api/conversations`: what was asked and answered, of those calls whose conversations are kept."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from polymux.admin.api import Exchange, Front, Work, administrator, answer, asked, rows
from polymux.admin.keys import ACTOR
from polymux.admin.usage import moment_of
from polymux.errors import Failure
from polymux.store.base import Unusable
from polymux.store.sums import END
from polymux.store.talks import Conversation, ConversationList, Wanted

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")


def list_conversations(front: Front, exchange: Exchange, rest: str) -> Work:
    """The newest first, without what was said. Raises `Failure`."""
    administrator(front, exchange)
    query = asked(exchange, ("key", "model", "tenant", "since", "until", "limit", "after"))
    limit, after, now = rows(query), query.get("after", ""), time.time()
    span = moment_of(query, "since", now, 0.0), moment_of(query, "until", now, float(END))
    wanted = Wanted(query.get("key", ""), query.get("model", ""), query.get("tenant", ""), *span)

    def work(connection: Connection) -> ConversationList:
        from polymux.store.conversations import NoCursor, page

        try:
            return page(connection, wanted, limit, after)
        except NoCursor:
            text = "after: expected the cursor of an earlier answer"
            raise Failure("invalid_value", text, param="after") from None

    return answer(front, exchange, lambda: _read(front, work))


def get_conversation(front: Front, exchange: Exchange, rest: str) -> Work:
    """One in full, by the id of its call. Raises `Failure`."""
    administrator(front, exchange)
    asked(exchange, ())

    def work(connection: Connection) -> Conversation:
        from polymux.store.conversations import get

        found = get(connection, rest)
        if found is None:
            raise _missing(rest)
        return found

    return answer(front, exchange, lambda: _read(front, work))


def delete_conversation(front: Front, exchange: Exchange, rest: str) -> Work:
    """For good; the audit log says who did it. Raises `Failure`."""
    administrator(front, exchange)
    asked(exchange, ())

    def work() -> None:
        from polymux.store.conversations import remove

        front.keeper.flush()
        with front.database.begin(durable=True) as connection:
            if not remove(connection, rest, ACTOR, time.time()):
                raise _missing(rest)

    return answer(front, exchange, work, 204)


def _missing(id_: str) -> Failure:
    return Failure("not_found", f"no conversation of a call {id_[:100]!r} is kept")


def _read(front: Front, work: Callable[[Connection], T]) -> T:
    """Ask the database, when what has ended in this worker up to now is in it, if it can be written."""
    with suppress(Unusable):
        front.keeper.flush()
    with front.database.connect() as connection:
        return work(connection)

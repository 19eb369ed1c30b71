"""`/admin/api/usage`, `/usage/records` and `/calls/{id}`: what was used, by whom, and what it cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from polymux.admin.api import Exchange, Front, Work, administrator, answer, asked, rows
from polymux.errors import Failure
from polymux.store.sums import BY, END, RecordList, UsageList, moment

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")


def usage(front: Front, exchange: Exchange, rest: str) -> Work:
    """Sums by key, model, provider, tenant, day or hour. Raises `Failure`."""
    administrator(front, exchange)
    query = asked(exchange, ("by", "since", "until"))
    by, now = query.get("by", ""), time.time()
    since, until = moment_of(query, "since", now, 0), moment_of(query, "until", now, END)
    if by not in BY:
        words = ", ".join(name for name in BY if name)
        raise Failure("invalid_value", f"by: expected one of {words}", param="by")

    def work(connection: Connection) -> UsageList:
        from polymux.store.usage import usage

        return usage(connection, by, since, until)

    return answer(front, exchange, lambda: _read(front, work))


def records(front: Front, exchange: Exchange, rest: str) -> Work:
    """Records in the order in which they came. Raises `Failure`."""
    administrator(front, exchange)
    query = asked(exchange, ("limit", "after"))
    limit, after = rows(query), query.get("after", "")

    def work(connection: Connection) -> RecordList:
        from polymux.store.usage import records

        page = records(connection, limit, after)
        if page is None:
            raise Failure("invalid_value", "after: expected the id of a record", param="after")
        return page

    return answer(front, exchange, lambda: _read(front, work))


def call(front: Front, exchange: Exchange, rest: str) -> Work:
    """One call in full: its record, every attempt, and the calls that its function model made. Raises `Failure`."""
    administrator(front, exchange)
    asked(exchange, ())

    def work(connection: Connection) -> dict[str, Any]:
        from polymux.store.usage import call

        found = call(connection, rest)
        if found is None:
            raise Failure("not_found", f"there is no record of a call {rest[:100]!r}")
        return found

    return answer(front, exchange, lambda: _read(front, work))


def _read(front: Front, work: Callable[[Connection], T]) -> T:
    """Ask the database, when what has ended up to now is in it."""
    front.shipper.catch_up()
    with front.database.connect() as connection:
        return work(connection)


def moment_of(query: Mapping[str, str], name: str, now: float, default: float) -> float:
    """Unix seconds from a member of the query. Raises `Failure`."""
    text = query.get(name, "")
    if "T" in text:
        text = text.replace(" ", "+")  # an offset begins with it, and in a URL it means a space
    try:
        return moment(text, now) if text else default
    except ValueError:
        expected = '"7d" (ago), "2026-11-21", "2026-11-21T12:00:00Z" or Unix seconds'
        raise Failure("invalid_value", f"{name}: expected {expected}", param=name) from None

"""What was used: sums, records, and one call in full, as the database has them.

Sums come from `days` and `hours`, or from `totals` where it is all the same by whom and of what, and for the parts of
an hour at both ends of a span from `records`; so they are those of the records to the last digit. Where the records of
an hour are gone (`ledger.retention`), a span begins with a whole hour.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import BigInteger as Whole
from sqlalchemy import ColumnElement, Connection, Table, and_, case, cast, func, literal, or_, select

from polymux.routing.price import usd
from polymux.store.lines import DAY, HOUR, TOKENS, UNKNOWN
from polymux.store.shipper import KEPT_FROM
from polymux.store.sums import BY, END, RecordList, Sums, UsageList
from polymux.store.tables import DAYS, HOURS, RECORDS, STATE, TOTALS
from polymux.types import Record, Try

_SPAN: Final[Mapping[str, int]] = MappingProxyType({"day": DAY, "hour": HOUR})
_FORM: Final[Mapping[str, str]] = MappingProxyType({"day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H:00:00Z"})
_SCALE: Final = 10**6  # money is summed up in two halves: 64 bits hold nine million dollars, which one may exceed


class _Span(NamedTuple):
    """A part of a span, and the table that tells of it."""

    table: Table
    since: int | float
    until: int | float


# ---- sums --------------------------------------------------------------------------------------------------------


def usage(connection: Connection, by: str = "", since: float = 0, until: float = END) -> UsageList:
    """What was used from `since` to before `until` (Unix seconds), `by` one of BY."""
    found: dict[Any, _Group] = {}
    total = _Group({}, 0, [0] * len(_of_records()))
    for part in _parts(connection, by, since, until):
        for key, group in _groups(connection, part, by):
            if key in found:
                found[key].take(group)
            else:
                found[key] = group
            total.take(group)
    groups = sorted(
        found.items(), key=lambda item: item[0] if by in _SPAN else (-item[1].cost, -item[1].requests, str(item[0]))
    )
    return UsageList([group.sums() for _, group in groups] if by else [total.sums()], total.sums())


class _Group:
    """What belongs together, summed up. latest: when it was last used, about: of several names the last one holds."""

    def __init__(self, label: dict[str, str], latest: int, values: list[int]) -> None:
        self.label, self.latest, self.values = label, latest, list(values)

    @property
    def cost(self) -> int:
        return self.values[-2] * _SCALE + self.values[-1]

    @property
    def requests(self) -> int:
        return self.values[0]

    def take(self, other: _Group) -> None:
        self.values = [one + more for one, more in zip(self.values, other.values, strict=True)]
        if self.label and other.latest >= self.latest:
            self.label, self.latest = other.label, other.latest

    def sums(self) -> Sums:
        unpriced, duration = self.values[-4:-2]
        cost = None if unpriced and not self.cost else usd(self.cost)
        counts = dict(zip(("requests", "errors", *TOKENS), self.values, strict=False))
        told = {**self.label, **counts, "cost_usd": cost, "unpriced_requests": unpriced, "duration_ms": duration / 1000}
        return msgspec.convert(told, Sums)


def _parts(connection: Connection, by: str, since: float, until: float) -> list[_Span]:
    """Whole hours and days, and what is left of hours at both ends."""
    kept = connection.execute(select(STATE.c.value).where(STATE.c.name == KEPT_FROM)).scalar() or 0
    first = _floor(since, HOUR) if since < kept else _ceil(since, HOUR)
    last = _ceil(until, HOUR) if until < kept else _floor(until, HOUR)
    if first > last:
        return [_Span(RECORDS, since, until)] if since < until else []
    if BY[by]:
        begin = min(_ceil(first, DAY), last)
        end = max(begin, _floor(last, DAY))
        whole = [_Span(HOURS, first, begin), _Span(DAYS, begin, end), _Span(HOURS, end, last)]
    else:
        whole = [_Span(TOTALS, first, last)]
    parts = (_Span(RECORDS, since, first), *whole, _Span(RECORDS, last, until))
    return [part for part in parts if part.since < part.until]


def _floor(at: float, span: int) -> int:
    return int(at // span) * span


def _ceil(at: float, span: int) -> int:
    return -int(-at // span) * span


def _groups(connection: Connection, part: _Span, by: str) -> Iterator[tuple[Any, _Group]]:
    table, names = part.table, BY[by]
    at = RECORDS.c.at if table is RECORDS else next(iter(table.primary_key))
    keys: list[ColumnElement[Any]] = [table.c[name] for name in names]
    if by == "model" and table is RECORDS:
        keys = [case((RECORDS.c.error_code == UNKNOWN, ""), else_=RECORDS.c.model)]
    if by in _SPAN:  # what is read from records lies within one hour
        keys = [literal(_floor(part.since, _SPAN[by])) if table is RECORDS else at - at % _SPAN[by]]
    sums = _of_records() if table is RECORDS else _of_sums(table)
    query = select(cast(func.max(at), Whole), *sums, *keys).where(at >= part.since, at < part.until)
    for latest, *values in connection.execute(query.having(func.count() > 0).group_by(*keys)):
        group = values[len(sums) :]
        if by in _SPAN:
            label = {by: datetime.fromtimestamp(group[0], UTC).strftime(_FORM[by])}
        else:
            label = dict(zip(names, group, strict=True))
        yield (group[0] if group else None), _Group(label, latest, [int(value) for value in values[: len(sums)]])


def _of_sums(table: Table) -> list[ColumnElement[Any]]:
    c = table.c
    tokens = (c.input, c.output, c.cached, c.cache_write, c.reasoning)
    sums = (c.requests, c.errors, *tokens, c.unpriced, c.duration, c.cost // _SCALE, c.cost % _SCALE)
    return [func.sum(column) for column in sums]


def _of_records() -> list[ColumnElement[Any]]:
    """The same of records; `store.lines` says what counts as what."""
    c = RECORDS.c
    tokens = (c.input_tokens, c.output_tokens, c.cached_tokens, c.cache_write_tokens, c.reasoning_tokens)
    unpriced = and_(c.cost.is_(None), or_(c.usage_source != "none", c.error_code.is_(None)))
    duration = cast(func.round(c.duration_ms * 1000), Whole)
    cost = func.coalesce(c.cost, 0)
    flags = [case((flag, 1), else_=0) for flag in (c.error_code.is_not(None), unpriced)]
    sums = (literal(1), flags[0], *tokens, flags[1], duration, cost // _SCALE, cost % _SCALE)
    return [func.sum(column) for column in sums]


# ---- records -----------------------------------------------------------------------------------------------------


def records(connection: Connection, limit: int, after: str = "") -> RecordList | None:
    """Up to `limit` records, from the first on or after the one with the id `after`; None: there is no such record."""
    query = select(RECORDS).order_by(RECORDS.c.seq).limit(limit + 1)
    if after:
        seq = connection.execute(select(RECORDS.c.seq).where(RECORDS.c.id == after)).scalar()
        if seq is None:
            return None
        query = query.where(RECORDS.c.seq > seq)
    found = [_told(row) for row in connection.execute(query).mappings()]
    return RecordList(found[:limit], found[limit - 1]["id"] if len(found) > limit else None)


def latest(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """The last records that came, the newest last."""
    query = select(RECORDS).order_by(RECORDS.c.seq.desc()).limit(limit)
    return [_told(row) for row in connection.execute(query).mappings()][::-1]


def call(connection: Connection, id_: str) -> dict[str, Any] | None:
    """A record with its attempts, one by one, and the records of the calls that its function model has made."""
    row = connection.execute(select(RECORDS).where(RECORDS.c.id == id_)).mappings().first()
    if row is None:
        return None
    # as the partial index has it: without the second condition it would not be used
    nested = select(RECORDS).where(RECORDS.c.parent_id == id_, RECORDS.c.parent_id != literal("", literal_execute=True))
    children = [_told(child) for child in connection.execute(nested.order_by(RECORDS.c.at)).mappings()]
    return {**_told(row), "attempts": msgspec.json.decode(row["tries"], type=list[Try]), "children": children}


def _told(row: Mapping[Any, Any]) -> dict[str, Any]:
    """A record as INTERFACE.md §5 has it."""
    cost = row["cost"]
    return {
        name: (None if cost is None else usd(cost)) if name == "cost_usd" else row[name]
        for name in Record.__struct_fields__
        if name != "tries"
    }

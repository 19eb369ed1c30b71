"""What stands in a journal, read for the database: whole lines, rows of `records`, and what they add to sums."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from polymux.routing.price import picodollars
from polymux.types import Record

HOUR: Final = 3600
UNKNOWN: Final = "model_not_found"  # an error code: the model's name is made up, and no reason for a row in `hours`
COLUMNS: Final = tuple("cost" if name == "cost_usd" else name for name in Record.__struct_fields__)
DAY: Final = 24 * HOUR
GROUP: Final = ("hour", "key_id", "key_name", "tenant", "model", "provider")
SUMS: Final = (
    *("requests", "errors", "input", "output", "cached", "cache_write"),
    *("reasoning", "cost", "unpriced", "duration"),
)
TOKENS: Final = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")
_COST: Final = COLUMNS.index("cost")
_TRIES: Final = COLUMNS.index("tries")
_LATEST: Final = 2**40  # Unix seconds; what is later is no record
MOST: Final = 10**11  # tokens of one request; sums of many millions such still fit
_DEAREST: Final = 10**16  # picodollars: $10,000 for a request
_LARGEST: Final = 2**62  # what is added at once

_decode = msgspec.json.Decoder(Record).decode
_encode = msgspec.json.Encoder().encode


class Line(NamedTuple):
    """A record, and what its row and its hour take from it. cost: picodollars; None = the price is not known."""

    record: Record
    cost: int | None


def cut(data: bytes, complete: bool) -> tuple[list[bytes], int]:
    """The whole lines at the beginning of `data`, and how many bytes they take. complete: nothing will follow."""
    end = len(data) if complete else data.rfind(b"\n") + 1
    lines = data[:end].split(b"\n")
    return (lines if lines[-1] else lines[:-1]), end


def parse(line: bytes) -> Line:
    """A line of a journal, also of an earlier or a later version. Raises ValueError for what is no record."""
    try:
        record = _decode(line)
    except RecursionError:  # in a member that this version does not know
        raise ValueError("nested too deeply") from None
    cost = None if record.cost_usd is None else picodollars(record.cost_usd)
    times, numbers = (record.at, record.duration_ms), (record.status, record.attempts)
    if min(*times, *numbers) < 0 or max(*times, *numbers) > _LATEST:
        raise ValueError("a number is out of bounds")
    for name in TOKENS:
        if not 0 <= getattr(record, name) <= MOST:  # an upstream's nonsense: the request is kept all the same
            setattr(record, name, max(0, min(MOST, getattr(record, name))))
    return Line(record, cost if (cost or 0) <= _DEAREST else None)


def row(line: Line) -> tuple[Any, ...]:
    """The values of COLUMNS."""
    values = list(msgspec.structs.astuple(line.record))
    values[_COST] = line.cost
    values[_TRIES] = _encode(line.record.tries).decode() if line.record.tries else "[]"
    return tuple(values)


def unpriced(line: Line) -> bool:
    """Whether nobody knows what a request has cost. One that failed before anything was used has cost nothing."""
    return line.cost is None and (line.record.usage_source != "none" or line.record.error_code is None)


def hours(lines: Iterable[Line]) -> list[dict[str, Any]]:
    """What the records add to the rows of `hours`."""
    found: dict[tuple[Any, ...], list[int]] = {}
    for line in lines:
        record, cost = line
        hour = int(record.at) // HOUR * HOUR
        model = "" if record.error_code == UNKNOWN else record.model
        group = (hour, record.key_id, record.key_name, record.tenant, model, record.provider)
        total = found.get(group)
        if total is None:
            total = found[group] = [0] * len(SUMS)
        total[0] += 1
        total[1] += record.error_code is not None
        total[2] += record.input_tokens
        total[3] += record.output_tokens
        total[4] += record.cached_tokens
        total[5] += record.cache_write_tokens
        total[6] += record.reasoning_tokens
        total[7] = min(_LARGEST, total[7] + (cost or 0))
        total[8] += unpriced(line)
        total[9] += microseconds(record.duration_ms)
    return [dict(zip(GROUP + SUMS, (*group, *total), strict=True)) for group, total in found.items()]


def days(hours: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What rows of `hours` add to those of `days`."""
    return _folded(({"day": row["hour"] // DAY * DAY, **row} for row in hours), ("day", *GROUP[1:]))


def totals(hours: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What rows of `hours` add to those of `totals`."""
    return _folded(hours, GROUP[:1])


def _folded(rows: Iterable[Mapping[str, Any]], group: tuple[str, ...]) -> list[dict[str, Any]]:
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        sums = found.setdefault(tuple(row[name] for name in group), {name: row[name] for name in group})
        for name in SUMS:
            sums[name] = min(_LARGEST, sums.get(name, 0) + row[name])
    return list(found.values())


def microseconds(milliseconds: float) -> int:
    return round(milliseconds * 1000)

"""What can be asked of usage, and what is told; without the database, so that commands know it at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from polymux.config.values import SCALARS
from polymux.store.lines import DAY

END: Final = 2**40 // DAY * DAY  # Unix seconds; all records are before it
_RELATIVE: Final = re.compile(r"[0-9.]+[a-z]+")

# by what usage can be summed up -> the columns that tell it apart
BY: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "key": ("key_id", "key_name"),
        "model": ("model",),
        "provider": ("provider",),
        "tenant": ("tenant",),
        "day": (),
        "hour": (),
        "": (),
    }
)


class Sums(msgspec.Struct, frozen=True):
    """What requests come to. The first members are there if usage is summed up by them; day and hour are UTC.

    cost_usd: of the requests whose price is known, a decimal string; null if that is none. unpriced_requests: the
    others, whose cost is not in it.
    """

    key_id: str | UnsetType = UNSET
    key_name: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    provider: str | UnsetType = UNSET
    tenant: str | UnsetType = UNSET
    day: str | UnsetType = UNSET
    hour: str | UnsetType = UNSET
    requests: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: str | None = None
    unpriced_requests: int = 0
    duration_ms: float = 0.0


class UsageList(msgspec.Struct, frozen=True):
    """Sums, the dearest first, or in order of time; and what they come to together."""

    data: list[Sums]
    total: Sums
    next: str | None = None


class RecordList(msgspec.Struct, frozen=True):
    """Records in the order in which they came. next: the cursor of those after them, if there are some."""

    data: list[dict[str, Any]]
    next: str | None


def moment(text: str, now: float) -> float:
    """Unix seconds from "7d" (before `now`), "2026-11-21", "2026-11-21T12:00:00+08:00" (without an offset: UTC) or Unix
    seconds. Raises ValueError."""
    if _RELATIVE.fullmatch(text):
        return max(0.0, now - float(SCALARS[float].convert(text)))
    try:
        at = float(text)
    except ValueError:
        found = datetime.fromisoformat(text)
        at = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    if not 0 <= at < END:
        raise ValueError(text)
    return at

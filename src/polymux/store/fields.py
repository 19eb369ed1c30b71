"""What can be said of a key: how it is told to administrators, and what the command line and the admin API take."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from difflib import get_close_matches
from types import MappingProxyType, NoneType
from typing import Any, Final, NamedTuple

import msgspec

from polymux.config import Limits
from polymux.config.values import SCALARS, choice, text, whole
from polymux.config.values import shown as quoted
from polymux.errors import Failure
from polymux.types import Key

MOST: Final = 10**9  # of any limit
OVERLAP: Final = 86400.0  # seconds in which a secret that was replaced is still good, unless told otherwise
LATEST: Final = 253402300799  # the last second of the year 9999
_ID: Final = re.compile(r"(key_[0-9a-f]{12}|static-[0-9]+|first-run)")  # what a name must not be taken for
_GIVEN: Final = re.compile(r"(key [0-9]+|first-run key)")  # names of keys that are not in the database
_NAME: Final = re.compile(r"\S(.{0,98}\S)?")
_GLOB: Final = re.compile(r"\S{1,512}")
_MONEY: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")


_ELSEWHERE: Final[Mapping[str, str]] = MappingProxyType(  # why a key of this origin cannot be changed
    {
        "static": "stands in the configuration (keys under [auth], or API_KEYS): change it there, and reload",
        "first-run": "was made at the first run and is in the data directory: with keys in the configuration it ends",
    }
)


class Stored(Key, frozen=True):
    """A key of the database. old_until: until when the secret before this one is good, Unix seconds."""

    prefix: str = ""
    created_at: float = 0.0
    updated_at: float = 0.0
    old_until: float | None = None


class Shown(msgspec.Struct, frozen=True):
    """A key as it is told to administrators. Times are Unix seconds, money is a decimal; limits of 0 are none."""

    id: str
    name: str
    prefix: str
    tenant: str
    models: tuple[str, ...]
    rpm: int
    tpm: int
    concurrency: int
    budget_usd: str | None
    budget_period: str
    expires_at: float | None
    enabled: bool
    log: bool
    origin: str
    created_at: float | None
    updated_at: float | None
    old_until: float | None


class Note(msgspec.Struct, frozen=True):
    """A line of the audit log. change: member -> [before, after]."""

    id: int
    at: float
    actor: str
    action: str
    subject: str
    change: dict[str, Any]


class Field(NamedTuple):
    """types: as which it may come from JSON. convert: from (value, now); raises ValueError."""

    types: tuple[type, ...]
    expected: str
    convert: Callable[[Any, float], Any]


def is_id(text: str) -> bool:
    """Whether it has the form of a key's id; no name has."""
    return _ID.fullmatch(text) is not None


def _limit(what: str) -> Field:
    scalar = whole(0, MOST, f"{what}, a whole number; 0 = no limit")
    return Field((int,), scalar.expected, lambda value, now: scalar.convert(value))


def _name(value: str, now: float) -> object:
    if is_id(value) or _GIVEN.fullmatch(value):
        raise ValueError(value)
    return text("", _NAME).convert(value)


def _tenant(value: str, now: float) -> object:
    return text("", _NAME).convert(value)


def _models(value: list[Any], now: float) -> tuple[str, ...]:
    if len(value) > 1000:
        raise ValueError(value)
    glob = text("", _GLOB)
    return tuple(dict.fromkeys(glob.convert(one) for one in value))


def _money(value: str | None, now: float) -> str:
    if not value:
        return ""
    if not _MONEY.fullmatch(value):
        raise ValueError(value)
    return f"{Decimal(value):f}"


def _period(value: str, now: float) -> object:
    return choice(("day", "month", "total")).convert(value)


def _moment(value: str | float | None, now: float) -> float | None:
    """Unix seconds from ISO 8601 (without an offset: UTC), a duration from now, or Unix seconds."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        at = float(value)
    elif re.fullmatch(r"[0-9.]+[a-z]+", value):
        at = now + float(SCALARS[float].convert(value))
    else:
        moment = datetime.fromisoformat(value)
        at = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not now < at <= LATEST:
        raise ValueError(value)
    return at


def _flag(value: bool, now: float) -> bool:
    return value


FIELDS: Final[Mapping[str, Field]] = MappingProxyType(
    {
        "name": Field(
            (str,),
            "a name of 1 to 100 characters, not in the form of a key's id, nor 'key 1' as in the configuration",
            _name,
        ),
        "models": Field((list,), "a list of model names, which may hold * and ?", _models),
        "rpm": _limit("requests per minute"),
        "tpm": _limit("tokens per minute"),
        "concurrency": _limit("requests at once"),
        "budget_usd": Field((str, NoneType), 'US dollars in a string such as "12.50"; null or "" = none', _money),
        "budget_period": Field((str,), '"day", "month" or "total"', _period),
        "tenant": Field((str,), "a name of 1 to 100 characters", _tenant),
        "expires_at": Field(
            (str, int, float, NoneType), 'a moment to come: "30d", "2030-12-31", Unix seconds; null = never', _moment
        ),
        "enabled": Field((bool,), "true or false", _flag),
        "log": Field((bool,), "true or false", _flag),
    }
)


def checked(given: Mapping[str, Any], now: float) -> dict[str, Any]:
    """The values as a key has them. now: Unix seconds. Raises `Failure`, naming the member and what it may be."""
    found = {}
    for name, value in given.items():
        field = FIELDS.get(name)
        if field is None:
            raise unknown(name, FIELDS)
        typed = isinstance(value, field.types) and (not isinstance(value, bool) or bool in field.types)
        try:
            if not typed:
                raise ValueError(value)
            found[name] = field.convert(value, now)
        except (ValueError, OverflowError):
            kind = "invalid_value" if typed else "invalid_type"
            raise Failure(kind, f"{name}: expected {field.expected}, got {quoted(value)}", param=name) from None
    return found


def initial(limits: Limits) -> dict[str, Any]:
    """What a new key has where nothing else is given."""
    return {"rpm": limits.rpm, "tpm": limits.tpm, "concurrency": limits.concurrency}


def overlap_of(given: Mapping[str, Any]) -> float:
    """The one member of a rotation: seconds in which the old secret is good. Raises `Failure`."""
    for name in given:
        if name != "overlap":
            raise unknown(name, {"overlap": None})
    value = given.get("overlap", OVERLAP)
    typed = isinstance(value, str | int | float) and not isinstance(value, bool)
    try:
        if not typed:
            raise ValueError(value)
        if value in (0, "0"):
            return 0.0
        return float(SCALARS[float].convert(Decimal(str(value)) if isinstance(value, float) else value))
    except (ValueError, ArithmeticError):
        kind = "invalid_value" if typed else "invalid_type"
        expected = 'a duration such as "24h", or seconds; 0 = none'
        raise Failure(kind, f"overlap: expected {expected}, got {quoted(value)}", param="overlap") from None


def unknown(name: str, names: Mapping[str, object]) -> Failure:
    """What to say of a member that does not exist."""
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
    return Failure("unsupported_parameter", f"unknown member {name[:100]!r}; {hint}", param=name[:100])


def elsewhere(static: Iterable[Key], named: str) -> Key | None:
    """A key that is not kept in the database, by its id or name."""
    return next((key for key in static if named in (key.id, key.name)), None)


def changeable(static: Iterable[Key], named: str) -> None:
    """Raises `Failure` for a key that is not kept in the database."""
    if (found := elsewhere(static, named)) is not None:
        raise Failure("conflict", f"the key {found.name!r} {_ELSEWHERE[found.origin]}")


def shown(key: Key) -> Shown:
    values = {name: getattr(key, name, None) for name in Shown.__struct_fields__}
    return Shown(**values | {"budget_usd": key.budget_usd or None, "prefix": values["prefix"] or ""})

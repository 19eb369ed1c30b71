"""All tables of the database, as the migrations leave them (tests/store/test_database.py holds the two together).

Times are Unix seconds; money is whole 10^-12 US dollars, so that sums are exact; lists are JSON text.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, LargeBinary, MetaData, Table, Text, text

METADATA: Final = MetaData()
_SERIAL: Final = BigInteger().with_variant(Integer, "sqlite")  # which counts up for INTEGER alone
_NESTED: Final = text("parent_id <> ''")

KEYS: Final = Table(
    "keys",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("prefix", Text, nullable=False),  # the secret's first characters
    Column("name", Text, nullable=False, unique=True),
    Column("tenant", Text, nullable=False),
    Column("models", Text, nullable=False),  # globs; [] = all
    Column("rpm", Integer, nullable=False),
    Column("tpm", Integer, nullable=False),
    Column("concurrency", Integer, nullable=False),
    Column("budget_usd", Text, nullable=False),  # a decimal; "" = none
    Column("budget_period", Text, nullable=False),
    Column("expires_at", Double),
    Column("enabled", Boolean, nullable=False),
    Column("log", Boolean, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("old_digest", LargeBinary, unique=True),  # of the secret before the last rotation
    Column("old_until", Double),
)

RECORDS: Final = Table(
    "records",
    METADATA,
    Column("seq", _SERIAL, primary_key=True),  # in the order in which they came: a cursor that late ones do not upset
    Column("id", Text, nullable=False, unique=True),
    Column("at", Double, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("key_name", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("surface", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("upstream_model", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("error_code", Text),
    Column("stream", Boolean, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("usage_source", Text, nullable=False),
    Column("cost", BigInteger),  # NULL = the price is not known
    Column("attempts", Integer, nullable=False),
    Column("cache", Text, nullable=False),
    Column("duration_ms", Double, nullable=False),
    Column("first_token_ms", Double),
    Column("overhead_ms", Double, nullable=False),
    Column("client_request_id", Text, nullable=False),
    Column("parent_id", Text, nullable=False),
    Column("tries", Text, nullable=False),
    Column("price", Text, nullable=False),
    Index("records_by_time", "at"),
    Index("records_by_parent", "parent_id", sqlite_where=_NESTED, postgresql_where=_NESTED),
)


def _who() -> list[Column[Any]]:
    names = ("key_id", "key_name", "tenant", "model", "provider")
    return [Column(name, Text, primary_key=True) for name in names]


def _sums() -> list[Column[Any]]:
    """What records come to. cost: of those whose price is known, the others are `unpriced`. duration: microseconds, for
    sums of floats depend on their order."""
    tokens = ("input", "output", "cached", "cache_write", "reasoning")
    names = ("requests", "errors", *tokens, "cost", "unpriced", "duration")
    return [Column(name, BigInteger, nullable=False) for name in names]


def _begin(name: str) -> Column[Any]:
    """The first second."""
    return Column(name, BigInteger, primary_key=True, autoincrement=False)


# The same sums three times, each for other questions; without row ids, so that spans are read as they lie.
HOURS: Final = Table("hours", METADATA, _begin("hour"), *_who(), *_sums(), sqlite_with_rowid=False)
DAYS: Final = Table("days", METADATA, _begin("day"), *_who(), *_sums(), sqlite_with_rowid=False)
TOTALS: Final = Table("totals", METADATA, _begin("hour"), *_sums(), sqlite_with_rowid=False)

AUDIT: Final = Table(
    "audit",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("actor", Text, nullable=False),  # cli | admin
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("change", Text, nullable=False),  # JSON: member -> [before, after]
    sqlite_autoincrement=True,
)

MEMORY: Final = Table(
    "memory",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
    Column("expires_at", Double, nullable=False),
    Index("memory_by_expiry", "expires_at"),
)

JOURNALS: Final = Table(  # how far each journal has been moved into the database
    "journals",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("offset", BigInteger, nullable=False),
)

STATE: Final = Table(  # "keys": goes up with every change of a key
    "state",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

CONVERSATIONS: Final = Table(
    "conversations",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("at", Double, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("key_name", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("surface", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("upstream_model", Text, nullable=False),
    Column("status", Integer, nullable=False),
    Column("error_code", Text),
    Column("stream", Boolean, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("parent_id", Text, nullable=False),
    Column("cut", Boolean, nullable=False),  # it was longer
    Column("body", Text, nullable=False),  # JSON: request, response, notes; the last column, for it is the large one
    Index("conversations_by_time", "at", "id"),
    Index("conversations_by_key", "key_id", "at"),
    Index("conversations_by_name", "key_name", "at"),
    Index("conversations_by_model", "model", "at"),
    Index("conversations_by_tenant", "tenant", "at"),
)

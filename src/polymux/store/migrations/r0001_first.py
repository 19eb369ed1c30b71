"""The first tables: keys, the ledger, the audit log, memory and the conversation log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    _keys()
    _records()
    _hours()
    _rest()


def _keys() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("prefix", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("models", sa.Text, nullable=False),
        sa.Column("rpm", sa.Integer, nullable=False),
        sa.Column("tpm", sa.Integer, nullable=False),
        sa.Column("concurrency", sa.Integer, nullable=False),
        sa.Column("budget_usd", sa.Text, nullable=False),
        sa.Column("budget_period", sa.Text, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("log", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("old_digest", sa.LargeBinary, unique=True),
        sa.Column("old_until", sa.Double),
    )
    op.create_table(
        "state",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )
    op.execute(sa.table("state", sa.column("name"), sa.column("value")).insert().values(name="keys", value=0))


def _records() -> None:
    op.create_table(
        "records",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("key_name", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("surface", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("upstream_model", sa.Text, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("error_code", sa.Text),
        sa.Column("stream", sa.Boolean, nullable=False),
        sa.Column("input_tokens", sa.BigInteger, nullable=False),
        sa.Column("output_tokens", sa.BigInteger, nullable=False),
        sa.Column("cached_tokens", sa.BigInteger, nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger, nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger, nullable=False),
        sa.Column("usage_source", sa.Text, nullable=False),
        sa.Column("cost", sa.BigInteger),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("cache", sa.Text, nullable=False),
        sa.Column("duration_ms", sa.Double, nullable=False),
        sa.Column("first_token_ms", sa.Double),
        sa.Column("overhead_ms", sa.Double, nullable=False),
        sa.Column("client_request_id", sa.Text, nullable=False),
        sa.Column("parent_id", sa.Text, nullable=False),
        sa.Column("tries", sa.Text, nullable=False),
        sa.Column("price", sa.Text, nullable=False),
    )
    op.create_index("records_by_time", "records", ["at"])
    nested = sa.text("parent_id <> ''")
    op.create_index("records_by_parent", "records", ["parent_id"], sqlite_where=nested, postgresql_where=nested)


def _hours() -> None:
    for table, begin in (("hours", "hour"), ("days", "day"), ("totals", "hour")):
        who = ("key_id", "key_name", "tenant", "model", "provider") if table != "totals" else ()
        tokens = ("input", "output", "cached", "cache_write", "reasoning")
        sums = ("requests", "errors", *tokens, "cost", "unpriced", "duration")
        op.create_table(
            table,
            sa.Column(begin, sa.BigInteger, primary_key=True, autoincrement=False),
            *(sa.Column(name, sa.Text, primary_key=True) for name in who),
            *(sa.Column(name, sa.BigInteger, nullable=False) for name in sums),
            sqlite_with_rowid=False,
        )
    op.create_table(
        "journals",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("offset", sa.BigInteger, nullable=False),
    )


def _rest() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("change", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "memory",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
    )
    op.create_index("memory_by_expiry", "memory", ["expires_at"])
    op.create_table(
        "conversations",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("conversations_by_time", "conversations", ["at"])

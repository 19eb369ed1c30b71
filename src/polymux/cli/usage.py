"""`polymux usage`: what was used and what it cost, with or without a running gateway."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click
import msgspec
from msgspec import UNSET

from polymux.app import configured
from polymux.cli.faults import told
from polymux.cli.options import option
from polymux.cli.screen import note
from polymux.store.base import Unusable
from polymux.store.sums import BY, END, Sums, UsageList, moment
from polymux.wire.printable import printable

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")

WIDE: Final = 24  # characters of the longest bar
PATIENCE: Final = 2.0  # seconds for a running gateway to catch up
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_COLUMNS: Final = ("requests", "errors", "tokens in", "cached", "tokens out", "unpriced", "cost in USD")
_LABEL: Final[Mapping[str, str]] = MappingProxyType({"key": "key_name"})  # else the same
_NOBODY: Final[Mapping[str, str]] = MappingProxyType({"model": "(no such model)", "provider": "(none was called)"})
_RECORD: Final = ("at", "status", "model", "provider", "key", "tokens", "cost in USD", "seconds", "id")


class _Order(NamedTuple):
    """What was asked for. last: so many records instead of sums."""

    by: str
    since: float
    until: float
    form: str
    last: int


def when(text: str, name: str, now: float) -> float:
    try:
        return moment(text, now)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no time; say 7d (ago), 2026-11-21, 2026-11-21T12:00:00Z or Unix seconds", param_hint=name
        ) from None


@click.command()
@option("--by", type=click.Choice([by for by in BY if by]), default="model", help="What to sum up by (default: model).")
@option("--since", metavar="WHEN", default="7d", help="7d, 24h (ago), 2026-11-21, 2026-11-21T12:00:00Z (default: 7d).")
@option("--until", metavar="WHEN", help="Likewise (default: now).")
@option(
    "--last", metavar="N", type=click.IntRange(1, 100_000), help="The last N requests, one by one, instead of sums."
)
@option("--config", metavar="FILE", help="The configuration; by default the one 'serve' would read.")
@option("--data-dir", metavar="DIR", help="Where the gateway keeps its things (default: as configured).")
@option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
@told
def command(context: click.Context) -> None:
    """Show what was used and what it cost. Days and hours are UTC.

    \b
    Examples:
      polymux usage
      polymux usage --by day --since 30d
      polymux usage --by key --since 2026-11-01 --until 2026-12-01 --csv
      polymux usage --last 20
    """
    options = context.obj
    now = time.time()
    since = when(options["since"], "--since", now)
    until = when(options["until"], "--until", now) if options["until"] else float(END)
    if options["as_csv"] and options["as_json"]:
        raise click.UsageError("--csv and --json cannot both be")
    form = "csv" if options["as_csv"] else "json" if options["as_json"] else "table"
    order = _Order(options["by"], since, until, form, options["last"] or 0)
    place = options["data_dir"]
    config = configured(options["config"], {"data_dir": place} if place else {})
    with _ledger(config.server.database_url, Path(config.server.data_dir)) as ask:
        if order.last:
            _print_records(ask(lambda connection: _latest(connection, order.last)), order)
        else:
            _print_sums(ask(lambda connection: _usage(connection, order)), order)


def _usage(connection: Connection, order: _Order) -> UsageList:
    from polymux.store.usage import usage

    return usage(connection, order.by, order.since, order.until)


def _latest(connection: Connection, count: int) -> list[dict[str, Any]]:
    from polymux.store.usage import latest

    return latest(connection, count)


@contextmanager
def _ledger(url: str, directory: Path) -> Generator[Callable[[Callable[[Connection], T]], T]]:
    """The database, with what stands in the journals up to now: moved by a running gateway, or else by us."""
    from polymux.store.database import Database  # large: only when it is needed
    from polymux.store.shipper import Shipper

    database = Database(url, directory)
    try:
        shipper = Shipper(database, directory)
        try:
            if not shipper.ship() and not shipper.catch_up(PATIENCE):
                note("The gateway is still moving usage records into the database; the last ones are not in here yet.")
        except OSError as error:
            raise Unusable(f"cannot read the journal in {directory}: {error.strerror}") from None
        finally:
            shipper.close()

        def ask(work: Callable[[Connection], T]) -> T:
            with database.connect() as connection:
                return work(connection)

        yield ask
    finally:
        database.close()


# ---- sums --------------------------------------------------------------------------------------------------------


def _print_sums(usage: UsageList, order: _Order) -> None:
    if order.form == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(usage)).decode())
    elif order.form == "csv":
        names = [name for name in Sums.__struct_fields__ if not usage.data or getattr(usage.data[0], name) is not UNSET]
        _csv(names, [[getattr(one, name) for name in names] for one in usage.data])
    elif not usage.data:
        note(f"Nothing was used since {_time(order.since)}.")
    else:
        _print_table(usage, order)


def _print_table(usage: UsageList, order: _Order) -> None:
    head = (order.by, *_COLUMNS)
    terminal = sys.stdout.isatty()
    labels = [*(_label(one, order.by) for one in usage.data), "total"]
    rows = [_cells(one, "," if terminal else "") for one in (*usage.data, usage.total)]
    if not terminal:
        _plain(head, [(label, *row) for label, row in zip(labels, rows, strict=True)])
        return
    costs = _aligned([row[-1] for row in rows])
    cells = [(label, *row[:-1], cost) for label, row, cost in zip(labels, rows, costs, strict=True)]
    note(f"Since {_time(order.since)}" + (f", until {_time(order.until)}" if order.until < END else "") + " (UTC)")
    _table(head, cells, _bars(usage.data))
    if usage.total.unpriced_requests:
        note("Nobody knows what the unpriced requests have cost: it is not in the sums.")


def _label(one: Sums, by: str) -> str:
    name = getattr(one, _LABEL.get(by, by))
    return (
        printable(name).replace("T", " ").removesuffix(":00Z")
        if by == "hour"
        else printable(name) or _NOBODY.get(by, "")
    )


def _cells(one: Sums, group: str = "") -> tuple[str, ...]:
    """group: what stands between thousands."""
    tokens = (one.input_tokens, one.cached_tokens, one.output_tokens)
    counts = (one.requests, one.errors, *tokens, one.unpriced_requests)
    return (*(f"{count:,}".replace(",", group) for count in counts), one.cost_usd or "unknown")


def _aligned(costs: Sequence[str]) -> list[str]:
    """Amounts with their points below each other; digits are neither cut off nor made up."""
    widest = max(cost.find(".") if "." in cost else len(cost) for cost in costs)
    return [" " * (widest - len(cost.partition(".")[0])) + cost for cost in costs]


def _bars(rows: Sequence[Sums]) -> list[str]:
    """How rows compare: in cost, or where nothing has cost anything in requests."""
    sizes = [Decimal(one.cost_usd or 0) for one in rows]
    if not any(sizes):
        sizes = [Decimal(one.requests) for one in rows]
    most = max(sizes)
    return [_bar(size / most) for size in sizes]


def _bar(share: Decimal) -> str:
    """At least a sign of what is more than nothing."""
    whole, eighths = divmod(max(int(share * WIDE * 8), 1 if share else 0), 8)
    return "█" * whole + (_EIGHTHS[eighths] if eighths else "")


# ---- records -----------------------------------------------------------------------------------------------------


def _print_records(records: list[dict[str, Any]], order: _Order) -> None:
    if order.form == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(records)).decode())
    elif order.form == "csv":
        names = list(records[0]) if records else []
        _csv(names, [[one[name] for name in names] for one in records])
    elif sys.stdout.isatty():
        _table(_RECORD, [_line(one) for one in records])
    else:
        _plain(_RECORD, map(_line, records))


def _line(record: Mapping[str, Any]) -> tuple[str, ...]:
    cost = record["cost_usd"]
    tokens = "" if record["usage_source"] == "none" else f"{record['input_tokens']}+{record['output_tokens']}"
    return (
        _time(record["at"]),
        f"{record['status']} {record['error_code'] or ''}".strip(),
        *(printable(record[name]) for name in ("model", "provider", "key_name")),
        tokens,
        "unknown" if cost is None else cost,
        f"{record['duration_ms'] / 1000:.3f}",
        record["id"],
    )


# ---- how it is printed -------------------------------------------------------------------------------------------


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _csv(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """RFC 4180, but for the ends of lines, which are the terminal's. Empty: unknown, or not there."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([str(cell).lower() if isinstance(cell, bool) else cell for cell in row] for row in rows)


def _plain(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """For other programs: a row a line, cells between tabs."""
    for row in (head, *rows):
        click.echo("\t".join(row))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], bars: Sequence[str] = ()) -> None:
    """bars: behind all rows but the last, which holds what they come to."""
    from rich.console import Console  # only for a terminal
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in head:
        right = name in (*_COLUMNS[:-1], "tokens", "seconds")
        table.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=right)
    if bars:
        table.add_column("", no_wrap=True, style="cyan")
    for number, row in enumerate(rows):
        cells = [Text(cell) for cell in (*row, *bars[number : number + 1])]
        table.add_row(*cells, style="bold" if number == len(bars) > 0 else None)
    Console(highlight=False).print(table)

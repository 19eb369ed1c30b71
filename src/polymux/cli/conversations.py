"""`polymux conversations`: the conversation log, with or without a running gateway."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import click
import msgspec

from polymux.app import configured
from polymux.cli.faults import told
from polymux.cli.options import option
from polymux.cli.screen import note
from polymux.cli.usage import when
from polymux.store.sums import END
from polymux.store.talks import Wanted

_encode: Final = msgspec.json.Encoder().encode


@click.group()
def command() -> None:
    """The conversations that are kept: what was asked and answered.

    \b
    Example:
      polymux conversations export --since 7d --model "smart" -o talks.jsonl
    """


@command.command()
@option("--since", metavar="WHEN", default="7d", help="7d, 24h (ago), 2026-11-21, 2026-11-21T12:00:00Z (default: 7d).")
@option("--until", metavar="WHEN", help="Likewise (default: now).")
@option("--key", metavar="K", default="", help="Those of one key, by its id or name.")
@option("--model", metavar="M", default="", help="Those of one model, by its public name.")
@option("--tenant", metavar="T", default="", help="Those of one tenant.")
@option("-o", "--output", metavar="FILE", help="Write to a file, which is for its owner alone (default: stdout).")
@option("--config", metavar="FILE", help="The configuration; by default the one 'serve' would read.")
@option("--data-dir", metavar="DIR", help="Where the gateway keeps its things (default: as configured).")
@click.pass_context
@told
def export(context: click.Context) -> None:
    """Write conversations as JSONL, one a line, the oldest first.

    \b
    Examples:
      polymux conversations export > talks.jsonl
      polymux conversations export --since 2026-11-01 --until 2026-12-01 --tenant acme -o november.jsonl
    """
    from polymux.store.conversations import every  # large: only when it is needed
    from polymux.store.database import Database

    options, now = context.obj, time.time()
    until = when(options["until"], "--until", now) if options["until"] else float(END)
    span = (when(options["since"], "--since", now), until)
    wanted = Wanted(options["key"], options["model"], options["tenant"], *span)
    place = options["data_dir"]
    config = configured(options["config"], {"data_dir": place} if place else {})
    database = Database(config.server.database_url, Path(config.server.data_dir))
    count = 0
    try:
        with _opened(options["output"]) as file:
            for count, one in enumerate(every(database, wanted), 1):  # noqa: B007 - told at the end
                file.write(_encode(one) + b"\n")
    finally:
        database.close()
    note(f"{count} conversation{'' if count == 1 else 's'}")


@contextmanager
def _opened(path: str | None) -> Iterator[BinaryIO]:
    if not path:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            yield file
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from None

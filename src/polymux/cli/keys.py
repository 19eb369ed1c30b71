"""`polymux keys`: the keys of clients, with or without a running gateway."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click
import msgspec

from polymux.app import configured, static_keys
from polymux.cli.faults import told
from polymux.cli.options import option
from polymux.cli.screen import note
from polymux.config import Config
from polymux.errors import Failure
from polymux.store.fields import Shown, changeable, elsewhere, initial, overlap_of, shown
from polymux.store.live import said
from polymux.types import Key

if TYPE_CHECKING:
    from polymux.store.keys import KeyStore

ACTOR: Final = "cli"
PAGE: Final = 1000
_FLAGS: Final[Mapping[str, str]] = MappingProxyType({"budget_usd": "budget", "expires_at": "expires"})  # else the same
_HEAD: Final = ("id", "name", "key", "tenant", "models", "limits", "budget", "state")
_FIELDS: Final = (
    option("--models", metavar="A,B", help='What it may call; * and ? stand for anything ("" = all).'),
    option("--rpm", metavar="N", type=int, help="Requests per minute (0 = no limit)."),
    option("--tpm", metavar="N", type=int, help="Tokens per minute (0 = no limit)."),
    option("--concurrency", metavar="N", type=int, help="Requests at once (0 = no limit)."),
    option("--budget", "budget_usd", metavar="USD", help='What it may spend ("" = anything); not yet enforced.'),
    option("--budget-period", metavar="day|month|total", help="The time that the budget is for (default: total)."),
    option("--tenant", metavar="T", help="Whose it is (default: default)."),
    option("--expires", "expires_at", metavar="WHEN", help="30d, 12h, 2030-12-31 or never."),
    option("--log/--no-log", default=None, help="Whether its conversations are kept."),
)
_PLACE: Final = (
    option("--config", metavar="FILE", help="The configuration; by default the one 'serve' would read."),
    option("--data-dir", metavar="DIR", help="Where the gateway keeps its things (default: as configured)."),
    option("--json", "as_json", is_flag=True, help="Print JSON."),
)

Command = Callable[..., Any]


def _with(*groups: Iterable[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    """The options of all groups, in this order."""

    def decorate(command: Command) -> Command:
        for one in reversed([one for group in groups for one in group]):
            command = one(command)
        return command

    return decorate


class Desk(NamedTuple):
    """Where keys are changed. static: those of the configuration. given: the options that name members of a key."""

    store: KeyStore
    static: Collection[Key]
    config: Config
    given: dict[str, Any]
    as_json: bool


@contextmanager
def _desk(context: click.Context) -> Generator[Desk]:
    """Opens the database. What cannot be done is told in words."""
    from polymux.store.database import Database  # large: only when it is needed
    from polymux.store.keys import KeyStore

    options: dict[str, Any] = dict(context.obj or {})
    place = options.pop("data_dir")
    config = configured(options.pop("config"), {"data_dir": place} if place else {})
    directory, as_json = Path(config.server.data_dir), options.pop("as_json")
    made = config.auth.keys or (directory / "first-run.key").is_file()
    static = static_keys(config, directory).by_digest.values() if made else ()
    database = Database(config.server.database_url, directory)
    try:
        yield Desk(KeyStore(database), static, config, _members(options), as_json)
    except Failure as failure:
        raise _fault(failure) from None
    finally:
        database.close()


def _members(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as members of a key."""
    given = {name: value for name, value in options.items() if value is not None}
    if "models" in given:
        given["models"] = [model.strip() for model in given["models"].split(",") if model.strip()]
    if given.get("expires_at") == "never":
        given["expires_at"] = None
    return given


def _fault(failure: Failure) -> click.ClickException:
    """A wrong value is a wrong command line."""
    if failure.param and failure.kind != "conflict":
        flag = _FLAGS.get(failure.param, failure.param).replace("_", "-")
        return click.UsageError(f"--{flag}: {failure.message.removeprefix(f'{failure.param}: ')}")
    return click.ClickException(failure.message)


# ---- the commands ------------------------------------------------------------------------------------------------


@click.group()
def command() -> None:
    """The keys of clients: make, list, change, revoke and rotate them.

    A running gateway goes by a change within a second.

    \b
    Example:
      polymux keys create --name ada --models "gpt-*" --rpm 60 --expires 30d
    """


@command.command()
@option("--name", metavar="N", required=True, help="A name to know it by; no two keys have the same.")
@_with(_FIELDS, _PLACE)
@click.pass_context
@told
def create(context: click.Context) -> None:
    """Make a key. It is shown once: stdout gets the key alone.

    \b
    Examples:
      polymux keys create --name ada
      polymux keys create --name ci --models "gpt-*,meow" --rpm 60 --budget 20 --budget-period month --expires 30d
    """
    with _desk(context) as desk:
        key, secret = desk.store.create({**initial(desk.config.limits), **desk.given}, ACTOR)
        _hand_over(desk, key, secret, f"{key.id} {key.name!r} is made. This is its key; it is not shown again.")


@command.command(name="list")
@_with(_PLACE)
@click.pass_context
@told
def list_(context: click.Context) -> None:
    """List the keys: those of the configuration, then those made here.

    \b
    Example:
      polymux keys list --json
    """
    with _desk(context) as desk:
        keys: list[Key] = [*desk.static]
        cursor: str | None = ""
        while cursor is not None:
            found, cursor = desk.store.page(PAGE, cursor)
            keys += found
    if desk.as_json:
        _json([shown(key) for key in keys])
    elif sys.stdout.isatty():
        _table([_row(shown(key)) for key in keys])
    else:
        for row in (_HEAD, *(_row(shown(key)) for key in keys)):
            click.echo("\t".join(row))


@command.command()
@click.argument("key")
@_with(_PLACE)
@click.pass_context
@told
def show(context: click.Context, key: str) -> None:
    """Show one key, by its name or id; never the secret.

    \b
    Example:
      polymux keys show ada
    """
    with _desk(context) as desk:
        _tell(desk, elsewhere(desk.static, key) or desk.store.get(key))


@command.command()
@click.argument("key")
@option("--name", metavar="N", help="Another name.")
@_with(_FIELDS)
@option("--enable/--disable", "enabled", default=None, help="Whether it can be used.")
@_with(_PLACE)
@click.pass_context
@told
def update(context: click.Context, key: str) -> None:
    """Change what is given, and nothing else.

    \b
    Examples:
      polymux keys update ada --rpm 120 --expires never
      polymux keys update ada --disable
    """
    with _desk(context) as desk:
        changeable(desk.static, key)
        if not desk.given:
            raise click.UsageError("nothing to change was given; see --help")
        _tell(desk, desk.store.update(key, desk.given, ACTOR))


@command.command()
@click.argument("key")
@click.option("--yes", is_flag=True, help="Revoke it without a question.")
@_with(_PLACE)
@click.pass_context
@told
def revoke(context: click.Context, key: str, yes: bool) -> None:
    """Delete a key: who has it is refused from then on. What it used stays in the ledger.

    \b
    Example:
      polymux keys revoke ada --yes
    """
    with _desk(context) as desk:
        changeable(desk.static, key)
        found = desk.store.get(key)
        if not yes:
            click.confirm(f"Revoke {found.id} {found.name!r} ({found.prefix}...)?", abort=True, err=True)
        desk.store.revoke(found.id, ACTOR)
        if desk.as_json:
            _json(shown(found))
        else:
            note(f"{found.id} {found.name!r} is revoked")


@command.command()
@click.argument("key")
@click.option("--overlap", metavar="TIME", default="24h", help="How long the old key is still good (default: 24h).")
@_with(_PLACE)
@click.pass_context
@told
def rotate(context: click.Context, key: str, overlap: str) -> None:
    """Replace a key by a new one. Both are good for a while, so that clients can be changed without a gap.

    \b
    Examples:
      polymux keys rotate ada
      polymux keys rotate ada --overlap 0
    """
    with _desk(context) as desk:
        changeable(desk.static, key)
        found, secret = desk.store.rotate(key, ACTOR, overlap_of({"overlap": overlap}))
        until = f"is good until {said(found.old_until)}" if found.old_until else "is good no longer"
        text = f"{found.id} {found.name!r} has a new key; it is not shown again. The old one {until}."
        _hand_over(desk, found, secret, text)


# ---- what is printed ---------------------------------------------------------------------------------------------


def _hand_over(desk: Desk, key: Key, secret: str, text: str) -> None:
    """The secret, once: on stdout it is alone, so that a script can take it."""
    if desk.as_json:
        _json({**msgspec.to_builtins(shown(key)), "key": secret})
        return
    note(text)
    click.echo(secret)
    server = desk.config.server
    scheme, host = "https" if server.tls_cert else "http", f"[{server.host}]" if ":" in server.host else server.host
    note(f'Try it: curl {scheme}://{host}:{server.port}/v1/models -H "Authorization: Bearer {secret[:11]}..."')


def _tell(desk: Desk, key: Key) -> None:
    if desk.as_json:
        _json(shown(key))
        return
    values = shown(key)
    for name in Shown.__struct_fields__:
        click.echo(f"{name:14} {_words(name, getattr(values, name))}")


def _words(name: str, value: Any) -> str:
    if name in ("rpm", "tpm", "concurrency"):
        return str(value) if value else "no limit"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value) or "all"
    return (said(value) if isinstance(value, float) else value) or "-"


def _row(key: Shown) -> tuple[str, ...]:
    """A key in one line."""
    limits = [
        f"{value} {unit}" for value, unit in ((key.rpm, "rpm"), (key.tpm, "tpm"), (key.concurrency, "at once")) if value
    ]
    budget = f"{key.budget_usd} USD/{key.budget_period}" if key.budget_usd else "-"
    state = "on" if key.enabled else "disabled"
    if key.origin != "database":
        state = {"static": "in the configuration"}.get(key.origin, "first run")
    elif key.expires_at is not None:
        state += f", expires {said(key.expires_at)}"
    prefix = f"{key.prefix}..." if key.prefix else "-"
    return (
        key.id,
        key.name,
        prefix,
        key.tenant,
        ", ".join(key.models) or "all",
        ", ".join(limits) or "-",
        budget,
        state,
    )


def _table(rows: Iterable[tuple[str, ...]]) -> None:
    from rich.console import Console  # only for a terminal
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in _HEAD:
        table.add_column(name, overflow="fold", no_wrap=name in ("id", "key"))
    for row in rows:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)


def _json(value: object) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value)).decode())

"""`polymux catalog update`: newer prices and limits of models."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, Final
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, HTTPSHandler, Request, build_opener

import click
import msgspec

from polymux import __version__
from polymux.app import configured
from polymux.cli.faults import told
from polymux.providers.catalog import Catalog, ListPrice, Model, Rates, Tier, read
from polymux.providers.modelsdev import SOURCE, convert
from polymux.store.catalog import bundled, current, keep

LARGEST: Final = 32 * 1024 * 1024  # bytes; the real one has two million
PATIENCE: Final = 60.0  # seconds for all of it
SILENCE: Final = 15.0  # seconds


@click.group()
def command() -> None:
    """The prices, limits and abilities of models.

    \b
    Example:
      polymux catalog update --from https://models.dev/api.json
    """


@command.command()
@click.option(
    "--from", "source", metavar="FILE|URL", required=True, help=f"A file in the form of {SOURCE}, or its URL."
)
@click.option("--date", "taken", metavar="YYYY-MM-DD", help="When it was taken (default: the file's date, or today).")
@click.option("--data-dir", metavar="DIR", help="Where the gateway keeps its things (default: as configured).")
@click.option("--config", metavar="FILE", help="The configuration; by default the one 'serve' would read.")
@click.option("--yes", is_flag=True, help="Apply it without a question.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; nothing is asked, and applied only with --yes.")
@told
def update(source: str, taken: str | None, data_dir: str | None, config: str | None, yes: bool, as_json: bool) -> None:
    """Show what a newer catalogue would change, and put it in use.

    It is kept in the data directory. The gateway reads it when it starts or reloads, and prefers it to the catalogue
    it came with, unless that one is newer. Nothing else ever fetches prices.

    \b
    Examples:
      polymux catalog update --from https://models.dev/api.json
      polymux catalog update --from api.json --date 2026-07-02 --yes
    """
    place = Path(data_dir or configured(config).server.data_dir).expanduser()
    text, day = _taken(source)
    try:
        day = date.fromisoformat(taken).isoformat() if taken else day
    except ValueError:
        raise click.UsageError(f"--date: expected YYYY-MM-DD, not {taken!r}") from None
    ours = bundled()
    try:
        offered = convert(text, day, ours.providers).text  # of others there is no preset
    except ValueError as error:
        raise click.ClickException(f"{source}: {error}") from None
    if day < ours.date:
        raise click.ClickException(f"{source} is of {day}; what is bundled with this version is newer")
    old, new = _in_use(place), read(offered)
    changes = compare(old, new)
    different = bool(changes.added or changes.removed or changes.changed or changes.others)
    if not as_json:
        click.echo("\n".join(lines(changes)))
    apply = different and (yes or (not as_json and click.confirm(f"Use the prices of {day} from now on?")))
    if apply:
        path = _keep(place, offered)
    if as_json:
        shown = Shown(source, old.date, day, changes, apply)
        click.echo(msgspec.json.format(msgspec.json.encode(shown)).decode())
    elif apply:
        click.echo(f"wrote {path}; a running gateway takes it on its next start or reload")
    elif different:
        raise click.ClickException("nothing was changed")


def _in_use(place: Path) -> Catalog:
    """The catalogue to compare with; a broken one is about to be replaced."""
    try:
        return current(place)
    except (OSError, ValueError) as error:
        click.echo(f"{error}; compared with what is bundled instead", err=True)
        return bundled()


def _keep(place: Path, text: bytes) -> Path:
    try:
        return keep(place, text)
    except OSError as error:
        raise click.ClickException(f"cannot write to {place}: {error.strerror}") from None


# ---- what has changed --------------------------------------------------------------------------------------------


class Entry(msgspec.Struct, frozen=True):
    provider: str
    model: str
    price: ListPrice | None


class Change(msgspec.Struct, frozen=True):
    provider: str
    model: str
    before: ListPrice | None
    after: ListPrice | None


class Changes(msgspec.Struct, frozen=True):
    """others: how many models differ in their limits or abilities alone."""

    added: list[Entry]
    removed: list[Entry]
    changed: list[Change]
    others: int


class Shown(msgspec.Struct, frozen=True):
    source: str
    before: str
    after: str
    changes: Changes
    applied: bool


def compare(old: Catalog, new: Catalog) -> Changes:
    """By provider and model, in alphabetical order."""
    before, after = dict(_entries(old)), dict(_entries(new))
    both = [key for key in sorted(before) if key in after and before[key] != after[key]]
    return Changes(
        [Entry(*key, after[key].price) for key in sorted(after) if key not in before],
        [Entry(*key, before[key].price) for key in sorted(before) if key not in after],
        [Change(*key, before[key].price, after[key].price) for key in both if before[key].price != after[key].price],
        sum(before[key].price == after[key].price for key in both),
    )


def _entries(catalog: Catalog) -> Iterator[tuple[tuple[str, str], Model]]:
    for provider in catalog.providers:
        for name, model in catalog.models(provider).items():
            yield (provider, name), model


def lines(changes: Changes) -> Iterator[str]:
    """A line for each price, below its provider's name: + added, - removed, ~ changed. Then how many of each."""
    rows = [(one.provider, one.model, "+", _words(one.price)) for one in changes.added]
    rows += [(one.provider, one.model, "-", _words(one.price)) for one in changes.removed]
    rows += [(one.provider, one.model, "~", _difference(one.before, one.after)) for one in changes.changed]
    width = min(max((len(model) for _, model, _, _ in rows), default=0), 48)
    provider = ""
    for owner, model, sign, words in sorted(rows):
        if owner != provider:
            provider = owner
            yield provider
        yield f"  {sign} {model:{width}}  {words}"
    counts = ((changes.changed, "changed"), (changes.added, "added"), (changes.removed, "removed"))
    said = ", ".join(f"{len(found)} {word}" for found, word in counts)
    more = f"; {changes.others} more with other limits or abilities" if changes.others else ""
    yield f"prices: {said}{more}"


def _words(price: ListPrice | None) -> str:
    return ", ".join(f"{name} {value}" for name, value in _rates(price).items()) or "price unknown"


def _difference(before: ListPrice | None, after: ListPrice | None) -> str:
    if before is None or after is None:
        return f"{_words(before)} → {_words(after)}"
    old, new = _rates(before), _rates(after)
    names = [name for name in old | new if old.get(name) != new.get(name)]
    return ", ".join(f"{name} {old.get(name, 'none')} → {new.get(name, 'none')}" for name in names)


def _rates(price: ListPrice | None) -> dict[str, str]:
    """What is given, by name: `input`, `input above 200000`."""
    found: dict[str, str] = {}
    parts: tuple[ListPrice | Tier, ...] = (price, *price.tiers) if price else ()
    for part in parts:
        above = f" above {part.above}" if isinstance(part, Tier) else ""
        given = ((name, getattr(part, name)) for name in Rates.__struct_fields__)
        found |= {name + above: f"{value:f}" for name, value in given if value is not None}
    return found


# ---- where it comes from -----------------------------------------------------------------------------------------


def _taken(source: str) -> tuple[bytes, str]:
    """The text of a file or an https URL, and the date it is of."""
    if "://" in source:
        if not source.startswith("https://"):
            raise click.UsageError("--from: only https:// URLs are fetched")
        return _fetched(source), datetime.now(UTC).date().isoformat()
    try:
        path = Path(source).expanduser()
        return path.read_bytes(), datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()
    except OSError as error:
        raise click.ClickException(f"{source} cannot be read: {error.strerror}") from None


class _HttpsOnly(HTTPRedirectHandler):
    def redirect_request(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not newurl.startswith("https://"):
            raise HTTPError(req.full_url, code, f"it redirects to {newurl}, which is not https", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _fetched(url: str) -> bytes:
    """Trusts the system's authorities, goes through the environment's proxy. Bounded in size and time."""
    opener = build_opener(HTTPSHandler(context=ssl.create_default_context()), _HttpsOnly())
    request = Request(url, headers={"user-agent": f"polymux/{__version__}"})  # noqa: S310 - https, checked by the caller
    until, text = time.monotonic() + PATIENCE, bytearray()
    try:
        with opener.open(request, timeout=SILENCE) as response:
            while chunk := response.read1(65536):
                text += chunk
                if len(text) > LARGEST:
                    raise click.ClickException(f"{url}: more than {LARGEST // 2**20} MiB")
                if time.monotonic() > until:
                    raise click.ClickException(f"{url}: not all of it came within {PATIENCE:g} seconds")
    except HTTPError as error:
        with error:  # it holds the connection
            raise click.ClickException(f"{url} cannot be fetched: {error}") from None
    except (OSError, HTTPException) as error:  # a URLError is an OSError, and so is a timeout
        raise click.ClickException(f"{url} cannot be fetched: {error}") from None
    return bytes(text)

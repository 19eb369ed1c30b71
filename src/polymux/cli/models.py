"""`polymux models`: what would be served, and by which deployments."""

from __future__ import annotations

from typing import Final

import click
import msgspec

from polymux.app import Setup, prepare
from polymux.cli.faults import told
from polymux.types import Key

_ASKED: Final = "listed by the provider when the gateway runs"
_ANY: Final = "any name: the provider has no list"


@click.command()
@click.option("--config", "config", metavar="FILE", help="The configuration; by default the one 'serve' would read.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@told
def command(config: str | None, as_json: bool) -> None:
    """List the models that would be served, and the deployments behind each.

    \b
    Example:
      polymux models --json
    """
    listed = _listed(prepare(config, strict=False))  # what is broken is told in the log, and "serve" goes on as well
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(listed)).decode())
        return
    width = max((len(one.id) for one in listed), default=0)
    for one in listed:
        click.echo(f"{one.id:{width}}  {', '.join(one.deployments)}")


class Listed(msgspec.Struct):
    id: str
    deployments: list[str]


def _listed(setup: Setup) -> list[Listed]:
    key = Key("cli", "cli")
    known = [
        Listed(name, [to.id for to in setup.registry.find(name, key)[0].deployments])
        for name, _ in setup.registry.names(key)
    ]
    asked = [
        Listed(f"{provider.name}/*", [_ASKED if provider.discover else _ANY])
        for provider in setup.registry.sources.values()
        if provider.open
    ]
    return known + asked

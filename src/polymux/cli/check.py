"""`polymux check`: is the configuration right?"""

from __future__ import annotations

import click

from polymux.app import prepare
from polymux.cli.faults import told


@click.command()
@click.option("--config", "config", metavar="FILE", help="The file to check; by default the one 'serve' would read.")
@told
def command(config: str | None) -> None:
    """Check the configuration; every fault at once, with its line.

    \b
    Example:
      polymux check --config polymux.toml
    """
    setup = prepare(config)
    where = setup.config.file or "the environment (there is no configuration file)"
    click.echo(f"{where}: good, {len(setup.sources)} providers, {len(setup.config.models)} routes")

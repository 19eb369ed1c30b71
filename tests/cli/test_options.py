"""Options that are collected in place of parameters."""

from __future__ import annotations

import click
from click.testing import CliRunner

from polymux.cli.options import option


@click.command()
@click.option("--host")
@option("--many", "several", multiple=True)
@option("--count", type=int, default=3)
@click.pass_context
def command(context: click.Context, host: str) -> None:
    click.echo(f"{host} {context.obj}")


def test_they_are_in_the_context_by_name() -> None:
    result = CliRunner().invoke(command, ["--host", "h", "--many", "a", "--many", "b"])
    assert result.output == "h {'several': ('a', 'b'), 'count': 3}\n"


def test_their_types_are_checked() -> None:
    assert CliRunner().invoke(command, ["--count", "x"]).exit_code == 2

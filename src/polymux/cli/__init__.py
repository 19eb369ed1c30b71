"""The command line. Each command's module is imported when it runs, so that `--help` stays quick."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

COMMANDS: Final = ("serve", "check", "models", "chat", "mock", "catalog", "keys", "usage", "conversations")


class _Commands(click.Group):
    """Finds `polymux NAME` in `polymux.cli.NAME`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"polymux.cli.{cmd_name}").command
        return command if isinstance(command, click.Command) else None


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name=None, version="0.1.0", prog_name="polymux")
def main() -> None:
    """One OpenAI-compatible endpoint in front of every model."""

"""Options of commands that have many: they are collected in `context.obj`, by name, in place of parameters."""

from __future__ import annotations

from functools import partial
from typing import Any

import click


def keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Put a value where the command finds it."""
    context.ensure_object(dict)[parameter.name] = value


option = partial(click.option, callback=keep, expose_value=False)

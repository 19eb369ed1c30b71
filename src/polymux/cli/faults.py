"""A user's mistakes are told in words and end with status 1; no traceback."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import click

from polymux.config import ConfigError
from polymux.store.base import Unusable

P = ParamSpec("P")
T = TypeVar("T")


def told(command: Callable[P, T]) -> Callable[P, T]:
    """Print the faults of a configuration, or of what is stored, instead of a traceback."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except ConfigError as error:
            for fault in error.faults:
                click.echo(str(fault), err=True)
            count = len(error.faults)
            click.echo(f"{count} fault{'s' if count > 1 else ''}", err=True)
            raise SystemExit(1) from None
        except Unusable as error:
            raise click.ClickException(str(error)) from None

    return run

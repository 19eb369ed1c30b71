"""The decorator that makes a function a model. It only marks; nothing is registered by importing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

MARK: Final = "__polymux_model__"

F = TypeVar("F", bound=Callable[..., Any])


def model(name: str) -> Callable[[F], F]:
    """Serve the decorated function as the model `name`.

    It takes the messages (dicts in OpenAI's form) and, if it has a second parameter, a `functions.FunctionCall`.
    It returns text, or yields pieces of it; it may be async.
    """

    def mark(function: F) -> F:
        setattr(function, MARK, name)
        return function

    return mark

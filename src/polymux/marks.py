"""What a file of function models imports: the decorator that marks a function, and the error with a status.

The decorator only marks; nothing is registered by importing.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Final, NamedTuple, TypeVar

MARK: Final = "__polymux_model__"

F = TypeVar("F", bound=Callable[..., Any])


class Mark(NamedTuple):
    """What the decorator was told.

    concurrency: calls at the same time; None = 32 for a function that needs threads, no bound for an async one.
    queue: calls that may wait for their turn.
    """

    name: str
    concurrency: int | None = None
    queue: int = 100


def model(name: str, *, concurrency: int | None = None, queue: int = 100) -> Callable[[F], F]:
    """Serve the decorated function as the model `name`.

    It takes the messages (dicts in OpenAI's form) and, if it has a second parameter, a `functions.FunctionCall`.
    It returns text or a dict (a delta, a message or an answer in OpenAI's form), or yields such pieces; it may be
    async. At most `concurrency` calls run at the same time, `queue` more wait, any other gets a 503. Raises
    `ValueError` for numbers that leave no room.
    """
    if not isinstance(name, str) or not name:
        raise ValueError('the name of a model is a text: @model("NAME")')
    if concurrency is not None and concurrency < 1:
        raise ValueError(f"concurrency is at least 1, not {concurrency}")
    if queue < 0:
        raise ValueError(f"queue is at least 0, not {queue}")
    mark = Mark(name, concurrency, queue)

    def marked(function: F) -> F:
        setattr(function, MARK, mark)
        return function

    return marked


class ModelError(Exception):
    """Raised by a function model, it becomes the client's error; raised by `call.chat`, it tells how that call failed.

    status: 400 to 599. message: for the client. code: of the error envelope. retry_after: seconds. type: of the error
    envelope; None = the usual one of the status. Raises `ValueError` for another status and for a time that is none.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        retry_after: float | None = None,
        type: str | None = None,
    ) -> None:
        if status not in range(400, 600):
            raise ValueError(f"the status of an error is one of 400 to 599, not {status}")
        if retry_after is not None and not 0 <= retry_after < inf:
            raise ValueError(f"retry_after is a number of seconds, not {retry_after}")
        super().__init__(message)
        self.status, self.message, self.retry_after = int(status), _text(message), retry_after
        self.code, self.type = code and _text(code), type and _text(type)


def _text(value: object) -> str:
    """Text that can be sent: a message is often another error, and may quote what is no Unicode."""
    return str(value).encode("utf-8", "replace").decode()

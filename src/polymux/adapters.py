"""Own dialects: `adapter = "module:Class"` in a provider. Loaded, held against the contract, and named when they fail.

The class is used as the gateway's own dialects are (`providers.base.Adapter`): one object for all requests, pure, its
answers read by readers that are made for each attempt.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from polymux.errors import Failure, Truncated
from polymux.functions.trace import OURS, trace
from polymux.providers.base import Adapter, Asked, Flow, Reader, Stopping
from polymux.providers.fates import PARAMETERS, Column, Fate
from polymux.schema.chat import ChatRequest, ChatResponse, Chunk, TokenUsage
from polymux.types import Deployment, WireRequest

METHODS: Final = ("flow", "read", "reader", "failure", "models", "read_models")
_SHOWN: Final = 3  # parameters without a fate that are named

log = logging.getLogger("polymux")


class Unfit(Exception):
    """A class that cannot be used; the message says why."""


def load(spec: str) -> Adapter:
    """The adapter of `module:Class`. Raises `Unfit`."""
    module, _, name = spec.partition(":")
    try:
        made = _made(importlib.import_module(module), name)
    except Unfit:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever it raises, the gateway goes on
        raise Unfit(_words(error)) from error
    if lacking := faults(made):
        raise Unfit("; ".join(lacking))
    return Own(spec, made)


def _made(module: Any, name: str) -> Any:
    cls = getattr(module, name, None)
    if not isinstance(cls, type):
        raise Unfit(f"{module.__name__} has no class {name!r}")
    return cls()


def faults(made: Any) -> list[str]:
    """What an object lacks to be an adapter."""
    found = []
    for name in METHODS:
        method, wanted = getattr(made, name, None), _parameters(getattr(Adapter, name))[1:]
        told = f"{name}({', '.join(wanted)})"
        if not callable(method):
            found.append(f"there is no method {told}")
        elif not _takes(method, len(wanted)):
            found.append(f"{name} takes ({', '.join(_parameters(method))}), expected {told}")
    fates = getattr(made, "fates", None)
    if not isinstance(fates, Mapping):
        found.append("there is no table fates; polymux.providers.fates.column makes one")
    elif silent := [name for name in PARAMETERS if not isinstance(fates.get(name), Fate)]:
        more = f" and {len(silent) - _SHOWN} more" if len(silent) > _SHOWN else ""
        found.append(f"fates says nothing of {', '.join(silent[:_SHOWN])}{more}; polymux.providers.fates.column does")
    return found


def _parameters(method: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(method).parameters)


def _takes(method: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(method).bind(*range(count))
    except TypeError:
        return False
    return True


def _words(error: BaseException) -> str:
    """The error, with the line that raised it."""
    frames = [
        one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith((*OURS, __file__))
    ]
    line = "".join(f" (line {one.lineno} of {Path(one.filename).name})" for one in frames[-1:])
    return f"{type(error).__name__}: {error}{line}"


@contextmanager
def _named(spec: str) -> Iterator[None]:
    """Whatever an adapter raises beside the contract is a failure of its deployment, with its name."""
    try:
        yield
    except (Failure, Truncated, RecursionError):
        raise
    except Exception as error:
        log.error("the adapter %s failed:\n%s", spec, trace(error))
        text = f"the adapter {spec} failed with {type(error).__name__}; the gateway's log has the details"
        raise Failure("upstream_unavailable", text) from None


class Own:
    """Implements `Adapter` and `Stopping` by an adapter of the user's."""

    def __init__(self, spec: str, inner: Adapter) -> None:
        self.spec, self._inner = spec, inner

    @property
    def fates(self) -> Column:
        return self._inner.fates

    def flow(self, request: ChatRequest, asked: Asked) -> Flow:
        with _named(self.spec):
            return (yield from self._inner.flow(request, asked))

    def read(self, body: bytes, asked: Asked) -> ChatResponse:
        with _named(self.spec):
            return self._inner.read(body, asked)

    def reader(self, asked: Asked) -> Reader:
        with _named(self.spec):
            return OwnReader(self.spec, self._inner.reader(asked))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        with _named(self.spec):
            return self._inner.failure(status, headers, body)

    def models(self, to: Deployment) -> WireRequest:
        with _named(self.spec):
            return self._inner.models(to)

    def read_models(self, body: bytes) -> Sequence[str]:
        with _named(self.spec):
            return self._inner.read_models(body)

    def stop(self, asked: Asked) -> WireRequest | None:
        with _named(self.spec):
            return self._inner.stop(asked) if isinstance(self._inner, Stopping) else None


class OwnReader:
    """Implements `Reader` by a reader of the user's."""

    def __init__(self, spec: str, inner: Reader) -> None:
        self._spec, self._inner = spec, inner

    @property
    def done(self) -> bool:
        return self._inner.done

    @property
    def usage(self) -> TokenUsage | None:
        return self._inner.usage

    def feed(self, event: str, data: bytes) -> Sequence[Chunk]:
        with _named(self._spec):
            return self._inner.feed(event, data)

    def close(self) -> Sequence[Chunk]:
        with _named(self._spec):
            return self._inner.close()

"""Own dialects: `adapter = "module:Class"` in a provider. Loaded, held against the contract, and named when they fail.

The class is used as the gateway's own dialects are (`providers.base.Adapter`): one object for all requests, pure, its
answers read by readers that are made for each attempt.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from polymux.errors import Failure, Truncated
from polymux.functions.trace import OURS, trace
from polymux.providers.base import Adapter, Asked, Flow, Reader, Recall, Stopping
from polymux.providers.fates import PARAMETERS, Column, Fate
from polymux.schema.chat import ChatRequest, ChatResponse, Chunk, TokenUsage
from polymux.surfaces.stream import DECODERS
from polymux.types import Deployment, WireRequest

METHODS: Final = ("flow", "read", "reader", "failure", "models", "read_models")
_SHOWN: Final = 3  # parameters without a fate that are named

T = TypeVar("T")

log = logging.getLogger("polymux")


class Unfit(Exception):
    """A class that cannot be used; the message says why."""


class _Wrong(Exception):
    """What a method gives is not what the contract says."""


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
    except _Wrong as error:
        log.error("the adapter %s is wrong: %s", spec, error)
        raise Failure("upstream_unavailable", f"the adapter {spec} is wrong: {error}") from None
    except Exception as error:
        log.error("the adapter %s failed:\n%s", spec, trace(error))
        text = f"the adapter {spec} failed with {type(error).__name__}; the gateway's log has the details"
        raise Failure("upstream_unavailable", text) from None


def _right(value: Any, kind: type[T], who: str) -> T:
    """What a method gave, of this kind all the way down (a list that shall be a tuple is one). Raises `_Wrong`."""
    if not isinstance(value, kind):
        raise _Wrong(f"{who} gave {type(value).__name__}, expected {kind.__name__}")
    try:
        return msgspec.convert(msgspec.to_builtins(value, builtin_types=(bytes,)), kind, builtin_types=(bytes,))
    except (msgspec.ValidationError, TypeError) as error:
        raise _Wrong(f"{who} gave {kind.__name__} with something wrong in it: {error}") from None


def _all(values: Any, kind: type[T], who: str) -> Sequence[T]:
    if not isinstance(values, list | tuple):
        raise _Wrong(f"{who} gave {type(values).__name__}, expected a list of {kind.__name__}")
    return [_right(value, kind, who) for value in values]


class Own:
    """Implements `Adapter` and `Stopping` by an adapter of the user's, and looks at all that it gives."""

    def __init__(self, spec: str, inner: Adapter) -> None:
        self.spec, self._inner = spec, inner

    @property
    def fates(self) -> Column:
        return self._inner.fates

    def flow(self, request: ChatRequest, asked: Asked) -> Flow:
        with _named(self.spec):
            flow, sent = self._inner.flow(request, asked), None
            if not isinstance(flow, Generator):
                raise _Wrong("flow is no generator; where it has nothing to prepare, it begins with: yield from ()")
            while True:
                try:
                    wanted = flow.send(sent)
                except StopIteration as stop:
                    main = _right(stop.value, WireRequest, "flow")
                    break
                sent = yield wanted if isinstance(wanted, Recall) else _right(wanted, WireRequest, "flow")
            if request.stream and main.framing not in DECODERS:
                raise _Wrong(f"flow gave the framing {main.framing!r}, expected one of {', '.join(DECODERS)}")
            return main

    def read(self, body: bytes, asked: Asked) -> ChatResponse:
        with _named(self.spec):
            return _right(self._inner.read(body, asked), ChatResponse, "read")

    def reader(self, asked: Asked) -> Reader:
        with _named(self.spec):
            return OwnReader(self.spec, self._inner.reader(asked))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        with _named(self.spec):
            failure = self._inner.failure(status, headers, body)
            if not isinstance(failure, Failure):
                raise _Wrong(f"failure gave {type(failure).__name__}, expected Failure")
            return failure

    def models(self, to: Deployment) -> WireRequest:
        with _named(self.spec):
            return _right(self._inner.models(to), WireRequest, "models")

    def read_models(self, body: bytes) -> Sequence[str]:
        with _named(self.spec):
            return _all(self._inner.read_models(body), str, "read_models")

    def stop(self, asked: Asked) -> WireRequest | None:
        """A failure here is only logged: whoever stops has left, or is about to tell another one."""
        try:
            with _named(self.spec):
                request = self._inner.stop(asked) if isinstance(self._inner, Stopping) else None
                return None if request is None else _right(request, WireRequest, "stop")
        except (Failure, Truncated, RecursionError):
            return None


class OwnReader:
    """Implements `Reader` by a reader of the user's. What it tells of itself is asked once for each event."""

    def __init__(self, spec: str, inner: Reader) -> None:
        self._spec, self._inner = spec, inner
        self.done = False
        self.usage: TokenUsage | None = None
        self._look()

    def feed(self, event: str, data: bytes) -> Sequence[Chunk]:
        with _named(self._spec):
            chunks = _all(self._inner.feed(event, data), Chunk, "feed")
            self._look()
            return chunks

    def close(self) -> Sequence[Chunk]:
        with _named(self._spec):
            chunks = _all(self._inner.close(), Chunk, "close")
            self._look()
            return chunks

    def _look(self) -> None:
        self.done, usage = bool(self._inner.done), self._inner.usage
        self.usage = None if usage is None else _right(usage, TokenUsage, "usage")

"""Function models at work: async ones on the loop, plain ones in a thread of their own, both bounded."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import aclosing, closing, suppress
from types import MappingProxyType
from typing import Any, Final

import msgspec

from polymux.errors import Failure
from polymux.functions.call import Chats, FunctionCall
from polymux.functions.gate import Gate, Place
from polymux.functions.results import Results, WrongResult
from polymux.functions.trace import trace
from polymux.marks import MARK, Mark, ModelError
from polymux.schema.chat import ChatRequest, Chunk
from polymux.types import Call

THREADS: Final = 32  # calls of one plain function at the same time, unless its mark says otherwise
AHEAD: Final = 16  # pieces that a plain generator may be ahead of its client

Function = Callable[..., Any]

_TYPES: Final[Mapping[int, str]] = MappingProxyType(
    {401: "authentication_error", 402: "insufficient_quota", 403: "permission_error", 429: "rate_limit_error"}
)

log = logging.getLogger("polymux.functions")


class FunctionModel:
    """One function model: its function and the places for its calls."""

    def __init__(self, name: str, function: Function) -> None:
        mark: Mark = getattr(function, MARK, Mark(name))
        forms = (function, getattr(function, "__call__", None))  # noqa: B004 - an instance may be async by this method
        self.name, self.function = name, function
        self.threaded = not any(inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f) for f in forms)
        self.gate = Gate(name, mark.concurrency or (THREADS if self.threaded else 0), mark.queue)
        self._takes_call = _takes_call(function)

    async def run(
        self, call: Call, request: ChatRequest, results: Results, chats: Chats, place: Place
    ) -> AsyncGenerator[list[Chunk]]:
        """The answer, piece by piece. Raises `Failure`; when it is left, so is the function."""
        gone = threading.Event()
        arguments: tuple[Any, ...] = ([msgspec.to_builtins(message) for message in request.messages],)
        if self._takes_call:
            loop = asyncio.get_running_loop() if self.threaded else None
            arguments += (FunctionCall(call, chats, loop, gone),)
        given = self._in_thread(arguments, gone, place) if self.threaded else self._on_loop(arguments)
        try:
            async with aclosing(given):
                async for value in given:
                    if chunks := results.feed(value):
                        yield chunks
        except (Failure, GeneratorExit):
            raise
        except ModelError as error:
            raise _failure(error) from None
        except WrongResult as error:
            log.error("%s: the function model %r %s", _where(self.function), self.name, error)
            raise Failure("internal_error", f"the function model {self.name!r} {error}") from None
        except BaseException as error:  # whatever a function raises, the gateway goes on
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
                raise  # the client has left; any other cancellation is the function's own doing
            log.error("the function model %r failed in call %s\n%s", self.name, call.id, trace(error))
            raise Failure(
                "internal_error", f"the function model {self.name!r} failed: {type(error).__name__}"
            ) from None
        finally:
            gone.set()
            await chats.close()
        yield results.close()

    async def _on_loop(self, arguments: tuple[Any, ...]) -> AsyncGenerator[Any]:
        result = self.function(*arguments)
        if inspect.isawaitable(result):
            result = await result
        if not inspect.isasyncgen(result):
            yield result
            return
        async with aclosing(result):
            async for piece in result:
                yield piece

    async def _in_thread(self, arguments: tuple[Any, ...], gone: threading.Event, place: Place) -> AsyncGenerator[Any]:
        """One thread for the whole call, so that what it opens stays in the thread that opened it."""
        loop = asyncio.get_running_loop()
        given: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        ahead = threading.Semaphore(AHEAD)

        def tell(what: Callable[..., Any], *told: Any) -> None:
            with suppress(RuntimeError):  # the loop is closed: the gateway has ended
                loop.call_soon_threadsafe(what, *told)

        def work() -> None:
            try:
                with closing(_values(self.function, arguments)) as values:
                    for value in values:
                        tell(given.put_nowait, ("value", value))
                        ahead.acquire()
                        if gone.is_set():
                            break
                tell(given.put_nowait, ("end", None))
            except BaseException as error:  # the caller's to judge
                tell(given.put_nowait, ("error", error))
            finally:
                tell(place.leave)

        threading.Thread(target=work, name=f"polymux-{self.name}", daemon=True).start()
        place.keep()  # a function that is left may go on blocking, and its place with it
        try:
            while True:
                what, value = await given.get()
                if what == "error":
                    try:
                        raise value
                    finally:
                        del value  # its traceback holds this frame: with the messages, until the cycle is collected
                if what == "end":
                    return
                ahead.release()
                yield value
        finally:
            gone.set()
            ahead.release()


class Functions:
    """The function models by name, a frozen set. `broken`: files that are not served (as they are now) -> why."""

    def __init__(
        self,
        functions: Mapping[str, Function],
        broken: Mapping[str, str] = MappingProxyType({}),
        before: Functions | None = None,
    ) -> None:
        """`before`: what was served until now; models whose function is the same go on, with the calls they have."""
        old = {id(model.function): model for model in before._models.values()} if before else {}
        self._models: dict[str, FunctionModel] = {
            name: old.get(id(one)) or FunctionModel(name, one) for name, one in functions.items()
        }
        self.broken = dict(broken)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._models)

    def __getitem__(self, name: str) -> FunctionModel:
        return self._models[name]


def _values(function: Function, arguments: tuple[Any, ...]) -> Generator[Any]:
    """The result, or what it yields and then returns."""
    result = function(*arguments)
    if hasattr(result, "__next__"):
        result = yield from result
        if result is None:
            return
    yield result


def _failure(error: ModelError) -> Failure:
    """The client's error. Another deployment may take over where the request is not to blame."""
    status = error.status
    kind = "overloaded" if status == 429 or status >= 500 else "upstream_rejected"
    type_ = error.type or _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return Failure(
        kind, error.message, sent=(status, type_, error.code or "model_error"), retry_after=error.retry_after
    )


def _where(function: Function) -> str:
    """File and line of a function."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(function)


def _takes_call(function: Function) -> bool:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds for p in inspect.signature(function).parameters.values()) > 1

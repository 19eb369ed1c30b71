"""Python functions as deployments: found by their mark, run without stalling the loop, answered as pivot chunks."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import stat
import sys
import threading
import traceback
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from polymux.errors import Failure
from polymux.marks import MARK
from polymux.schema.chat import ChatRequest, Chunk, ChunkChoice, Delta, TokenUsage
from polymux.types import Call

Function = Callable[..., Any]

_END = object()


class FunctionCall(msgspec.Struct):
    """What a function model may know of its call: who calls, and the request's parameters beside the messages."""

    user: str
    key: str
    params: dict[str, Any]


class Functions:
    """The function models by name. Plain functions and generators run in threads, async ones on the loop."""

    def __init__(self, functions: Mapping[str, Function]) -> None:
        self._functions = dict(functions)
        self._threads = ThreadPoolExecutor(max_workers=32, thread_name_prefix="polymux-function")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._functions)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, name: str, call: Call, request: ChatRequest, created: int) -> AsyncGenerator[Chunk]:
        """The answer, chunk by chunk: text pieces, the finish, an estimated usage. Raises `Failure`."""
        messages = [msgspec.to_builtins(message) for message in request.messages]
        id_, written = f"chatcmpl-{call.id}", 0

        def chunk(delta: Delta, finish: str | None = None) -> Chunk:
            return Chunk(id_, created, call.model, [ChunkChoice(0, delta, finish)])

        role: str | None = "assistant"
        try:
            async with aclosing(self._texts(self._functions[name], messages, call)) as texts:
                async for text in texts:
                    if not isinstance(text, str):
                        raise TypeError(f"a function model returns or yields text, not {type(text).__name__}")
                    written += len(text.encode())
                    yield chunk(Delta(role=role, content=text))
                    role = None
        except (Failure, asyncio.CancelledError, GeneratorExit):
            raise
        except Exception as error:
            traceback.print_exc(file=sys.stderr)  # for the author of the function; the client gets no internals
            raise Failure("internal_error", f"the function model {name!r} failed: {type(error).__name__}") from None
        yield chunk(Delta(role=role), "stop")
        prompt, completion = _tokens(len(msgspec.json.encode(messages))), _tokens(written)
        usage = TokenUsage(prompt, completion, prompt + completion)
        yield Chunk(id_, created, call.model, [], usage=usage)

    async def _texts(self, function: Function, messages: list[dict[str, Any]], call: Call) -> AsyncGenerator[Any]:
        arguments: tuple[Any, ...] = (messages,)
        if _takes_call(function):
            params = {name: msgspec.json.decode(raw) for name, raw in call.fields.items() if name != "messages"}
            arguments = (messages, FunctionCall(str(params.get("user") or ""), call.key.name, params))
        if inspect.isasyncgenfunction(function):
            async with aclosing(function(*arguments)) as pieces:
                async for text in pieces:
                    yield text
        elif inspect.iscoroutinefunction(function):
            yield await function(*arguments)
        else:
            result = await self._in_thread(function, *arguments)
            if not inspect.isgenerator(result):
                yield result
                return
            one_by_one = threading.Lock()  # a caller that leaves does not end the step that is under way
            try:
                while (text := await self._in_thread(_step, result, one_by_one)) is not _END:
                    yield text
            finally:
                with suppress(RuntimeError):  # the gateway ends, and so do the threads
                    self._threads.submit(_close, result, one_by_one)

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, _contained, function, *arguments)


def _contained(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call it; StopIteration, which no future can carry, becomes RuntimeError, as in a generator (PEP 479)."""
    try:
        return function(*arguments)
    except StopIteration as error:
        raise RuntimeError("the function raised StopIteration") from error


def _step(generator: Iterator[Any], one_by_one: threading.Lock) -> Any:
    with one_by_one:
        return next(generator, _END)


def _close(generator: Generator[Any, Any, Any], one_by_one: threading.Lock) -> None:
    with one_by_one:
        generator.close()


class LoadError(Exception):
    """A function file that cannot be served; the message names the file and the fault."""


def load(specs: Iterable[str]) -> dict[str, Function]:
    """Functions by model name from `FILE.py`, a folder of such files, `module` or `module:object`.

    Raises `LoadError` for what cannot be imported, holds no model, is writable by others, or names a model twice.
    """
    found: dict[str, Function] = {}
    for spec in specs:
        for function in _functions_of(spec):
            name = getattr(function, MARK)
            if name in found and found[name] is not function:
                raise LoadError(f"{spec}: the model name {name!r} is taken by another function")
            found[name] = function
    return found


def _functions_of(spec: str) -> Iterator[Function]:
    path = Path(spec).expanduser()
    if not spec.strip():  # as a path it would be the working directory
        raise LoadError("an empty name where FILE.py, a folder or module:object is expected")
    if path.is_dir():
        _check_owner(path)
        for file in sorted(path.glob("*.py")):
            yield from _marked(_import_file(file), str(file))
    elif spec.endswith(".py"):
        yield from _marked(_import_file(path), spec)
    else:
        module, _, name = spec.partition(":")
        try:
            imported = importlib.import_module(module)
        except (Exception, SystemExit) as error:
            raise LoadError(f"{spec}: {_words(error)}") from error
        if not name:
            yield from _marked(imported, spec)
            return
        function = getattr(imported, name, None)
        if not callable(function):
            raise LoadError(f"{spec}: {module} has no function {name!r}")
        if not hasattr(function, MARK):
            raise LoadError(f'{spec}: {name} is not marked as a model; put @polymux.model("NAME") above it')
        yield function


def _marked(module: ModuleType, spec: str) -> list[Function]:
    functions = [value for value in vars(module).values() if callable(value) and hasattr(value, MARK)]
    if not functions:
        raise LoadError(f'{spec}: no function is marked as a model; put @polymux.model("NAME") above one')
    return functions


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise LoadError(f"{path}: no such file")
    _check_owner(path)
    spec = importlib.util.spec_from_file_location(f"polymux_functions_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise LoadError(f"{path}: not a Python file")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise LoadError(f"{path}: {_words(error)}") from error
    return module


def _check_owner(path: Path) -> None:
    if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise LoadError(f"{path}: others may write to it, so it is not run; 'chmod go-w {path}' closes it")


def _words(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    line = f" (line {frames[-1].lineno} of {Path(frames[-1].filename).name})" if frames else ""
    return f"{type(error).__name__}: {error}{line}"


def _takes_call(function: Function) -> bool:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds for p in inspect.signature(function).parameters.values()) > 1


def _tokens(size: int) -> int:
    """An estimate: four bytes a token."""
    return (size + 3) // 4

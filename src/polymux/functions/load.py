"""Function models found by their mark: in files, folders of files, modules."""

from __future__ import annotations

import importlib
import importlib.util
import stat
import sys
import traceback
from collections.abc import Callable
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any
from zlib import crc32

from polymux.functions.trace import OURS, trace
from polymux.marks import MARK
from polymux.wire.printable import printable

Function = Callable[..., Any]


class LoadError(Exception):
    """Functions that cannot be served; the message names the file or spec and the fault. `trace`: for the log."""

    def __init__(self, message: str, cause: BaseException | None = None) -> None:
        super().__init__(message)
        self.trace = trace(cause) if cause else ""


def from_file(path: Path) -> dict[str, Function]:
    """The models of a file, run anew, by name. Raises `LoadError`."""
    return marked(_run(path), str(path))


def from_module(spec: str) -> dict[str, Function]:
    """The models of `module`, or the one of `module:object`. Raises `LoadError`."""
    name, _, member = spec.partition(":")
    try:
        module = importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever it raises, the gateway goes on
        raise LoadError(f"{spec}: {_words(error)}", error) from error
    if not member:
        return marked(module, spec)
    function = getattr(module, member, None)
    if not callable(function):
        raise LoadError(f"{spec}: {name} has no function {member!r}")
    if not hasattr(function, MARK):
        raise LoadError(f'{spec}: {member} is not marked as a model; put @polymux.model("NAME") above it')
    return {getattr(function, MARK).name: function}


def marked(module: ModuleType, spec: str) -> dict[str, Function]:
    """The marked functions of a module by the names of their models."""
    found: dict[str, Function] = {}
    for value in vars(module).values():
        if callable(value) and hasattr(value, MARK):
            name = getattr(value, MARK).name
            if found.setdefault(name, value) is not value:
                raise LoadError(f"{spec}: the model name {name!r} is taken by another function")
    if not found:
        raise LoadError(f'{spec}: no function is marked as a model; put @polymux.model("NAME") above one')
    return found


def check_owner(path: Path) -> None:
    """Raises `LoadError` for what others may write: it would be run with our rights."""
    if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise LoadError(f"{path}: others may write to it, so it is not run; 'chmod go-w {path}' closes it")


class _Source(SourceFileLoader):
    """Compiles what the file holds now: cached bytecode is told from it by whole seconds, an edit may be faster."""

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


def _run(path: Path) -> ModuleType:
    """A fresh module of a file. In `sys.modules` it takes the place of the one before; on failure that stays."""
    if not path.is_file():
        raise LoadError(f"{path}: no such file")
    check_owner(path)
    name = f"polymux_functions_{path.stem}_{crc32(bytes(path.absolute())):08x}"
    loader = _Source(name, str(path))
    before = sys.modules.get(name)
    module = importlib.util.module_from_spec(ModuleSpec(name, loader, origin=str(path)))
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
        if isinstance(error, KeyboardInterrupt):
            raise
        raise LoadError(f"{path}: {_words(error, str(path))}", error) from error
    return module


def _words(error: BaseException, file: str = "") -> str:
    """The error with its line, in `file` if that had a part in it; one in the text itself is told by Python."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(OURS)]
    own = [frame for frame in frames if frame.filename == file] or frames[-1:]
    line = "".join(f" (line {frame.lineno} of {Path(frame.filename).name})" for frame in own[-1:])
    return printable(f"{type(error).__name__}: {error}{line}")

"""Rule 2: small files, functions and signatures; no `**kwargs` but at the server's edge; no module-level mutable state.

A table at module level is a tuple, a frozenset or a MappingProxyType; `__all__` may be the list it usually is.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

import pytest
from tests.house.source import Source, faults, hold, package

FILE_LINES: Final = 600
FUNCTION_LINES: Final = 60
PARAMETERS: Final = 6  # `self` and `cls` are not counted
MUTABLE: Final = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
EDGES: Final = ("http/", "functions/call.py")  # where others' names come in: the server's, and that of users' functions
MAKERS: Final = ("list", "dict", "set", "bytearray", "deque", "defaultdict", "OrderedDict", "Counter", "ChainMap")


def size(source: Source) -> Iterator[str]:
    lines = source.text.count("\n")
    if lines > FILE_LINES:
        yield f"1 {lines} lines in a file, at most {FILE_LINES}"
    for node in source.nodes(ast.FunctionDef, ast.AsyncFunctionDef):
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        length = (node.end_lineno or 0) - node.lineno + 1
        if length > FUNCTION_LINES:
            yield f"{node.lineno} {node.name}: {length} lines, at most {FUNCTION_LINES}"


def signature(source: Source) -> Iterator[str]:
    for node in source.nodes(ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda):
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        name = getattr(node, "name", "lambda")
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        count = sum(argument.arg not in ("self", "cls") for argument in arguments)
        if count > PARAMETERS:
            yield f"{node.lineno} {name}: {count} parameters, at most {PARAMETERS}"
        if node.args.kwarg and not typed(node.args.kwarg) and not source.path.startswith(EDGES):
            yield f"{node.lineno} {name}: takes **{node.args.kwarg.arg}"


def typed(kwargs: ast.arg) -> bool:
    """Whether a wrapper passes on what a ParamSpec has checked: `**kwargs: P.kwargs`."""
    return isinstance(kwargs.annotation, ast.Attribute) and kwargs.annotation.attr == "kwargs"


def state(source: Source) -> Iterator[str]:
    for node in source.nodes(ast.Global):
        yield f"{getattr(node, 'lineno', 1)} assigns a global"
    for statement in source.tree.body:
        if not isinstance(statement, ast.Assign | ast.AnnAssign):
            continue
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = [ast.unparse(target) for target in targets]
        if names != ["__all__"] and mutable(statement.value):
            yield f"{statement.lineno} {', '.join(names)} is mutable: make it a tuple, frozenset or MappingProxyType"


def mutable(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call):
        return ast.unparse(value.func).split(".")[-1] in MAKERS
    return isinstance(value, MUTABLE)


def test_files_and_functions_are_small() -> None:
    hold(size, package())


def test_signatures_are_small() -> None:
    hold(signature, package())


def test_modules_hold_no_state() -> None:
    hold(state, package())


def test_an_overlong_file_and_function_are_seen() -> None:
    body = "    pass\n"
    assert not faults(size, [Source("a.py", "def f():\n" + body * 59)])
    assert "f: 61 lines" in faults(size, [Source("a.py", "async def f():\n" + body * 60)])
    assert "g: 61 lines" in faults(size, [Source("a.py", "class A:\n  def g(self):\n" + body * 60)])
    assert not faults(size, [Source("a.py", "x = 1\n" * 600)])
    assert "601 lines" in faults(size, [Source("a.py", "x = 1\n" * 601)])


@pytest.mark.parametrize(
    "text",
    [
        "def f(a, b, c, /, d, e, *, f, g): ...",
        "class A:\n    async def f(self, a, b, c, d, e, f, g): ...",
        "f = lambda a, b, c, d, e, f, g: 0",
        "def f(**options): ...",
    ],
)
def test_a_large_signature_is_seen(text: str) -> None:
    assert faults(signature, [Source("engine.py", text)])


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("engine.py", "class A:\n    def f(self, a, b, c, d, *rest, e, f): ..."),
        ("http/protocol.py", "def f(**options): ..."),
        ("engine.py", "f(**options)"),
        ("engine.py", "def wrapper(*args: P.args, **kwargs: P.kwargs): ..."),
    ],
)
def test_a_fair_signature_is_fine(path: str, text: str) -> None:
    assert not faults(signature, [Source(path, text)])


@pytest.mark.parametrize(
    "text",
    [
        "TABLE = {}",
        "TABLE: dict[str, int] = {'a': 1}",
        "NAMES: Final = ['a']",
        "NAMES = {name for name in 'abc'}",
        "SEEN = set()",
        "QUEUE = collections.deque()",
        "def f():\n    global cache\n    cache = 1",
    ],
)
def test_module_level_state_is_seen(text: str) -> None:
    assert faults(state, [Source("engine.py", text)])


@pytest.mark.parametrize(
    "text",
    [
        "__all__ = ['a']",
        "TABLE = MappingProxyType({'a': 1})",
        "NAMES: Final = frozenset({'a'})",
        "Json = dict[str, Any]",
        "def f():\n    seen = []",
    ],
)
def test_a_frozen_table_is_fine(text: str) -> None:
    assert not faults(state, [Source("engine.py", text)])

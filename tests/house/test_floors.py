"""Rule 1: imports go downward only; floors 0 and 1 are pure."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from tests.house.floors import FLOOR, HIGHEST_PURE, IMPURE, IMPURE_CALLS, RANK, unit_of
from tests.house.source import PACKAGE, Source, faults, hold, package


def imported(source: Source) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that is imported; `from polymux.http import serve` gives `polymux.http.serve`."""
    for node in source.nodes(ast.Import, ast.ImportFrom):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = origin(source, node)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def origin(source: Source, node: ast.ImportFrom) -> str:
    """The absolute name of the module after `from`, which may be relative: `from ..wire`."""
    if not node.level:
        return node.module or ""
    inside = [*source.module.split("."), *(["__init__"] if source.path.endswith("__init__.py") else [])]
    return ".".join([*inside[: -node.level], *([node.module] if node.module else [])])


def target(name: str) -> str:
    """The unit that an import of `polymux...` reaches; a name that is no unit is the package's own."""
    unit = unit_of(name)
    return unit if unit in RANK or (PACKAGE / unit).is_dir() or (PACKAGE / f"{unit}.py").is_file() else "__init__"


def upward(source: Source) -> Iterator[str]:
    own = unit_of(source.module)
    if own not in RANK:
        yield f"1 `{own}` stands on no floor: give it a row in tests/house/floors.py"
        return
    for line, name in imported(source):
        if name.split(".")[0] == "polymux":
            unit = target(name)
            if unit != own and RANK.get(unit, len(RANK)) >= RANK[own]:
                yield f"{line} `{own}` imports `{unit}`, which is not below it"


def impure(source: Source) -> Iterator[str]:
    if FLOOR.get(unit_of(source.module), HIGHEST_PURE + 1) > HIGHEST_PURE:
        return
    for line, name in imported(source):
        if any(name == banned or name.startswith(banned + ".") for banned in IMPURE):
            yield f"{line} imports {name} on a pure floor"
    for node in source.nodes(ast.Call):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            yield f"{node.lineno} calls {node.func.id}() on a pure floor"


def test_imports_go_downward() -> None:
    hold(upward, package())


def test_floors_0_and_1_are_pure() -> None:
    hold(impure, package())


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("wire/sse.py", "from polymux.schema.chat import Chunk"),
        ("types.py", "import polymux.errors"),
        ("providers/openai.py", "from polymux import engine"),
        ("providers/openai.py", "from polymux.routing.plan import plan"),
        ("providers/openai.py", "from ..routing import plan"),
        ("providers/__init__.py", "from ..routing import plan"),
        ("engine.py", "def late():\n    from polymux.http.serve import Front"),
        ("config/walk.py", "from polymux.providers import table"),
        ("http/serve.py", "from polymux import app"),
        ("app.py", "from polymux.cli import main"),
        ("novelty.py", ""),
    ],
)
def test_an_upward_import_is_seen(path: str, text: str) -> None:
    assert faults(upward, [Source(path, text)])


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("schema/chat.py", "from polymux.wire import sse"),
        ("config/walk.py", "from polymux.config.positions import Path"),
        ("providers/openai.py", "from . import base\nfrom .base import Flow\nimport polymux.errors"),
        ("http/serve.py", "from polymux import __version__\nfrom polymux.engine import Engine"),
        ("__main__.py", "from polymux.cli import main"),
    ],
)
def test_a_downward_import_is_fine(path: str, text: str) -> None:
    assert not faults(upward, [Source(path, text)])


@pytest.mark.parametrize(
    "text",
    [
        "import asyncio",
        "from time import monotonic",
        "import os.path",
        "from urllib import request",
        "import http.client",
        "def f():\n    import random",
        "text = open('x').read()",
    ],
)
def test_impurity_is_seen_on_floors_0_and_1_alone(text: str) -> None:
    for path in ("wire/sse.py", "routing/plan.py", "config/walk.py"):
        assert faults(impure, [Source(path, text)])
    assert not faults(impure, [Source("transport.py", text)])


def test_pure_imports_are_fine() -> None:
    assert not faults(impure, [Source("wire/sse.py", "from urllib.parse import urlsplit\nimport re, timeit, hashlib")])

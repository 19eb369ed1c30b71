"""The sources of the project as the house rules look at them."""

from __future__ import annotations

import ast
import io
import os
import tokenize
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = ROOT / "src" / "polymux"
MADE: Final = frozenset({".git", ".venv", "node_modules", "__pycache__", "build", "dist"})  # and every other *_cache


@dataclass(frozen=True)
class Source:
    """One Python file. path: relative to the folder its rules speak about, with `/` between the names."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def module(self) -> str:
        """The dotted name of a file of the package: `http/serve.py` -> `polymux.http.serve`."""
        parts = ["polymux", *self.path.removesuffix(".py").split("/")]
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def nodes(self, *kinds: type[ast.AST]) -> Iterator[ast.AST]:
        return (node for node in ast.walk(self.tree) if isinstance(node, kinds))

    def comments(self) -> Iterator[tuple[int, str]]:
        """Line number and text of each comment."""
        for token in tokenize.generate_tokens(io.StringIO(self.text).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string


def package() -> list[Source]:
    """All files of src/polymux."""
    return [Source(path.relative_to(PACKAGE).as_posix(), read(path)) for path in sorted(PACKAGE.rglob("*.py"))]


def everything() -> list[Source]:
    """All Python of the checkout, `dev` and the tests too."""
    return [Source(name, read(ROOT / name)) for name in files() if name.endswith(".py") or name == "dev"]


def files() -> list[str]:
    """The paths of all files of the checkout but those that tools make."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in MADE and not name.endswith("_cache")]
        found += [Path(folder, name).relative_to(ROOT).as_posix() for name in names]
    return sorted(found)


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def faults(rule: Callable[[Source], Iterable[str]], sources: Iterable[Source]) -> str:
    """What a rule has against the sources, one fault a line; empty when they are in order."""
    return "\n".join(f"{source.path}:{fault}" for source in sources for fault in rule(source))


def hold(rule: Callable[[Source], Iterable[str]], sources: Iterable[Source]) -> None:
    """Fail the test with the list of all faults."""
    if found := faults(rule, sources):
        pytest.fail(f"house rule broken:\n{found}", pytrace=False)

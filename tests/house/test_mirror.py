"""Rule 5: every source file has its test file, and every golden stream its buffered twin in the same case."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

import pytest
from tests.house.source import ROOT, files, package, read

EXEMPT: Final = ("__init__.py", "__main__.py")


def untested(sources: Collection[str], tests: Collection[str]) -> Iterator[str]:
    """Files of the package without `tests/<same path>/test_<name>`."""
    for path in sources:
        folder, _, name = path.rpartition("/")
        wanted = "/".join(filter(None, ["tests", folder, f"test_{name}"]))
        if name not in EXEMPT and wanted not in tests:
            yield f"{path} has no {wanted}"


def alone(text: str) -> bool:
    """Whether a golden case has a stream but not the same answer whole. A stream that fails midway has no such twin."""
    sections = set(re.findall(r"^--- (.+)$", text, re.MULTILINE))
    return "wire stream" in sections and not sections & {"wire reply", "response", "failure"}


def test_every_source_file_has_its_test_file() -> None:
    if missing := list(untested([source.path for source in package()], files())):
        pytest.fail("\n".join(missing), pytrace=False)


def test_every_golden_stream_has_its_twin() -> None:
    cases = [name for name in files() if re.fullmatch(r"tests/golden/[^/]+/[^/]+\.txt", name)]
    assert cases
    assert [name for name in cases if alone(read(ROOT / name))] == []


def test_an_untested_file_is_seen() -> None:
    sources = ["__init__.py", "types.py", "http/serve.py", "wire/sse.py"]
    tests = ["tests/test_types.py", "tests/test_serve.py", "tests/wire/test_sse.py"]
    assert list(untested(sources, tests)) == ["http/serve.py has no tests/http/test_serve.py"]


def test_a_stream_without_twin_is_seen() -> None:
    assert alone("A case.\n\n--- client request\n{}\n--- wire stream\ndata: {}\n")
    assert not alone("--- wire stream\ndata: {}\n\n--- wire reply\n{}\n")
    assert not alone("--- wire stream\ndata: {}\n\n--- failure\n{}\n")
    assert not alone("--- client request\n{}\n\n--- wire error\n500\n")

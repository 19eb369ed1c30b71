"""Rules 8 to 10 as far as files show them: strict tools, explained suppressions, no sleep, no registry, a CHANGELOG."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from typing import Final

import pytest
from tests.house.source import ROOT, Source, everything, faults, files, hold, read

SUPPRESSION: Final = re.compile(r"#\s*(noqa|type:\s*ignore|pragma|ruff:|mypy:)", re.IGNORECASE)
EXPLAINED: Final = re.compile(
    r"# (noqa: [A-Z]+\d+(, [A-Z]+\d+)*|type: ignore\[[a-z, -]+\]|pragma: [a-z ]+?)( - |  # )\S.+"
)
CLOCK_ALLOWED: Final = ("tests/torture/", "benchmarks/")

# Where packages come from is the user's configuration. In pieces, so that this file does not hold what it looks for.
REGISTRIES: Final = tuple(
    ".".join(pieces)
    for pieces in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("npmmirror", "com"),
        ("proxy.golang", "org"),
        ("crates", "io"),
        ("pypi.tuna", "tsinghua"),
        ("mirrors.aliyun", "com"),
    )
)


def unexplained(source: Source) -> Iterator[str]:
    for line, comment in source.comments():
        if SUPPRESSION.search(comment) and not EXPLAINED.search(comment):
            yield f"{line} says not why: {comment}"


def sleeps(source: Source) -> Iterator[str]:
    """Tests wait for events, not for time."""
    if not source.path.startswith("tests/") or source.path.startswith(CLOCK_ALLOWED):
        return
    for node in source.nodes(ast.Call):
        assert isinstance(node, ast.Call)
        waits = ast.unparse(node.func) in ("time.sleep", "asyncio.sleep", "sleep")
        if waits and ast.unparse(node) not in ("asyncio.sleep(0)", "sleep(0)"):
            yield f"{node.lineno} sleeps"


def addresses(text: str) -> list[str]:
    return [registry for registry in REGISTRIES if registry in text.lower()]


def test_suppressions_say_why() -> None:
    hold(unexplained, everything())


def test_tests_do_not_sleep() -> None:
    hold(sleeps, everything())


def test_no_file_holds_a_registry_address() -> None:
    texts = {name: (ROOT / name).read_bytes().decode("utf-8", "replace") for name in files()}
    assert {name: found for name, text in texts.items() if (found := addresses(text))} == {}


def test_the_tools_are_strict() -> None:
    tools = tomllib.loads(read(ROOT / "pyproject.toml"))["tool"]
    assert tools["mypy"]["strict"] is True
    assert "src" in tools["mypy"]["files"]
    assert tools["pytest"]["ini_options"]["filterwarnings"][0] == "error"


def test_the_changelog_speaks_of_this_version() -> None:
    version = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]["version"]
    changelog = ROOT / "CHANGELOG.md"
    assert changelog.is_file()
    assert re.search(rf"^## .*({re.escape(version)}|Unreleased)", read(changelog), re.MULTILINE)


@pytest.mark.parametrize(
    "comment",
    [
        "# noqa",
        "# noqa: S101",
        "# noqa: S101, E501 -",
        "# type: ignore",
        "# type: ignore[assignment]",
        "# type: ignore  # because",
        "# pragma: no cover",
        "# ruff: noqa",
        "#NOQA",
    ],
)
def test_a_bare_suppression_is_seen(comment: str) -> None:
    assert faults(unexplained, [Source("a.py", f"x = 1  {comment}\n")])


@pytest.mark.parametrize(
    "line",
    [
        "x = 1  # noqa: S311 - unique, not secret",
        "x = 1  # noqa: S311, E501 - as long as it is",
        "x = 1  # type: ignore[override]  # as the server has it",
        "x = 1  # pragma: no cover - Windows alone",
        "x = '# noqa'  # a string",
    ],
)
def test_an_explained_suppression_is_fine(line: str) -> None:
    assert not faults(unexplained, [Source("a.py", f"{line}\n")])


def test_a_sleep_is_seen() -> None:
    assert faults(sleeps, [Source("tests/test_a.py", "import time\ntime.sleep(0.1)\n")])
    assert faults(sleeps, [Source("tests/test_a.py", "async def f():\n    await asyncio.sleep(delay)\n")])
    assert not faults(sleeps, [Source("tests/test_a.py", "async def f():\n    await asyncio.sleep(0)\n")])
    assert not faults(sleeps, [Source("tests/torture/test_a.py", "time.sleep(1)\n")])


@pytest.mark.parametrize("registry", REGISTRIES)
def test_an_address_is_seen(registry: str) -> None:
    assert addresses(f'"resolved": "https://{registry.upper()}/x"') == [registry]
    assert addresses("pip install polymux") == []

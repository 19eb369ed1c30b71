"""tools/catalog.py, which builds the catalogue of the package."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

from polymux.providers.catalog import read

SCRIPT: Final = Path(__file__).resolve().parents[1] / "tools" / "catalog.py"
EXCERPT: Final = Path(__file__).parent / "routing" / "prices.json"


@pytest.fixture
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("polymux_catalog_tool", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_builds_the_file_and_tells_what_has_no_price(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "catalog.json"
    assert tool.main([str(EXCERPT), "2026-07-02"], made) == 0
    found = read(made.read_bytes())
    assert found.date == "2026-07-02"
    assert set(found.providers) == set(json.loads(EXCERPT.read_bytes()))
    printed = capsys.readouterr().out
    assert "no price: perplexity/sonar-deep-research: it is charged by citation, request too\n" in printed
    assert printed.endswith(f"wrote catalog.json, {made.stat().st_size} bytes\n")


def test_a_provider_comes_in_only_by_name(tool: ModuleType, tmp_path: Path) -> None:
    made, source = tmp_path / "catalog.json", tmp_path / "source.json"
    entries = json.loads(EXCERPT.read_bytes())
    source.write_text(json.dumps({"openai": entries["openai"]}))
    assert tool.main([str(source), "2026-07-02"], made) == 0
    assert tool.main([str(EXCERPT), "2026-07-03"], made) == 0
    assert read(made.read_bytes()).providers == ("openai",)
    assert tool.main([str(EXCERPT), "2026-07-03", "groq", "xai"], made) == 0
    assert read(made.read_bytes()).providers == ("groq", "openai", "xai")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ((), 2, "usage: "),
        (("api.json",), 2, "usage: "),
        (("api.json", "July"), 2, "usage: "),
        (("nothing.json", "2026-07-02"), 1, "nothing.json: "),
        ((__file__, "2026-07-02"), 1, "not models.dev's JSON"),
    ],
)
def test_a_mistake_is_told(
    tool: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    status: int,
    words: str,
) -> None:
    made = tmp_path / "catalog.json"
    assert tool.main(arguments, made) == status
    assert words in capsys.readouterr().err
    assert not made.exists()

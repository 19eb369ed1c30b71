"""Models of every generation are told how much to think in words they know."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from polymux.errors import Failure
from polymux.providers.gemini_thinking import generation, thinking
from polymux.schema.chat import ChatRequest


def run(fields: dict[str, Any], model: str) -> tuple[dict[str, Any] | None, set[str]]:
    """`thinkingConfig` and what is lost."""
    lost: set[str] = set()
    asked = msgspec.convert({"model": "m", "messages": [], **fields}, ChatRequest)
    config = thinking(asked, generation(model), lost)
    return config and msgspec.to_builtins(config), lost


ALL, NO_MINIMAL = ("MINIMAL", "LOW", "MEDIUM", "HIGH"), ("LOW", "MEDIUM", "HIGH")


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        ("gemini-1.5-pro", ((), (0, 0), False, False, False)),
        ("gemini-2.0-flash-001", ((), (0, 0), False, False, False)),
        ("gemma-4-31b-it", ((), (0, 0), False, False, False)),
        ("gemini-2.5-flash-preview-tts", ((), (0, 0), False, False, False)),
        ("gemini-2.5-flash", ((), (1, 24_576), True, False, True)),
        ("models/gemini-2.5-flash-lite", ((), (512, 24_576), True, False, True)),
        ("gemini-2.5-pro", ((), (128, 32_768), False, False, True)),
        ("gemini-3-pro-preview", (("LOW", "HIGH"), (0, 0), False, True, True)),
        ("gemini-3-flash-preview", (ALL, (0, 0), False, True, True)),
        ("gemini-3.1-pro-preview", (NO_MINIMAL, (0, 0), False, True, True)),
        ("gemini-3.1-flash-lite", (ALL, (0, 0), False, True, True)),
        ("gemini-3.1-flash-image-preview", (("MINIMAL", "HIGH"), (0, 0), False, True, True)),
        ("gemini-3-pro-image-preview", ((), (0, 0), False, True, True)),
        ("gemini-3.6-flash", (ALL, (0, 0), False, True, True)),
        ("gemini-3.8-flash", (NO_MINIMAL, (0, 0), False, True, True)),
        ("gemini-3.8-flash-lite", (ALL, (0, 0), False, True, True)),
        ("Gemini-4-Pro", (NO_MINIMAL, (0, 0), False, True, True)),
        ("gemini-flash-latest", (NO_MINIMAL, (0, 0), False, True, True)),
        ("claude-sonnet-5", (NO_MINIMAL, (0, 0), False, False, True)),
    ],
)
def test_the_name_of_a_model_tells_what_it_takes(model: str, takes: tuple[Any, ...]) -> None:
    kind = generation(model)
    assert (kind.levels, kind.budgets, kind.off, kind.modern, kind.fetches) == takes


@pytest.mark.parametrize(
    ("model", "effort", "level"),
    [
        ("gemini-3.5-flash", "minimal", "MINIMAL"),
        ("gemini-3.5-flash", "low", "LOW"),
        ("gemini-3.5-flash", "medium", "MEDIUM"),
        ("gemini-3.5-flash", "xhigh", "HIGH"),
        ("gemini-3.8-flash", "minimal", "LOW"),
        ("gemini-3-pro-preview", "medium", "HIGH"),
        ("gemini-3.1-flash-image-preview", "low", "HIGH"),
        ("gemini-4-pro", "max", "HIGH"),
    ],
)
def test_efforts_are_levels(model: str, effort: str, level: str) -> None:
    config = {"includeThoughts": True, "thinkingLevel": level}
    assert run({"reasoning_effort": effort}, model) == (config, set())


@pytest.mark.parametrize(
    ("model", "effort", "tokens"),
    [
        ("gemini-2.5-flash", "low", 1024),
        ("gemini-2.5-flash", "medium", 8192),
        ("gemini-2.5-flash", "high", 24_576),
        ("gemini-2.5-flash", "max", 24_576),
        ("gemini-2.5-pro", "max", 32_768),
    ],
)
def test_efforts_are_budgets(model: str, effort: str, tokens: int) -> None:
    config = {"includeThoughts": True, "thinkingBudget": tokens}
    assert run({"reasoning_effort": effort}, model) == (config, set())


@pytest.mark.parametrize(
    ("model", "config", "lost"),
    [
        ("gemini-2.5-flash", {"thinkingBudget": 0}, set()),
        ("gemini-2.5-pro", {"thinkingBudget": 128}, {"reasoning_effort"}),
        ("gemini-3.5-flash", {"thinkingLevel": "MINIMAL"}, {"reasoning_effort"}),
        ("gemini-3-pro-preview", {"thinkingLevel": "LOW"}, {"reasoning_effort"}),
        ("gemini-2.0-flash", None, set()),
    ],
)
def test_no_effort_switches_thinking_off_or_is_named(model: str, config: Any, lost: set[str]) -> None:
    assert run({"reasoning_effort": "none"}, model) == (config, lost)


@pytest.mark.parametrize(
    ("thinking", "model", "config", "lost"),
    [
        ({"type": "enabled", "budget_tokens": 2000}, "gemini-2.5-flash", {"thinkingBudget": 2000}, set()),
        ({"type": "enabled", "budget_tokens": 99_999}, "gemini-2.5-flash", {"thinkingBudget": 24_576}, {"thinking"}),
        ({"type": "enabled", "budget_tokens": 2000}, "gemini-3.5-flash", {"thinkingLevel": "LOW"}, set()),
        ({"type": "enabled", "budget_tokens": 50_000}, "gemini-3.5-flash", {"thinkingLevel": "HIGH"}, set()),
        ({"type": "adaptive"}, "gemini-2.5-flash", {"thinkingBudget": -1}, set()),
        ({"type": "adaptive"}, "gemini-3.5-flash", {}, set()),
    ],
)
def test_thinking_as_anthropic_writes_it(thinking: Any, model: str, config: Any, lost: set[str]) -> None:
    assert run({"thinking": thinking}, model) == ({"includeThoughts": True, **config}, lost)


def test_thinking_that_is_switched_off_or_unknown() -> None:
    assert run({"thinking": {"type": "disabled"}}, "gemini-2.5-flash") == ({"thinkingBudget": 0}, set())
    assert run({"thinking": {"type": "novel"}}, "gemini-2.5-flash") == (None, {"thinking"})


def test_thinking_goes_before_an_effort_that_says_something_else() -> None:
    both = {"thinking": {"type": "enabled", "budget_tokens": 1000}, "reasoning_effort": "high"}
    config, lost = run(both, "gemini-2.5-flash")
    assert config == {"includeThoughts": True, "thinkingBudget": 1000}
    assert lost == {"reasoning_effort"}


def test_a_model_that_cannot_be_told() -> None:
    assert run({"reasoning_effort": "high"}, "gemini-2.0-flash") == (None, {"reasoning_effort"})
    assert run({"thinking": {"type": "adaptive"}}, "gemma-3-27b-it") == (None, {"thinking"})
    assert run({}, "gemini-3.5-flash") == (None, set())


def test_an_unknown_effort_is_refused() -> None:
    with pytest.raises(Failure) as caught:
        run({"reasoning_effort": "extreme"}, "gemini-3.5-flash")
    assert caught.value.param == "reasoning_effort"

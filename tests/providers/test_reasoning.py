from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any

import pytest

from polymux.providers.reasoning import BUDGETS, EFFORTS, SWITCHES, effort_of, switch
from polymux.providers.table import rows


@pytest.mark.parametrize(
    ("thinking", "effort"),
    [
        ({"type": "disabled"}, "none"),
        ({"type": "enabled", "budget_tokens": 1024}, "low"),
        ({"type": "enabled", "budget_tokens": 2048}, "low"),
        ({"type": "enabled", "budget_tokens": 2049}, "medium"),
        ({"type": "enabled", "budget_tokens": 8192}, "medium"),
        ({"type": "enabled", "budget_tokens": 8193}, "high"),
        ({"type": "enabled", "budget_tokens": 64_000}, "high"),
        ({"type": "enabled"}, "medium"),
        ({"type": "enabled", "budget_tokens": "many"}, "medium"),
        ({"type": "adaptive"}, "medium"),
        ({"type": "between_tools"}, None),
        ({}, None),
    ],
)
def test_thinking_comes_to_an_effort(thinking: dict[str, Any], effort: str | None) -> None:
    assert effort_of(thinking) == effort


@pytest.mark.parametrize("effort", ["low", "medium", "high"])
def test_a_budget_made_of_an_effort_comes_back_as_it(effort: str) -> None:
    assert effort_of({"type": "enabled", "budget_tokens": BUDGETS[effort]}) == effort


# ---- how providers are told --------------------------------------------------------------------------------------

TEXT = resources.files("polymux.providers").joinpath("providers.toml").read_text("utf-8")
TABLE = rows(TEXT, {str(row["dialect"]) for row in tomllib.loads(TEXT).values()})

# preset, model, effort -> what the provider is told, None = it cannot be; as the vendors' pages have it
TOLD: list[tuple[str, str, str, dict[str, Any] | None]] = [
    ("deepseek", "deepseek-v4-pro", "none", {"thinking": {"type": "disabled"}}),
    ("deepseek", "deepseek-v4-pro", "minimal", {"thinking": {"type": "enabled"}, "reasoning_effort": "low"}),
    ("deepseek", "deepseek-v4-pro", "medium", {"thinking": {"type": "enabled"}, "reasoning_effort": "high"}),
    ("deepseek", "deepseek-v4-pro", "xhigh", {"thinking": {"type": "enabled"}, "reasoning_effort": "max"}),
    ("dashscope", "qwen3-max", "none", {"enable_thinking": False}),
    ("dashscope", "qwen3-max", "low", {"enable_thinking": True, "thinking_budget": 1024}),
    ("dashscope-cn", "qwen3-max", "xhigh", {"enable_thinking": True, "thinking_budget": 32_768}),
    ("dashscope", "qwen3-max", "max", {"enable_thinking": True}),
    ("dashscope", "deepseek-v4-pro", "low", {"reasoning_effort": "low"}),
    ("siliconflow", "Qwen/Qwen3-32B", "none", {"enable_thinking": False}),
    ("qianfan", "ernie-5", "high", {"enable_thinking": True}),
    ("zai", "glm-4.7", "none", {"thinking": {"type": "disabled"}}),
    ("zai", "glm-4.7", "high", {"thinking": {"type": "enabled"}}),
    ("zhipu", "GLM-5.3", "high", {"reasoning_effort": "high"}),
    ("zhipu", "glm-5.3", "none", None),
    ("moonshot", "kimi-k2.6", "none", {"thinking": {"type": "disabled"}}),
    ("moonshot-cn", "kimi-k2.7-code", "none", None),
    ("moonshot", "kimi-k3", "max", {"reasoning_effort": "max"}),
    ("moonshot", "moonshot-v1-8k", "none", {}),
    ("moonshot", "moonshot-v1-8k", "high", None),
    ("minimax", "MiniMax-M2", "none", None),
    ("volcengine", "doubao-seed-2", "none", {"thinking": {"type": "disabled"}}),
    ("mistral", "magistral-medium", "low", {"reasoning_effort": "high"}),
    ("groq", "qwen/qwen3-32b", "high", {"reasoning_effort": "default"}),
    ("groq", "openai/gpt-oss-120b", "none", None),
    ("openrouter", "anthropic/claude-sonnet-4.5", "none", {"reasoning": {"effort": "none"}}),
    ("openrouter", "anthropic/claude-sonnet-4.5", "max", {"reasoning": {"effort": "xhigh"}}),
    ("together", "zai-org/GLM-4.7", "none", {"reasoning": {"enabled": False}}),
    ("cerebras", "zai-glm-4.7", "none", {"disable_reasoning": True}),
    ("cerebras", "gpt-oss-120b", "none", None),
    ("vllm", "Qwen/Qwen3-32B", "none", {"chat_template_kwargs": {"enable_thinking": False}}),
    ("xai", "grok-4.3", "none", {"reasoning_effort": "none"}),
    ("xai", "grok-4.5", "none", None),
    ("openai", "gpt-5-mini", "minimal", {"reasoning_effort": "minimal"}),
    ("openai", "gpt-5", "none", None),
    ("openai", "o4-mini", "xhigh", {"reasoning_effort": "high"}),
    ("openai", "gpt-4o", "none", {}),
]


@pytest.mark.parametrize(("preset", "model", "effort", "told"), TOLD)
def test_each_vendor_is_told_in_its_own_way(preset: str, model: str, effort: str, told: dict[str, Any] | None) -> None:
    found = switch(TABLE[preset].quirks.reasoning, model)
    assert found is not None
    assert found.get(effort) == told


@pytest.mark.parametrize(
    ("preset", "model"), [("openai", "gpt-5.2"), ("ollama", "qwen3"), ("openai-compatible", "any")]
)
def test_others_are_told_as_the_client_tells(preset: str, model: str) -> None:
    assert switch(TABLE[preset].quirks.reasoning, model) is None


def test_rows_name_switches_that_there_are_and_every_switch_is_named() -> None:
    named = {word for row in TABLE.values() for word in row.quirks.reasoning.values()}
    assert set(SWITCHES) - named == {"thinking, or effort"}, "the one for rows that take `thinking` and say no more"
    assert named <= set(SWITCHES)
    assert all(pattern == pattern.lower() for row in TABLE.values() for pattern in row.quirks.reasoning)


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_knows_no_other_efforts(name: str) -> None:
    assert set(SWITCHES[name]) <= set(EFFORTS)


def test_the_first_pattern_counts_whatever_the_case() -> None:
    rules = {"kimi-k3*": "effort: low, high, max", "*": "never"}
    assert switch(rules, "Kimi-K3-Turbo") is SWITCHES["effort: low, high, max"]
    assert switch(rules, "x/kimi-k3") is SWITCHES["never"]
    assert switch({}, "kimi-k3") is None

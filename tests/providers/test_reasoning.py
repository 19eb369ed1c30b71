from __future__ import annotations

from typing import Any

import pytest

from polymux.providers.reasoning import BUDGETS, effort_of


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

"""How much a model shall reason, in the two forms that clients write it: an effort, or `thinking` with a budget.

Sources: OpenAI's API description (`reasoning_effort`); Anthropic's API reference (Extended and adaptive thinking). That
a budget stands for an effort is nobody's rule: the figures are ours, the same in both directions as far as they can be.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

# Tokens that an effort may spend, where the upstream wants a number. "max": as much as max_tokens allows.
BUDGETS: Final[Mapping[str, int]] = MappingProxyType(
    {"minimal": 1024, "low": 1024, "medium": 4096, "high": 16_384, "xhigh": 32_768, "max": 1_000_000}
)
_UP_TO: Final = ((2048, "low"), (8192, "medium"))  # tokens -> effort; more is "high"
_AS_NEEDED: Final = "medium"  # the effort of a thinking that names no measure


def effort_of(thinking: Mapping[str, Any]) -> str | None:
    """The effort that a `thinking` in Anthropic's form comes to, "none" where it is switched off; None for a kind
    that has no effort."""
    kind, budget = thinking.get("type"), thinking.get("budget_tokens")
    if kind == "disabled":
        return "none"
    if kind == "enabled" and isinstance(budget, int):
        return next((effort for tokens, effort in _UP_TO if budget <= tokens), "high")
    return _AS_NEEDED if kind in ("enabled", "adaptive") else None

"""How much a model shall reason, in the two forms that clients write it: an effort, or `thinking` with a budget; and
how OpenAI-shaped providers are told.

Sources: OpenAI's API description (`reasoning_effort`); Anthropic's API reference (Extended and adaptive thinking); the
providers' own pages for `SWITCHES`. That a budget stands for an effort is nobody's rule: the figures are ours, the same
in both directions as far as they can be.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
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


# ---- how providers are told ------------------------------------------------------------------------------------

EFFORTS: Final = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

Switch = Mapping[str, Mapping[str, Any]]  # effort -> members of the request; one that is missing cannot be told there

_OFF: Final[Mapping[str, Any]] = MappingProxyType({"thinking": {"type": "disabled"}})
_ON: Final[Mapping[str, Any]] = MappingProxyType({"thinking": {"type": "enabled"}})
_TEMPLATE: Final = "chat_template_kwargs"


def _words(*words: str) -> Switch:
    """`reasoning_effort` in a provider's own words, one for each of EFFORTS; "" = it has none for that."""
    told = zip(EFFORTS, words, strict=True)
    return MappingProxyType({effort: {"reasoning_effort": word} for effort, word in told if word})


def _any(members: Mapping[str, Any]) -> Switch:
    """The same members for whatever effort, none apart."""
    return MappingProxyType(dict.fromkeys(EFFORTS[1:], members))


def _with(members: Mapping[str, Any], switch: Switch) -> Switch:
    return MappingProxyType({effort: {**members, **told} for effort, told in switch.items()})


_SENT: Final = _words(*EFFORTS)
_THREE: Final = _words("", "low", "low", "medium", "high", "high", "high")
_LOW_HIGH_MAX: Final = _words("", "low", "low", "high", "high", "max", "max")

# By the names that rows use (`Quirks.reasoning`). Where a provider can only be switched on, every effort does that.
SWITCHES: Final[Mapping[str, Switch]] = MappingProxyType(
    {
        # the member's own words
        "effort: low, medium, high": _THREE,
        "effort: none, low, medium, high": _words("none", "low", "low", "medium", "high", "high", "high"),
        "effort: minimal, low, medium, high": _words("", "minimal", "low", "medium", "high", "high", "high"),
        "effort: low, high, max": _LOW_HIGH_MAX,
        "effort: none, high": _words("none", *["high"] * 6),
        "effort: none, default": _words("none", *["default"] * 6),
        # other members
        "thinking": {"none": _OFF, **_any(_ON)},
        "thinking, or effort": {**_SENT, "none": _OFF},
        "thinking and effort: low, high, max": {"none": _OFF, **_with(_ON, _LOW_HIGH_MAX)},
        "thinking and effort: low, medium, high": {"none": _OFF, **_with(_ON, _THREE)},
        "enable_thinking": {"none": {"enable_thinking": False}, **_any({"enable_thinking": True})},
        "enable_thinking, thinking_budget": {
            "none": {"enable_thinking": False},
            **{effort: {"enable_thinking": True, "thinking_budget": BUDGETS[effort]} for effort in EFFORTS[1:-1]},
            "max": {"enable_thinking": True},
        },
        "reasoning.effort": {
            **{effort: {"reasoning": {"effort": effort}} for effort in EFFORTS[:-1]},
            "max": {"reasoning": {"effort": "xhigh"}},
        },
        "reasoning.enabled, or effort": {**_SENT, "none": {"reasoning": {"enabled": False}}},
        "disable_reasoning, or effort": {**_THREE, "none": {"disable_reasoning": True}},
        "chat_template_kwargs, or effort": {
            "none": {_TEMPLATE: {"enable_thinking": False}},
            **_with({_TEMPLATE: {"enable_thinking": True}}, _THREE),
        },
        # models that reason always, and models that never do
        "always": {},
        "never": {"none": {}},
    }
)


def switch(rules: Mapping[str, str], model: str) -> Switch | None:
    """How a provider is told an effort for a model: the first of its row's rules whose pattern the upstream name
    matches, whatever its case. None = as any client tells it."""
    lower = model.lower()
    return next((SWITCHES[word] for pattern, word in rules.items() if fnmatchcase(lower, pattern)), None)

"""What the generations of Gemini take: how much they may think, and in which words it is said.

Sources: the Gemini API guide (Thinking, Thought signatures); models.dev, 2026-07-02 (`reasoning_options`). What an
effort stands for on models that want a budget is what Google's own OpenAI-compatible layer makes of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from polymux.errors import Failure
from polymux.providers.reasoning import effort_of
from polymux.schema.chat import ChatRequest
from polymux.schema.gemini import ThinkingConfig


class Generation(msgspec.Struct, frozen=True):
    """What a model takes.

    levels: of thinking, from the least. budgets: the range of its tokens, (0, 0) = it has none; with neither its
    thinking cannot be set. off: thinking can be switched off. modern: the third generation's ways: signatures are
    asked for, and structured output stands beside functions. fetches: links are followed.
    """

    levels: tuple[str, ...] = ()
    budgets: tuple[int, int] = (0, 0)
    off: bool = False
    modern: bool = True
    fetches: bool = True


_LEVELS: Final = ("MINIMAL", "LOW", "MEDIUM", "HIGH")
_NEWEST: Final = Generation(_LEVELS[1:])  # those not known yet
_FOREIGN: Final = Generation(_LEVELS[1:], modern=False)  # other vendors' models behind this protocol
_PLAIN: Final = Generation(modern=False, fetches=False)

# Names and what they take: the first that is found counts.
_GENERATIONS: Final = tuple(
    (re.compile(pattern), generation)
    for pattern, generation in (
        (r"gemma|learnlm|-tts|native-audio|2\.5-flash-image|gemini-(1|2\.0)", _PLAIN),
        (r"gemini-2.*pro", Generation(budgets=(128, 32_768), modern=False)),
        (r"gemini-2.*lite", Generation(budgets=(512, 24_576), off=True, modern=False)),
        (r"gemini-2", Generation(budgets=(1, 24_576), off=True, modern=False)),
        (r"gemini-3.*flash.*image", Generation(("MINIMAL", "HIGH"))),
        (r"gemini-3.*image", Generation()),
        (r"gemini-3-pro", Generation(("LOW", "HIGH"))),
        (r"gemini-3.*lite|gemini-3(\.[0-6])?-flash", Generation(_LEVELS)),
        (r"gemini", _NEWEST),
        (r"", _FOREIGN),
    )
)

# Effort -> level, and tokens.
_EFFORTS: Final[Mapping[str, tuple[str, int]]] = MappingProxyType(
    {
        "minimal": ("MINIMAL", 1024),
        "low": ("LOW", 1024),
        "medium": ("MEDIUM", 8192),
        "high": ("HIGH", 24_576),
        "xhigh": ("HIGH", 32_768),
        "max": ("HIGH", 32_768),
    }
)
_AS_NEEDED: Final = -1


def generation(model: str) -> Generation:
    """What the model behind an upstream name takes."""
    return next(found for pattern, found in _GENERATIONS if pattern.search(model.lower()))


def thinking(ask: ChatRequest, kind: Generation, lost: set[str]) -> ThinkingConfig | None:
    """How much the model shall think; `thinking` in Anthropic's form goes before `reasoning_effort`. What it cannot be
    told is added to `lost`. Raises `Failure` for an unknown effort."""
    effort, own = ask.reasoning_effort, ask.thinking or {}
    if effort not in (None, "none", *_EFFORTS):
        raise Failure("invalid_value", f"unknown effort '{effort}'", param="reasoning_effort")
    name = "reasoning_effort"
    if own:
        if effort not in (None, effort_of(own)):
            lost.add(name)
        name, effort = "thinking", effort_of(own)
        if effort is None:
            lost.add(name)
    if effort is None:
        return None
    if not kind.levels and not kind.budgets[1]:
        if effort != "none":
            lost.add(name)
        return None
    if effort == "none" and not kind.off:
        lost.add(name)
    if effort == "none":
        return _least(kind)
    config = ThinkingConfig(include_thoughts=True)
    if kind.levels:
        if own.get("type") != "adaptive":
            config.thinking_level = _level(_EFFORTS[effort][0], kind)
        return config
    wanted = _tokens(own, effort)
    low, high = kind.budgets
    config.thinking_budget = wanted if wanted == _AS_NEEDED else min(max(wanted, low), high)
    if isinstance(own.get("budget_tokens"), int) and config.thinking_budget != wanted:
        lost.add(name)
    return config


def _least(kind: Generation) -> ThinkingConfig:
    if kind.levels:
        return ThinkingConfig(thinking_level=kind.levels[0])
    return ThinkingConfig(thinking_budget=0 if kind.off else kind.budgets[0])


def _level(wanted: str, kind: Generation) -> str:
    """The level, or the next higher one that the model has."""
    higher = [level for level in kind.levels if _LEVELS.index(level) >= _LEVELS.index(wanted)]
    return higher[0] if higher else kind.levels[-1]


def _tokens(own: Mapping[str, Any], effort: str) -> int:
    if own.get("type") == "adaptive":
        return _AS_NEEDED
    budget = own.get("budget_tokens")
    return budget if isinstance(budget, int) else _EFFORTS[effort][1]

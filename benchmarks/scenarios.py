"""What is asked of every gateway: request bodies, connections, and the budgets that polymux has to keep. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

REFERENCE: Final = "nginx"  # what ratios are relative to
JUDGED: Final = "polymux"  # whose budgets these are
DEFAULT_TARGETS: Final = ("direct", REFERENCE, JUDGED)
DEFAULT_SCENARIOS: Final = ("small", "burst", "tr-small", "tr-burst")


@dataclass(frozen=True)
class Scenario:
    """One kind of load. against: the scenario of nginx that it is compared with (nginx translates nothing)."""

    body: str
    connections: int
    stream: bool
    against: str
    budget: float | None = None  # at most so many times the CPU of nginx
    needs: str = ""  # a model that the target must have: behind it the upstream answers in another dialect


SCENARIOS: Final[Mapping[str, Scenario]] = MappingProxyType(
    {
        "small": Scenario("small", 16, False, against="small", budget=5),
        "burst": Scenario("stream", 16, True, against="burst", budget=1.8),
        "tr-small": Scenario("claude", 16, False, against="small", needs="claude"),
        "tr-burst": Scenario("claude-stream", 16, True, against="burst", budget=5, needs="claude"),
        "tr-gemini": Scenario("gemini-stream", 16, True, against="burst", budget=5, needs="gemini"),
        "tr-ollama": Scenario("ollama-stream", 16, True, against="burst", budget=5, needs="ollama"),
        "tr-dify": Scenario("dify-stream", 16, True, against="burst", budget=5, needs="dify"),
        "lat1": Scenario("small", 1, False, against="lat1"),
        "big32k": Scenario("big", 16, False, against="big32k"),
        "paced": Scenario("paced", 64, True, against="paced"),
        "c256": Scenario("d50", 256, False, against="c256"),
    }
)

SYSTEM: Final = "You are a helpful assistant. Answer briefly and precisely, and say so when you do not know."
QUESTION: Final = (
    "What is the capital of France? Please give one sentence of context about the city as well, "
    "for a traveller who has never been to Europe and has two days to spend there in early spring."
)
HISTORY_BYTES: Final = 32_000


TRANSLATED: Final = ("claude", "gemini", "ollama", "dify")


def bodies(models: Mapping[str, str]) -> dict[str, str]:
    """Request bodies as JSON by name; `models` maps fast, d50, paced, claude ... to the names a target gives them."""
    system, question = message("system", SYSTEM), message("user", QUESTION)
    short = [system, question]
    long = [*history(system), question]
    return {
        "small": request(models["fast"], short),
        "big": request(models["fast"], long),
        "d50": request(models["d50"], short),
        "stream": request(models["fast"], short, stream=True),
        "paced": request(models["paced"], short, stream=True),
        "claude": request(models.get("claude", ""), short),
        **{f"{name}-stream": request(models.get(name, ""), short, stream=True) for name in TRANSLATED},
    }


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def history(first: dict[str, str]) -> list[dict[str, str]]:
    """A conversation of at least HISTORY_BYTES of JSON."""
    turns = [first]
    while len(json.dumps(turns)) < HISTORY_BYTES:
        number = len(turns)
        filler = "the quick brown fox jumps over the lazy dog; " * 8
        turns.append(message("user" if number % 2 else "assistant", f"Turn {number}: {filler}"))
    return turns


def request(model: str, messages: list[dict[str, str]], stream: bool = False) -> str:
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    return json.dumps({"model": model, "messages": messages, "temperature": 0.7, "max_tokens": 256, **options})

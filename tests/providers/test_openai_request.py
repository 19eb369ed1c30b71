"""Requests to OpenAI-shaped providers: reasoning in the form that each of them knows. Quirks: test_openai.py."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from polymux.providers.openai_request import wire_request
from polymux.types import Deployment, Quirks

ON = {"type": "enabled", "budget_tokens": 2000}
OFF = {"type": "disabled"}
ADAPTIVE = {"type": "adaptive"}


def sent(fields: dict[str, Any], wrap: Any, **quirks: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    to = Deployment("p/m", "p", "m", "openai", "https://llm.example/v1", quirks=Quirks(**quirks))
    request = wire_request({name: wrap(value) for name, value in fields.items()}, to, usage=False)
    body = json.loads(request.body)
    assert body.pop("model") == "m"
    return body, request.dropped


@pytest.mark.parametrize(
    "wrap", [lambda value: msgspec.Raw(msgspec.json.encode(value)), lambda v: v], ids=["raw", "plain"]
)
@pytest.mark.parametrize(
    ("fields", "body", "dropped"),
    [
        ({"thinking": ON}, {"reasoning_effort": "low"}, ()),
        ({"thinking": OFF}, {"reasoning_effort": "none"}, ()),
        ({"thinking": ADAPTIVE}, {"reasoning_effort": "medium"}, ()),
        ({"thinking": ADAPTIVE, "reasoning_effort": "high"}, {"reasoning_effort": "high"}, ()),
        ({"thinking": ON, "reasoning_effort": "low"}, {"reasoning_effort": "low"}, ()),
        ({"thinking": ON, "reasoning_effort": "high"}, {"reasoning_effort": "high"}, ("thinking",)),
        ({"thinking": OFF, "reasoning_effort": "high"}, {"reasoning_effort": "high"}, ("thinking",)),
        ({"thinking": ON, "reasoning_effort": None}, {"reasoning_effort": "low"}, ()),
        ({"thinking": {"type": "between_tools"}}, {}, ("thinking",)),
        ({"thinking": "much"}, {}, ("thinking",)),
        ({"thinking": None}, {}, ()),
    ],
)
def test_thinking_becomes_an_effort(
    wrap: Any, fields: dict[str, Any], body: dict[str, Any], dropped: tuple[str, ...]
) -> None:
    assert sent(fields, wrap) == (body, dropped)


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ({"thinking": ON}, {"thinking": ON}),
        ({"thinking": ON, "reasoning_effort": "high"}, {"thinking": ON, "reasoning_effort": "high"}),
        ({"reasoning_effort": "high"}, {"reasoning_effort": "high"}),
        ({"reasoning_effort": "none"}, {"thinking": OFF}),
        ({"reasoning_effort": "none", "thinking": OFF}, {"thinking": OFF}),
    ],
)
def test_providers_that_know_thinking_get_it_and_are_switched_off_by_it(
    fields: dict[str, Any], body: dict[str, Any]
) -> None:
    assert sent(fields, lambda value: value, thinking=True) == (body, ())


def test_of_two_that_contradict_each_other_one_is_named() -> None:
    body, dropped = sent({"reasoning_effort": "none", "thinking": ON}, lambda value: value, thinking=True)
    assert (body, dropped) == ({"thinking": ON}, ("reasoning_effort",))

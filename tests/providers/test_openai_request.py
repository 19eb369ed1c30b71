"""Requests to OpenAI-shaped providers: reasoning in the form that each of them knows. Quirks: test_openai.py."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from polymux.providers.base import Asked
from polymux.providers.openai import OpenAI
from polymux.providers.openai_request import wire_request
from polymux.providers.reasoning import EFFORTS, SWITCHES
from polymux.providers.replay import SIGNED
from polymux.surfaces.chat import Chat
from polymux.types import Deployment, Key, Quirks

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


BUDGET: dict[str, Any] = {"reasoning": {"*": "enable_thinking, thinking_budget"}}
TEMPLATE: dict[str, Any] = {"reasoning": {"*": "chat_template_kwargs, or effort"}}
ALWAYS: dict[str, Any] = {"reasoning": {"*": "always"}}
NEVER: dict[str, Any] = {"reasoning": {"*": "never"}}
ONLY_OFF = {"enable_thinking": False}
NO_TEMPLATE = {"chat_template_kwargs": {"enable_thinking": False}}
EFFORT = ("reasoning_effort",)


@pytest.mark.parametrize(
    "wrap", [lambda value: msgspec.Raw(msgspec.json.encode(value)), lambda v: v], ids=["raw", "plain"]
)
@pytest.mark.parametrize(
    ("quirks", "fields", "body", "dropped"),
    [
        (BUDGET, {"reasoning_effort": "none"}, ONLY_OFF, ()),
        (BUDGET, {"reasoning_effort": None}, {"reasoning_effort": None}, ()),
        (BUDGET, {"reasoning_effort": "utmost"}, {"reasoning_effort": "utmost"}, ()),
        (BUDGET, {"reasoning_effort": ["none"]}, {"reasoning_effort": ["none"]}, ()),
        (BUDGET, {"thinking": OFF}, ONLY_OFF, ()),
        (BUDGET, {"thinking": ON}, {"enable_thinking": True, "thinking_budget": 1024}, ()),
        # the provider's own members go before
        (BUDGET, {"reasoning_effort": "none", "enable_thinking": False}, ONLY_OFF, ()),
        (BUDGET, {"reasoning_effort": "high", "enable_thinking": False}, ONLY_OFF, EFFORT),
        (BUDGET, {"thinking": ON, "enable_thinking": False}, ONLY_OFF, ("thinking",)),
        (TEMPLATE, {"reasoning_effort": "none", "chat_template_kwargs": None}, NO_TEMPLATE, ()),
        (
            TEMPLATE,
            {"reasoning_effort": "none", "chat_template_kwargs": {"a": 1}},
            {"chat_template_kwargs": {"enable_thinking": False, "a": 1}},
            (),
        ),
        (
            TEMPLATE,
            {"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": True}},
            {"chat_template_kwargs": {"enable_thinking": True}},
            EFFORT,
        ),
        # what cannot be told is told to the client
        (ALWAYS, {"reasoning_effort": "none"}, {}, EFFORT),
        (ALWAYS, {"thinking": OFF}, {}, ("thinking",)),
        (ALWAYS, {"thinking": OFF, "reasoning_effort": "low"}, {}, ("thinking", "reasoning_effort")),
        (NEVER, {"thinking": OFF}, {}, ()),
        (NEVER, {"reasoning_effort": "high"}, {}, EFFORT),
    ],
)
def test_an_effort_is_told_as_the_row_says(
    wrap: Any, quirks: dict[str, Any], fields: dict[str, Any], body: dict[str, Any], dropped: tuple[str, ...]
) -> None:
    assert sent(fields, wrap, **quirks) == (body, dropped)


def test_the_table_of_switches_is_not_changed_by_a_request() -> None:
    before = json.dumps({name: dict(words) for name, words in SWITCHES.items()}, default=dict)
    for name in SWITCHES:
        for effort in EFFORTS:
            given = {"reasoning_effort": effort, "thinking": {"a": 1}, "chat_template_kwargs": {"b": 2}}
            sent(given, lambda value: value, reasoning={"*": name}, thinking=True, drop=["thinking.type"])
    assert json.dumps({name: dict(words) for name, words in SWITCHES.items()}, default=dict) == before


DETAILS = [{"type": "reasoning.encrypted", "data": "abc"}]
GOOGLE = {"google": {"thought_signature": "c2ln"}}
SIGNED_TURN: dict[str, Any] = {
    "role": "assistant",
    "reasoning_content": "plain text is nobody's",
    "reasoning_details": DETAILS,
    "tool_calls": [{"id": "a", "extra_content": GOOGLE}, {"id": "b"}],
}


@pytest.mark.parametrize(
    ("quirks", "lost"),
    [
        ({}, SIGNED),
        ({"takes": SIGNED}, ()),
        ({"takes": SIGNED[:1]}, SIGNED[1:]),
        ({"replay": "reasoning_details"}, SIGNED[1:]),
        ({"drop": ("messages[].reasoning_content",)}, ("messages[].reasoning_content", *SIGNED)),
    ],
)
@pytest.mark.parametrize("lane", ["relay", "flow"])
def test_what_others_have_signed_goes_to_those_alone_who_take_it(
    lane: str, quirks: dict[str, Any], lost: tuple[str, ...]
) -> None:
    to = Deployment("p/m", "p", "m", "openai", "https://llm.example/v1", quirks=Quirks(**quirks))
    body = json.dumps({"model": "public", "messages": [{"role": "user", "content": "Hi"}, SIGNED_TURN]})
    call = Chat().decode(body.encode(), "1", Key("k", "k"))
    if lane == "relay":
        request = OpenAI().relay(call, to)
    else:
        with pytest.raises(StopIteration) as stop:
            next(OpenAI().flow(Chat().request(call), Asked("public", 1, to)))
        request = stop.value.value
    assert request.dropped == lost
    turn = json.loads(request.body)["messages"][1]
    assert ("reasoning_details" in turn, "extra_content" in turn["tool_calls"][0]) == tuple(
        path not in lost for path in SIGNED
    )
    assert ("reasoning_content" in turn) == ("messages[].reasoning_content" not in lost)

"""Every parameter does what the table of fates says; models of every generation get what they take."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from polymux.errors import Failure
from polymux.providers.anthropic import Anthropic
from polymux.providers.anthropic_request import generation, translate
from polymux.providers.base import Asked
from polymux.schema.chat import ChatRequest
from polymux.types import Deployment, Quirks

BUDGET, ADAPTIVE, OLD, FOREIGN = "claude-sonnet-4-5", "claude-opus-5", "claude-3-5-haiku-20241022", "kimi-k2"
TOOL = {"type": "function", "function": {"name": "f"}}
OTHER = {"type": "function", "function": {"name": "g"}}
SCHEMA = {"type": "object", "properties": {}}
JSON_FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}


def run(
    fields: dict[str, Any], model: str = BUDGET, version: str = "2023-06-01"
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The wire body and the dropped names for a request of one message and `fields`."""
    request = msgspec.convert({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}, ChatRequest)
    to = Deployment(id="p/m", provider="p", model=model, dialect="anthropic", headers=(("anthropic-version", version),))
    wire, dropped = translate(request, to)
    return msgspec.json.decode(msgspec.json.encode(wire)), dropped


# ---- what is named as dropped (the table of parameters: test_fates.py) -----------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1},
        {"logprobs": False},
        {"store": False},
        {"presence_penalty": 0, "frequency_penalty": 0.0},
        {"logit_bias": {}, "metadata": {}, "top_logprobs": 0},
        {"modalities": ["text"], "verbosity": "medium"},
        {"temperature": 1.0, "top_p": 1.0, "reasoning_effort": "low"},
        {"parallel_tool_calls": True},
        {"response_format": {"type": "text"}},
    ],
)
def test_values_that_ask_for_nothing_are_not_named(fields: dict[str, Any]) -> None:
    assert run(fields)[1] == ()


def test_names_come_in_the_order_of_the_request() -> None:
    asked = {"verbosity": "low", "top_p": 0.5, "temperature": 0.5, "seed": 1, "audio": {"a": 1}}
    assert run(asked)[1] == ("audio", "seed", "top_p", "verbosity")


# ---- generations -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "thinking", "sampling", "schemas", "hides"),
    [
        ("claude-2.1", (), "any", False, False),
        ("claude-instant-1.2", (), "any", False, False),
        ("claude-3-opus-20240229", (), "any", False, False),
        ("claude-3-5-sonnet-20241022", (), "any", False, False),
        ("anthropic/claude-3.7-sonnet", ("enabled",), "any", False, False),
        ("claude-sonnet-4-20250514", ("enabled",), "any", False, False),
        ("claude-sonnet-4@20250514", ("enabled",), "any", False, False),
        ("claude-opus-4-1-20250805", ("enabled",), "one", True, False),
        ("anthropic.claude-haiku-4-5-20251001-v1:0", ("enabled",), "one", True, False),
        ("Claude-Sonnet-4-5", ("enabled",), "one", True, False),
        ("claude-sonnet-4-6", ("adaptive", "enabled"), "one", True, False),
        ("claude-opus-4-7", ("adaptive",), "", True, True),
        ("claude-opus-4-8-20260401", ("adaptive",), "", True, True),
        ("claude-sonnet-5", ("adaptive",), "", True, True),
        ("claude-opus-5-5", ("adaptive",), "", True, True),
        ("claude-opus-12", ("adaptive",), "", True, True),
        ("claude-mythos-preview", ("adaptive",), "", True, True),
        ("kimi-k2-thinking", ("enabled", "adaptive"), "any", True, False),
    ],
)
def test_the_name_of_a_model_tells_what_it_takes(
    model: str, thinking: tuple[str, ...], sampling: str, schemas: bool, hides: bool
) -> None:
    kind = generation(model)
    assert (kind.thinking, kind.sampling, kind.schemas, kind.hides) == (thinking, sampling, schemas, hides)


def enabled(budget: int) -> dict[str, Any]:
    return {"type": "enabled", "budget_tokens": budget}


@pytest.mark.parametrize(
    ("effort", "limit", "thinking", "max_tokens"),
    [
        ("none", 8000, None, 8000),
        ("minimal", 8000, enabled(1024), 8000),
        ("low", 8000, enabled(1024), 8000),
        ("medium", 8000, enabled(4096), 8000),
        ("high", 8000, enabled(6976), 8000),
        ("high", 20000, enabled(16384), 20000),
        ("max", 50000, enabled(48976), 50000),
        ("low", 1025, enabled(1024), 1025),
        ("low", 1024, None, 1024),
        ("medium", None, enabled(4096), 8192),
        ("xhigh", None, enabled(30976), 32000),
        ("max", None, enabled(30976), 32000),
    ],
)
def test_effort_becomes_a_budget_within_the_limit(
    effort: str, limit: int | None, thinking: dict[str, Any] | None, max_tokens: int
) -> None:
    body, dropped = run({"reasoning_effort": effort, "max_completion_tokens": limit})
    assert (body.get("thinking"), body["max_tokens"]) == (thinking, max_tokens)
    assert dropped == (("reasoning_effort",) if effort != "none" and thinking is None else ())


@pytest.mark.parametrize(
    ("effort", "wire"),
    [("minimal", "low"), ("low", "low"), ("medium", "medium"), ("high", "high"), ("xhigh", "xhigh"), ("max", "max")],
)
def test_effort_is_native_on_adaptive_models(effort: str, wire: str) -> None:
    body, dropped = run({"reasoning_effort": effort, "max_tokens": 100}, ADAPTIVE)
    assert body["output_config"] == {"effort": wire}
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert (body["max_tokens"], dropped) == (100, ())


def test_effort_none_switches_thinking_off() -> None:
    assert run({"reasoning_effort": "none"}, ADAPTIVE)[0]["thinking"] == {"type": "disabled"}


def test_effort_is_named_where_a_model_cannot_think() -> None:
    body, dropped = run({"reasoning_effort": "high"}, OLD)
    assert "thinking" not in body
    assert dropped == ("reasoning_effort",)


def test_effort_and_a_schema_share_output_config() -> None:
    body, _ = run({"reasoning_effort": "low", "response_format": JSON_FORMAT}, ADAPTIVE)
    schema = {"title": "n", **SCHEMA}
    assert body["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": schema}}


@pytest.mark.parametrize(
    ("model", "thinking", "display"),
    [
        ("claude-sonnet-4-6", {"type": "adaptive"}, None),
        (ADAPTIVE, {"type": "adaptive"}, "summarized"),
        (ADAPTIVE, {"type": "adaptive", "display": "omitted"}, "omitted"),
        (ADAPTIVE, {"type": "disabled"}, None),
    ],
)
def test_thinking_in_its_own_form_wins_and_is_shown(model: str, thinking: dict[str, Any], display: str | None) -> None:
    body, _ = run({"thinking": thinking, "reasoning_effort": "low"}, model)
    assert body["thinking"] == (thinking | {"display": display} if display else thinking)


def test_thinking_in_its_own_form_replaces_effort_on_models_with_a_budget() -> None:
    body, dropped = run({"thinking": enabled(2000), "reasoning_effort": "high", "max_tokens": 9000})
    assert (body["thinking"], dropped) == (enabled(2000), ("reasoning_effort",))


@pytest.mark.parametrize(("limit", "max_tokens"), [(None, 44_096), (50_000, 50_000), (3000, 3000)])
def test_a_default_limit_makes_room_for_the_clients_own_budget(limit: int | None, max_tokens: int) -> None:
    body, _ = run({"thinking": enabled(40_000), "max_tokens": limit})
    assert (body["thinking"], body["max_tokens"]) == (enabled(40_000), max_tokens)


@pytest.mark.parametrize(
    ("model", "fields", "thinking", "effort", "dropped"),
    [
        # a budget where the model knows efforts only: the effort that it comes to
        (ADAPTIVE, {"thinking": enabled(2048)}, {"type": "adaptive", "display": "summarized"}, "low", ()),
        (ADAPTIVE, {"thinking": enabled(8192)}, {"type": "adaptive", "display": "summarized"}, "medium", ()),
        (ADAPTIVE, {"thinking": enabled(8193)}, {"type": "adaptive", "display": "summarized"}, "high", ()),
        (
            ADAPTIVE,
            {"thinking": {**enabled(2000), "display": "omitted"}, "reasoning_effort": "max"},
            {"type": "adaptive", "display": "omitted"},
            "max",
            (),
        ),
        # adaptive where the model knows budgets only
        (BUDGET, {"thinking": {"type": "adaptive"}}, enabled(4096), None, ()),
        (BUDGET, {"thinking": {"type": "adaptive"}, "reasoning_effort": "low"}, enabled(1024), None, ()),
        (BUDGET, {"thinking": {"type": "adaptive"}, "max_tokens": 1024}, None, None, ("thinking",)),
        # both forms
        ("claude-sonnet-4-6", {"thinking": enabled(2000)}, enabled(2000), None, ()),
        ("claude-sonnet-4-6", {"thinking": {"type": "adaptive"}}, {"type": "adaptive"}, None, ()),
        (FOREIGN, {"thinking": {"type": "adaptive"}}, {"type": "adaptive"}, None, ()),
        # neither
        (OLD, {"thinking": enabled(2000)}, None, None, ("thinking",)),
        (OLD, {"thinking": {"type": "adaptive"}}, None, None, ("thinking",)),
        (OLD, {"thinking": {"type": "disabled"}}, None, None, ()),
        (OLD, {"reasoning_effort": "none"}, None, None, ()),
        # kinds that are not known here are the API's to judge
        (
            ADAPTIVE,
            {"thinking": {"type": "between_tools"}},
            {"type": "between_tools", "display": "summarized"},
            None,
            (),
        ),
    ],
)
def test_thinking_takes_the_form_that_the_model_knows(
    model: str, fields: dict[str, Any], thinking: Any, effort: str | None, dropped: tuple[str, ...]
) -> None:
    body, names = run(fields, model)
    assert (body.get("thinking"), body.get("output_config", {}).get("effort"), names) == (thinking, effort, dropped)


CALLED = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]},
    {"role": "tool", "tool_call_id": "c", "content": "r"},
]


@pytest.mark.parametrize("asked", [{"thinking": enabled(2000)}, {"reasoning_effort": "low"}])
def test_thinking_stops_where_the_reasoning_before_a_call_was_not_brought_back(asked: dict[str, Any]) -> None:
    body, dropped = run({"messages": CALLED, "tools": [TOOL], **asked})
    assert "thinking" not in body
    assert dropped == tuple(asked)
    with_reasoning = [dict(message) for message in CALLED]
    with_reasoning[1]["reasoning_details"] = [{"type": "thinking", "thinking": "hm", "signature": "s"}]
    body, dropped = run({"messages": with_reasoning, "tools": [TOOL], **asked})
    assert (body["thinking"]["type"], dropped) == ("enabled", ())
    assert body["messages"][1]["content"][0] == with_reasoning[1]["reasoning_details"][0]
    assert run({"messages": CALLED, "tools": [TOOL], "reasoning_effort": "low"}, ADAPTIVE)[1] == ()


@pytest.mark.parametrize("choice", ["required", TOOL])
@pytest.mark.parametrize(("model", "thinking"), [(BUDGET, None), (ADAPTIVE, {"type": "disabled"})])
@pytest.mark.parametrize("asked", [{"reasoning_effort": "low"}, {"thinking": {"type": "adaptive"}}])
def test_a_forced_tool_switches_thinking_off(
    choice: Any, model: str, thinking: dict[str, Any] | None, asked: dict[str, Any]
) -> None:
    body, dropped = run({"tools": [TOOL], "tool_choice": choice, **asked}, model)
    assert body.get("thinking") == thinking
    assert dropped == tuple(asked)


# ---- sampling ----------------------------------------------------------------------------------------------------

SAMPLING = {"temperature": 0.5, "top_p": 0.9, "top_k": 5}


@pytest.mark.parametrize(
    ("model", "fields", "sent", "dropped"),
    [
        (OLD, SAMPLING, SAMPLING, ()),
        (FOREIGN, SAMPLING, SAMPLING, ()),
        (BUDGET, SAMPLING, {"temperature": 0.5, "top_k": 5}, ("top_p",)),
        (BUDGET, {"temperature": 1, "top_p": 0.9}, {"top_p": 0.9}, ()),
        (BUDGET, {"top_p": 0.9}, {"top_p": 0.9}, ()),
        (BUDGET, {"temperature": 2}, {"temperature": 1.0}, ("temperature",)),
        (BUDGET, {"temperature": -1}, {"temperature": 0.0}, ("temperature",)),
        (ADAPTIVE, SAMPLING, {}, ("temperature", "top_k", "top_p")),
        (ADAPTIVE, {"temperature": 1, "top_p": 1}, {}, ()),
        (BUDGET, {**SAMPLING, "reasoning_effort": "low"}, {}, ("temperature", "top_k", "top_p")),
        (BUDGET, {"top_p": 0.95, "reasoning_effort": "low"}, {"top_p": 0.95}, ()),
    ],
)
def test_sampling_parameters_as_far_as_they_are_taken(
    model: str, fields: dict[str, Any], sent: dict[str, Any], dropped: tuple[str, ...]
) -> None:
    body, names = run(fields, model)
    assert ({name: body[name] for name in SAMPLING if name in body}, names) == (sent, dropped)


def test_the_api_version_that_removed_sampling_gets_none() -> None:
    body, dropped = run(SAMPLING, OLD, version="2026-10-21")
    assert not SAMPLING.keys() & body.keys()
    assert dropped == ("temperature", "top_k", "top_p")


# ---- limits, stops, users ------------------------------------------------------------------------------------------


def test_the_current_name_of_the_limit_wins() -> None:
    assert run({"max_tokens": 5, "max_completion_tokens": 6})[0]["max_tokens"] == 6


def test_the_default_limit_is_the_rows() -> None:
    request = msgspec.convert({"model": "m", "messages": []}, ChatRequest)
    to = Deployment(id="p/m", provider="p", model="m", dialect="anthropic", quirks=Quirks(max_tokens=99))
    assert translate(request, to)[0].max_tokens == 99


@pytest.mark.parametrize(
    ("stop", "sent", "dropped"),
    [("END", ["END"], ()), (["a", " "], ["a"], ("stop",)), ("\n", None, ("stop",)), ([], None, ())],
)
def test_blank_stop_sequences_are_not_sent(stop: Any, sent: list[str] | None, dropped: tuple[str, ...]) -> None:
    body, names = run({"stop": stop})
    assert (body.get("stop_sequences"), names) == (sent, dropped)


@pytest.mark.parametrize(
    ("tier", "sent", "dropped"),
    [("auto", "auto", ()), ("default", "standard_only", ()), ("flex", None, ("service_tier",))],
)
def test_service_tiers(tier: str, sent: str | None, dropped: tuple[str, ...]) -> None:
    body, names = run({"service_tier": tier})
    assert (body.get("service_tier"), names) == (sent, dropped)


def test_the_safety_identifier_goes_before_the_user() -> None:
    assert run({"user": "u", "safety_identifier": "s"})[0]["metadata"] == {"user_id": "s"}


@pytest.mark.parametrize(
    ("fields", "dropped"),
    [
        ({"user": "u", "safety_identifier": "s"}, ("user",)),
        ({"user": "s", "safety_identifier": "s"}, ()),
        ({"max_tokens": 5, "max_completion_tokens": 6}, ("max_tokens",)),
        ({"max_tokens": 6, "max_completion_tokens": 6}, ()),
        ({"functions": [{"name": "f"}], "tool_choice": "auto", "function_call": "none"}, ("function_call",)),
        ({"web_search_options": {"search_context_size": "high"}}, ("web_search_options",)),
        ({"web_search_options": {"search_context_size": "medium"}}, ()),
        ({"stream": True, "stream_options": {"include_obfuscation": False}}, ()),
    ],
)
def test_what_another_parameter_stands_in_the_way_of_is_named(fields: dict[str, Any], dropped: tuple[str, ...]) -> None:
    assert run(fields)[1] == dropped


# ---- what the provider's row says ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quirks", "fields", "sent", "dropped"),
    [
        ({"drop": ("top_k", "metadata")}, {"top_k": 5, "user": "u"}, {}, ("top_k", "user")),
        ({"drop": ("metadata",)}, {"safety_identifier": "s"}, {}, ("safety_identifier",)),
        ({"drop": ("stop_sequences",)}, {"stop": "END", "seed": 1}, {}, ("seed", "stop")),
        ({"drop": ("thinking",)}, {"reasoning_effort": "low", "max_tokens": 9000}, {}, ("reasoning_effort",)),
        ({"rename": {"max_tokens": "limit"}}, {"max_tokens": 5}, {"limit": 5}, ()),
        ({"clamp": {"temperature": (0.1, 0.9)}}, {"temperature": 1.0}, {"temperature": 0.9}, ("temperature",)),
        ({"clamp": {"max_tokens": (1, 1000)}}, {"max_completion_tokens": 5000}, {}, ("max_completion_tokens",)),
        ({"clamp": {"max_tokens": (1, 1000)}}, {}, {}, ()),  # it was our own limit
        ({"set": {"speed": "fast"}}, {}, {"speed": "fast"}, ()),
        ({"set": {"service_tier": "auto"}}, {"service_tier": "default"}, {"service_tier": "auto"}, ("service_tier",)),
    ],
)
def test_a_rows_quirks_act_on_the_wire_and_are_told_in_the_clients_words(
    quirks: dict[str, Any], fields: dict[str, Any], sent: dict[str, Any], dropped: tuple[str, ...]
) -> None:
    request = msgspec.convert({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}, ChatRequest)
    to = Deployment("p/m", "p", BUDGET, "anthropic", quirks=Quirks(**quirks))
    with pytest.raises(StopIteration) as stop:
        next(Anthropic().flow(request, Asked("m", 7, to)))
    wire = msgspec.json.decode(stop.value.value.body)
    assert stop.value.value.dropped == dropped
    assert {name: wire.get(name) for name in sent} == sent
    assert not set(quirks.get("drop", ())) & wire.keys()
    assert wire.get("max_tokens", 0) <= quirks.get("clamp", {}).get("max_tokens", (0, 1e9))[1]


# ---- tools -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "choice"),
    [
        ({"tool_choice": "none"}, {"type": "none"}),
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": TOOL}, {"type": "tool", "name": "f"}),
        ({"tool_choice": {"type": "custom", "custom": {"name": "f"}}}, {"type": "tool", "name": "f"}),
        ({"function_call": "none"}, {"type": "none"}),
        ({"function_call": {"name": "g"}}, {"type": "tool", "name": "g"}),
        ({"tool_choice": "auto", "function_call": {"name": "g"}}, {"type": "auto"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"parallel_tool_calls": False, "tool_choice": "none"}, {"type": "none"}),
        ({"parallel_tool_calls": True}, None),
        ({}, None),
    ],
)
def test_tool_choices(fields: dict[str, Any], choice: dict[str, Any] | None) -> None:
    assert run({"tools": [TOOL, OTHER], **fields})[0].get("tool_choice") == choice


@pytest.mark.parametrize(("mode", "type_"), [("auto", "auto"), ("required", "any")])
@pytest.mark.parametrize("tool", [OTHER, {"type": "function", "name": "g"}])
def test_allowed_tools_are_the_only_ones_sent(mode: str, type_: str, tool: dict[str, Any]) -> None:
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [tool]}}
    body, _ = run({"tools": [TOOL, OTHER], "tool_choice": choice})
    assert [tool["name"] for tool in body["tools"]] == ["g"]
    assert body["tool_choice"] == {"type": type_}


def test_a_choice_among_no_tools_is_not_sent() -> None:
    assert "tool_choice" not in run({"tool_choice": "none", "parallel_tool_calls": False})[0]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [TOOL], "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice"),
        ({"functions": [{"name": "f"}], "function_call": {}}, "function_call"),
        ({"tools": [TOOL, {"type": "computer"}]}, "tools[1]"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"reasoning_effort": "enormous"}, "reasoning_effort"),
    ],
)
def test_malformed_values_are_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Failure) as caught:
        run(fields)
    assert (caught.value.kind, caught.value.param) == ("invalid_value", param)


def test_a_schema_without_a_type_is_an_object() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {}}}}}
    assert run({"tools": [tool]})[0]["tools"][0]["input_schema"] == {"type": "object", "properties": {"a": {}}}


@pytest.mark.parametrize(("model", "strict"), [(BUDGET, True), (OLD, None)])
def test_strict_is_sent_where_it_is_known(model: str, strict: bool | None) -> None:
    tool = {"type": "function", "function": {"name": "f", "strict": True}}
    assert run({"tools": [tool]}, model)[0]["tools"][0].get("strict") is strict


@pytest.mark.parametrize(
    ("options", "location"),
    [
        ({}, None),
        ({"user_location": "Bern"}, None),
        (
            {"user_location": {"type": "approximate", "approximate": {"city": "Bern", "country": None, "x": 1}}},
            {"type": "approximate", "city": "Bern"},
        ),
    ],
)
def test_web_search(options: dict[str, Any], location: dict[str, Any] | None) -> None:
    (tool,) = run({"web_search_options": options})[0]["tools"]
    assert (tool["type"], tool["name"], tool.get("user_location")) == ("web_search_20250305", "web_search", location)

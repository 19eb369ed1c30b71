"""Parameters on their way to Ollama: options, what a row sets, tools and choices, thinking, formats."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from polymux.errors import Failure
from polymux.providers.ollama_request import body, embed_body
from polymux.schema.chat import ChatRequest
from polymux.schema.embeddings import EmbeddingRequest
from polymux.types import Deployment, Quirks

Json = dict[str, Any]

F = {"type": "function", "function": {"name": "f"}}
NONE = Quirks()
G = {"type": "custom", "custom": {"name": "g"}}


def sent(members: Json, quirks: Quirks = NONE) -> tuple[Json, tuple[str, ...]]:
    request = msgspec.convert({"model": "m", "messages": [{"role": "user", "content": "hi"}], **members}, ChatRequest)
    data, dropped = body(request, Deployment("o/up", "o", "up", "ollama", quirks=quirks))
    return json.loads(data), dropped


def test_what_is_not_asked_for_is_not_sent() -> None:
    plain = {"model": "up", "messages": [{"role": "user", "content": "hi"}], "stream": False}
    assert sent({}) == (plain, ())
    assert sent({"logprobs": False, "top_logprobs": 0, "options": {}, "tools": [], "stop": None}) == (plain, ())


@pytest.mark.parametrize(
    ("members", "options", "dropped"),
    [
        ({"max_tokens": 5}, {"num_predict": 5}, ()),
        ({"max_tokens": 5, "max_completion_tokens": 5}, {"num_predict": 5}, ()),
        ({"max_tokens": 5, "max_completion_tokens": 7}, {"num_predict": 7}, ("max_tokens",)),
        ({"stop": "a"}, {"stop": ["a"]}, ()),
        ({"options": {"num_gpu": 0}, "seed": 1}, {"num_gpu": 0, "seed": 1}, ()),
        ({"options": {"seed": 1}, "seed": 1}, {"seed": 1}, ()),
        ({"options": {"seed": 2}, "seed": 1}, {"seed": 1}, ("options",)),
        ({"num_ctx": 4096, "options": {"num_ctx": 8192}}, {"num_ctx": 4096}, ("options",)),
    ],
)
def test_options(members: Json, options: Json, dropped: tuple[str, ...]) -> None:
    found, lost = sent(members)
    assert (found["options"], lost) == (options, dropped)


@pytest.mark.parametrize(
    ("quirks", "members", "wire", "dropped"),
    [
        (Quirks(set={"keep_alive": "1h", "num_ctx": 9}), {}, {"keep_alive": "1h", "options": {"num_ctx": 9}}, ()),
        (Quirks(set={"num_ctx": 9}), {"num_ctx": 9}, {"options": {"num_ctx": 9}}, ()),
        (Quirks(set={"num_ctx": 9}), {"num_ctx": 10}, {"options": {"num_ctx": 9}}, ("num_ctx",)),
        (Quirks(set={"think": False}), {"reasoning_effort": "high"}, {"think": False}, ("reasoning_effort",)),
        (Quirks(drop=("num_predict",)), {"max_tokens": 5}, {}, ("max_tokens",)),
        (Quirks(drop=("tools",)), {"tools": [F]}, {}, ("tools",)),
        (
            Quirks(clamp={"temperature": (0, 1)}),
            {"temperature": 2},
            {"options": {"temperature": 1.0}},
            ("temperature",),
        ),
        (Quirks(rename={"num_predict": "max"}), {"max_tokens": 5}, {"options": {"max": 5}}, ()),
    ],
)
def test_a_row_speaks_of_members_and_options_alike(
    quirks: Quirks, members: Json, wire: Json, dropped: tuple[str, ...]
) -> None:
    found, lost = sent(members, quirks)
    assert {name: value for name, value in found.items() if name not in ("model", "messages", "stream")} == wire
    assert lost == dropped


@pytest.mark.parametrize(
    ("members", "think", "dropped"),
    [
        ({}, None, ()),
        ({"reasoning_effort": "none"}, False, ()),
        ({"reasoning_effort": "minimal"}, "low", ()),
        ({"reasoning_effort": "medium"}, "medium", ()),
        ({"reasoning_effort": "xhigh"}, "high", ()),
        ({"reasoning_effort": "max"}, "max", ()),
        ({"thinking": {"type": "disabled"}}, False, ()),
        ({"thinking": {"type": "adaptive"}}, "medium", ()),
        ({"thinking": {"type": "enabled", "budget_tokens": 20_000}}, "high", ()),
        ({"thinking": {"type": "adaptive"}, "reasoning_effort": "low"}, "low", ()),
        ({"thinking": {"type": "disabled"}, "reasoning_effort": "low"}, "low", ("thinking",)),
        ({"thinking": {"type": "novelty"}}, None, ("thinking",)),
    ],
)
def test_thinking(members: Json, think: Any, dropped: tuple[str, ...]) -> None:
    found, lost = sent(members)
    assert (found.get("think"), lost) == (think, dropped)


@pytest.mark.parametrize(
    ("form", "wire"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, "json"),
        ({"type": "json_schema"}, "json"),
        ({"type": "json_schema", "json_schema": {"name": "n"}}, "json"),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
            {"title": "n", "type": "object"},
        ),
        (
            {"type": "json_schema", "json_schema": {"schema": {"type": "object", "title": "own"}}},
            {"type": "object", "title": "own"},
        ),
    ],
)
def test_formats(form: Json, wire: Any) -> None:
    assert sent({"response_format": form})[0].get("format") == wire


@pytest.mark.parametrize(
    ("choice", "names", "dropped"),
    [
        ("auto", ["f", "g"], ()),
        ("none", [], ()),
        ("required", ["f", "g"], ("tool_choice",)),
        (F, ["f", "g"], ("tool_choice=function",)),
        (G, ["f", "g"], ("tool_choice=custom",)),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [G]}}, ["g"], ()),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "name": "f"}]}},
            ["f"],
            (),
        ),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [7]}}, [], ("tool_choice",)),
    ],
)
def test_choices(choice: Any, names: list[str], dropped: tuple[str, ...]) -> None:
    found, lost = sent({"tools": [F, G], "tool_choice": choice})
    assert [tool["function"]["name"] for tool in found.get("tools", ())] == names
    assert lost == dropped


def test_a_choice_of_old_goes_after_a_new_one() -> None:
    found, lost = sent({"functions": [{"name": "f"}], "function_call": "none"})
    assert ("tools" in found, lost) == (False, ())
    assert sent({"tools": [F], "tool_choice": "auto", "function_call": {"name": "f"}})[1] == ("function_call",)


@pytest.mark.parametrize(
    "members",
    [
        {"tool_choice": "perhaps"},
        {"tool_choice": {"type": "function"}},
        {"tool_choice": {"type": "function", "function": {"name": 7}}},
        {"function_call": {"novelty": 1}},
        {"reasoning_effort": "heroic"},
        {"response_format": {"type": "yaml"}},
        {"tools": [{"type": "novelty"}]},
        {"n": 2},
    ],
)
def test_what_nobody_knows_is_refused(members: Json) -> None:
    with pytest.raises(Failure) as caught:
        sent({"tools": [F], **members})
    assert caught.value.status == 400
    assert str(caught.value.param).startswith(next(iter(members)))


def embedded(quirks: Quirks = NONE, **members: Any) -> tuple[Json, tuple[str, ...]]:
    request = EmbeddingRequest(**{"model": "m", "input": "a", **members})
    data, dropped = embed_body(request, Deployment("o/up", "o", "up", "ollama", quirks=quirks))
    return json.loads(data), dropped


def test_embeddings() -> None:
    assert embedded() == ({"model": "up", "input": ["a"]}, ())
    found = embedded(input=["a", "b"], dimensions=5, encoding_format="base64", user="u")
    assert found == ({"model": "up", "input": ["a", "b"], "dimensions": 5}, ("user",))
    row = Quirks(set={"truncate": False, "shift": False, "think": True, "keep_alive": "1h", "num_ctx": 9})
    wire = {"model": "up", "input": ["a"], "truncate": False, "keep_alive": "1h", "options": {"num_ctx": 9}}
    assert embedded(row) == (wire, ())
    assert embedded(Quirks(drop=("dimensions",)), dimensions=5) == ({"model": "up", "input": ["a"]}, ("dimensions",))
    with pytest.raises(Failure, match="no tokens"):
        embedded(input=[1, 2])

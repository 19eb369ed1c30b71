"""A provider that works: an echo that obeys the request and counts its tokens."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymux.mock.answers import answer, sample, tokens
from polymux.mock.replies import Reply
from polymux.mock.scripts import Ask

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOLS: dict[str, list[dict[str, Any]]] = {
    "openai": [{"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("f", "g")],
    "anthropic": [{"name": name, "input_schema": SCHEMA} for name in ("f", "g")],
}
PIXEL = base64.b64encode(b"pixels").decode()


def said(content: Any = "Hello there", dialect: str = "openai", **members: Any) -> Reply:
    return answer(Ask(dialect, "m", {"messages": [{"role": "user", "content": content}], **members}))


def text(reply: Reply) -> str:
    return "".join(reply.text)


def test_an_echo_in_several_pieces() -> None:
    reply = said("Hello there")
    assert text(reply) == "This is m, a mock. You said: Hello there"
    assert 2 < len(reply.text) <= 8
    assert (reply.finish, reply.tools, reply.reasoning) == ("stop", (), ())


def test_tokens_are_counted() -> None:
    reply = said("Hello there", reasoning_effort="low", n=2)
    words = len(tokens(text(reply)))
    thought = len(tokens("".join(reply.reasoning)))
    assert reply.usage == {"input": 4, "cached": 0, "output": 2 * (words + thought), "reasoning": 2 * thought}
    assert said("Hello there", tools=TOOLS["openai"]).usage["input"] > 4


@given(st.text())
def test_tokens_are_the_text(whole: str) -> None:
    assert "".join(tokens(whole)) == whole


@pytest.mark.parametrize("member", ["max_tokens", "max_completion_tokens"])
def test_a_limit_is_kept(member: str) -> None:
    reply = said("Hello there", **{member: 3})
    assert (len(tokens(text(reply))), reply.finish, reply.usage["output"]) == (3, "length", 3)


@pytest.mark.parametrize("members", [{"stop": "You"}, {"stop": ["no", "You"]}, {"stop_sequences": ["You"]}])
def test_stop_sequences_are_kept(members: dict[str, Any]) -> None:
    reply = said(**members)
    assert (text(reply), reply.stop_sequence, reply.finish) == ("This is m, a mock. ", "You", "stop")


@pytest.mark.parametrize(
    ("dialect", "choice", "name"),
    [
        ("openai", "required", "f"),
        ("openai", {"type": "function", "function": {"name": "g"}}, "g"),
        ("anthropic", {"type": "any"}, "f"),
        ("anthropic", {"type": "tool", "name": "g"}, "g"),
    ],
)
def test_a_tool_is_called_when_it_must_be(dialect: str, choice: Any, name: str) -> None:
    reply = said(dialect=dialect, tools=TOOLS[dialect], tool_choice=choice)
    (call,) = reply.tools
    assert (call.name, call.arguments, reply.finish, reply.text) == (
        name,
        {"city": "mock", "days": 1},
        "tool_calls",
        (),
    )


@pytest.mark.parametrize("choice", [None, "auto", "none", {"type": "auto"}, {"type": "tool", "name": "unknown"}])
def test_no_tool_is_called_when_it_need_not_be(choice: Any) -> None:
    assert said(tools=TOOLS["openai"], tool_choice=choice).tools == ()


def test_the_result_of_a_tool_is_told() -> None:
    messages = [{"role": "user", "content": "x"}, {"role": "tool", "tool_call_id": "c", "content": "17 degrees"}]
    assert text(answer(Ask("openai", "m", {"messages": messages}))) == "The tool says: 17 degrees"
    result = [{"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "17 degrees"}]}]
    assert text(said(result, "anthropic")) == "The tool says: 17 degrees"


@pytest.mark.parametrize(
    ("part", "seen"),
    [
        ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}, "image/png of 6 bytes"),
        ({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, "https://example.com/a.png"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,?"}}, "image/png that is not base64"),
        ({"type": "image", "source": {"media_type": "image/png", "data": PIXEL}}, "image/png of 6 bytes"),
    ],
)
def test_images_are_seen(part: dict[str, Any], seen: str) -> None:
    assert text(said([{"type": "text", "text": "Look"}, part])) == f"This is m, a mock. I see {seen}. You said: Look"


@pytest.mark.parametrize(
    "members",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}},
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    ],
)
def test_a_schema_gets_an_object(members: dict[str, Any]) -> None:
    assert json.loads(text(said(**members))) == {"city": "mock", "days": 1}


def test_plain_json_and_plain_text() -> None:
    assert json.loads(text(said("x", response_format={"type": "json_object"}))) == {"said": "x"}
    assert text(said("x", response_format={"type": "text"})).endswith("x")


@pytest.mark.parametrize(
    "members", [{"reasoning_effort": "high"}, {"thinking": {"type": "enabled"}}, {"thinking": {"type": "adaptive"}}]
)
def test_it_thinks_when_asked_to(members: dict[str, Any]) -> None:
    assert said(**members).reasoning


@pytest.mark.parametrize("members", [{}, {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}])
def test_it_does_not_think_unasked(members: dict[str, Any]) -> None:
    assert said(**members).reasoning == ()


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"const": 3}, 3),
        ({"enum": ["a", "b"]}, "a"),
        ({"anyOf": [{"type": "null"}]}, None),
        ({"type": ["integer", "null"], "minimum": 5}, 5),
        ({"type": "number"}, 1.0),
        ({"type": "boolean"}, True),
        ({"type": "array", "items": {"type": "string"}}, ["mock"]),
        ({"properties": {"a": {}}}, {"a": "mock"}),
        ({}, "mock"),
    ],
)
def test_a_sample_fits_its_schema(schema: dict[str, Any], value: Any) -> None:
    assert sample(schema) == value

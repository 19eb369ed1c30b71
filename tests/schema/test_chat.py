"""The pivot on the wire: what is left out, what is always there."""

from __future__ import annotations

import json

import msgspec
import pytest

from polymux.schema.chat import (
    AnswerMessage,
    ChatRequest,
    ChatResponse,
    Choice,
    Chunk,
    ChunkChoice,
    CustomCallDelta,
    Delta,
    FunctionCall,
    FunctionCallDelta,
    Message,
    TokenUsage,
    ToolCall,
    ToolCallDelta,
)


def wire(value: msgspec.Struct) -> object:
    return json.loads(msgspec.json.encode(value))


REQUEST = {
    "model": "m",
    "messages": [
        {"role": "developer", "content": "d", "name": "n"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "t", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
                {"type": "image_url", "image_url": "u"},
                {"type": "input_audio", "input_audio": {"data": "d", "format": "wav"}},
                {"type": "file", "file": {"file_id": "f"}},
            ],
        },
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": "c",
                    "type": "function",
                    "function": {"name": "f", "arguments": "{}"},
                    "extra_content": {"a": 1},
                },
                {"id": "d", "type": "custom", "custom": {"name": "g", "input": "i"}},
            ],
            "reasoning_details": [{"type": "x"}],
        },
        {"role": "tool", "content": "r", "tool_call_id": "c"},
        {"role": "assistant", "audio": {"id": "a"}},
    ],
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"a": [1]}, "strict": False}},
    "stop": ["a"],
    "stream": False,
    "temperature": 0.0,
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    "thinking": {"type": "enabled"},
}


def test_a_request_comes_back_as_it_was() -> None:
    request = msgspec.convert(REQUEST, ChatRequest)
    assert wire(request) == REQUEST
    assert msgspec.to_builtins(request) == REQUEST


def test_unknown_members_are_ignored_and_nulls_left_out() -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "a", "x": 1}], "seed": None, "new": 1}
    assert wire(msgspec.convert(body, ChatRequest)) == {"model": "m", "messages": [{"role": "user", "content": "a"}]}


@pytest.mark.parametrize(
    "change",
    [
        {"model": None},
        {"messages": "hi"},
        {"messages": [{"role": "robot"}]},
        {"messages": [{"content": "a"}]},
        {"temperature": "hot"},
        {"max_tokens": 1.5},
        {"stream": 1},
        {"tools": [{"type": "function", "function": {}}]},
    ],
)
def test_wrong_types_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(REQUEST | change, ChatRequest)


@pytest.mark.parametrize("model", [ToolCall, Message])
def test_the_type_of_a_call_is_always_sent(model: type) -> None:
    call = ToolCall("c", function=FunctionCall("f", "{}"))
    value = call if model is ToolCall else Message("assistant", tool_calls=[call])
    assert '"type":"function"' in msgspec.json.encode(value).decode()


def test_empty_arguments_are_sent() -> None:
    assert wire(FunctionCall("f", "")) == {"name": "f", "arguments": ""}


def test_an_answer_has_what_the_protocol_requires() -> None:
    response = ChatResponse("i", 1, "m", [Choice(message=AnswerMessage(content="a"))])
    assert wire(response) == {
        "id": "i",
        "created": 1,
        "model": "m",
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "a", "refusal": None},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
    }


def test_a_chunk_has_what_the_protocol_requires() -> None:
    chunk = Chunk("i", 1, "m", [ChunkChoice(delta=Delta(role="assistant", content=None))])
    assert wire(chunk) == {
        "id": "i",
        "created": 1,
        "model": "m",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": None}, "finish_reason": None}],
    }
    assert wire(Chunk("i", 1, "m", [ChunkChoice(finish_reason="stop")]))["choices"] == [
        {"index": 0, "delta": {}, "finish_reason": "stop"}
    ]
    assert wire(Chunk("i", 1, "m", [], usage=TokenUsage(1, 2, 3)))["usage"] == {
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "total_tokens": 3,
    }


def test_a_fragment_of_a_call_has_its_index_and_its_arguments_even_when_empty() -> None:
    fragment = ToolCallDelta(0, "c", "function", FunctionCallDelta("f", ""))
    assert wire(fragment) == {
        "index": 0,
        "id": "c",
        "type": "function",
        "function": {"name": "f", "arguments": ""},
    }


def test_a_fragment_of_a_custom_call() -> None:
    fragment = ToolCallDelta(0, "c", "custom", custom=CustomCallDelta("f", ""))
    assert wire(fragment) == {"index": 0, "id": "c", "type": "custom", "custom": {"name": "f", "input": ""}}


@pytest.mark.parametrize(
    ("delta", "content"),
    [
        (Delta(), False),
        (Delta(role="assistant"), False),
        (Delta(role="assistant", content=""), False),
        (Delta(role="assistant", content=None), False),
        (Delta(reasoning_content=""), False),
        (Delta(content="a"), True),
        (Delta(refusal="a"), True),
        (Delta(reasoning_content="a"), True),
        (Delta(reasoning_details=[{"a": 1}]), True),
        (Delta(tool_calls=[ToolCallDelta(0)]), True),
        (Delta(function_call=FunctionCallDelta("f")), True),
        (Delta(audio={"id": "a"}), True),
        (Delta(annotations=[{"a": 1}]), False),
    ],
)
def test_a_role_alone_is_not_content(delta: Delta, content: bool) -> None:
    assert delta.has_content() is content

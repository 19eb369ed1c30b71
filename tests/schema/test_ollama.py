"""Ollama's wire: what is sent says only what is meant, what comes is read leniently."""

from __future__ import annotations

import msgspec

from polymux.schema.ollama import Function as FunctionDef
from polymux.schema.ollama import FunctionCall, Line, Message, ModelList, Tool, ToolCall


def test_a_message_says_only_what_is_set() -> None:
    assert msgspec.to_builtins(Message("user", "hi")) == {"role": "user", "content": "hi"}
    call = Message("assistant", "", tool_calls=[ToolCall(FunctionCall("f", msgspec.Raw(b'{"n": 1.10}')))])
    assert b'"arguments":{"n": 1.10}' in msgspec.json.encode(call), "numbers keep their digits"


def test_a_tool_says_what_it_is() -> None:
    assert msgspec.to_builtins(Tool(FunctionDef("f", {}))) == {
        "type": "function",
        "function": {"name": "f", "parameters": {}},
    }


def test_a_line_may_lack_everything_and_have_more() -> None:
    assert msgspec.json.decode(b"{}", type=Line) == Line()
    text = (
        b'{"model":"m","done":true,"load_duration":1,"future":[1],"message":{"role":"assistant","content":null,"x":1}}'
    )
    line = msgspec.json.decode(text, type=Line)
    assert line.done
    assert line.message is not None
    assert line.message.content is None


def test_a_list_of_models() -> None:
    found = msgspec.json.decode(b'{"models":[{"name":"a:b","details":{"family":"x"}}]}', type=ModelList)
    assert [entry.name for entry in found.models] == ["a:b"]

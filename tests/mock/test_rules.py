"""What the scripted provider refuses."""

from __future__ import annotations

from typing import Any

import pytest

from polymux.mock import rules

USER: dict[str, Any] = {"role": "user", "content": "Hi"}
CALL: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1"}]}
USE: dict[str, Any] = {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": {}}]}
RESULT: dict[str, Any] = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "1"}]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ([], ""),
        ({"messages": [USER]}, "model"),
        ({"model": "m", "messages": []}, "messages"),
        ({"model": "m", "messages": [USER], "temperature": "warm"}, "temperature"),
        ({"model": "m", "messages": [USER], "n": 1.5}, "n"),
        ({"model": "m", "messages": [USER], "n": 129}, "n"),
        ({"model": "m", "messages": [USER], "stream_options": {}}, "stream_options"),
        ({"model": "m", "messages": [{"role": "tool", "tool_call_id": "c1"}]}, "messages.[0].role"),
        ({"model": "m", "messages": [CALL, USER]}, "messages.[1]"),
    ],
)
def test_what_an_openai_provider_refuses(body: Any, param: str) -> None:
    fault = rules.openai(body)
    assert fault is not None
    assert fault[1] == param


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"user": "u"}, "user: Extra inputs"),
        ({"max_tokens": None}, "max_tokens: Field required"),
        ({"max_tokens": 0}, "greater than or equal to 1"),
        ({"temperature": 1.5}, "between 0 and 1"),
        ({"tools": [{"name": "f"}]}, "tools.0.custom.input_schema"),
        ({"messages": []}, "at least one message"),
        ({"messages": [USE]}, "first message"),
        ({"messages": [USER, USER]}, "must alternate"),
        ({"messages": [{"role": "user", "content": ""}]}, "non-empty"),
        ({"messages": [USER, {"role": "assistant", "content": "so "}]}, "trailing whitespace"),
        ({"messages": [USER, USE]}, "without `tool_result`"),
        ({"messages": [RESULT]}, "immediately after"),
    ],
)
def test_what_an_anthropic_provider_refuses(change: dict[str, Any], complaint: str) -> None:
    told = rules.anthropic({"model": "m", "max_tokens": 9, "messages": [USER], **change})
    assert told is not None
    assert complaint in told


def test_good_requests_are_fine() -> None:
    tool = {"role": "tool", "tool_call_id": "c1", "content": "1"}
    assert rules.openai({"model": "m", "messages": [USER, CALL, tool], "temperature": 1}) is None
    assert rules.anthropic({"model": "m", "max_tokens": 9, "messages": [USER, USE, RESULT]}) is None

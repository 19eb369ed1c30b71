"""What was said, from the bytes that passed: streams whole and cut, of every surface."""

from __future__ import annotations

import json
from typing import Any

import pytest

from polymux.schema.chat import DONE
from polymux.surfaces.conversation import assembled, decoded

HEAD = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "up"}


def event(value: object) -> bytes:
    return b"data: %b\n\n" % json.dumps(value).encode()


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return event(HEAD | {"choices": [choice]})


USAGE = event(HEAD | {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}})
BEGIN = chunk({"role": "assistant", "content": "Hel"}) + b": keep-alive\n\n" + chunk({"content": "lo"})
ERROR = {"message": "gone", "type": "upstream_error", "param": None, "code": "upstream_truncated"}


def message(answer: Any, index: int = 0) -> Any:
    return answer["choices"][index]["message"]


def test_a_whole_stream_is_the_answer_in_one_piece() -> None:
    answer = assembled("chat", BEGIN + chunk({}, "stop") + USAGE + DONE, "public", 7)
    assert answer is not None
    assert (answer["object"], answer["model"], answer["created"]) == ("chat.completion", "public", 7)
    assert message(answer) == {"role": "assistant", "content": "Hello", "refusal": None}
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["total_tokens"] == 3


def test_calls_reasoning_and_several_choices() -> None:
    calls = [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a'}}]
    more = [{"index": 0, "function": {"arguments": '":1}'}}]
    data = chunk({"role": "assistant", "reasoning_content": "hm"}) + chunk({"tool_calls": calls})
    data += chunk({"tool_calls": more}) + chunk({"role": "assistant", "content": "two"}, index=1)
    answer = assembled("chat", data + chunk({}, "tool_calls") + chunk({}, "stop", 1) + DONE, "public", 7)
    assert message(answer)["reasoning_content"] == "hm"
    assert message(answer)["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"a":1}'}
    assert message(answer, 1)["content"] == "two"


def test_of_a_stream_that_broke_off_there_is_what_came() -> None:
    answer = assembled("chat", BEGIN, "public", 7)
    assert message(answer)["content"] == "Hello"
    assert answer is not None
    assert answer["choices"][0]["finish_reason"] is None
    assert message(assembled("chat", BEGIN[:-9], "public", 7))["content"] == "Hel"  # amid an event


def test_an_error_stands_beside_what_came() -> None:
    answer = assembled("chat", BEGIN + event({"error": ERROR}), "public", 7)
    assert answer is not None
    assert (message(answer)["content"], answer["error"]) == ("Hello", ERROR)
    assert assembled("chat", event({"error": ERROR}), "public", 7) == {"error": ERROR}


@pytest.mark.parametrize("data", [b"", b": keep-alive\n\n", DONE, b"data: nonsense\n\n"])
def test_nothing_came(data: bytes) -> None:
    assert assembled("chat", data, "public", 7) is None


def test_text_completions() -> None:
    def text(said: str, index: int = 0, finish: str | None = None) -> bytes:
        choice = {"index": index, "text": said, "finish_reason": finish}
        return event({"id": "t1", "object": "text_completion", "created": 1, "model": "up", "choices": [choice]})

    answer = assembled("completions", text("Hel") + text("a", 1) + text("lo", 0, "stop") + DONE, "public", 7)
    assert answer is not None
    assert (answer["object"], answer["model"]) == ("text_completion", "public")
    assert [(one["text"], one["finish_reason"]) for one in answer["choices"]] == [("Hello", "stop"), ("a", None)]


def test_events_of_other_surfaces_are_listed() -> None:
    data = event({"type": "a"}) + event({"type": "b"})
    listed = {"model": "public", "created": 7, "events": [{"type": "a"}, {"type": "b"}]}
    assert assembled("other", data, "public", 7) == listed


@pytest.mark.parametrize(("body", "value"), [(b'{"a": 1}', {"a": 1}), (b"", None), (b"{", None), (b"\xff", None)])
def test_json_or_nothing(body: bytes, value: object) -> None:
    assert decoded(body) == value

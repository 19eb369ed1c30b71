"""What apps say where it is not as simple as in tests/golden/dify: taken back, twice, or out of order."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from polymux.errors import Failure, Truncated
from polymux.providers.base import Asked
from polymux.providers.dify_answers import Held, Reader, failure_of, read
from polymux.providers.dify_request import turn_of
from polymux.schema.chat import ChatRequest, Chunk
from polymux.types import App, Deployment

Json = Any

COMMON = {"task_id": "t", "message_id": "m", "conversation_id": "c"}
END: tuple[str, Json] = ("message_end", {"metadata": {}})


def asked_of(stream: bool, kind: str = "chat", output: str = "") -> Asked:
    asked = Asked("public", 7, Deployment("i", "desk", kind, "dify", app=App(output=output)), "key-1")
    request = ChatRequest("public", msgspec.convert([{"role": "user", "content": "Hi"}], list), stream=stream)
    asked.carried = turn_of(msgspec.convert(msgspec.to_builtins(request), ChatRequest), asked)
    return asked


def told(asked: Asked, *events: tuple[str, Json]) -> tuple[str, str, str]:
    """Text, reasoning and finish of a stream."""
    reader = Reader(asked)
    chunks: list[Chunk] = []
    for name, members in events:
        chunks += reader.feed("", json.dumps({"event": name, **COMMON, **members}).encode())
    chunks += reader.close()
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    text = "".join(choice.delta.content or "" for choice in choices)
    reasoning = "".join(choice.delta.reasoning_content or "" for choice in choices)
    return text, reasoning, choices[-1].finish_reason or ""


def message(text: str) -> tuple[str, Json]:
    return "message", {"answer": text}


def thought(**members: str) -> tuple[str, Json]:
    return "agent_thought", {"id": "s", **members}


@pytest.mark.parametrize(
    ("stream", "text", "finish"), [(True, "Secret stuff[withheld]", "content_filter"), (False, "[withheld]", "stop")]
)
def test_text_that_is_taken_back(stream: bool, text: str, finish: str) -> None:
    events = [message("Secret "), message("stuff"), ("message_replace", {"answer": "[withheld]"}), END]
    asked = asked_of(stream)
    assert told(asked, *events) == (text, "", finish)
    (name,) = asked.remembered
    assert name == asked.carried.so_far.then(text).name(), "what the client has is what it comes back with"


@pytest.mark.parametrize("stream", [True, False])
def test_an_agent_that_says_all_of_it_once_more(stream: bool) -> None:
    half = ("agent_message", {"answer": "4"})
    assert told(asked_of(stream), half, message("4."), END) == ("4.", "", "stop")
    assert told(asked_of(stream), half, message("4"), END) == ("4", "", "stop")


def test_an_agent_that_says_something_else_at_the_end() -> None:
    events = [("agent_message", {"answer": "4"}), message("Five."), END]
    assert told(asked_of(True), *events)[0] == "4"
    assert told(asked_of(False), *events)[0] == "Five."


def test_steps_that_grow_are_told_once() -> None:
    grown = {"thought": "I look it up", "tool": "search", "tool_input": '{"q": 1}'}
    events = [
        thought(thought=""),
        thought(thought="I look"),
        thought(**grown),
        thought(**grown, observation="found"),
        thought(**grown, observation="found"),
        ("agent_message", {"answer": "It is 7."}),
        ("agent_thought", {"id": "s2", "thought": "It is 7."}),
        END,
    ]
    reasoning = 'I look\n it up\nsearch {"q": 1}\nfound\n'
    assert told(asked_of(True), *events) == ("It is 7.", reasoning, "stop")


def test_the_files_of_the_user_are_not_the_answers() -> None:
    reader = Reader(asked_of(True))
    chunks: list[Chunk] = []
    for owner in ("user", "assistant"):
        event = {"event": "message_file", **COMMON, "url": f"https://e.org/{owner}", "belongs_to": owner}
        chunks += reader.feed("", json.dumps(event).encode())
    chunks += reader.feed("", json.dumps({"event": "message_end", **COMMON}).encode())
    found = [one for chunk in chunks for choice in chunk.choices for one in choice.delta.annotations or ()]
    assert [one["url_citation"]["url"] for one in found] == ["https://e.org/assistant"]


def test_nothing_is_said_after_the_end() -> None:
    assert told(asked_of(True), message("a"), END, message("b"), ("error", {"message": "late"}))[0] == "a"


def test_what_cannot_be_read_is_counted() -> None:
    reader = Reader(Asked("m", 1))
    assert reader.feed("", b"{") == reader.feed("", b'{"event":"message","answer":[]}') == ()
    assert reader.malformed == 2
    with pytest.raises(Truncated):
        reader.close()


def test_an_error_without_an_event_is_one() -> None:
    with pytest.raises(Failure, match="Access token") as found:
        Reader(Asked("m", 1)).feed("", b'{"code":"unauthorized","message":"Access token is invalid","status":401}')
    assert found.value.kind == "upstream_auth_failed"


@pytest.mark.parametrize("end", ["message_end", "error", "none"])
def test_the_task_is_known_while_it_is_under_way(end: str) -> None:
    asked = asked_of(True)
    reader = Reader(asked)
    reader.feed("", json.dumps({"event": "message", **COMMON, "answer": "a"}).encode())
    assert asked.task == "t"
    if end == "none":
        return
    try:
        reader.feed("", json.dumps({"event": end, **COMMON, "message": "x"}).encode())
    except Failure:
        assert end == "error"
    assert asked.task == ""


def test_a_conversation_is_put_back_until_the_app_answers() -> None:
    for take in (lambda asked: Reader(asked), lambda asked: read(b'{"answer":"a"}', asked)):
        asked = asked_of(True)
        asked.remembered = {asked.carried.before.name(): b"doubtful", "other": b"1"}
        take(asked)
        assert asked.remembered == {"other": b"1"}


def test_what_is_remembered() -> None:
    asked = asked_of(False)
    read(json.dumps({"answer": "Hello", **COMMON}).encode(), asked)
    (value,) = asked.remembered.values()
    assert msgspec.json.decode(value, type=Held) == Held("c", "m")
    workflow = asked_of(False, "workflow")
    read(json.dumps({"data": {"status": "succeeded", "outputs": {"a": "b"}}, **COMMON}).encode(), workflow)
    assert workflow.remembered == {}


@pytest.mark.parametrize(
    ("outputs", "output", "text"),
    [
        (None, "", ""),
        ({}, "", ""),
        ({"a": None}, "", "null"),
        ({"a": 1.5}, "", "1.5"),
        ({"a": "x", "b": "y"}, "b", "y"),
        ({"a": "x", "b": "y"}, "c", '{"a":"x","b":"y"}'),
        ({"result": "r", "answer": "a"}, "", "a"),
    ],
)
def test_the_answer_of_a_workflow(outputs: Json, output: str, text: str) -> None:
    body = json.dumps({"workflow_run_id": "r", "data": {"status": "succeeded", "outputs": outputs}})
    assert read(body.encode(), asked_of(False, "workflow", output)).choices[0].message.content == text


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "model_currently_not_support", "upstream_unavailable"),
        (400, "conversation_completed", "upstream_rejected"),
        (404, "not_found", "upstream_rejected"),
        (429, "rate_limit_error", "upstream_auth_failed"),
        (503, "", "upstream_overloaded"),
        (504, "", "upstream_timeout"),
        (500, 7, "upstream_unavailable"),
    ],
)
def test_what_an_error_means(status: int, code: Json, kind: str) -> None:
    failure = failure_of(status, {"retry-after": "7"}, json.dumps({"code": code, "message": "x"}).encode())
    assert failure.kind == kind
    assert failure.retry_after == (7 if failure.row.retry == "any" else None)


def test_a_code_that_is_none_is_not_passed_on() -> None:
    assert failure_of(400, {}, b'{"code":"Sk-1 x","message":"x"}').code is None


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 6}, (3, 2, 6)),
        ({"prompt_tokens": 3.0, "completion_tokens": None}, (3, 0, 3)),
        ({"total_tokens": None}, None),
        ({}, None),
        (None, None),
    ],
)
def test_odd_usage_does_not_spoil_the_answer(usage: Json, counts: tuple[int, int, int] | None) -> None:
    reader = Reader(asked_of(True))
    for event in ({"event": "message", "answer": "Hi"}, {"event": "message_end", "metadata": {"usage": usage}}):
        reader.feed("", json.dumps(COMMON | event).encode())
    assert reader.done
    assert (reader.usage and msgspec.structs.astuple(reader.usage)[:3]) == counts

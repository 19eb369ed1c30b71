"""What a function is told of its call, and how other models' answers come to it: on the loop and in a thread."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from polymux.errors import Failure
from polymux.functions.call import NOTES, FunctionCall, Messages, Parameters, log
from polymux.marks import ModelError
from polymux.schema.chat import (
    AnswerMessage,
    ChatResponse,
    Choice,
    Chunk,
    ChunkChoice,
    Delta,
    TokenUsage,
    ToolCall,
)
from polymux.schema.chat import (
    FunctionCall as Called,
)
from polymux.surfaces.chat import Chat
from polymux.types import Call, Key
from support.peer import looped

BODY = {
    "model": "f",
    "messages": [{"role": "user", "content": "Hi"}],
    "stream": True,
    "stream_options": {"include_usage": True},
    "temperature": 0.5,
    "user": "u1",
    "custom": [7],
}
MESSAGES = [{"role": "user", "content": "Hi"}]
USAGE = TokenUsage(1, 2, 3)
REFUSED = Failure("upstream_rate_limited", "slowly", retry_after=7.0)


class Answering:
    """Implements `Chats`: one answer of two pieces, or a failure."""

    def __init__(self, failure: Failure | None = None) -> None:
        self.failure = failure
        self.asked: list[tuple[str, Messages, Parameters]] = []
        self.left = threading.Event()

    async def whole(self, model: str, messages: Messages, params: Parameters) -> ChatResponse:
        self.asked.append((model, messages, params))
        await asyncio.sleep(0)
        if self.failure:
            raise self.failure
        calls = [ToolCall("call_1", function=Called("f", "{}"))]
        message = AnswerMessage(content="meow", tool_calls=calls, reasoning_content="hm")
        return ChatResponse("id", 1, model, [Choice(0, message, "tool_calls")], USAGE)

    async def stream(self, model: str, messages: Messages, params: Parameters) -> AsyncGenerator[Chunk]:
        self.asked.append((model, messages, params))
        try:
            yield Chunk("id", 1, model, [ChunkChoice(0, Delta(role="assistant", content="me"))])
            yield Chunk("id", 1, model, [ChunkChoice(1, Delta(content="another choice"))])
            await asyncio.sleep(0)
            if self.failure:
                raise self.failure
            yield Chunk("id", 1, model, [ChunkChoice(0, Delta(reasoning_content="hm"), "stop")])
            yield Chunk("id", 1, model, [], usage=USAGE)
        finally:
            self.left.set()

    async def close(self) -> None: ...


def call_of(body: Any = BODY) -> Call:
    call = Chat().decode(json.dumps(body).encode(), "req_1", Key("static-1", "ada"))
    call.client_request_id = "mine"
    return call


def on_loop(chats: Answering) -> FunctionCall:
    return FunctionCall(call_of(), chats, None)


def test_what_is_known_of_a_call() -> None:
    call = on_loop(Answering())
    assert (call.id, call.client_request_id, call.model, call.key) == ("req_1", "mine", "f", "ada")
    assert (call.user, call.stream, call.cancelled) == ("u1", True, False)
    assert call.params == {"temperature": 0.5, "user": "u1", "custom": [7]}


def test_a_call_without_user() -> None:
    assert FunctionCall(call_of({"model": "f", "messages": MESSAGES}), Answering(), None).user == ""


@pytest.mark.parametrize(
    ("told", "line"),
    [
        (("looked up",), "looked up"),
        (("looked up", {"hits": 3, "of": {"嗯"}}), 'looked up {"hits":3,"of":["嗯"]}'),
        (({"hits": 3},), '{"hits":3}'),
        (({"half a pair": "\ud800"},), r"{'half a pair': '\ud800'}"),
        (("a\nERROR forged\x1b[31m\u2028",), "a\\nERROR forged\\x1b[31m\\u2028"),
    ],
)
def test_a_line_in_the_log(told: tuple[Any, ...], line: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, log.name)
    on_loop(Answering()).log(*told)
    assert [record.getMessage() for record in caplog.records] == [f"req_1 f: {line}"]


@pytest.mark.parametrize("kept", [True, False])
def test_a_line_is_kept_with_the_conversation(kept: bool) -> None:
    call = call_of()
    call.notes = [] if kept else None
    function = FunctionCall(call, Answering(), None)
    for number in range(NOTES + 1):
        function.log("looked\nup", {"hits": number})
    assert call.notes == ([f'looked\nup {{"hits":{number}}}' for number in range(NOTES)] if kept else None)


# ---- on the loop -------------------------------------------------------------------------------------------------


@looped
async def test_an_answer_is_text_with_more_beside_it() -> None:
    chats = Answering()
    answer = await on_loop(chats).chat("other", MESSAGES, temperature=0)
    assert chats.asked == [("other", MESSAGES, {"temperature": 0})]
    assert (answer, answer.finish_reason, answer.model) == ("meow", "tool_calls", "other")
    assert answer.usage == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    assert answer.message == {
        "role": "assistant",
        "content": "meow",
        "reasoning_content": "hm",
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    assert answer.tool_calls == answer.message["tool_calls"]


@looped
async def test_pieces_are_text_with_more_beside_it() -> None:
    pieces = [piece async for piece in on_loop(Answering()).chat("other", MESSAGES, stream=True)]
    assert pieces == ["me", "", ""]
    assert [piece.delta for piece in pieces] == [{"content": "me"}, {"reasoning_content": "hm"}, {}]
    assert [piece.finish_reason for piece in pieces] == [None, "stop", None]
    assert [bool(piece.usage) for piece in pieces] == [False, False, True]


@looped
async def test_the_callers_own_parameters_can_be_passed_on() -> None:
    """What belongs to the call itself is left out, whoever gives it."""
    chats = Answering()
    await on_loop(chats).chat(
        "other",
        MESSAGES,
        **{name: value for name, value in BODY.items() if name not in ("model", "messages", "stream")},
    )
    assert chats.asked == [("other", MESSAGES, {"temperature": 0.5, "user": "u1", "custom": [7]})]


async def exhausted(pieces: AsyncGenerator[Any]) -> None:
    async for _ in pieces:
        pass


@looped
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_is_a_model_error(stream: bool) -> None:
    asked = on_loop(Answering(REFUSED)).chat("other", MESSAGES, stream=stream)
    with pytest.raises(ModelError, match="slowly") as caught:
        await (exhausted(asked) if stream else asked)
    error = caught.value
    assert (error.status, error.code, error.type) == (429, "upstream_rate_limited", "rate_limit_error")
    assert (error.message, error.retry_after) == ("slowly", 7.0)


@looped
async def test_leaving_a_stream_ends_it() -> None:
    chats = Answering()
    pieces = on_loop(chats).chat("other", MESSAGES, stream=True)
    async for _ in pieces:
        break
    await pieces.aclose()
    assert chats.left.is_set()


# ---- in a thread -------------------------------------------------------------------------------------------------


async def in_thread(chats: Answering, work: Any, gone: threading.Event | None = None) -> Any:
    call = FunctionCall(call_of(), chats, asyncio.get_running_loop(), gone)
    return await asyncio.to_thread(work, call)


@looped
async def test_a_thread_waits_for_the_answer() -> None:
    answer = await in_thread(Answering(), lambda call: call.chat("other", MESSAGES))
    assert (answer, len(answer.tool_calls)) == ("meow", 1)


@looped
async def test_a_thread_gets_the_pieces() -> None:
    pieces = await in_thread(Answering(), lambda call: list(call.chat("other", MESSAGES, stream=True)))
    assert pieces == ["me", "", ""]


@looped
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_is_a_model_error_in_a_thread(stream: bool) -> None:
    def work(call: FunctionCall) -> Any:
        with pytest.raises(ModelError, match="slowly"):
            list(call.chat("other", MESSAGES, stream=stream))

    await in_thread(Answering(REFUSED), work)


@looped
async def test_a_thread_that_leaves_a_stream_ends_it() -> None:
    def work(call: FunctionCall) -> None:
        for _ in call.chat("other", MESSAGES, stream=True):
            break
        assert chats.left.wait(20)

    chats = Answering()
    await in_thread(chats, work)


@looped
@pytest.mark.parametrize("stream", [False, True])
async def test_a_thread_that_nobody_waits_for_asks_nobody(stream: bool) -> None:
    def work(call: FunctionCall) -> None:
        assert call.cancelled
        with pytest.raises(asyncio.CancelledError):
            list(call.chat("other", MESSAGES, stream=stream))

    chats, gone = Answering(), threading.Event()
    gone.set()
    await in_thread(chats, work, gone)
    assert chats.asked == []

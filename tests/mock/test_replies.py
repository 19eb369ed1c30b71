"""What the scripted provider writes is read back by the readers of both dialects, streamed and whole alike."""

from __future__ import annotations

from typing import Any

import pytest

from polymux.mock import replies
from polymux.mock.replies import DIALECTS, Reply, ToolUse
from polymux.mock.scripts import Ask, render
from polymux.providers.base import Asked
from polymux.providers.dialects import DIALECTS as ADAPTERS
from polymux.schema.chat import ChatResponse
from polymux.surfaces.assemble import gather
from polymux.wire import sse

TOOL = ToolUse("call_1", "f", {"city": "東京", "days": 3})
CASES = {
    "text": Reply(),
    "reasoning": Reply(reasoning=("hm", "m")),
    "tools": Reply(text=(), tools=(TOOL, TOOL), finish="tool_calls"),
    "length": Reply(finish="length"),
}


def read(dialect: str, reply: Reply, stream: bool) -> ChatResponse:
    body: dict[str, Any] = {"stream": stream, "stream_options": {"include_usage": True}}
    frames = b"".join(render(reply, Ask(dialect, "m", body)).frames)
    if not stream:
        return ADAPTERS[dialect].read(frames, Asked("m", 1))
    reader = ADAPTERS[dialect].reader(Asked("m", 1))
    chunks = [chunk for event in sse.Decoder().feed(frames) for chunk in reader.feed(*event)]
    assert reader.done
    return gather([*chunks, *reader.close()])


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("case", CASES)
def test_a_reply_in_either_form(case: str, dialect: str, stream: bool) -> None:
    reply = CASES[case]
    response = read(dialect, reply, stream)
    (choice,) = response.choices
    assert choice.message.content == ("".join(reply.text) or None)
    assert (choice.message.reasoning_content or "") == "".join(reply.reasoning)
    assert choice.finish_reason == reply.finish
    calls = [call.function.arguments for call in choice.message.tool_calls or () if call.function]
    assert [replies.json.loads(arguments) for arguments in calls] == [tool.arguments for tool in reply.tools]
    assert response.usage
    assert (response.usage.prompt_tokens, response.usage.completion_tokens) == (11, 7)
    assert response.usage.prompt_tokens_details
    assert response.usage.prompt_tokens_details.cached_tokens == 3


def test_log_probabilities_and_several_choices() -> None:
    events = replies.openai_events(Reply(text=("a",), n=2, logprobs=True), "m", usage=False)
    assert b'"logprob":-0.25' in events[1]
    assert b'"index":1' in events[1]
    assert not any(b'"usage":{' in event for event in events)


def test_a_stop_sequence_is_told() -> None:
    assert b'"stop_sequence":"END"' in replies.anthropic_whole(Reply(stop_sequence="END"), "m")

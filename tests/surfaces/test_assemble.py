"""A whole answer as a stream and back."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

import golden_harness as harness
from polymux.schema.chat import (
    AnswerMessage,
    ChatResponse,
    Choice,
    Chunk,
    ChunkChoice,
    CustomCall,
    Delta,
    FunctionCall,
    FunctionCallDelta,
    TokenUsage,
    ToolCall,
    ToolCallDelta,
)
from polymux.surfaces.assemble import chunks_of, gather

STEADY = settings(derandomize=True, deadline=None)
TEXT = st.text(min_size=1, max_size=5)
OBJECTS = st.lists(st.dictionaries(TEXT, st.integers()), min_size=1, max_size=2)
AUDIO = st.fixed_dictionaries({"id": TEXT, "data": TEXT, "transcript": TEXT, "expires_at": st.integers()})
CALLS = st.lists(
    st.builds(lambda id_, name, said: ToolCall(id_, "custom", custom=CustomCall(name, said)), TEXT, TEXT, TEXT)
    | st.builds(
        lambda id_, name, arguments, extra: ToolCall(
            id_, "function", FunctionCall(name, arguments), extra_content=extra
        ),
        TEXT,
        TEXT,
        st.text(max_size=5),
        st.none() | st.just({"a": 1}),
    ),
    min_size=1,
    max_size=3,
)
MESSAGES = st.builds(
    AnswerMessage,
    content=st.none() | TEXT,
    refusal=st.none() | TEXT,
    reasoning_content=st.just(msgspec.UNSET) | TEXT,
    reasoning_details=st.just(msgspec.UNSET) | OBJECTS,
    tool_calls=st.just(msgspec.UNSET) | CALLS,
    annotations=st.just(msgspec.UNSET) | OBJECTS,
    function_call=st.just(msgspec.UNSET) | st.builds(FunctionCall, TEXT, TEXT),
    audio=st.just(msgspec.UNSET) | AUDIO,
)
LOGPROBS = st.none() | st.builds(lambda tokens: {"content": tokens, "refusal": None}, OBJECTS)
RESPONSES = st.builds(
    lambda parts, usage, tier: ChatResponse(
        "i", 1, "m", [Choice(n, *part) for n, part in enumerate(parts)], usage, tier
    ),
    st.lists(st.tuples(MESSAGES, st.sampled_from(["stop", "length"]), LOGPROBS), min_size=1, max_size=3),
    st.just(msgspec.UNSET) | st.builds(TokenUsage, *[st.integers(0, 9)] * 3),
    st.just(msgspec.UNSET) | st.just("default"),
)


@STEADY
@given(RESPONSES)
def test_what_is_taken_apart_comes_together_again(response: ChatResponse) -> None:
    assert gather(chunks_of(response)) == response


@STEADY
@given(RESPONSES)
def test_the_stream_of_a_whole_answer_keeps_the_order_of_all_streams(response: ChatResponse) -> None:
    chunks = [harness.plain(chunk) for chunk in chunks_of(response)]
    for chunk in chunks:
        chunk["created"] = harness.CREATED
    harness.check_chunks(harness.Outcome(chunks), "m")


def chunk(delta: Delta, **members: object) -> Chunk:
    return Chunk("i", 1, "m", [ChunkChoice(0, delta, **members)])


def test_fragments_are_put_together() -> None:
    chunks = [
        chunk(Delta(role="assistant", content="")),
        chunk(Delta(reasoning_content="r")),
        chunk(Delta(reasoning_content="s")),
        chunk(Delta(content="a")),
        chunk(Delta(content="b")),
        chunk(Delta(tool_calls=[ToolCallDelta(1, "d", "function", FunctionCallDelta("g", ""))])),
        chunk(Delta(tool_calls=[ToolCallDelta(0, "c", "function", FunctionCallDelta("f", "{"))])),
        chunk(Delta(tool_calls=[ToolCallDelta(0, function=FunctionCallDelta(arguments="}"))])),
        chunk(Delta(), finish_reason="tool_calls"),
        Chunk("i", 1, "m", [], usage=TokenUsage(1, 2, 3)),
    ]
    response = gather(chunks)
    (choice,) = response.choices
    assert (choice.message.content, choice.message.reasoning_content) == ("ab", "rs")
    assert choice.message.tool_calls == [
        ToolCall("c", "function", FunctionCall("f", "{}")),
        ToolCall("d", "function", FunctionCall("g", "")),
    ]
    assert (choice.finish_reason, response.usage) == ("tool_calls", TokenUsage(1, 2, 3))


def test_log_probabilities_are_put_together() -> None:
    parts = [chunk(Delta(content=t), logprobs={"content": [{"token": t}], "refusal": None}) for t in "ab"]
    assert gather([*parts, chunk(Delta(), logprobs=None)]).choices[0].logprobs == {
        "content": [{"token": "a"}, {"token": "b"}],
        "refusal": None,
    }


def test_a_finish_that_is_missing_is_stop_and_choices_are_in_order() -> None:
    response = gather([Chunk("i", 1, "m", [ChunkChoice(n, Delta(content=str(n)))]) for n in (1, 0)])
    assert [(c.index, c.message.content, c.finish_reason) for c in response.choices] == [
        (0, "0", "stop"),
        (1, "1", "stop"),
    ]
    assert response.usage is msgspec.UNSET


def test_calls_are_numbered_without_gaps() -> None:
    calls = [ToolCall("c", "custom", custom=CustomCall("f", "")), ToolCall("d", "function", FunctionCall("g", ""))]
    first = chunks_of(ChatResponse("i", 1, "m", [Choice(message=AnswerMessage(tool_calls=calls))]))[0]
    assert [call.index for call in first.choices[0].delta.tool_calls] == [0, 1]

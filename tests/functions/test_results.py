"""What a function may give, and the chunks that come of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from polymux.functions.call import Answer, Piece, Said
from polymux.functions.results import Results, WrongResult
from polymux.schema.chat import ChatResponse, Chunk
from polymux.surfaces.assemble import gather
from polymux.surfaces.chat import Chat
from polymux.types import Key

BODY = b'{"model":"f","messages":[{"role":"user","content":"Hi there"}]}'  # messages of 38 bytes
WEATHER = {"function": {"name": "weather", "arguments": '{"city":"Paris"}'}}


def results() -> Results:
    return Results(Chat().decode(BODY, "req_1f", Key("k", "ada")), 1000)


def told(*values: Any) -> tuple[ChatResponse, list[Chunk], str]:
    """The answer as a whole, its chunks, and the source of its usage."""
    giving = results()
    chunks = [chunk for value in values for chunk in giving.feed(value)] + giving.close()
    return gather(chunks), chunks, giving.source


def message(*values: Any) -> Any:
    found = msgspec.to_builtins(told(*values)[0].choices[0].message)
    return {name: value for name, value in found.items() if value is not None and name != "role"}


def finish(*values: Any) -> str:
    return told(*values)[0].choices[0].finish_reason


def said(kind: type[Said], text: str, members: Any, **beside: Any) -> Said:
    value = kind(text)
    value.members, value.model = members, "other"
    value.finish_reason, value.usage, value.logprobs = (
        beside.get(name) for name in ("finish_reason", "usage", "logprobs")
    )
    return value


# ---- forms -------------------------------------------------------------------------------------------------------

TOOL_CALL = {"id": "call_1f0", "type": "function", **WEATHER}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", {"content": "text"}),
        ({"content": "text"}, {"content": "text"}),
        ({"role": "assistant", "content": "text"}, {"content": "text"}),
        ({"reasoning_content": "hm", "content": "text"}, {"reasoning_content": "hm", "content": "text"}),
        ({"refusal": "no"}, {"refusal": "no"}),
        ({"tool_calls": [WEATHER]}, {"tool_calls": [TOOL_CALL]}),
        ({"role": "assistant", "content": None, "tool_calls": [WEATHER]}, {"tool_calls": [TOOL_CALL]}),
        ({"message": {"role": "assistant", "content": "text"}, "finish_reason": "stop"}, {"content": "text"}),
        ({"delta": {"content": "text"}}, {"content": "text"}),
        ({"object": "chat.completion", "choices": [{"index": 0, "message": {"content": "text"}}]}, {"content": "text"}),
        ({"id": "x", "model": "m", "created": 1, "choices": [{"delta": {"content": "text"}}]}, {"content": "text"}),
        ({"content": "text", "function_call": None, "parsed": None}, {"content": "text"}),
        ({}, {}),
        ({"choices": []}, {}),
    ],
)
def test_every_form_of_result(value: Any, expected: Any) -> None:
    assert message(value) == expected


def test_pieces_of_all_forms_make_one_message() -> None:
    assert message("a", {"content": "b"}, {"reasoning_content": "r"}, {"delta": {"content": "c"}}) == {
        "content": "abc",
        "reasoning_content": "r",
    }


def test_the_role_comes_first_and_once() -> None:
    for values in (("a", "b"), ({"role": "assistant"}, {"content": "a"}), ()):
        roles = [choice.delta.role for chunk in told(*values)[1] for choice in chunk.choices]
        assert roles == ["assistant", *[None] * (len(roles) - 1)]


def test_what_another_model_said_is_passed_on_whole() -> None:
    answer = said(Answer, "", {"tool_calls": [TOOL_CALL | {"id": "call_x"}], "reasoning_content": "hm"})
    answer.finish_reason, answer.usage = "tool_calls", {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    response, _, source = told(answer)
    assert message(answer) == {"tool_calls": [TOOL_CALL | {"id": "call_x"}], "reasoning_content": "hm"}
    assert (response.choices[0].finish_reason, source) == ("tool_calls", "upstream")
    assert response.usage
    assert response.usage.total_tokens == 12
    logprobs = {"content": [{"token": "a"}]}
    assert told(said(Piece, "a", {"content": "a"}, logprobs=logprobs))[0].choices[0].logprobs == logprobs


def test_what_was_made_of_it_is_text() -> None:
    piece = said(Piece, "meow", {"content": "meow"}, finish_reason="length")
    assert message(piece.upper()) == {"content": "MEOW"}
    assert finish(piece.upper()) == "stop"


# ---- tool calls --------------------------------------------------------------------------------------------------


def calls(*values: Any) -> list[tuple[str, str, str]]:
    found = message(*values)["tool_calls"]
    return [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in found]


def call(name: str | None, arguments: Any, **members: Any) -> Any:
    inner = {"name": name, "arguments": arguments} if name else {"arguments": arguments}
    return {"tool_calls": [{"function": inner, **members}]}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([call("f", {"a": [1, "嗯"]})], [("call_1f0", "f", '{"a":[1,"嗯"]}')], id="arguments as a dict"),
        pytest.param([call("f", "1"), call("g", "2")], [("call_1f0", "f", "1"), ("call_1f1", "g", "2")], id="two"),
        pytest.param([call("f", "1"), call(None, "2")], [("call_1f0", "f", "12")], id="no index: the last one goes on"),
        pytest.param(
            [call("f", "1", index=0), call("g", "2", index=1), call(None, "3", index=0)],
            [("call_1f0", "f", "13"), ("call_1f1", "g", "2")],
            id="fragments by index",
        ),
        pytest.param([call("f", "1", index=7, id="x")], [("x", "f", "1")], id="indices begin at 0"),
        pytest.param(
            [call("f", "1", index=0, id="x"), call("g", "2", index=0, id="y"), call(None, "3", index=0)],
            [("x", "f", "1"), ("y", "g", "23")],
            id="the calls of two answers, one after the other",
        ),
        pytest.param(
            [call("f", "1", id="x"), call(None, "2", id="x")], [("x", "f", "12")], id="the id in every fragment"
        ),
        pytest.param(
            [call("f", "1", index=0), call("f", "2", index=0)], [("call_1f0", "f", "12")], id="the name in every one"
        ),
    ],
)
def test_tool_calls_get_what_they_lack(values: list[Any], expected: list[Any]) -> None:
    assert calls(*values) == expected
    fragments = [f for chunk in told(*values)[1] for c in chunk.choices for f in c.delta.tool_calls or ()]
    firsts = [fragment for fragment in fragments if fragment.id and fragment.type]
    assert {fragment.index for fragment in firsts} == set(range(len(expected)))
    assert finish(*values) == "tool_calls"


def test_a_custom_tool_call() -> None:
    (found,) = message({"tool_calls": [{"custom": {"name": "sql", "input": "select 1"}}]})["tool_calls"]
    assert found == {"id": "call_1f0", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}


# ---- finish and usage --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a"], "stop"),
        ([], "stop"),
        (["a", {"finish_reason": "length"}], "length"),
        ([{"finish_reason": "length"}, "a"], "length"),
        ([call("f", "{}"), {"finish_reason": "stop"}], "stop"),
        ([{"message": {"content": "a"}, "finish_reason": "content_filter"}], "content_filter"),
    ],
)
def test_the_finish_reason(values: list[Any], expected: str) -> None:
    assert finish(*values) == expected
    finishes = [c.finish_reason for chunk in told(*values)[1] for c in chunk.choices if c.finish_reason]
    assert finishes == [expected]


@pytest.mark.parametrize(
    ("values", "counts", "source"),
    [
        (["嗯" * 3], (10, 3), "estimated"),  # 38 and 9 bytes
        ([{"reasoning_content": "12345678", "refusal": "1234"}, call("name", "1234")], (10, 5), "estimated"),
        ([], (10, 0), "estimated"),
        (["x", {"usage": {"prompt_tokens": 7, "completion_tokens": 9}}], (7, 9), "upstream"),
        ([{"usage": {"completion_tokens": 9}}, "x"], (10, 9), "upstream"),
        ([{"usage": {"completion_tokens": 1}}, {"usage": {"completion_tokens": 2}}], (10, 2), "upstream"),
        ([{"usage": None}], (10, 0), "estimated"),
        ([{"message": {"content": "x"}, "usage": {"prompt_tokens": 1, "completion_tokens": 2}}], (1, 2), "upstream"),
    ],
)
def test_usage(values: list[Any], counts: tuple[int, int], source: str) -> None:
    response, chunks, found = told(*values)
    usage = response.usage
    assert usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (*counts, sum(counts))
    assert found == source
    assert [chunk.choices for chunk in chunks if chunk.usage] == [[]]
    assert chunks[-1].usage


def test_the_details_of_usage_are_kept() -> None:
    given = {
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "total_tokens": 11,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    assert msgspec.to_builtins(told({"usage": given})[0].usage) == given


# ---- what is wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "gave a result of type NoneType; it is to give text or a dict"),
        (7, "type int"),
        (b"x", "type bytes"),
        (["a"], "type list"),
        ((x for x in "a"), "type generator"),
        ({"text": "x"}, "gave a dict with 'text'; known are annotations"),
        ({"role": "user", "content": "x"}, "role is not 'assistant'"),
        ({"content": 7}, r"a wrong type in it: .*at `\$.content`"),
        ({"content": [{"type": "text"}]}, r"at `\$.content`"),
        ({"message": "x"}, "gave 'message' of type str where a dict belongs"),
        ({"choices": {}}, "gave a value of type dict where a list of dicts belongs"),
        ({"choices": [{}, {}]}, "several choices"),
        ({"finish_reason": 7}, "'finish_reason' of type int"),
        ({"usage": 7}, "gave 'usage' of type int"),
        ({"usage": {"prompt_tokens": "7"}}, r"at `\$.prompt_tokens`"),
        ({"usage": {"prompt_tokens": 10**400}}, "a number of tokens that cannot be"),
        ({"usage": {"prompt_tokens_details": {"cached_tokens": -1}}}, "a number of tokens that cannot be"),
        ({"tool_calls": {}}, "gave a value of type dict where a list"),
        ({"tool_calls": ["f"]}, "gave 'tool_calls' of type str"),
        ({"tool_calls": [{"function": "f"}]}, "gave 'function' of type str"),
        ({"tool_calls": [{"function": {"arguments": "{}"}}]}, "a tool call without the name of a function"),
        ({"tool_calls": [{"function": {"name": 7}}]}, r"at `\$.tool_calls\[0\].function.name`"),
        ({"tool_calls": [{"function": {"name": "f", "arguments": {"x": object()}}}]}, "that are no JSON"),
        ({"content": "x", "logprobs": 7}, "gave 'logprobs' of type int"),
        ("\ud800", "half a surrogate pair"),
        ({"content": "\ud800"}, "half a surrogate pair"),
    ],
)
def test_a_wrong_result_is_told_in_words(value: Any, words: str) -> None:
    with pytest.raises(WrongResult, match=words):
        results().feed(value)

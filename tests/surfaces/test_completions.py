"""Completions that become a chat, and what comes back: whole, streamed, and the same."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymux.errors import Failure, Truncated
from polymux.mock import replies
from polymux.mock.replies import Reply
from polymux.providers.anthropic import Anthropic
from polymux.providers.base import Asked
from polymux.providers.fates import COMPLETIONS, Fate
from polymux.providers.openai import OpenAI
from polymux.schema.chat import Chunk, ChunkChoice, Delta
from polymux.schema.completions import CompletionRequest
from polymux.surfaces.completions import FATES, LENGTH, Completions
from polymux.surfaces.stream import Translated, Writer
from polymux.types import Call, Deployment, Key, Quirks, Usage, WireRequest

SURFACE = Completions()
TO = Deployment("p/m", "p", "m-1", "openai", "https://llm.example/v1")
ASKED = Asked("public", 7, TO)
CLAUDE = Asked("public", 7, Deployment("c/m", "c", "claude-sonnet-4-5", "anthropic", "https://c.example/v1"))
Json = Any


def call(**members: Any) -> Call:
    body = {"model": "public", "prompt": "Once", **members}
    return SURFACE.decode(json.dumps(body).encode(), "1", Key("k", "k"))


def wire(asked: Call, to: Asked = ASKED) -> WireRequest:
    adapter = Anthropic() if to is CLAUDE else OpenAI()
    with pytest.raises(StopIteration) as stop:
        next(SURFACE.flow(asked, adapter, to))
    return stop.value.value


def sent(asked: Call) -> Json:
    return json.loads(wire(asked).body)


# ---- requests ----------------------------------------------------------------------------------------------------


def test_a_prompt_becomes_a_chat_of_one_message() -> None:
    asked = {"model": "m-1", "messages": [{"role": "user", "content": "Once"}], "max_tokens": LENGTH}
    assert sent(call()) == sent(call(prompt=["Once"])) == asked
    assert wire(call()).url == "https://llm.example/v1/chat/completions"
    assert sent(call(prompt=None))["messages"] == [{"role": "user", "content": ""}]


# An example of each parameter that asks for something, and what is sent then (`FATES`).
EXAMPLES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "model": ({"model": "other"}, {"model": "other"}),
    "prompt": ({"prompt": "Twice"}, {"messages": [{"role": "user", "content": "Twice"}]}),
    "prompt=several": ({"prompt": ["a", "b"]}, {}),
    "prompt=tokens": ({"prompt": [1, 2]}, {}),
    "best_of": ({"best_of": 3}, {}),
    "echo": ({"echo": True}, {}),
    "frequency_penalty": ({"frequency_penalty": 1.5}, {"frequency_penalty": 1.5}),
    "logit_bias": ({"logit_bias": {"5": 1}}, {"logit_bias": {"5": 1}}),
    "logprobs": ({"logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
    "max_tokens": ({"max_tokens": 3}, {"max_tokens": 3}),
    "n": ({"n": 2}, {"n": 2}),
    "presence_penalty": ({"presence_penalty": -1}, {"presence_penalty": -1}),
    "seed": ({"seed": 5}, {"seed": 5}),
    "stop": ({"stop": ["x"]}, {"stop": ["x"]}),
    "stream": ({"stream": True}, {"stream": True}),
    "stream_options": ({"stream_options": {}}, {"stream_options": {}}),
    "stream_options.include_usage": (
        {"stream_options": {"include_usage": True}},
        {"stream_options": {"include_usage": True}},
    ),
    "stream_options.include_obfuscation": (
        {"stream_options": {"include_obfuscation": False}},
        {"stream_options": {"include_obfuscation": False}},
    ),
    "suffix": ({"suffix": "end"}, {}),
    "temperature": ({"temperature": 0.5}, {"temperature": 0.5}),
    "top_p": ({"top_p": 0.5}, {"top_p": 0.5}),
    "user": ({"user": "u"}, {"user": "u"}),
}


def test_every_parameter_has_a_fate_and_an_example() -> None:
    named = {name.partition("=")[0].partition(".")[0] for name in COMPLETIONS}
    assert named == set(CompletionRequest.__struct_fields__)
    assert list(FATES) == list(COMPLETIONS) == list(EXAMPLES)


@pytest.mark.parametrize("name", COMPLETIONS)
def test_a_parameter_meets_its_fate(name: str) -> None:
    members, wanted = EXAMPLES[name]
    asked, fate = call(**members), FATES[name]
    if fate.what == "refused":
        with pytest.raises(Failure) as found:
            SURFACE.request(asked)
        assert found.value.kind in ("unsupported_parameter", "unsupported_content")
        assert found.value.param == name.partition("=")[0]
        return
    assert msgspec.to_builtins(SURFACE.request(asked)) == msgspec.to_builtins(SURFACE.request(call())) | wanted
    assert SURFACE.unknown(asked) == ((name,) if fate.what == "dropped" else ())
    assert (fate == Fate("forwarded")) is (wanted != {} and set(wanted) <= {name.partition(".")[0]})


def test_values_that_ask_for_nothing() -> None:
    plain = call(best_of=1, echo=False, logprobs=None, suffix=None, n=None)
    assert SURFACE.unknown(plain) == ()
    assert sent(plain) == sent(call())
    assert SURFACE.unknown(call(best_of=2, n=2)) == ()
    assert SURFACE.unknown(call(best_of=2, n=1, novelty=5)) == ("novelty", "best_of")


def test_what_the_dialect_drops_is_named_as_the_client_knows_it() -> None:
    assert wire(call(seed=2, presence_penalty=1), CLAUDE).dropped == ("presence_penalty", "seed")
    limited = Asked("public", 7, msgspec.structs.replace(TO, quirks=Quirks(drop=("logprobs", "top_logprobs"))))
    assert wire(call(logprobs=2), limited).dropped == ("logprobs",)
    with pytest.raises(Failure) as found:
        wire(call(logprobs=2), CLAUDE)
    assert found.value.param == "logprobs"
    roles = Asked("public", 7, msgspec.structs.replace(TO, quirks=Quirks(drop=("messages",))))
    assert wire(call(), roles).dropped == ("prompt",)


@pytest.mark.parametrize(
    ("members", "kind", "param"),
    [
        ({"prompt": 5}, "invalid_type", "prompt"),
        ({"prompt": []}, "unsupported_content", "prompt"),
        ({"logprobs": True}, "invalid_type", "logprobs"),
        ({"max_tokens": "9"}, "invalid_type", "max_tokens"),
        ({"stop": 9}, "invalid_type", "stop"),
    ],
)
def test_a_request_that_is_translated_is_typed(members: dict[str, Any], kind: str, param: str) -> None:
    with pytest.raises(Failure) as found:
        SURFACE.request(call(**members))
    assert (found.value.kind, found.value.param) == (kind, param)


def test_what_counts() -> None:
    asked = call(suffix="x", max_tokens=7)
    assert [bytes(part) for part in SURFACE.prompt(asked)] == [b'"Once"', b'"x"']
    assert [SURFACE.longest(call(max_tokens=most)) for most in (7, 0, -1, None)] == [7, 0, 0, LENGTH]
    assert SURFACE.said(b'{"choices":[{"text":"a\\n"},{"text":null},{"text":"\xc3\xa4"}]}') == 5
    assert SURFACE.said(b"[DONE]") == SURFACE.said(b"{}") == 0


# ---- answers -----------------------------------------------------------------------------------------------------


def whole(asked: Call, reply: Reply) -> tuple[Json, Usage]:
    out, usage = SURFACE.read(asked, OpenAI(), replies.openai_whole(reply, "m-1"), ASKED, None)
    return json.loads(out), usage


def streamed(asked: Call, frames: bytes, size: int = 1 << 20) -> tuple[list[Json], Usage]:
    """The events of a chat's stream in pieces of a size."""
    lane = Translated(OpenAI().reader(ASKED), Writer(SURFACE, asked))
    out = b"".join([lane.feed(frames[start : start + size]) for start in range(0, len(frames), size)]) + lane.close()
    events = [line.removeprefix("data: ") for line in out.decode().split("\n\n")[:-1]]
    assert events[-1] == "[DONE]"
    return [json.loads(event) for event in events[:-1]], lane.usage


REPLIES = {
    "text": Reply(),
    "length": Reply(finish="length"),
    "reasoning": Reply(reasoning=("I think ", "so")),
    "two": Reply(n=2),
    "silent": Reply(text=()),
}


@pytest.mark.parametrize("echo", [False, True])
@pytest.mark.parametrize("name", REPLIES)
def test_a_stream_says_what_the_whole_answer_says_however_it_is_cut(name: str, echo: bool) -> None:
    reply = REPLIES[name]
    asked = call(echo=echo, stream=True, stream_options={"include_usage": True})
    told, usage = whole(asked, reply)
    frames = b"".join(replies.openai_events(reply, "m-1", True))
    for size in (*range(1, 9), 50, 1 << 20):
        events, used = streamed(asked, frames, size)
        assert used == usage
        assert {event["object"] for event in events} == {"text_completion"}
        assert len({(event["id"], event["model"], event["created"]) for event in events}) == 1
        texts = dict.fromkeys(range(reply.n), "")
        finishes: dict[int, list[str]] = {}
        for choice in (choice for event in events for choice in event["choices"]):
            assert choice["index"] not in finishes, "said after its end"
            texts[choice["index"]] += choice["text"]
            if choice["finish_reason"]:
                finishes.setdefault(choice["index"], []).append(choice["finish_reason"])
        assert texts == {choice["index"]: choice["text"] for choice in told["choices"]}
        assert finishes == {choice["index"]: [choice["finish_reason"]] for choice in told["choices"]}
        assert events[-1]["choices"] == []
        assert events[-1]["usage"]["total_tokens"] == usage.input + usage.output
        assert not any("usage" in event for event in events[:-1])
    assert all(text.startswith("Once") is echo for text in texts.values())


@given(st.data())
def test_a_stream_that_is_cut_short_is_no_success(data: st.DataObject) -> None:
    frames = replies.openai_events(Reply(), "m-1", True)
    last = next(number for number, frame in enumerate(frames) if b'"finish_reason":"stop"' in frame)
    cut = b"".join(frames[: data.draw(st.integers(0, last))])
    with pytest.raises(Truncated):
        streamed(call(stream=True), cut)


def test_an_answer_has_the_form_of_completions() -> None:
    told, usage = whole(call(echo=True), Reply())
    choice = {"text": "OnceHello, 世界!", "index": 0, "logprobs": None, "finish_reason": "stop"}
    assert told["choices"] == [choice]
    assert (told["object"], told["model"], told["usage"]["total_tokens"]) == ("text_completion", "public", 18)
    assert (usage.input, usage.output, usage.source) == (11, 7, "upstream")


def test_usage_is_for_those_who_asked() -> None:
    events, usage = streamed(call(stream=True), b"".join(replies.openai_events(Reply(), "m-1", True)))
    assert usage.input == 11
    assert all(event["choices"] and "usage" not in event for event in events)


def test_logprobs_are_those_of_completions() -> None:
    asked = call(logprobs=1, stream=True)
    told, _ = whole(asked, Reply(text=("ab",), logprobs=True))
    wanted = {"tokens": ["ab"], "token_logprobs": [-0.25], "top_logprobs": [{"ab": -0.25}], "text_offset": None}
    assert told["choices"][0]["logprobs"] == wanted
    events, _ = streamed(asked, b"".join(replies.openai_events(Reply(text=("ab",), logprobs=True), "m-1", False)))
    assert [event["choices"][0]["logprobs"] for event in events if event["choices"][0]["text"]] == [wanted]


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(
    st.sampled_from(["content", "token", "logprob", "top_logprobs"]), inner
)))  # fmt: skip
def test_no_logprobs_break_it(value: Json) -> None:
    choice = ChunkChoice(delta=Delta(content="a"), logprobs=value if isinstance(value, dict) else None)
    out = SURFACE.events(call(), [Chunk("i", 1, "m", [choice])])
    assert json.loads(out.removeprefix(b"data: "))["choices"][0]["text"] == "a"


@pytest.mark.parametrize(("reason", "told"), [("tool_calls", "stop"), ("length", "length"), ("content_filter",) * 2])
def test_finishes_that_completions_do_not_know(reason: str, told: str) -> None:
    assert whole(call(), Reply(finish=reason))[0]["choices"][0]["finish_reason"] == told


def test_a_refusal_is_text() -> None:
    chunk = Chunk("i", 1, "m", [ChunkChoice(delta=Delta(role="assistant", refusal="No."))])
    assert json.loads(SURFACE.events(call(), [chunk]).removeprefix(b"data: "))["choices"][0]["text"] == "No."


def test_hooks_alter_it() -> None:
    def louder(chunk: Chunk) -> Chunk | None:
        for choice in chunk.choices:
            if isinstance(choice.delta.content, str):
                choice.delta.content = choice.delta.content.upper()
        return chunk

    body = replies.openai_whole(Reply(text=("abc",)), "m-1")
    out, _ = SURFACE.read(call(), OpenAI(), body, ASKED, louder)
    assert json.loads(out)["choices"][0]["text"] == "ABC"
    lane = Writer(SURFACE, call(), louder)
    text = lane.feed([Chunk("i", 1, "m", [ChunkChoice(delta=Delta(content="abc"))])])
    assert b'"text":"ABC"' in text
    assert lane.content
    assert msgspec.json.decode(text.removeprefix(b"data: "))["object"] == "text_completion"

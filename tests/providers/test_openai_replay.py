"""Reasoning of earlier turns for OpenAI-shaped providers, on the relay lane: what is noted, asked for, and put back.

On the translated lane: the golden cases replay-*.txt. Through a gateway: tests/e2e/test_reasoning.py.
"""

from __future__ import annotations

import json
import tomllib
from importlib import resources
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymux.errors import Failure, Truncated
from polymux.providers.base import Asked, Recall
from polymux.providers.openai import OpenAI
from polymux.providers.openai_replay import FORMS, Notes
from polymux.providers.replay import RECENT
from polymux.providers.replay import SIGNED as SIGNED_MEMBERS
from polymux.providers.table import rows
from polymux.surfaces.chat import Chat
from polymux.types import Call, Deployment, Key, Quirks, WireRequest

USER = {"role": "user", "content": "Hi"}
CALL = {"id": "call_h7Tq2LmN", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TURN = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_h7Tq2LmN", "content": "22"}
NAME = "openai:llm.example/v1:call_h7Tq2LmN"


def asked(replay: str = "reasoning_content", **quirks: Any) -> Asked:
    to = Deployment("p/m", "p", "m", "openai", "https://llm.example/v1", quirks=Quirks(replay=replay, **quirks))
    return Asked("public", 1, to)


def call_of(*messages: Any, **members: Any) -> Call:
    body = {"model": "public", "messages": [*messages], **members}
    return Chat().decode(json.dumps(body).encode(), "1", Key("k", "k"))


def replay(call: Call, now: Asked, known: dict[str, bytes]) -> tuple[list[str], WireRequest]:
    """The names that are asked for, and the request that is sent."""
    flow, names, sent = OpenAI().replay(call, now), [], None
    while True:
        try:
            wanted = flow.send(sent)
        except StopIteration as stop:
            return names, stop.value
        assert isinstance(wanted, Recall)
        names += wanted.names
        sent = {name: known[name] for name in wanted.names if name in known}


def messages_of(request: WireRequest) -> list[Any]:
    found: list[Any] = json.loads(request.body)["messages"]
    return found


# ---- requests ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_asked_for_without_an_earlier_turn(form: str) -> None:
    call = call_of({"role": "system", "content": "x"}, USER, tools=[{"type": "function"}])
    names, request = replay(call, asked(form), {})
    assert names == []
    assert request == OpenAI().relay(call, asked(form).to)


def test_the_last_answers_are_looked_for_however_many_a_client_claims() -> None:
    turns = [TURN | {"tool_calls": [CALL | {"id": f"call_h7Tq{n:04}"}]} for n in range(RECENT + 9)]
    names, request = replay(call_of(USER, *turns), asked("reasoning_content, always"), {})
    assert names == [f"openai:llm.example/v1:call_h7Tq{n:04}" for n in range(9, RECENT + 9)]
    assert {turn["reasoning_content"] for turn in messages_of(request)[1:]} == {" "}


def test_unknown_members_and_the_rest_pass_as_they_came() -> None:
    """Numbers, vendors' own members, the order: it is the client's text but for what is put in."""
    text = (
        '{"model":"public","messages":[{"role":"user","content":"Hi","x":1.0},{"role":"assistant","content":null,'
        '"tool_calls":[{"id":"call_h7Tq2LmN","type":"function","function":{"name":"f","arguments":"{}"},"y":1e2}]},'
        '{"role":"tool","tool_call_id":"call_h7Tq2LmN","content":"\\u00e9"},{"role":"assistant","content":"A",'
        '"partial":true}],"do_sample":false}'
    )
    call = Chat().decode(text.encode(), "1", Key("k", "k"))
    _, request = replay(call, asked(), {NAME: b"hm"})
    wanted = text.replace('"y":1e2}]}', '"y":1e2}],"reasoning_content":"hm"}').replace('"public"', '"m"')
    assert request.body.decode() == wanted


def test_what_the_client_sends_is_left_alone() -> None:
    call = call_of(USER, {**TURN, "reasoning_content": "own"}, RESULT)
    names, request = replay(call, asked(), {NAME: b"hm"})
    assert (names, messages_of(request)[1]["reasoning_content"]) == ([], "own")


@pytest.mark.parametrize(
    ("form", "turn", "put"),
    [
        ("reasoning_content", {}, {}),
        ("reasoning_content", {"reasoning": "own"}, {"reasoning_content": "own"}),
        ("reasoning_content", {"reasoning_content": ""}, {"reasoning_content": ""}),
        ("reasoning_content, always", {}, {"reasoning_content": " "}),
        ("reasoning_content, always", {"reasoning_content": ""}, {"reasoning_content": " "}),
        ("reasoning_content, always", {"reasoning": {"no": "text"}}, {"reasoning_content": " "}),
        ("reasoning_details", {}, {}),
        ("reasoning_details", {"reasoning_details": [{"type": "thinking", "signature": "s"}]}, {}),
        ("reasoning_details", {"reasoning_details": "no list"}, {}),
        ("tags", {}, {}),
        ("tags", {"content": "Yes", "reasoning_content": "own"}, {"content": "<think>\nown\n</think>\n\nYes"}),
    ],
)
def test_a_turn_of_which_nothing_is_known(form: str, turn: dict[str, Any], put: dict[str, Any]) -> None:
    _, request = replay(call_of(USER, {**TURN, **turn}, RESULT), asked(form), {})
    assert messages_of(request)[1] == {**TURN, **put}


def test_each_turn_that_called_is_asked_for_once_by_its_first_call() -> None:
    turns = [{**TURN, "tool_calls": [{**CALL, "id": f"call_number00{n}"}, CALL]} for n in range(3)]
    names, request = replay(
        call_of(USER, *turns), asked(), {f"openai:llm.example/v1:call_number00{n}": b"%d" % n for n in (0, 2)}
    )
    assert [name.rpartition(":")[2] for name in names] == ["call_number000", "call_number001", "call_number002"]
    assert [turn.get("reasoning_content") for turn in messages_of(request)[1:]] == ["0", None, "2"]


@pytest.mark.parametrize("form", FORMS)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "role",
                        "content",
                        "tool_calls",
                        "id",
                        "reasoning_content",
                        "reasoning",
                        "reasoning_details",
                        "type",
                    ]
                ),
                inner | st.just("assistant"),
                max_size=5,
            )
        ),
        max_leaves=12,
    )
)
def test_no_messages_break_it(form: str, messages: Any) -> None:
    """What is no conversation goes on as it is: the provider says what is wrong with it."""
    call = Chat().decode(json.dumps({"model": "public", "messages": messages}).encode(), "1", Key("k", "k"))
    names, request = replay(call, asked(form, takes=SIGNED_MEMBERS), {})
    assert names or messages_of(request) == messages


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", ["1e999", "-1e999", "-0", '{"a":1,"a":2}'])
@pytest.mark.parametrize("member", ["content", "reasoning", "reasoning_content", "reasoning_details", "tool_calls"])
def test_what_cannot_be_decoded_goes_on_raw(form: str, member: str, value: str) -> None:
    turn = f'{{"role":"assistant","tool_calls":[{{"id":"a"}}],"x":1,"{member}":{value}}}'
    text = f'{{"model":"public","messages":[{turn}]}}'
    if member == "tool_calls":
        text = text.replace('"tool_calls":[{"id":"a"}],', "")
    call = Chat().decode(text.encode(), "1", Key("k", "k"))
    names, request = replay(call, asked(form, takes=SIGNED_MEMBERS), {})
    assert names or request.body.decode() == text.replace('"public"', '"m"')


# ---- answers -----------------------------------------------------------------------------------------------------


def event(**delta: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n"


END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}\n\ndata: [DONE]\n\n'
CALLED = event(tool_calls=[{"index": 0, **CALL}])


def noted(stream: bytes, now: Asked, cuts: int = 0) -> bytes:
    """What the client gets of a stream that is read in pieces of so many bytes."""
    lane = OpenAI().noting(OpenAI().relay_reader(call_of(USER), now.to), now)
    size = cuts or len(stream)
    out = b"".join(lane.feed(stream[start : start + size]) for start in range(0, len(stream), size))
    assert now.remembered == {}, "before the answer is complete"
    return out + lane.close()


@pytest.mark.parametrize("cuts", [0, 1, 7, 64])
@pytest.mark.parametrize("member", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("repair", [False, True])
def test_a_stream_passes_and_is_noted(member: str, repair: bool, cuts: int) -> None:
    stream = event(role="assistant", content="") + event(**{member: "h"}) + event(**{member: "m"}) + CALLED + END
    now = asked(repair=repair)
    out = noted(stream, now, cuts)
    assert repair or out == stream
    assert now.remembered == {NAME: b"hm"}


@pytest.mark.parametrize(
    "stream",
    [
        event(reasoning_content="hm") + event(content="No call.") + END,
        event(content="No reasoning.") + CALLED + END,
        event(reasoning_content=5) + event(tool_calls="x") + END,
        b": comment\n\ndata: no json\n\n" + END,
    ],
)
def test_what_led_to_no_call_is_not_kept(stream: bytes) -> None:
    now = asked()
    noted(stream, now)
    assert now.remembered == {}


@pytest.mark.parametrize("rest", [b"", b'data: {"error":{"message":"broken"}}\n\n'])
def test_what_breaks_off_is_not_kept(rest: bytes) -> None:
    now = asked()
    with pytest.raises((Failure, Truncated)):
        noted(event(reasoning_content="hm") + CALLED + rest, now)
    assert now.remembered == {}


def test_several_choices_are_kept_apart() -> None:
    now = asked()
    whole = {
        "choices": [
            {
                "index": n,
                "message": {"reasoning_content": f"hm {n}", "tool_calls": [{**CALL, "id": f"call_number{n}xx"}]},
            }
            for n in (0, 1)
        ]
    }
    OpenAI().note(json.dumps(whole).encode(), now)
    assert now.remembered == {f"openai:llm.example/v1:call_number{n}xx": b"hm %d" % n for n in (0, 1)}


@pytest.mark.parametrize("body", [b"", b"[]", b'{"choices":5}', b'{"choices":[{"message":null}]}', b"\xff"])
def test_no_answer_breaks_the_notes(body: bytes) -> None:
    now = asked()
    OpenAI().note(body, now)
    assert now.remembered == {}


SIGNED = {"type": "reasoning.text", "text": "think twice", "index": 0, "signature": "s", "format": "f"}
SECRET = {"type": "reasoning.encrypted", "data": "abc", "index": 1}


@pytest.mark.parametrize(
    "pieces",
    [
        [[SIGNED, SECRET]],
        [[{**SIGNED, "text": "think ", "signature": None}], [{**SIGNED, "text": "twice", "format": None}], [SECRET]],
        [[{**SIGNED, "text": "think ", "signature": None}], [SIGNED], [SECRET]],
        [[{**SIGNED, "text": None}], [{**SIGNED}], [{**SECRET, "data": "a"}], [{**SECRET, "data": "bc"}], [7, None]],
    ],
    ids=["whole", "pieces", "all so far each time", "odd"],
)
def test_details_are_put_together(pieces: list[list[Any]]) -> None:
    now = asked("reasoning_details")
    noted(b"".join(event(reasoning_details=piece) for piece in pieces) + CALLED + END, now)
    ((name, value),) = now.remembered.items()
    assert name == "openai:llm.example/v1:m:call_h7Tq2LmN"
    assert json.loads(value) == [SIGNED, SECRET]


@pytest.mark.parametrize("called", [False, True])
def test_what_is_within_tags_comes_back_within_tags(called: bool) -> None:
    """In turns without calls too; those are known by what was said before them and in them."""
    stream = event(content="<think>\nhm") + event(content=" hm\n</think>\n\nYes.") + (CALLED if called else b"") + END
    now = asked("tags", repair=True, tags=True)
    replay(call_of(USER), now, {})
    assert b"<think>" not in noted(stream, now)
    turn = {**TURN, "content": "Yes."} if called else {"role": "assistant", "content": "Yes."}
    names, request = replay(call_of(USER, turn, USER), asked("tags"), now.remembered)
    assert names == list(now.remembered)
    assert messages_of(request)[1]["content"] == "<think>\nhm hm\n</think>\n\nYes."
    changed = {**turn, "content": "No."}
    assert called or replay(call_of(USER, changed, USER), asked("tags"), {})[0] != names


def test_the_translated_lane_takes_the_same_notes() -> None:
    now = asked()
    reader = OpenAI().reader(now)
    stream = event(reasoning_content="hm") + CALLED + END
    for data in stream.split(b"\n\n")[:-1]:
        reader.feed("", data.removeprefix(b"data: "))
    reader.close()
    assert now.remembered == {NAME: b"hm"}


# ---- rows --------------------------------------------------------------------------------------------------------


def test_rows_want_what_there_is_a_form_for() -> None:
    text = resources.files("polymux.providers").joinpath("providers.toml").read_text("utf-8")
    table = rows(text, {str(row["dialect"]) for row in tomllib.loads(text).values()})
    wanted = {name: row.quirks.replay for name, row in table.items() if row.quirks.replay}
    assert set(wanted.values()) <= set(FORMS)
    assert {"deepseek", "moonshot", "zai", "minimax", "openrouter"} <= set(wanted)
    mending = [name for name in wanted if wanted[name] == "tags" and not table[name].quirks.repair]
    assert mending == [], "tags are told apart where answers are mended"


def test_notes_are_taken_of_what_is_understood() -> None:
    now = asked()
    notes = Notes(now)
    for body in (
        b"{",
        msgspec.json.encode({"choices": [{"delta": {"reasoning_content": "hm", "tool_calls": [CALL]}}]}),
    ):
        notes.event(body)
    notes.keep()
    assert now.remembered == {NAME: b"hm"}

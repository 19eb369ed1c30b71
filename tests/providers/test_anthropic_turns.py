"""Conversations that golden files do not show."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from polymux.errors import Failure
from polymux.providers.anthropic_turns import conversation
from polymux.schema.chat import Message


def turns(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    """The turns as JSON."""
    return msgspec.json.decode(msgspec.json.encode(conversation(msgspec.convert(messages, list[Message]), set())[1]))


def say(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def call(id_: str, arguments: str = "{}", name: str = "f") -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def calls(*ids: str) -> dict[str, Any]:
    return say("assistant", None, tool_calls=[call(id_) for id_ in ids])


def result(id_: str, content: Any = "r") -> dict[str, Any]:
    return say("tool", content, tool_call_id=id_)


HI = say("user", "hi")


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [say("system", "s")],
        [say("user", "")],
        [say("user", None)],
        [say("user", [{"type": "text", "text": " \n"}])],
        [say("assistant", "a")],
        [say("assistant", None), say("user", "")],
    ],
)
def test_a_conversation_opens_with_the_user(messages: list[dict[str, Any]]) -> None:
    assert turns(*messages)[0] == {"role": "user", "content": [{"type": "text", "text": "."}]}


def test_roles_take_turns() -> None:
    """Whatever the client sends, no role follows itself and no turn is empty."""
    messages = [
        HI,
        say("system", "s"),
        say("assistant", ""),
        HI,
        say("assistant", "a"),
        say("assistant", "b"),
        calls("1"),
    ]
    made = turns(*messages, result("1"), HI, say("developer", "d"), say("assistant", "end"))
    assert [turn["role"] for turn in made] == ["user", "assistant"] * 2
    assert all(turn["content"] for turn in made)


def test_results_are_ordered_by_call_within_each_turn() -> None:
    made = turns(HI, calls("b", "a"), HI, result("a"), result("b"), calls("d", "c"), result("c"), result("d"), HI)
    order = [[block.get("tool_use_id", block["type"]) for block in made[n]["content"]] for n in (2, 4)]
    assert order == [["b", "a", "text"], ["d", "c", "text"]]


def test_a_result_nobody_asked_for_stays_behind_the_others() -> None:
    """The provider judges it; it must not disturb the order of the rest."""
    made = turns(HI, calls("a"), result("x"), HI, result("a"))
    assert [block.get("tool_use_id") for block in made[2]["content"]] == ["a", "x", None]


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (["a-B_9"], ["a-B_9"]),
        (["call:1"], ["call_1"]),
        (["a.b", "a:b", "a_b"], ["a_b", "a_b_1", "a_b_2"]),
        (["", "call"], ["call", "call_1"]),
        (["调用"], ["__"]),
    ],
)
def test_ids_are_rewritten_alike_on_both_sides_and_stay_apart(given: list[str], sent: list[str]) -> None:
    made = turns(HI, calls(*given), *(result(id_) for id_ in reversed(given)))
    assert [block["id"] for block in made[1]["content"]] == sent
    assert [block["tool_use_id"] for block in made[2]["content"]] == sent


def test_many_ids_that_come_out_alike_do_not_grow() -> None:
    """Hostile ids: to tell them apart by length would take the cube of their number."""
    given = [chr(0x4E00 + n) for n in range(300)] + [f"__{n}" for n in range(300)]
    sent = [block["id"] for block in turns(HI, calls(*given))[1]["content"]]
    assert len(set(sent)) == len(given)
    assert max(map(len, sent)) <= len("__299_600")


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ("", {}),
        (" \n", {}),
        ("{}", {}),
        ('{"a": [1, {"b": null}]}', {"a": [1, {"b": None}]}),
        ('{"a": 1', {"_raw": '{"a": 1'}),
        ("[1]", {"_raw": "[1]"}),
        ("null", {}),
        ('"text"', {"_raw": '"text"'}),
        ("{} {}", {"_raw": "{} {}"}),
        ('{"a": NaN}', {"_raw": '{"a": NaN}'}),
    ],
)
def test_arguments_become_an_object(arguments: str, sent: dict[str, Any]) -> None:
    made = turns(HI, say("assistant", None, tool_calls=[call("1", arguments)]))
    assert made[1]["content"][0]["input"] == sent


def test_arguments_of_any_depth_do_no_harm() -> None:
    deep = '{"a":' + "[" * 100_000
    made = turns(HI, say("assistant", None, tool_calls=[call("1", deep)]))
    assert made[1]["content"][0]["input"] == {"_raw": deep}


def test_refusals_are_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]
    made = turns(HI, say("assistant", parts, refusal="c"))
    assert [block["text"] for block in made[1]["content"]] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        ("r", "r"),
        ([{"type": "text", "text": "r"}], [{"type": "text", "text": "r"}]),
        (
            [{"type": "image_url", "image_url": {"url": "https://e.org/i"}}],
            [{"type": "image", "source": {"type": "url", "url": "https://e.org/i"}}],
        ),
    ],
)
def test_results_may_hold_parts(content: Any, sent: Any) -> None:
    assert turns(HI, calls("1"), result("1", content))[2]["content"][0]["content"] == sent


@pytest.mark.parametrize("content", ["", None, [], [{"type": "text", "text": ""}]])
def test_empty_results_are_sent_without_content(content: Any) -> None:
    assert turns(HI, calls("1"), result("1", content))[2]["content"] == [{"type": "tool_result", "tool_use_id": "1"}]


def test_only_signed_or_encrypted_reasoning_comes_back() -> None:
    signed = {"type": "thinking", "thinking": "t", "signature": "s", "new": [1]}
    hidden = {"type": "redacted_thinking", "data": "d"}
    others = [{"type": "thinking", "thinking": "t"}, {"type": "reasoning.encrypted", "data": "x"}, {}]
    made = turns(HI, say("assistant", "a", reasoning_content="t", reasoning_details=[signed, *others, hidden]))
    assert made[1]["content"] == [signed, hidden, {"type": "text", "text": "a"}]


def test_legacy_calls_are_answered_one_by_one() -> None:
    asks = say("assistant", None, function_call={"name": "f", "arguments": ""})
    answer = say("function", "r", name="f")
    made = turns(HI, asks, answer, asks, answer)
    ids = [made[n]["content"][0]["id"] for n in (1, 3)]
    assert ids[0] != ids[1]
    assert [made[n]["content"][0]["tool_use_id"] for n in (2, 4)] == ids


def test_caching_is_marked_on_the_last_block() -> None:
    mark = {"type": "ephemeral"}
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    system, made = conversation(
        msgspec.convert(
            [say("system", parts, cache_control=mark), say("user", parts, cache_control=mark)], list[Message]
        ),
        set(),
    )
    assert [block.cache_control for block in system] == [None, mark]
    assert [block["cache_control"] for block in msgspec.to_builtins(made[0].content) if "cache_control" in block] == [
        mark
    ]


PDF = "data:application/pdf;base64,JVBERi0="


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url"},
        {"type": "image_url", "image_url": ""},
        {"type": "image_url", "image_url": {"url": "data:image/png,raw"}},
        {"type": "image_url", "image_url": {"url": "data:image/svg+xml;base64,AA=="}},
        {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
        {"type": "file"},
        {"type": "file", "file": {}},
        {"type": "file", "file": {"file_id": "file_011CNha8iCJcU1wXNR6q4V8w"}},
        {"type": "file", "file": {"file_data": "AAAA"}},
        {"type": "file", "file": {"file_data": "data:application/zip;base64,UEs="}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64,/w=="}},
        {"type": "file", "file": {"file_data": "data:text/plain;base64,???"}},
        {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        {"type": "tool_use"},
    ],
)
def test_content_without_a_form_is_named(part: dict[str, Any]) -> None:
    with pytest.raises(Failure) as caught:
        turns(HI, say("assistant", "a"), say("user", [{"type": "text", "text": "t"}, part]))
    assert (caught.value.kind, caught.value.param) == ("unsupported_content", "messages[2].content[1]")


@pytest.mark.parametrize(
    ("message", "kind", "param"),
    [
        (say("system", [{"type": "file", "file": {"file_data": PDF}}]), "unsupported_content", "messages[1]"),
        (say("function", "r", name="f"), "invalid_value", "messages[1]"),
        (say("assistant", None, tool_calls=[call("1"), {"id": "2"}]), "invalid_value", "messages[1].tool_calls[1]"),
    ],
)
def test_messages_without_a_form_are_named(message: dict[str, Any], kind: str, param: str) -> None:
    with pytest.raises(Failure) as caught:
        turns(HI, message)
    assert (caught.value.kind, caught.value.param) == (kind, param)


# ---- what is lost is named ---------------------------------------------------------------------------------------

THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "s"}


@pytest.mark.parametrize(
    ("message", "names"),
    [
        (say("user", "hi", name="n"), {"messages[].name"}),
        (say("developer", "hi", name="n"), {"messages[].name"}),
        (say("assistant", "a", reasoning_content="hm"), {"messages[].reasoning_content"}),
        (say("assistant", "a", reasoning="hm", reasoning_content=""), {"messages[].reasoning"}),
        (say("assistant", "a", reasoning_content="hm", reasoning_details=[THOUGHT]), set()),
        (say("assistant", "a", reasoning_details=[THOUGHT, {"type": "other"}]), {"messages[].reasoning_details"}),
        (say("assistant", "a", tool_calls=[call("c") | {"extra_content": {}}]), set()),
        (
            say("assistant", "a", tool_calls=[call("c") | {"extra_content": {"s": 1}}]),
            {"messages[].tool_calls[].extra_content"},
        ),
        (
            say("user", [{"type": "image_url", "image_url": {"url": "https://x", "detail": "high"}}]),
            {"messages[].content[].image_url.detail"},
        ),
        (say("user", [{"type": "image_url", "image_url": {"url": "https://x", "detail": "auto"}}]), set()),
        (say("user", [{"type": "image_url", "image_url": "https://x"}]), set()),
    ],
)
def test_what_a_message_loses_is_named(message: dict[str, Any], names: set[str]) -> None:
    lost: set[str] = set()
    conversation(msgspec.convert([HI, message], list[Message]), lost)
    assert lost == names


def test_the_name_on_a_result_only_repeats_the_calls() -> None:
    lost: set[str] = set()
    conversation(msgspec.convert([HI, calls("c"), result("c") | {"name": "f"}], list[Message]), lost)
    assert lost == set()


def test_what_was_said_in_audio_cannot_be_left_out() -> None:
    with pytest.raises(Failure) as caught:
        turns(HI, say("assistant", None, audio={"id": "a"}))
    assert (caught.value.kind, caught.value.param) == ("unsupported_content", "messages[1].audio")

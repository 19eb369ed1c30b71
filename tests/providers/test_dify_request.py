"""Whose conversation it is, and what an app is told; the wire's side of it is in tests/golden/dify."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymux.errors import Failure
from polymux.providers.base import Asked
from polymux.providers.dify_request import Turn, turn_of
from polymux.schema.chat import ChatRequest
from polymux.schema.dify import File
from polymux.types import App, Deployment

Json = Any

HI = {"role": "user", "content": "Hi"}
HELLO = {"role": "assistant", "content": "Hello!"}
ON = {"role": "user", "content": "Go on"}
PNG = "data:image/png;base64,iVBORw0KGgo="
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def turn(
    *messages: Json,
    provider: str = "desk",
    caller: str = "key-1",
    kind: str = "chat",
    app: App | None = None,
    **more: Json,
) -> Turn:
    request = msgspec.convert({"model": "m", "messages": list(messages), **more}, ChatRequest)
    return turn_of(request, Asked("m", 1, Deployment("i", provider, kind, "dify", app=app or App()), caller))


def image(url: str) -> Json:
    return {"role": "user", "content": [{"type": "text", "text": "See"}, {"type": "image_url", "image_url": url}]}


# ---- whose conversation ------------------------------------------------------------------------------------------


def test_the_next_turn_finds_what_the_last_one_left() -> None:
    first = turn(HI)
    assert not first.before.long
    second = turn(HI, HELLO, ON)
    assert second.before.long
    assert second.before.name() == first.so_far.then("Hello!").name()
    third = turn(HI, HELLO, ON, {"role": "assistant", "content": "Yes."}, HI)
    assert third.before.name() == second.so_far.then("Yes.").name()


@pytest.mark.parametrize(
    "same",
    [
        [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, HELLO],
        [{"role": "user", "content": "Hi\n"}, {"role": "assistant", "content": " Hello! "}],
        [HI, {"role": "assistant", "content": "<think>\nA greeting.\n</think>\n\nHello!"}],
        [HI, {**HELLO, "reasoning_content": "hm", "annotations": [], "refusal": None}],
        [HI, {"role": "assistant", "content": [{"type": "text", "text": "Hello!"}]}],
    ],
)
def test_the_form_of_a_message_does_not_matter(same: Json) -> None:
    assert turn(*same, ON).before.name() == turn(HI, HELLO, ON).before.name()


@pytest.mark.parametrize(
    "other",
    [
        turn(HI, {**HELLO, "content": "Hello?"}, ON),
        turn({**HI, "content": "Hi there"}, HELLO, ON),
        turn({"role": "system", "content": "Be brief."}, HI, HELLO, ON),
        turn(HI, HELLO, ON, HELLO, ON),
        turn({**HI, "content": "HiHello!"}, {**HELLO, "content": ""}, ON),
        turn({**HI, "role": "system"}, HELLO, ON),
        turn({**HI, "content": "<think></think>Hi"}, HELLO, ON),
        turn(image(PNG), HELLO, ON),
        turn(HI, {**HELLO, "tool_calls": [CALL]}, ON),
        turn(HI, HELLO, ON, user="alice"),
        turn(HI, HELLO, ON, metadata={"customer": "alice"}),
        turn(HI, HELLO, ON, safety_identifier="alice"),
        turn(HI, HELLO, ON, caller="key-2"),
        turn(HI, HELLO, ON, provider="other"),
        turn(HI, HELLO, ON, kind="chatflow"),
    ],
    ids=range(15),
)
def test_any_other_history_owner_or_app_has_another_name(other: Turn) -> None:
    assert other.before.name() != turn(HI, HELLO, ON).before.name()


def test_the_order_of_variables_does_not_matter() -> None:
    one, other = {"customer": "alice", "tone": "warm"}, {"tone": "warm", "customer": "alice"}
    assert turn(HI, HELLO, ON, metadata=one).before.name() == turn(HI, HELLO, ON, metadata=other).before.name()


def test_another_image_is_another_history() -> None:
    assert turn(image(PNG), HELLO, ON).before.name() != turn(image("https://e.org/p.png"), HELLO, ON).before.name()


def test_names_say_whose_they_are() -> None:
    assert turn(HI, HELLO, ON).before.name().startswith("dify/desk/key-1/")


SAID = st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), st.text(max_size=5)), max_size=4)


@given(SAID, SAID)
def test_histories_are_the_same_only_if_all_that_was_said_is(
    one: list[tuple[str, str]], other: list[tuple[str, str]]
) -> None:
    def name(said: list[tuple[str, str]]) -> str:
        return turn(*({"role": role, "content": text} for role, text in said), HELLO, ON).before.name()

    alike = [(role, text.strip()) for role, text in one] == [(role, text.strip()) for role, text in other]
    assert (name(one) == name(other)) is alike


# ---- what is told ------------------------------------------------------------------------------------------------


def test_a_conversation_that_goes_on_is_told_what_is_new() -> None:
    asked = turn(
        {"role": "system", "content": "Be brief."}, HI, HELLO, {"role": "system", "content": "Now long."}, ON, HI
    )
    assert asked.going_on == "Now long.\n\nGo on\n\nHi"
    assert asked.fresh == (
        "Be brief.\n\nNow long.\n\nEarlier in this conversation:\nuser: Hi\nassistant: Hello!\n\n"
        "The user now says:\nGo on\n\nHi"
    )


def test_an_answer_that_the_model_is_to_go_on_with_is_told() -> None:
    asked = turn(HI, {"role": "assistant", "content": "Well,"})
    assert not asked.before.long
    assert asked.fresh == "Hi\n\nassistant: Well,"


def test_instructions_alone_are_a_question() -> None:
    assert turn({"role": "system", "content": "Tell a joke."}).fresh == "Tell a joke."


def test_results_of_tools_are_told() -> None:
    called = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    asked = turn(HI, called, {"role": "tool", "tool_call_id": "c1", "content": "7"})
    assert asked.going_on == "tool (c1): 7"
    assert "assistant: [called f (c1) with {}]" in asked.fresh


def test_what_only_the_history_has_is_lost_only_where_it_is_told() -> None:
    asked = turn(image(PNG), {**HELLO, "reasoning_content": "hm"}, ON)
    assert asked.dropped == set()
    assert asked.dropped_fresh == {"messages[].content[].image_url", "messages[].reasoning_content"}
    assert asked.files == []


@pytest.mark.parametrize(
    ("members", "user", "dropped"),
    [
        ({}, "polymux-key-1", set()),
        ({"user": "alice"}, "alice", set()),
        ({"safety_identifier": "s"}, "s", set()),
        ({"user": "alice", "safety_identifier": "alice"}, "alice", set()),
        ({"user": "alice", "safety_identifier": "s"}, "alice", {"safety_identifier"}),
    ],
)
def test_who_asks(members: Json, user: str, dropped: set[str]) -> None:
    asked = turn(HI, **members)
    assert (asked.user, asked.dropped) == (user, dropped)


def test_a_caller_without_a_name() -> None:
    assert turn(HI, caller="").user == "polymux"


@pytest.mark.parametrize(
    ("part", "type_", "name"),
    [
        ({"type": "image_url", "image_url": "data:image/jpeg;base64,AAAA"}, "image", "image.jpg"),
        ({"type": "image_url", "image_url": {"url": "DATA:IMAGE/PNG;BASE64,AA AA"}}, "image", "image.png"),
        ({"type": "file", "file": {"file_data": "JVBERi0xLjQ="}}, "document", "document.pdf"),
        (
            {"type": "file", "file": {"file_data": "data:text/csv;charset=utf-8;base64,YQ=="}},
            "document",
            "document.csv",
        ),
        ({"type": "file", "file": {"file_data": "data:;base64,YQ=="}}, "custom", "custom.octet-stream"),
        ({"type": "file", "file": {"file_data": "data:video/mp4;base64,YQ=="}}, "video", "video.mp4"),
        ({"type": "file", "file": {"file_data": "YQ==", "filename": "a.docx"}}, "document", "a.docx"),
        ({"type": "file", "file": {"file_data": "https://e.org/a.pdf?x=1"}}, "document", ""),
        ({"type": "file", "file": {"file_data": "https://e.org/a.zip"}}, "custom", ""),
        ({"type": "input_audio", "input_audio": {"data": "YQ==", "format": "wav"}}, "audio", "audio.wav"),
    ],
)
def test_what_a_file_is(part: Json, type_: str, name: str) -> None:
    (file,) = turn({"role": "user", "content": [part]}).files
    assert file.type == type_
    assert (not name) is isinstance(file, File)
    assert getattr(file, "name", "") == name


def test_a_choice_among_no_tools_means_nothing() -> None:
    assert turn(HI, tool_choice="auto", parallel_tool_calls=False).dropped == set()
    with pytest.raises(Failure, match="its tools are its own"):
        turn(HI, functions=[{"name": "f"}])

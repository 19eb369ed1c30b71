"""A conversation on its way to Ollama: roles, texts, images, calls and their results, and what is lost."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from polymux.errors import Failure
from polymux.providers.ollama_turns import conversation
from polymux.schema.chat import Message

Json = dict[str, Any]

PNG = "data:image/png;base64,iVBORw0KGgo="


def turns(*messages: Json) -> tuple[list[Json], set[str]]:
    lost: set[str] = set()
    found = conversation(msgspec.convert(messages, list[Message]), lost)
    return msgspec.json.decode(msgspec.json.encode(found)), lost


def called(arguments: str, **members: Json) -> Json:
    function = {"name": "f", "arguments": arguments}
    return {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": function, **members}]}


@pytest.mark.parametrize(
    ("message", "turn", "lost"),
    [
        ({"role": "user", "content": "hi"}, {"role": "user", "content": "hi"}, set()),
        ({"role": "user", "content": None}, {"role": "user", "content": ""}, set()),
        ({"role": "user", "content": []}, {"role": "user", "content": ""}, set()),
        ({"role": "developer", "content": "hi"}, {"role": "system", "content": "hi"}, set()),
        ({"role": "assistant", "refusal": "no"}, {"role": "assistant", "content": "no"}, set()),
        (
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            {"role": "assistant", "content": "no"},
            set(),
        ),
        ({"role": "user", "content": "hi", "name": "a"}, {"role": "user", "content": "hi"}, {"messages[].name"}),
        (
            {"role": "assistant", "content": "4", "reasoning_content": "Add."},
            {"role": "assistant", "content": "4", "thinking": "Add."},
            set(),
        ),
        (
            {"role": "assistant", "content": "4", "reasoning": "Add.", "reasoning_details": [{"type": "x"}]},
            {"role": "assistant", "content": "4", "thinking": "Add."},
            {"messages[].reasoning_details"},
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG, "detail": "high"}}]},
            {"role": "user", "content": "", "images": ["iVBORw0KGgo="]},
            {"messages[].content[].image_url.detail"},
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": "data:image/webp;x=y;base64,AA=="}]},
            {"role": "user", "content": "", "images": ["AA=="]},
            set(),
        ),
        (
            {
                "role": "user",
                "cache_control": {"type": "ephemeral"},
                "content": [{"type": "text", "text": "hi", "prompt_cache_breakpoint": {"mode": "explicit"}}],
            },
            {"role": "user", "content": "hi"},
            {"messages[].cache_control", "messages[].content[].prompt_cache_breakpoint"},
        ),
    ],
)
def test_a_message(message: Json, turn: Json, lost: set[str]) -> None:
    assert turns(message) == ([turn], lost)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('{"a": 1.10}', {"a": 1.1}),
        ("", {}),
        (" ", {}),
        ("null", {}),
        ("[1]", {"_raw": "[1]"}),
        ('{"a":', {"_raw": '{"a":'}),
        ("{" * 5000, {"_raw": "{" * 5000}),
    ],
)
def test_arguments_are_an_object(text: str, arguments: Json) -> None:
    (turn,), lost = turns(called(text))
    assert turn["tool_calls"] == [{"id": "c1", "function": {"name": "f", "arguments": arguments}}]
    assert lost == set()


def test_what_a_call_has_for_other_vendors_is_lost() -> None:
    assert turns(called("{}", extra_content={"google": {}}))[1] == {"messages[].tool_calls[].extra_content"}


def test_calls_that_share_an_id_are_answered_one_after_another() -> None:
    """As some servers number them; the next turn begins anew."""
    shared = [{"id": "0", "function": {"name": name}} for name in "abc"]
    first, second = ({"role": "assistant", "tool_calls": some} for some in (shared[:2], shared[2:]))
    answer = {"role": "tool", "tool_call_id": "0", "content": "r"}
    found, _ = turns(first, answer, answer, second, answer)
    assert [turn["tool_name"] for turn in found if turn["role"] == "tool"] == ["a", "b", "c"]


def test_a_result_names_its_tool() -> None:
    found, _ = turns(
        called("{}"),
        {"role": "tool", "tool_call_id": "c1", "content": "r"},
        {"role": "tool", "tool_call_id": "c9", "content": "lost its call"},
        {"role": "tool", "tool_call_id": "c9", "name": "g", "content": "named"},
        {"role": "function", "name": "h", "content": "old"},
    )
    assert [(turn["role"], turn.get("tool_name"), turn.get("tool_call_id")) for turn in found[1:]] == [
        ("tool", "f", "c1"),
        ("tool", None, "c9"),
        ("tool", "g", "c9"),
        ("tool", "h", None),
    ]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": "https://a.example"}]},
            "messages[0].content[0]",
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": "data:text/plain;base64,AA=="}]},
            "messages[0].content[0]",
        ),
        ({"role": "user", "content": [{"type": "image_url"}]}, "messages[0].content[0]"),
        ({"role": "user", "content": [{"type": "novelty"}]}, "messages[0].content[0]"),
        ({"role": "assistant", "audio": {"id": "a"}}, "messages[0].audio"),
        ({"role": "assistant", "tool_calls": [{"id": "c", "type": "novelty"}]}, "messages[0].tool_calls[0]"),
    ],
)
def test_what_has_no_form_is_refused(message: Json, param: str) -> None:
    with pytest.raises(Failure) as caught:
        turns(message)
    assert caught.value.status == 400
    assert caught.value.param == param

"""Under which names reasoning is remembered, and in what form."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from polymux.providers.fates import PARAMETERS
from polymux.providers.replay import SIGNED, grown, name, pack, place, unpack
from polymux.store.base import LARGEST
from polymux.types import Deployment

USER = {"role": "user", "content": "Hi"}


def to(**members: Any) -> Deployment:
    given = Deployment("p/m", "p", "m", "openai", "https://api.vendor.example/v1")
    return msgspec.structs.replace(given, **members)


def test_a_name_says_whose_the_reasoning_is() -> None:
    assert name(to(), "call_1") == "openai:api.vendor.example/v1:call_1"
    assert name(to(), "call_1", bound=True) == "openai:api.vendor.example/v1:m:call_1"


@pytest.mark.parametrize(
    "other",
    [
        {"dialect": "anthropic"},
        {"base_url": "https://api.vendor.example/v2"},
        {"base_url": "https://api.other.example/v1"},
        {"base_url": "http://api.vendor.example:8000/v1"},
    ],
)
def test_another_vendors_name_is_another(other: dict[str, Any]) -> None:
    assert name(to(**other), "call_1") != name(to(), "call_1")


@pytest.mark.parametrize(
    "same",
    [
        {"provider": "second-account", "id": "x"},
        {"model": "n"},
        {"base_url": "http://api.vendor.example/v1"},
    ],
)
def test_the_same_vendors_name_is_the_same(same: dict[str, Any]) -> None:
    assert name(to(**same), "call_1") == name(to(), "call_1")


def test_credentials_in_an_address_are_not_in_the_name() -> None:
    assert name(to(base_url="https://ada:secret@host.example/v1"), "call_1") == "openai:host.example/v1:call_1"


@pytest.mark.parametrize(
    "call",
    [
        "call_00_h7Tq2LmN",
        "chatcmpl-tool-6b3a0c1de4f24e5f9a0b",
        "D681PevKsx",
        "toolu_01A2b3C4d5",
        "call_-8231168139794583938",
    ],
)
def test_an_id_of_its_own_is_the_place(call: str) -> None:
    assert place(b"", call, "text") == call == place(b"thread", call)


def test_a_long_id_becomes_a_short_place() -> None:
    assert len(place(b"", "x1" * 5000)) == 64
    assert place(b"", "x1" * 5000) != place(b"", "x1" * 5001)
    assert place(b"", "x1" * 5000) == place(b"thread", "x1" * 5000)


COUNTED = ["functions.get_weather:0", "call_1", "0", "", "call_chatcmpl-upstream_0_0", "call_00000001"]
NAMED = ["search_documents", "tool_0_list_documents", "getCurrentWeather"]


@pytest.mark.parametrize("call", [*COUNTED, *NAMED])
def test_a_counted_id_or_a_tools_name_is_told_apart_by_the_conversation(call: str) -> None:
    thread = grown(b"", USER)
    assert place(thread, call) == place(thread, call)
    others = [
        place(grown(b"", {**USER, "content": "Ho"}), call),
        place(grown(thread, USER), call),
        place(thread, call, "text"),
        place(thread, call + "1"),
    ]
    assert len({place(thread, call), *others}) == 5


SAME = [
    (USER, {"role": "user", "content": [{"type": "text", "text": "Hi"}]}),
    (USER, {"role": "user", "content": " Hi\n", "name": "ada"}),
    (
        {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "function": {"arguments": '{"b": 1}'}}]},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "a", "function": {"arguments": '{"b":1}'}}]},
    ),
    (
        {"role": "assistant", "content": "Yes", "reasoning_content": "hm", "refusal": None},
        {"role": "assistant", "content": "Yes"},
    ),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_clients_lose_or_rewrite_makes_no_other_conversation(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert grown(b"", one) == grown(b"", other)


OTHER = [
    {"role": "system", "content": "Hi"},
    {"role": "user", "content": "Hi!"},
    {"role": "user", "content": [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": "data:"}}]},
    {"role": "assistant", "content": "Hi", "tool_calls": [{"id": "a"}]},
    {"role": "tool", "content": "Hi", "tool_call_id": "a"},
]


@pytest.mark.parametrize("other", OTHER)
def test_what_was_said_otherwise_makes_another(other: dict[str, Any]) -> None:
    assert grown(b"", other) != grown(b"", USER)


@pytest.mark.parametrize(
    "message", [{}, {"role": 1, "content": 2, "tool_calls": 3}, {"tool_calls": [4, {"id": 5}, None]}]
)
def test_no_message_breaks_it(message: dict[str, Any]) -> None:
    assert len(grown(b"", message)) == 32


@pytest.mark.parametrize("size", [0, 1, 32 * 1024, 32 * 1024 + 1, 400_000, 1024 * 1024])
def test_a_value_comes_back(size: int) -> None:
    words = random.Random(1)
    text = " ".join(words.choice(("think", "of", "the", "tool", "weather")) for _ in range(size // 4 + 1))
    value = text.encode()[:size]
    assert unpack(pack(value)) == value
    assert len(pack(value)) <= LARGEST or size > 400_000


def test_what_is_far_too_long_is_not_kept() -> None:
    assert len(pack(b"a" * (1024 * 1024 + 1))) > LARGEST


@pytest.mark.parametrize("value", [b"\0", b"\0broken"])
def test_a_damaged_value_is_none(value: bytes) -> None:
    assert unpack(value) == b""


def test_the_signed_members_are_parameters() -> None:
    assert set(SIGNED) <= set(PARAMETERS)

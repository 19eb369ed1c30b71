"""Signed thinking, remembered and put back. What it looks like: the golden cases reasoning-re*.txt."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from polymux.providers.anthropic import Anthropic
from polymux.providers.base import Asked, Recall
from polymux.providers.replay import RECENT
from polymux.schema.chat import ChatRequest
from polymux.types import Deployment, WireRequest

SIGNED = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
CALL = {"id": "toolu_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
TURN = {"role": "assistant", "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "toolu_1", "content": "22"}
NAME = "anthropic:api.anthropic.com/v1:toolu_1"


def asked(model: str = "claude-sonnet-4-5") -> Asked:
    return Asked("public", 1, Deployment("c/m", "c", model, "anthropic", "https://api.anthropic.com/v1"))


def ask(*messages: dict[str, Any], model: str = "claude-sonnet-4-5", **known: bytes) -> tuple[list[str], WireRequest]:
    """The names that are asked for, and the request that is sent when `known` is what is remembered."""
    body = {"model": "public", "messages": [{"role": "user", "content": "Hi"}, *messages], "reasoning_effort": "low"}
    flow, names, sent = Anthropic().flow(msgspec.convert(body, ChatRequest), asked(model)), [], None
    while True:
        try:
            wanted = flow.send(sent)
        except StopIteration as stop:
            return names, stop.value
        assert isinstance(wanted, Recall)
        names += wanted.names
        sent = {NAME: known["value"]} if known else {}


@pytest.mark.parametrize(
    "messages",
    [
        (),
        ({"role": "assistant", "content": "Ho"}, {"role": "user", "content": "Hu"}),
        ({**TURN, "reasoning_details": [SIGNED]}, RESULT),
    ],
    ids=["one message", "no calls", "brought"],
)
def test_nothing_is_asked_for_where_nothing_can_be_missing(messages: tuple[dict[str, Any], ...]) -> None:
    assert ask(*messages)[0] == []


def test_models_that_cannot_think_have_nothing_to_remember() -> None:
    assert ask(TURN, RESULT, model="claude-3-5-haiku")[0] == []


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-opus-4-7"])
def test_the_blocks_stand_first_in_their_turn(model: str) -> None:
    names, request = ask(TURN, RESULT, model=model, value=json.dumps([SIGNED]).encode())
    assert names == [NAME]
    assert [block["type"] for block in json.loads(request.body)["messages"][1]["content"]] == ["thinking", "tool_use"]
    assert json.loads(request.body)["messages"][1]["content"][0] == SIGNED
    assert json.loads(request.body)["thinking"]["type"] in ("enabled", "adaptive")
    assert request.dropped == ()


@pytest.mark.parametrize(
    "value", [b"", b"[", b"\0x", b'[{"type":"text","text":"x"}]', b'[{"type":"thinking"}]', b"[1]"]
)
def test_what_is_damaged_is_as_good_as_lost(value: bytes) -> None:
    assert ask(TURN, RESULT, value=value) == ask(TURN, RESULT)
    assert ask(TURN, RESULT)[1].dropped == ("reasoning_effort",)


@pytest.mark.parametrize("blocks", [[SIGNED], [{"type": "text", "text": "Hi"}, SIGNED]])
@pytest.mark.parametrize("stop", ["end_turn", "tool_use"])
def test_only_what_led_to_calls_is_remembered(blocks: list[dict[str, Any]], stop: str) -> None:
    now = asked()
    use = [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}] if stop == "tool_use" else []
    Anthropic().read(json.dumps({"content": [*blocks, *use], "stop_reason": stop}).encode(), now)
    assert now.remembered == ({NAME: msgspec.json.encode([SIGNED])} if use else {})


def test_a_stream_that_breaks_leaves_nothing_behind() -> None:
    now = asked()
    reader = Anthropic().reader(now)
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "msg_1"}},
        {"type": "content_block_start", "index": 0, "content_block": SIGNED},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "content_block_start",
            "index": 1,
            "content_block": {"type": "tool_use", "id": "toolu_1", "name": "f"},
        },
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
    ]
    for event in events:
        reader.feed("", json.dumps(event).encode())
    assert now.remembered == {}
    reader.feed("", b'{"type":"message_stop"}')
    assert list(now.remembered) == [NAME]


def test_the_last_answers_are_looked_for_however_many_a_client_claims() -> None:
    call = {"type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [{"role": "assistant", "tool_calls": [call | {"id": f"toolu_h7Tq{n:04}"}]} for n in range(RECENT + 9)]
    names, _ = ask({"role": "user", "content": "Hi"}, *turns)
    assert [name.rpartition("_")[2] for name in names] == [f"h7Tq{n:04}" for n in range(9, RECENT + 9)]

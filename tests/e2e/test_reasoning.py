"""Reasoning goes on through a client that loses it: the official SDK, what it knows of a message and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from support.gateway import KEY, Gateway
from support.thinkers import FINAL, MODELS, OPENAI_SHAPED, TURNS, VENDORS, Thinkers, thinking, thought

TOOLS: Any = [
    {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {"step": {}}}}}
]
HEAD = f'[auth]\nkeys = ["{KEY}"]\n[limits]\nrpm = 100000\n[defaults]\nretries = 0\n'


@pytest.fixture(scope="module")
def thinkers() -> Iterator[Thinkers]:
    with thinking() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(thinkers: Thinkers) -> Iterator[Gateway]:
    with Gateway(HEAD + thinkers.config()) as running:
        yield running
        running.stop()
        assert "Traceback" not in running.log(), running.log()


def turn(gateway: Gateway, vendor: str, messages: list[Any], *, stream: bool) -> bool:
    """One request; the answer and the result of its call are added as the SDK's types have them. False = it was the
    last."""
    model = f"{vendor}/{MODELS[vendor]}"
    with OpenAI(api_key=gateway.key, base_url=gateway.base_url, max_retries=0) as client:
        text, calls = "", {}
        asked: Any = {"model": model, "messages": messages, "tools": TOOLS, "reasoning_effort": "low"}
        if stream:
            for chunk in client.chat.completions.create(**asked, stream=True):
                for choice in chunk.choices:
                    text += choice.delta.content or ""
                    for part in choice.delta.tool_calls or ():
                        held = calls.setdefault(part.index, {"id": "", "name": "", "arguments": ""})
                        held["id"] += part.id or ""
                        held["name"] += part.function.name or ""
                        held["arguments"] += part.function.arguments or ""
        else:
            message = client.chat.completions.create(**asked).choices[0].message
            text = message.content or ""
            for n, call in enumerate(message.tool_calls or ()):
                calls[n] = {"id": call.id, "name": call.function.name, "arguments": call.function.arguments}
    said: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        functions = [{"name": call["name"], "arguments": call["arguments"]} for call in calls.values()]
        said["tool_calls"] = [
            {"id": call["id"], "type": "function", "function": function}
            for call, function in zip(calls.values(), functions, strict=True)
        ]
    messages.append(said)
    messages += [{"role": "tool", "tool_call_id": call["id"], "content": "22 degrees"} for call in calls.values()]
    return bool(calls)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("vendor", VENDORS)
def test_three_calls_of_tools(gateway: Gateway, thinkers: Thinkers, vendor: str, stream: bool) -> None:
    """The provider refuses a turn that comes back without what it thought then."""
    messages: list[Any] = [{"role": "user", "content": f"Is it warm? {stream}"}]
    steps = 0
    while turn(gateway, vendor, messages, stream=stream):
        steps += 1
    assert (steps, messages[-1]["content"]) == (TURNS, FINAL)
    assert "think" not in str(messages)
    told = str(thinkers.seen[vendor][-1])
    assert all(thought(vendor, messages[0]["content"], step)[-12:] in told for step in range(TURNS))


@pytest.mark.parametrize("vendor", OPENAI_SHAPED)
def test_conversations_whose_calls_have_the_same_ids(gateway: Gateway, vendor: str) -> None:
    """Turn by turn, one beside the other: each is given its own reasoning, or the provider refuses it."""
    talks: list[list[Any]] = [[{"role": "user", "content": f"Where is {name}?"}] for name in ("Ada", "Bob")]
    for _ in range(TURNS):
        for messages in talks:
            assert turn(gateway, vendor, messages, stream=False)
    for messages in talks:
        assert not turn(gateway, vendor, messages, stream=False)


@pytest.mark.parametrize("first", VENDORS)
@pytest.mark.parametrize("then", VENDORS)
def test_a_conversation_moves_to_another_vendor(gateway: Gateway, first: str, then: str) -> None:
    """Which gets nothing that the first has signed, and goes on; and so does the first when it comes back."""
    messages: list[Any] = [{"role": "user", "content": f"From {first} to {then}?"}]
    for vendor in (first, then, first):
        assert turn(gateway, vendor, messages, stream=True)
    assert not turn(gateway, then, messages, stream=True)
    assert messages[-1]["content"] == FINAL


@pytest.mark.parametrize("vendor", VENDORS)
def test_it_survives_a_restart(thinkers: Thinkers, tmp_path: Path, vendor: str) -> None:
    messages: list[Any] = [{"role": "user", "content": "And tomorrow?"}]
    for _ in range(2):
        with Gateway(HEAD + thinkers.config(), data=tmp_path) as gateway:
            assert turn(gateway, vendor, messages, stream=True)
    with Gateway(HEAD + thinkers.config(), data=tmp_path) as gateway:
        assert turn(gateway, vendor, messages, stream=False)
        assert not turn(gateway, vendor, messages, stream=False)


def test_the_providers_are_as_strict_as_they_should_be(thinkers: Thinkers) -> None:
    """Without the gateway the same client is refused, where the vendor refuses."""
    for vendor in ("deepseek", "moonshot", "zai", "minimax", "openrouter"):
        direct = Direct(f"{thinkers.url}/{vendor}/v1")
        messages: list[Any] = [{"role": "user", "content": "Is it cold?"}]
        assert turn(direct, vendor, messages, stream=False)
        if vendor == "minimax":
            messages[1]["content"] = "Looking."
        with pytest.raises(openai.BadRequestError):
            turn(direct, vendor, messages, stream=False)


class Direct(Gateway):
    """No gateway at all."""

    def __init__(self, url: str) -> None:
        self.key = "any"
        self.url = url.removesuffix("/v1")

"""A strict Gemini API behind a real gateway, asked by the official client, which knows nothing of signatures."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import openai
import pytest
from openai import OpenAI

from support.gateway import KEY as GATEWAY_KEY
from support.gateway import PATIENCE, Gateway
from support.gemini import DUMMY, FINAL, KEY, TURNS, Google, signature, steps_of

MODEL: Final = "google/gemini-3.5-flash"
LOOK: Any = {
    "type": "function",
    "function": {
        "name": "look",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}, "additionalProperties": False},
    },
}


def config(server: Google, key: str = KEY) -> str:
    return f"""
[auth]
keys = ["{GATEWAY_KEY}"]

[limits]
rpm = 0

[providers.google]
preset = "gemini-compatible"
base_url = "{server.url}"
api_key = "{key}"

[providers.wrong]
preset = "gemini"
base_url = "{server.url}"
api_key = "nobody"
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Google]:
    with Google() as made:
        yield made


@pytest.fixture(scope="module")
def gateway(server: Google) -> Iterator[Gateway]:
    with Gateway(config(server)) as made:
        yield made


def client_of(gateway: Gateway) -> OpenAI:
    return OpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0, timeout=20)


@pytest.fixture
def client(gateway: Gateway, server: Google) -> Iterator[OpenAI]:
    server.clear()
    with client_of(gateway) as made:
        yield made


def turn(client: OpenAI, messages: list[Any], stream: bool) -> dict[str, Any]:
    """The answer as a client keeps it that knows OpenAI's own members only."""
    asked: Any = {"model": MODEL, "messages": messages, "tools": [LOOK]}
    if not stream:
        message = client.chat.completions.create(**asked).choices[0].message
        calls = [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()]
        return plain(message.content, calls)
    text, held = "", {}
    for chunk in client.chat.completions.create(**asked, stream=True):
        for delta in (choice.delta for choice in chunk.choices):
            text += delta.content or ""
            for call in delta.tool_calls or ():
                known = held.setdefault(call.index, [call.id, call.function.name, ""])
                known[2] += call.function.arguments
    return plain(text, [(call[0], call[1], call[2]) for _, call in sorted(held.items())])


def plain(text: str | None, calls: list[tuple[str, str, str]]) -> dict[str, Any]:
    made = [{"id": i, "type": "function", "function": {"name": name, "arguments": args}} for i, name, args in calls]
    return {"role": "assistant", "content": text, **({"tool_calls": made} if made else {})}


def talk(client: OpenAI, question: str, stream: bool, before: list[Any] | None = None) -> list[Any]:
    """A whole turn: calls and their results, as often as it takes."""
    messages = [*(before or ()), {"role": "user", "content": question}]
    for _ in range(TURNS):
        messages.append(turn(client, messages, stream))
        at = [(call["id"], json.loads(call["function"]["arguments"])["at"]) for call in messages[-1]["tool_calls"]]
        results = [{"role": "tool", "tool_call_id": id_, "content": f"{place}: 21 C"} for id_, place in at]
        messages += reversed(results)
    messages.append(turn(client, messages, stream))
    return messages


@pytest.mark.parametrize("stream", [False, True])
def test_signatures_survive_three_turns_of_tools(client: OpenAI, server: Google, stream: bool) -> None:
    question = f"Where is it warm ({stream})?"
    messages = talk(client, question, stream)
    assert messages[-1]["content"] == FINAL
    ids = [call["id"] for message in messages for call in message.get("tool_calls", ())]
    assert len(set(ids)) == len(ids) == 4
    _, steps = steps_of(server.requests[-1].json["contents"])
    signed = [step[0]["thoughtSignature"] for step in steps]
    assert signed == [signature(question, number) for number in range(TURNS)]
    again = talk(client, f"And again ({stream})?", stream, messages)
    assert again[-1]["content"] == FINAL


def test_they_survive_the_gateway(server: Google, tmp_path: Path) -> None:
    messages: list[Any] = [{"role": "user", "content": "Is it warm after all?"}]
    with Gateway(config(server), data=tmp_path / "data") as first, client_of(first) as client:
        messages.append(turn(client, messages, stream=True))
    messages += [{"role": "tool", "tool_call_id": call["id"], "content": "r"} for call in messages[1]["tool_calls"]]
    with Gateway(config(server), data=tmp_path / "data") as second, client_of(second) as client:
        assert turn(client, messages, stream=False)["tool_calls"]
    assert DUMMY not in json.dumps(server.requests[-1].json)


def test_calls_that_others_have_made_are_taken_over(client: OpenAI, server: Google) -> None:
    messages: list[Any] = [
        {"role": "user", "content": "Who called?"},
        plain(None, [("call_of_another", "look", "{}"), ("call_too", "look", "{}")]),
        {"role": "tool", "tool_call_id": "call_of_another", "content": "r"},
        {"role": "tool", "tool_call_id": "call_too", "content": "r"},
    ]
    assert turn(client, messages, stream=False)["tool_calls"]
    _, (step,) = steps_of(server.requests[-1].json["contents"])
    assert [part.get("thoughtSignature") for part in step] == [DUMMY, None]


def test_a_client_that_keeps_them_gets_and_sends_them(client: OpenAI, server: Google) -> None:
    messages: list[Any] = [{"role": "user", "content": "Do you keep?"}]
    answer = client.chat.completions.create(model=MODEL, messages=messages, tools=[LOOK]).choices[0].message
    kept = answer.model_dump(exclude_none=True)
    extra = {"google": {"thought_signature": signature("Do you keep?", 0)}}
    assert [call.get("extra_content") for call in kept["tool_calls"]] == [extra, None]
    assert kept["reasoning_content"] == "hm"


@pytest.mark.parametrize("stream", [False, True])
def test_usage_and_text(client: OpenAI, stream: bool) -> None:
    asked: Any = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
    if stream:
        chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
        usage = chunks[-1].usage
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    else:
        answer = client.chat.completions.create(**asked)
        usage, text = answer.usage, answer.choices[0].message.content or ""
    assert text == FINAL
    assert usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (9, 9, 18)
    assert usage.completion_tokens_details
    assert usage.completion_tokens_details.reasoning_tokens == 5


def test_errors(client: OpenAI) -> None:
    hi: Any = [{"role": "user", "content": "Hi"}]
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="google/gemini-nope", messages=hi)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.InternalServerError) as refused:
        client.chat.completions.create(model="wrong/gemini-3.5-flash", messages=hi)
    assert refused.value.code == "upstream_auth_failed"
    bad: Any = [{"type": "function", "function": {"name": "1 bad name"}}]
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(model=MODEL, messages=hi, tools=bad)
    assert wrong.value.code == "INVALID_ARGUMENT"


def test_embeddings(client: OpenAI) -> None:
    made = client.embeddings.create(model="google/gemini-embedding-001", input=["a", "bcd"])
    assert [one.embedding for one in made.data] == [[1.0, -0.5], [3.0, -0.5]]


def test_models_are_listed(client: OpenAI) -> None:
    deadline = time.monotonic() + PATIENCE
    while "gemini-2.5-flash" not in {model.id for model in client.models.list()}:
        assert time.monotonic() < deadline

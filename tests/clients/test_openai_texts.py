"""The official Python SDK's embeddings and completions through the gateway, relayed and emulated."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from polymux.mock.scripts import Script
from polymux.mock.texts import vector
from support.gateway import Gateway
from support.upstream import Upstream


@pytest.fixture
def client(gateway: Gateway) -> Iterator[OpenAI]:
    with OpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0, timeout=20) as made:
        yield made


# ---- embeddings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [{}, {"encoding_format": "float"}], ids=["base64 by default", "float"])
def test_embeddings(client: OpenAI, upstream: Upstream, members: dict[str, Any]) -> None:
    answer = client.embeddings.create(model="corp/text", input=["a", "b"], dimensions=5, **members)
    assert [one.embedding for one in answer.data] == [vector("a", 5), vector("b", 5)]
    assert [one.index for one in answer.data] == [0, 1]
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 2
    assert upstream.wait("text").json["encoding_format"] == members.get("encoding_format", "base64")


def test_a_provider_that_knows_only_numbers(client: OpenAI, upstream: Upstream) -> None:
    upstream.script("text", Script(frames=(b'{"data":[{"embedding":[0.5,1],"index":0}],"model":"m"}',)))
    assert client.embeddings.create(model="corp/text", input="a").data[0].embedding == [0.5, 1.0]


def test_who_makes_none(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as found:
        client.embeddings.create(model="claude/text", input="a")
    assert (found.value.code, found.value.type) == ("unsupported_operation", "invalid_request_error")


# ---- completions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "said"), [("corp/text", " This is text, a mock,"), ("claude/text", "Hello, 世界!")])
def test_completions(client: OpenAI, model: str, said: str) -> None:
    whole = client.completions.create(model=model, prompt="Once")
    assert whole.choices[0].text.startswith(said)
    assert whole.choices[0].finish_reason in ("stop", "length")
    assert whole.usage
    with client.completions.create(
        model=model, prompt="Once", stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == whole.choices[0].text
    finishes = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert finishes == [whole.choices[0].finish_reason]
    assert chunks[-1].usage == whole.usage


@pytest.mark.parametrize("model", ["corp/text", "claude/text", "meow"])
def test_completions_asynchronously(gateway: Gateway, model: str) -> None:
    async def ask() -> str:
        async with AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0) as client:
            stream = await client.completions.create(model=model, prompt="Once", stream=True, echo=True)
            return "".join([choice.text async for chunk in stream for choice in chunk.choices])

    assert asyncio.run(ask()).startswith("Once")


def test_what_a_chat_cannot_complete(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as found:
        client.completions.create(model="claude/text", prompt=["a", "b"])
    assert (found.value.code, found.value.param) == ("unsupported_content", "prompt")

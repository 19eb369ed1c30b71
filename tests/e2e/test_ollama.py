"""A strict Ollama behind a real gateway, asked by the official client."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, Final

import openai
import pytest
from openai import OpenAI

from polymux.mock.scripts import JSON, Script
from support.gateway import KEY as GATEWAY_KEY
from support.gateway import Gateway
from support.ollama import NDJSON, Ollama, line
from support.upstream import PATIENCE, Seen

HI: Any = [{"role": "user", "content": "Hi"}]
TOOLS: Any = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}
    for name in ("f", "g")
]
PNG: Final = "data:image/png;base64,iVBORw0KGgo="
MODEL: Final = "home/qwen3:8b"


@pytest.fixture(scope="module")
def server() -> Iterator[Ollama]:
    with Ollama() as made:
        yield made


@pytest.fixture(scope="module")
def gateway(server: Ollama) -> Iterator[Gateway]:
    config = f"""
[auth]
keys = ["{GATEWAY_KEY}"]

[limits]
rpm = 0

[providers.home]
preset = "ollama"
base_url = "{server.url}/v1"

[providers.tuned]
preset = "ollama"
base_url = "{server.url}"
extra_body = {{ keep_alive = "1h", num_ctx = 8192 }}

[models.careful]
deployments = [{{ provider = "home", model = "qwen3:8b" }}]
strict = true
"""
    with Gateway(config) as made:
        yield made


@pytest.fixture
def client(gateway: Gateway, server: Ollama) -> Iterator[OpenAI]:
    server.clear()
    with OpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0, timeout=20) as made:
        yield made


def last(server: Ollama) -> Seen:
    """The last that was asked, apart from the list of models."""
    return [seen for seen in server.requests if seen.method == "POST"][-1]


@pytest.mark.parametrize("stream", [False, True])
def test_text(client: OpenAI, server: Ollama, stream: bool) -> None:
    if stream:
        with client.chat.completions.create(
            model=MODEL, messages=HI, stream=True, stream_options={"include_usage": True}
        ) as chunks:
            read = list(chunks)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in read if chunk.choices) == "1 messages: Hi"
        assert [chunk.choices[0].finish_reason for chunk in read if chunk.choices][-1] == "stop"
        usage = read[-1].usage
        assert {chunk.model for chunk in read} == {MODEL}
        assert len({chunk.id for chunk in read}) == 1
    else:
        answer = client.chat.completions.create(model=MODEL, messages=HI)
        assert answer.choices[0].message.content == "1 messages: Hi"
        usage = answer.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (11, 7, 18)
    seen = last(server)
    assert seen.path == "/api/chat"
    assert (seen.json["stream"], seen.json["truncate"], seen.json["shift"]) == (stream, False, False)


@pytest.mark.parametrize("stream", [False, True])
def test_tools_there_and_back(client: OpenAI, server: Ollama, stream: bool) -> None:
    calls: dict[int, Any] = {}
    if stream:
        for chunk in client.chat.completions.create(model=MODEL, messages=HI, tools=TOOLS, stream=True):
            for call in chunk.choices[0].delta.tool_calls or () if chunk.choices else ():
                calls[call.index] = call
    else:
        answer = client.chat.completions.create(model=MODEL, messages=HI, tools=TOOLS)
        assert answer.choices[0].finish_reason == "tool_calls"
        calls = dict(enumerate(answer.choices[0].message.tool_calls or ()))
    assert [(n, call.function.name, json.loads(call.function.arguments)) for n, call in calls.items()] == [
        (0, "f", {"n": 0}),
        (1, "g", {"n": 1}),
    ]
    assert len({call.id for call in calls.values()}) == 2
    told: Any = [
        *HI,
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.function.name, "arguments": call.function.arguments},
                }
                for call in calls.values()
            ],
        },
        *({"role": "tool", "tool_call_id": call.id, "content": "r"} for call in calls.values()),
    ]
    answer = client.chat.completions.create(model=MODEL, messages=told, tools=TOOLS)
    assert answer.choices[0].message.content == "4 messages: r"
    assert [message.get("tool_name") for message in last(server).json["messages"]] == [None, None, "f", "g"]


def test_thinking(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=HI, reasoning_effort="high")
    assert answer.choices[0].message.model_extra == {"reasoning_content": "thinking (high)"}
    with client.chat.completions.create(model=MODEL, messages=HI, reasoning_effort="low", stream=True) as chunks:
        deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join((delta.model_extra or {}).get("reasoning_content") or "" for delta in deltas) == "thinking (low)"
    assert "".join(delta.content or "" for delta in deltas) == "1 messages: Hi"


def test_images_schemas_and_limits(client: OpenAI) -> None:
    parts: Any = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": PNG}}]
    answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": parts}])
    assert answer.choices[0].message.content == "8 bytes"
    schema: Any = {"name": "n", "schema": {"type": "object", "properties": {"a": {"type": "string"}}}}
    form: Any = {"type": "json_schema", "json_schema": schema}
    answer = client.chat.completions.create(model=MODEL, messages=HI, response_format=form)
    assert answer.choices[0].message.content == '{"a": "x"}'
    answer = client.chat.completions.create(model=MODEL, messages=HI, max_tokens=4)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("1 me", "length")


def test_a_clients_own_settings_and_the_operators(client: OpenAI, server: Ollama) -> None:
    own = {"keep_alive": "10m", "num_ctx": 4096, "options": {"min_p": 0.1}}
    raw = client.chat.completions.with_raw_response
    answer = raw.create(model=MODEL, messages=HI, extra_body=own)
    assert "x-polymux-dropped" not in answer.headers
    assert last(server).json["keep_alive"] == "10m"
    assert last(server).json["options"] == {"num_ctx": 4096, "min_p": 0.1}
    answer = raw.create(model="tuned/qwen3:8b", messages=HI, extra_body=own)
    assert answer.headers["x-polymux-dropped"] == "keep_alive,num_ctx"
    assert last(server).json["keep_alive"] == "1h"
    assert last(server).json["options"] == {"num_ctx": 8192, "min_p": 0.1}


def test_what_is_dropped_is_named_or_refused(client: OpenAI) -> None:
    answer = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=HI, tools=TOOLS, tool_choice="required", user="u", extra_body={"novelty": 1}
    )
    assert answer.headers["x-polymux-dropped"] == "tool_choice,user,novelty"
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="careful", messages=HI, user="u")
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "user")


def test_a_prompt_that_does_not_fit_is_refused_and_not_forgotten(client: OpenAI) -> None:
    long: Any = [{"role": "user", "content": "x" * 3000}]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=MODEL, messages=long)
    assert caught.value.code == "context_length_exceeded"
    answer = client.chat.completions.create(model=MODEL, messages=long, extra_body={"num_ctx": 4096})
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    ("model", "asked", "error", "code"),
    [
        ("home/nope", {}, openai.NotFoundError, "model_not_found"),
        ("home/gemma:2b", {"tools": TOOLS}, openai.BadRequestError, None),
        ("home/gemma:2b", {"reasoning_effort": "low"}, openai.BadRequestError, None),
        (MODEL, {"n": 2}, openai.BadRequestError, "unsupported_parameter"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors(
    client: OpenAI, model: str, asked: Any, error: type[openai.APIStatusError], code: str | None, stream: bool
) -> None:
    with pytest.raises(error) as caught:
        client.chat.completions.create(model=model, messages=HI, stream=stream, **asked)
    assert caught.value.code == code


def test_streams_that_break_off(client: OpenAI, server: Ollama) -> None:
    body = {"model": "qwen3:8b"}
    half = (line(body, {"content": "Ray"}), line(body, {"content": "leigh"}))
    server.script("qwen3:8b", Script(headers=NDJSON, framing="chunked", frames=half))
    with pytest.raises(openai.APIError) as caught:
        list(client.chat.completions.create(model=MODEL, messages=HI, stream=True))
    assert caught.value.code == "upstream_truncated"
    broken = (*half, b'{"error":"an error was encountered while running the model"}\n')
    server.script("qwen3:8b", Script(headers=NDJSON, framing="chunked", frames=broken))
    with pytest.raises(openai.APIError, match="an error was encountered") as caught:
        list(client.chat.completions.create(model=MODEL, messages=HI, stream=True))
    server.script("qwen3:8b", Script(503, JSON, (b'{"error":"server busy, please try again"}',)))
    with pytest.raises(openai.APIStatusError, match="server busy"):
        client.chat.completions.create(model=MODEL, messages=HI)


def test_who_leaves_takes_the_work_along(client: OpenAI, server: Ollama) -> None:
    frames = tuple(line({"model": "qwen3:8b"}, {"content": "x"}) for _ in range(9))
    server.script("qwen3:8b", Script(headers=NDJSON, framing="chunked", frames=frames, gate=True, free=2))
    with client.chat.completions.create(model=MODEL, messages=HI, stream=True) as chunks:
        next(iter(chunks))
    server.wait("qwen3:8b").wait_gone()


def test_models_are_listed(client: OpenAI) -> None:
    patience = time.monotonic() + PATIENCE
    while "home/qwen3:8b" not in {model.id for model in client.models.list()}:
        assert time.monotonic() < patience


@pytest.mark.parametrize("form", ["float", "base64"])
def test_embeddings(client: OpenAI, server: Ollama, form: Any) -> None:
    made = client.embeddings.create(model="home/all-minilm:latest", input=["ab", "c"], encoding_format=form)
    assert made.usage.prompt_tokens == 3
    if form == "float":
        assert [one.embedding for one in made.data] == [[2.0, -0.5], [1.0, -0.5]]
    assert last(server).path == "/api/embed"
    assert last(server).json["truncate"] is False
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model=MODEL, input="a")

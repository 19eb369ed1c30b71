"""The official Python SDK, synchronous and not, through the gateway to both dialects."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from support.gateway import Gateway
from support.scripts import PARIS, TOKYO
from support.upstream import Upstream

TEXT = "Hello, 世界!"
HI: Any = [{"role": "user", "content": "Hi"}]
PROVIDERS = ["corp", "claude"]
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Person(BaseModel):
    name: str
    age: int


@pytest.fixture
def client(gateway: Gateway) -> Iterator[OpenAI]:
    with OpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0, timeout=20) as made:
        yield made


def calls_of(message: Any) -> list[tuple[str, str, Any]]:
    return [(c.id, c.function.name, json.loads(c.function.arguments)) for c in message.tool_calls or []]


def streamed_calls(chunks: list[Any]) -> list[tuple[str, str, Any]]:
    """Assembled by the protocol's rule: the first fragment of an index names the call, the rest are arguments."""
    held: dict[int, list[str]] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            for call in choice.delta.tool_calls or []:
                if call.index not in held:
                    assert call.type == "function"
                    held[call.index] = [call.id, call.function.name, ""]
                held[call.index][2] += call.function.arguments or ""
    assert list(held) == list(range(len(held)))
    return [(call[0], call[1], json.loads(call[2])) for call in held.values()]


# ---- models ----------------------------------------------------------------------------------------------------


def test_models_are_listed_and_found(client: OpenAI) -> None:
    listed = {model.id: model for model in client.models.list()}
    assert {"echo", "meow"} <= set(listed)
    assert any(name.endswith("meta/llama 3:8b") for name in listed)
    for name in listed:
        found = client.models.retrieve(name)
        assert (found.id, found.object) == (name, "model")
        assert isinstance(found.created, int)
        assert found.owned_by


def test_every_listed_model_can_be_called(client: OpenAI, upstream: Upstream) -> None:
    for model in client.models.list():
        assert client.chat.completions.create(model=model.id, messages=HI).choices[0].message.content


def test_an_unknown_model_is_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("no/such:model")
    assert caught.value.code == "model_not_found"


# ---- text ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["corp/text", "claude/text", "corp/meta/llama 3:8b"])
def test_text(client: OpenAI, upstream: Upstream, model: str) -> None:
    answer = client.chat.completions.create(model=model, messages=HI, max_tokens=50)
    assert answer.object == "chat.completion"
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (11, 7, 18)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 3
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("model", ["corp/text", "claude/text"])
def test_streamed_text_with_usage(client: OpenAI, upstream: Upstream, model: str) -> None:
    with client.chat.completions.create(
        model=model, messages=HI, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    assert len({chunk.id for chunk in chunks}) == 1
    text = [c.delta.content for chunk in chunks for c in chunk.choices if c.delta.content]
    assert text == ["Hel", "lo, ", "世界", "!"]
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["stop"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 18
    assert [chunk for chunk in chunks[:-1] if chunk.usage] == []


@pytest.mark.parametrize("model", ["corp/text", "claude/text"])
def test_the_stream_helper_builds_the_same_answer(client: OpenAI, upstream: Upstream, model: str) -> None:
    with client.chat.completions.stream(model=model, messages=HI) as stream:
        answer = stream.get_final_completion()
    assert answer.choices[0].message.content == TEXT
    assert answer.choices[0].finish_reason == "stop"


def test_a_system_prompt_and_a_conversation_reach_an_anthropic_provider(client: OpenAI, upstream: Upstream) -> None:
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "In French."},
        {"role": "user", "content": "Hi"},
        {"role": "user", "content": "there"},
        {"role": "assistant", "content": "Salut"},
        {"role": "user", "content": "again"},
    ]
    client.chat.completions.create(model="claude/text", messages=messages)
    seen = upstream.wait("text")
    assert [message["role"] for message in seen.json["messages"]] == ["user", "assistant", "user"]
    for part in ("Be brief.", "In French."):
        assert part in json.dumps(seen.json["system"])
    assert seen.json["max_tokens"] >= 1


@pytest.mark.parametrize("model", ["corp/reasoning", "claude/reasoning"])
def test_reasoning_is_kept_apart_from_the_text(client: OpenAI, upstream: Upstream, model: str) -> None:
    message: Any = client.chat.completions.create(model=model, messages=HI).choices[0].message
    assert (message.content, message.reasoning_content) == ("Then speak.", "First think. ")
    chunks = list(client.chat.completions.create(model=model, messages=HI, stream=True))
    deltas: list[Any] = [choice.delta for chunk in chunks for choice in chunk.choices]
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == "First think. "
    assert "".join(delta.content or "" for delta in deltas) == "Then speak."


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("stop", ["STOP", ["never", "STOP"]])
def test_stop_sequences(client: OpenAI, upstream: Upstream, provider: str, stop: Any) -> None:
    answer = client.chat.completions.create(model=f"{provider}/stopped", messages=HI, stop=stop)
    assert answer.choices[0].message.content == "one two "
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(("model", "finish"), [("length", "length"), ("filtered", "content_filter")])
def test_finish_reasons(client: OpenAI, upstream: Upstream, provider: str, model: str, finish: str) -> None:
    answer = client.chat.completions.create(model=f"{provider}/{model}", messages=HI)
    assert answer.choices[0].finish_reason == finish
    chunks = list(client.chat.completions.create(model=f"{provider}/{model}", messages=HI, stream=True))
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == [finish]


# ---- tools -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(("model", "wanted"), [("tool", (PARIS,)), ("tools", (PARIS, TOKYO))])
def test_tool_calls_and_their_results(
    client: OpenAI, upstream: Upstream, provider: str, model: str, wanted: tuple[Any, ...]
) -> None:
    """Called, streamed and not; then the results go back and the answer shows what the provider got."""
    name = f"{provider}/{model}"
    expected = [(use.id, use.name, dict(use.arguments)) for use in wanted]
    answer = client.chat.completions.create(model=name, messages=HI, tools=[WEATHER], tool_choice="auto")
    message = answer.choices[0].message
    assert answer.choices[0].finish_reason == "tool_calls"
    assert calls_of(message) == expected
    chunks = list(client.chat.completions.create(model=name, messages=HI, tools=[WEATHER], stream=True))
    assert streamed_calls(chunks) == expected
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["tool_calls"]
    results: Any = [{"role": "tool", "tool_call_id": use.id, "content": f"mild in {use.id}"} for use in wanted]
    again: Any = [*HI, message, *results]
    last = client.chat.completions.create(model=name, messages=again, tools=[WEATHER])
    told = last.choices[0].message.content
    first = 0 if provider == "claude" else -1  # the provider repeats the result that it looks at
    assert told == f'The tool said "mild in {wanted[first].id}"'


def test_tools_arrive_at_an_anthropic_provider_in_its_own_form(client: OpenAI, upstream: Upstream) -> None:
    client.chat.completions.create(
        model="claude/tool",
        messages=HI,
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        parallel_tool_calls=False,
    )
    seen = upstream.wait("tool").json
    function = WEATHER["function"]
    assert seen["tools"][0]["input_schema"] == function["parameters"]
    assert (seen["tools"][0]["name"], seen["tools"][0]["description"]) == (function["name"], function["description"])
    assert (seen["tool_choice"]["type"], seen["tool_choice"]["name"]) == ("tool", "get_weather")
    assert seen["tool_choice"]["disable_parallel_tool_use"] is True


# ---- images, structure, choices --------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_image_arrives(client: OpenAI, upstream: Upstream, provider: str) -> None:
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    content: Any = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
    ]
    answer = client.chat.completions.create(model=f"{provider}/image", messages=[{"role": "user", "content": content}])
    assert answer.choices[0].message.content == f"image/png {len(PNG)} bytes"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_structured_output(client: OpenAI, upstream: Upstream, provider: str) -> None:
    answer = client.chat.completions.parse(model=f"{provider}/structured", messages=HI, response_format=Person)
    assert answer.choices[0].message.parsed == Person(name="Ada", age=36)


def test_several_choices(client: OpenAI, upstream: Upstream) -> None:
    answer = client.chat.completions.create(model="corp/many", messages=HI, n=2)
    assert [(choice.index, choice.message.content) for choice in answer.choices] == [(0, TEXT), (1, TEXT)]
    texts = {0: "", 1: ""}
    for chunk in client.chat.completions.create(model="corp/many", messages=HI, n=2, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == {0: TEXT, 1: TEXT}


def test_logprobs(client: OpenAI, upstream: Upstream) -> None:
    answer = client.chat.completions.create(model="corp/logprobs", messages=HI, logprobs=True, top_logprobs=1)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert (logprobs.content[0].token, logprobs.content[0].logprob) == ("Yes.", -0.25)
    chunks = client.chat.completions.create(model="corp/logprobs", messages=HI, logprobs=True, stream=True)
    tokens = [
        token.token
        for chunk in chunks
        for choice in chunk.choices
        if choice.logprobs and choice.logprobs.content
        for token in choice.logprobs.content
    ]
    assert tokens == ["Yes", "."]


# ---- unknown members -------------------------------------------------------------------------------------------


def test_unknown_members_pass_both_ways(client: OpenAI, upstream: Upstream) -> None:
    """Numbers keep their digits, members their names; the provider's own members come back."""
    extra = {"vendor_option": {"deep": [1, 2.50, "é"], "big": 12345678901234567890}, "safe_prompt": True}
    answer: Any = client.chat.completions.create(model="corp/text", messages=HI, extra_body=extra)
    seen = upstream.wait("text")
    assert {name: seen.json[name] for name in extra} == extra
    assert b"12345678901234567890" in seen.body
    assert answer.x_vendor == {"kept": True}


def test_unknown_members_of_messages_pass(client: OpenAI, upstream: Upstream) -> None:
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": "x", "vendor": 1}], "vendor": {"a": None}}]
    client.chat.completions.create(model="corp/text", messages=messages)
    assert upstream.wait("text").json["messages"] == messages


# ---- errors ----------------------------------------------------------------------------------------------------

ERRORS: list[tuple[str, type[openai.APIStatusError], str | None]] = [
    ("status-400", openai.BadRequestError, None),
    ("status-401", openai.InternalServerError, "upstream_auth_failed"),
    ("status-403", openai.InternalServerError, "upstream_auth_failed"),
    ("status-404", openai.NotFoundError, None),
    ("status-422", openai.UnprocessableEntityError, None),
    ("status-429", openai.RateLimitError, "upstream_rate_limited"),
    ("status-500", openai.InternalServerError, "upstream_unavailable"),
    ("status-529", openai.InternalServerError, "upstream_unavailable"),
    ("reset", openai.InternalServerError, "upstream_unavailable"),
    ("html", openai.InternalServerError, "upstream_unavailable"),
]


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(("model", "kind", "code"), ERRORS)
def test_errors_are_of_the_right_class(
    client: OpenAI,
    upstream: Upstream,
    model: str,
    kind: type[openai.APIStatusError],
    code: str | None,
    provider: str,
    streamed: bool,
) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(model=f"{provider}/{model}", messages=HI, stream=streamed)
    assert type(caught.value) is kind
    assert caught.value.request_id
    assert code in (None, caught.value.code)
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["message"]


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_error_in_mid_stream_is_raised(client: OpenAI, upstream: Upstream, provider: str) -> None:
    stream = client.chat.completions.create(model=f"{provider}/errorlater", messages=HI, stream=True)
    upstream.wait("errorlater").release()
    chunks: list[Any] = []
    with pytest.raises(openai.APIError) as caught:
        chunks.extend(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text
    assert TEXT.startswith(text)
    assert caught.value.code == "upstream_unavailable"


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_truncated_stream_is_raised(client: OpenAI, upstream: Upstream, provider: str) -> None:
    with pytest.raises(openai.APIError) as caught:
        list(client.chat.completions.create(model=f"{provider}/cut-5", messages=HI, stream=True))
    assert caught.value.code == "upstream_truncated"


@pytest.mark.parametrize("key", ["", "nothing", "sk-pmx-00000000000000000000000000000000", "sk-proj-abcdef"])
def test_a_wrong_key_is_an_authentication_error(gateway: Gateway, key: str) -> None:
    with OpenAI(base_url=gateway.base_url, api_key=key or "x", max_retries=0, timeout=20) as wrong:
        headers: Any = {} if key else {"Authorization": openai.Omit()}
        with pytest.raises(openai.AuthenticationError) as caught:
            wrong.chat.completions.create(model="echo", messages=HI, extra_headers=headers)
    assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"messages": "hi"}, "messages"),
        ({"temperature": "warm"}, "temperature"),
        ({"max_tokens": "many"}, "max_tokens"),
    ],
)
def test_a_wrong_type_is_a_bad_request(client: OpenAI, upstream: Upstream, members: dict[str, Any], param: str) -> None:
    """Whoever judges it, gateway or provider, the client learns which member it was."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": "corp/text", "messages": HI, **members})
    assert caught.value.code == "invalid_type" or param == "messages"
    assert param in (caught.value.param or "")


def test_what_a_provider_cannot_give_is_refused(client: OpenAI, upstream: Upstream) -> None:
    """Logprobs and further choices are not left out in silence: the caller would wait for them."""
    for members in ({"logprobs": True}, {"n": 2}):
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(**{"model": "claude/text", "messages": HI, **members})
        assert (caught.value.code, caught.value.param) == ("unsupported_parameter", next(iter(members)))


# ---- retries, time, leaving ------------------------------------------------------------------------------------


def test_the_sdk_does_not_retry_what_it_is_told_not_to(gateway: Gateway, upstream: Upstream) -> None:
    with (
        OpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=2, timeout=20) as eager,
        pytest.raises(openai.InternalServerError),
    ):
        eager.chat.completions.create(model="corp/status-401", messages=HI)
    assert len(upstream.seen("status-401")) == 1


def test_a_client_that_gives_up_ends_the_call(gateway: Gateway, upstream: Upstream) -> None:
    with (
        OpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0, timeout=0.2) as hasty,
        pytest.raises(openai.APITimeoutError),
    ):
        hasty.chat.completions.create(model="corp/stall", messages=HI)
    upstream.wait("stall").wait_gone()


def test_closing_a_stream_ends_the_call(client: OpenAI, upstream: Upstream) -> None:
    with client.chat.completions.create(model="corp/huge-64", messages=HI, stream=True) as stream:
        next(stream)
    upstream.wait("huge-64").wait_gone()


def test_the_asynchronous_client(gateway: Gateway, upstream: Upstream) -> None:
    async def talk() -> None:
        async with AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0, timeout=20) as client:
            create = client.chat.completions.create
            answers = await asyncio.gather(*(create(model=f"{p}/text", messages=HI) for p in PROVIDERS * 8))
            assert {answer.choices[0].message.content for answer in answers} == {TEXT}
            for provider in PROVIDERS:
                stream = await create(model=f"{provider}/tools", messages=HI, tools=[WEATHER], stream=True)
                assert len(streamed_calls([chunk async for chunk in stream])) == 2
            with pytest.raises(openai.RateLimitError):
                await create(model="corp/status-429", messages=HI)
            task = asyncio.create_task(create(model="claude/stall", messages=HI))
            seen = await asyncio.to_thread(upstream.wait, "stall")
            task.cancel()
            await asyncio.to_thread(seen.wait_gone)
            await asyncio.gather(task, return_exceptions=True)
            assert [model.id async for model in client.models.list()]

    asyncio.run(talk())


# ---- headers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", PROVIDERS)
def test_headers_that_the_sdk_shows(client: OpenAI, upstream: Upstream, provider: str) -> None:
    raw = client.chat.completions.with_raw_response.create(model=f"{provider}/text", messages=HI)
    assert raw.headers["x-polymux-provider"] == provider
    assert raw.headers["x-polymux-attempts"] == "1"
    assert raw.parse().choices[0].message.content == TEXT
    answer = client.chat.completions.create(model=f"{provider}/text", messages=HI)
    assert answer._request_id


def test_the_echo_function_has_usage_and_the_shape_of_any_model(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="echo", messages=HI)
    assert answer.choices[0].message.content == "Hi"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.id
    assert answer.created

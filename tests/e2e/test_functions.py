"""Function models behind the real gateway: tools, errors, other models, places, leaving, files that change."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any, Final

import openai
import pytest

from support.gateway import KEY, PATIENCE, Gateway
from support.raw import post
from support.settings import providers
from support.upstream import Upstream

HI: Final = [{"role": "user", "content": "Hi"}]
TEXT: Final = "Hello, 世界!"

MODELS: Final = """
import asyncio
import threading
import re
import time

from polymux import ModelError, model

proceed, cancelled = threading.Event(), asyncio.Event()


@model("weather")
def weather(messages, call):
    if messages[-1]["role"] == "tool":
        return f"It is {messages[-1]['content']}."
    yield {"reasoning_content": "I shall look."}
    yield {"tool_calls": [{"function": {"name": "look", "arguments": {"city": "東京"}}}]}
    yield {"usage": {"prompt_tokens": 11, "completion_tokens": 22}}


@model("tired")
async def tired(messages):
    raise ModelError(429, "come back later", code="tired", retry_after=7)


@model("tired-midway")
async def tired_midway(messages):
    yield "Hello"
    raise ModelError(503, "and good night", code="tired")


@model("number")
def number(messages):
    return 7


@model("broken")
def broken(messages):
    raise KeyError("the secret detail")


@model("relay")
async def relay(messages, call):
    call.log("asking", {"model": "corp/gate"})
    async for piece in call.chat("corp/gate", messages, **call.params, stream=True):
        yield piece


@model("relay-thread")
def relay_thread(messages, call):
    yield from call.chat("corp/gate", messages, **call.params, stream=True)


@model("one-at-a-time", concurrency=1, queue=0)
def one_at_a_time(messages):
    yield "started"
    proceed.wait()
    yield ", done"


@model("proceed")
def let(messages):
    proceed.set()
    return "yes"


@model("ponder")
async def ponder(messages):
    try:
        yield "hm"
        await asyncio.sleep(1000)
    finally:
        cancelled.set()


@model("cancelled")
async def was_cancelled(messages):
    await cancelled.wait()
    return "yes"


@model("stuck")
def stuck(messages):
    yield "stuck"
    time.sleep(1000)
"""


@pytest.fixture(scope="module")
def started(scripted: Upstream) -> Iterator[Gateway]:
    config = f'[auth]\nkeys = ["{KEY}"]\n\n[limits]\nrpm = 100000\n\n[defaults]\nretries = 0\n\n{providers(scripted)}'
    with Gateway(config, arguments=("--functions", "models.py"), files={"models.py": MODELS}) as running:
        yield running


@pytest.fixture
def serving(started: Gateway, upstream: Upstream) -> Gateway:
    return started


@pytest.fixture
def client(serving: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=serving.base_url, api_key=serving.key, max_retries=0) as client:
        yield client


def said(answer: Any) -> str:
    assert answer.status == 200, answer.body
    return str(answer.json()["choices"][0]["message"]["content"])


# ---- results -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [True, False])
def test_a_tool_loop_with_the_sdk(client: openai.OpenAI, streamed: bool) -> None:
    """Call, result, answer: ids, indices, finish and usage are what the SDK needs."""
    messages: list[Any] = list(HI)
    if streamed:
        with client.chat.completions.stream(
            model="weather", messages=messages, stream_options={"include_usage": True}
        ) as stream:
            completion: Any = stream.get_final_completion()
    else:
        completion = client.chat.completions.create(model="weather", messages=messages)
    (choice,) = completion.choices
    (call,) = choice.message.tool_calls
    assert choice.finish_reason == "tool_calls"
    assert (call.type, call.function.name, call.function.arguments) == ("function", "look", '{"city":"東京"}')
    assert choice.message.reasoning_content == "I shall look."
    assert (completion.usage.prompt_tokens, completion.usage.total_tokens) == (11, 33)
    messages += [
        {"role": "assistant", "tool_calls": [call.model_dump(include={"id", "type", "function"})]},
        {"role": "tool", "tool_call_id": call.id, "content": "raining"},
    ]
    completion = client.chat.completions.create(model="weather", messages=messages)
    assert completion.choices[0].message.content == "It is raining."


def test_a_wrong_result_is_told_to_client_and_author(serving: Gateway) -> None:
    error = serving.chat("number").error()
    assert error["message"] == ("the function model 'number' gave a result of type int; it is to give text or a dict")
    assert (error["type"], error["code"]) == ("server_error", "internal_error")
    assert serving.said("models.py:")


# ---- errors ------------------------------------------------------------------------------------------------------


def test_an_error_with_a_status(serving: Gateway) -> None:
    for streamed in (False, True):
        answer = serving.chat("tired", stream=streamed)
        assert (answer.status, answer.headers["retry-after"]) == (429, "7")
        assert answer.error() == {
            "message": "come back later",
            "type": "rate_limit_error",
            "param": None,
            "code": "tired",
        }


def test_an_error_in_mid_stream(serving: Gateway) -> None:
    answer = serving.chat("tired-midway", stream=True)
    *_, last = answer.events()
    assert answer.status == 200
    assert b'"and good night"' in last
    assert b'"tired"' in last
    assert serving.chat("tired-midway").status == 503


def test_a_fault_is_in_the_log_with_its_line(serving: Gateway) -> None:
    answer = serving.chat("broken")
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert answer.error()["message"] == "the function model 'broken' failed: KeyError"
    for part in ('models.py", line', "KeyError: 'the secret detail'", answer.headers["x-request-id"]):
        assert serving.said(part)


# ---- other models ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["relay", "relay-thread"])
def test_pieces_of_another_model_come_as_they_are_made(serving: Gateway, upstream: Upstream, model: str) -> None:
    with serving.wire() as wire:
        wire.send(post(serving.key, {"model": model, "messages": HI, "stream": True}))
        seen = upstream.wait("gate")
        seen.release(2)
        assert wire.head().status == 200
        events = wire.events()
        assert b'"role":"assistant"' in next(events)
        assert b"Hel" in next(events)
        seen.release(100)
        assert b"[DONE]" in list(events)
    assert said(serving.chat("corp/text")) == TEXT


def test_what_a_function_logs(serving: Gateway, upstream: Upstream) -> None:
    with serving.wire() as wire:
        wire.send(post(serving.key, {"model": "relay", "messages": HI}))
        upstream.wait("gate").release(100)
        answer = wire.answer()
    assert serving.said(f'{answer.headers["x-request-id"]} relay: asking {{"model":"corp/gate"}}')


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("model", ["relay", "relay-thread"])
def test_leaving_ends_the_call_of_the_other_model(
    serving: Gateway, upstream: Upstream, model: str, streamed: bool
) -> None:
    with serving.wire() as wire:
        wire.send(post(serving.key, {"model": model, "messages": HI, "stream": streamed}))
        seen = upstream.wait("gate")
        seen.release(2)
        wire.leave()
    seen.wait_gone()
    assert not seen.done.is_set()


# ---- the loop and the places -------------------------------------------------------------------------------------


def test_a_blocking_function_stalls_nobody_and_its_places_are_bounded(serving: Gateway) -> None:
    with serving.wire() as wire:
        wire.send(post(serving.key, {"model": "one-at-a-time", "messages": HI, "stream": True}))
        wire.head()
        events = wire.events()
        assert b"started" in next(events)
        busy = serving.chat("one-at-a-time")
        assert (busy.status, busy.error()["code"]) == (503, "overloaded")
        assert int(busy.headers["retry-after"]) >= 1
        assert said(serving.chat("proceed")) == "yes"
        assert b", done" in next(events)


def test_leaving_cancels_the_function(serving: Gateway) -> None:
    with serving.wire() as wire:
        wire.send(post(serving.key, {"model": "ponder", "messages": HI, "stream": True}))
        wire.head()
        wire.leave()
    assert said(serving.chat("cancelled")) == "yes"


def test_a_function_that_never_ends_does_not_keep_the_gateway() -> None:
    config = f'[auth]\nkeys = ["{KEY}"]\n'
    with Gateway(config, arguments=("--functions", "models.py"), files={"models.py": MODELS}) as gateway:
        with gateway.wire() as wire:
            wire.send(post(gateway.key, {"model": "stuck", "messages": HI, "stream": True}))
            wire.head()
            assert b"stuck" in next(wire.events())
        assert gateway.stop() == 0


# ---- files that change -------------------------------------------------------------------------------------------

CATS: Final = "from polymux import model\n\n\n@model('{0}')\ndef cat(messages):\n    return '{1}'\n"


def test_a_file_that_never_ends_loading_does_not_keep_the_gateway_from_ending() -> None:
    config = f'[server]\nfunctions_dir = "."\n\n[auth]\nkeys = ["{KEY}"]\n'
    with Gateway(config, files={"cats.py": CATS.format("cat", "meow")}) as gateway:
        begun = gateway.home / "begun"
        (gateway.home / "slow.py").write_text(f"import time\nopen({str(begun)!r}, 'w').close()\ntime.sleep(1000)\n")
        until = time.monotonic() + PATIENCE
        while not begun.exists():
            assert time.monotonic() < until, gateway.log()
        assert said(gateway.chat("cat")) == "meow"
        assert gateway.stop() == 0


def test_files_of_a_folder_come_change_and_break_while_the_rest_is_served() -> None:
    config = f'[server]\nfunctions_dir = "."\n\n[auth]\nkeys = ["{KEY}"]\n\n[limits]\nrpm = 0\n'
    files = {"cats.py": CATS.format("cat", "meow"), "dogs.py": "1 / 0\n"}
    with Gateway(config, files=files) as gateway:

        def becomes(model: str, text: str) -> None:
            until = time.monotonic() + PATIENCE
            while (answer := gateway.chat(model)).status != 200 or said(answer) != text:
                assert time.monotonic() < until, gateway.log()

        assert said(gateway.chat("cat")) == "meow"
        assert gateway.said("dogs.py: ZeroDivisionError: division by zero (line 1 of dogs.py)")
        assert re.search(r"^  note    not served: .*dogs\.py: ZeroDivisionError", gateway.log(), re.MULTILINE)
        (gateway.home / "dogs.py").write_text(CATS.format("dog", "woof"))
        becomes("dog", "woof")
        (gateway.home / "cats.py").write_text(CATS.format("cat", "purr"))
        becomes("cat", "purr")
        (gateway.home / "cats.py").write_text("def (")
        (gateway.home / "birds.py").write_text(CATS.format("bird", "tweet"))
        becomes("bird", "tweet")
        assert said(gateway.chat("cat")) == "purr"
        assert gateway.said("cats.py: SyntaxError")
        assert gateway.said("its models of before are still served: cat")

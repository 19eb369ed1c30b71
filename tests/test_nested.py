"""Functions that ask other models, through a real engine: answers, streams, failures, limits, leaving, depth."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Final

import pytest

from polymux import ModelError
from polymux.engine import Engine
from polymux.functions import FunctionCall, Functions
from polymux.nested import DEPTH, ROOM, Memory
from polymux.providers.dialects import DIALECTS
from polymux.routing.registry import Registry
from polymux.run import CLIENT_GONE, Snapshot
from polymux.store.memory import LocalCounters, LocalMemory
from polymux.surfaces.chat import Chat
from polymux.transport import Transport
from polymux.types import Deployment, Key, Record, Route, Timeouts
from support.peer import looped, until
from support.raw import payloads
from support.upstream import KEY, Upstream

HI: Final = [{"role": "user", "content": "Hi"}]
TEXT: Final = "Hello, 世界!"
TOOLS: Final = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]

Function = Callable[..., Any]
Form = Callable[[str], Function]  # of a function, by the model that it asks


class House:
    """An engine that serves functions and the scripted provider's models, by their own names."""

    def __init__(self, upstream: Upstream, *models: str, **functions: Function) -> None:
        self.records: list[Record] = []
        self.key = Key("static-1", "ada")
        self.engine = Engine(DIALECTS, Transport(), LocalCounters(lambda: 0.0), self, LocalMemory())
        self.functions = Functions(functions)
        headers = (("authorization", f"Bearer {KEY}"),)
        to = [Deployment(f"corp/{name}", "corp", name, "openai", f"{upstream.url}/v1", headers) for name in models]
        to += [Deployment(f"functions/{name}", "functions", name, "function") for name in functions]
        self.timeouts = Timeouts()
        self._routes = [Route(one.model, (one,), retries=0) for one in to]
        self._keeper = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await self.engine.close()

    def append(self, records: Sequence[Record]) -> None:
        self.records += records

    def close(self) -> None: ...

    def start(self, model: str, stream: bool = False, **members: Any) -> tuple[Memory, asyncio.Task[None]]:
        surface, sink = Chat(), Memory()
        body = json.dumps({"model": model, "messages": HI, "stream": stream, **members}).encode()
        call = surface.decode(body, "req_outer", self.key)
        routes = [Route(r.name, r.deployments, retries=0, timeouts=self.timeouts) for r in self._routes]
        snapshot = Snapshot(Registry(routes, (), routes[0], 0), self.functions)
        return sink, asyncio.create_task(self.engine.run(call, surface, snapshot, sink))

    async def ask(self, model: str, stream: bool = False, **members: Any) -> Any:
        """The answer as JSON, or the chunks of it."""
        sink, _ = self.start(model, stream, **members)
        body = b"".join([data async for data in pieces(sink)])
        return [json.loads(event) for event in payloads(body) if event != b"[DONE]"] if stream else json.loads(body)

    def record(self, model: str) -> Record:
        (found,) = [record for record in self.records if record.model == model]
        return found


async def pieces(sink: Memory) -> AsyncIterator[bytes]:
    while data := await sink.read():
        yield data


def content(answer: Any) -> Any:
    if isinstance(answer, dict):
        return answer["choices"][0]["message"]["content"]
    return "".join(choice["delta"].get("content") or "" for chunk in answer for choice in chunk["choices"])


# ---- forms: in both kinds of function, whole and streamed, passed on and worked on ------------------------------


def a_whole(model: str) -> Function:
    async def function(messages: Any, call: FunctionCall) -> Any:
        return await call.chat(model, messages, **call.params)

    return function


def a_stream(model: str) -> Function:
    async def function(messages: Any, call: FunctionCall) -> AsyncIterator[Any]:
        async for piece in call.chat(model, messages, **call.params, stream=True):
            yield piece

    return function


def a_returned(model: str) -> Function:
    async def function(messages: Any, call: FunctionCall) -> Any:
        return call.chat(model, messages, **call.params, stream=True)

    return function


def t_whole(model: str) -> Function:
    return lambda messages, call: call.chat(model, messages, **call.params)


def t_stream(model: str) -> Function:
    def function(messages: Any, call: FunctionCall) -> Iterator[Any]:
        yield from call.chat(model, messages, **call.params, stream=True)

    return function


def t_returned(model: str) -> Function:
    return lambda messages, call: call.chat(model, messages, **call.params, stream=True)


FORMS: Final = (a_whole, a_stream, a_returned, t_whole, t_stream, t_returned)


@looped
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize("stream", [False, True])
async def test_another_model_answers(upstream: Upstream, form: Form, stream: bool) -> None:
    house = House(upstream, "told", f=form("told"))
    assert content(await house.ask("f", stream, temperature=0.5)) == "Hi"
    (seen,) = upstream.seen("told")
    assert (seen.json["messages"], seen.json["temperature"]) == (HI, 0.5)
    outer, inner = house.record("f"), house.record("told")
    assert (inner.parent_id, inner.key_id, inner.status) == (outer.id, outer.key_id, 200)
    assert inner.id != outer.id
    assert (outer.usage_source, outer.output_tokens) == ("upstream", inner.output_tokens)


@looped
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize("stream", [False, True])
async def test_tool_calls_and_reasoning_pass_unharmed(upstream: Upstream, form: Form, stream: bool) -> None:
    house = House(upstream, "tools", "reasoning", tooling=form("tools"), thinking=form("reasoning"))
    answer = await house.ask("tooling", stream, tools=TOOLS)
    direct = await house.ask("tools", stream, tools=TOOLS)
    assert called(answer) == called(direct) != []
    assert finish(answer) == "tool_calls"
    assert reasoned(await house.ask("thinking", stream)) == "First think. "


def called(answer: Any) -> list[Any]:
    """Id, name and arguments of the tool calls."""
    if isinstance(answer, dict):
        calls = answer["choices"][0]["message"]["tool_calls"]
        return [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls]
    found: dict[int, list[str]] = {}
    for chunk in answer:
        for choice in chunk["choices"]:
            for call in choice["delta"].get("tool_calls") or ():
                held = found.setdefault(call["index"], [call.get("id", ""), call["function"].get("name", ""), ""])
                held[2] += call["function"].get("arguments", "")
    return [tuple(found[index]) for index in sorted(found)]


def finish(answer: Any) -> str:
    chunks = [answer] if isinstance(answer, dict) else answer
    (found,) = [c["finish_reason"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"]]
    return str(found)


def reasoned(answer: Any) -> str:
    if isinstance(answer, dict):
        return str(answer["choices"][0]["message"]["reasoning_content"])
    return "".join(c["delta"].get("reasoning_content") or "" for chunk in answer for c in chunk["choices"])


@looped
async def test_answers_can_be_worked_with(upstream: Upstream) -> None:
    async def twice(messages: Any, call: FunctionCall) -> str:
        first = await call.chat("told", messages)
        second = await call.chat("told", [*messages, first.message, {"role": "user", "content": first}])
        return f"{first} and {second.upper()}"

    house = House(upstream, "told", twice=twice)
    assert content(await house.ask("twice")) == "Hi and HI"
    assert house.record("twice").usage_source == "estimated"


@looped
async def test_models_are_asked_side_by_side(upstream: Upstream) -> None:
    async def both(messages: Any, call: FunctionCall) -> str:
        return " ".join(await asyncio.gather(call.chat("gate", messages), call.chat("told", messages)))

    house = House(upstream, "gate", "told", both=both)
    asked = asyncio.create_task(house.ask("both"))
    seen = await asyncio.to_thread(upstream.wait, "gate")
    await until(lambda: len(house.records) == 1)  # the other has been answered meanwhile
    seen.release(100)
    assert content(await asked) == f"{TEXT} Hi"


@looped
async def test_what_cannot_be_sent_is_the_functions_fault(upstream: Upstream, caplog: pytest.LogCaptureFixture) -> None:
    async def f(messages: Any, call: FunctionCall) -> Any:
        return await call.chat("told", [{"role": "user", "content": object()}])

    answer = await House(upstream, "told", f=f).ask("f")
    assert answer["error"]["message"] == "the function model 'f' failed: TypeError"
    assert "a object cannot be sent to a model" in caplog.text


# ---- failures ----------------------------------------------------------------------------------------------------


@looped
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("status-400", 400, "invalid_value"),
        ("status-429", 429, "upstream_rate_limited"),
        ("status-503", 503, "upstream_unavailable"),
        ("cut-0", 502, "upstream_truncated"),
        ("nowhere", 404, "model_not_found"),
    ],
)
async def test_a_failure_that_is_not_caught_is_the_clients(
    upstream: Upstream, form: Form, model: str, status: int, code: str
) -> None:
    house = House(upstream, "status-400", "status-429", "status-503", "cut-0", f=form(model))
    error = (await house.ask("f"))["error"]
    assert error["code"] == code
    assert house.record("f").status == house.record(model).status == status


@looped
@pytest.mark.parametrize("form", [a_stream, t_stream], ids=lambda form: form.__name__)
async def test_a_failure_in_mid_stream_comes_after_what_was_said(upstream: Upstream, form: Form) -> None:
    house = House(upstream, "cut-4", f=form("cut-4"))
    *chunks, last = await house.ask("f", stream=True)
    assert content(chunks)
    assert last["error"]["code"] == "upstream_truncated"


@looped
async def test_a_failure_can_be_caught(upstream: Upstream) -> None:
    async def careful(messages: Any, call: FunctionCall) -> str:
        try:
            return str(await call.chat("status-429", messages))
        except ModelError as error:
            return f"{error.status} {error.code} {error.retry_after}"

    def careful_thread(messages: Any, call: FunctionCall) -> str:
        try:
            return str(call.chat("status-429", messages))
        except ModelError as error:
            return f"{error.status} {error.code} {error.retry_after}"

    house = House(upstream, "status-429", careful=careful, careful_thread=careful_thread)
    for name in ("careful", "careful_thread"):
        assert content(await house.ask(name)) == "429 upstream_rate_limited 7.0"


# ---- limits ------------------------------------------------------------------------------------------------------


@looped
async def test_the_keys_limit_counts_each_call(upstream: Upstream) -> None:
    house = House(upstream, "told", f=a_whole("told"))
    house.key = Key("static-1", "ada", rpm=3)
    assert content(await house.ask("f")) == "Hi"
    assert (await house.ask("f"))["error"]["code"] == "rate_limit_exceeded"  # the third was its own, the fourth not
    assert len(upstream.seen("told")) == 1


@looped
async def test_a_function_may_ask_models_that_the_key_may_not(upstream: Upstream) -> None:
    house = House(upstream, "told", f=a_whole("told"))
    house.key = Key("static-1", "ada", models=("f",))
    assert (await house.ask("told"))["error"]["code"] == "model_not_allowed"
    assert content(await house.ask("f")) == "Hi"


@looped
async def test_the_deadline_is_inherited(upstream: Upstream) -> None:
    """The outer call's time is up while the inner one waits: both end."""
    house = House(upstream, "stall", f=a_whole("stall"))
    house.timeouts = Timeouts(total=0.2)
    assert (await house.ask("f"))["error"]["code"] == "upstream_timeout"
    await asyncio.to_thread(upstream.wait("stall").wait_gone)


@looped
@pytest.mark.parametrize("form", [a_whole, t_whole, a_stream], ids=lambda form: form.__name__)
async def test_recursion_is_bounded(upstream: Upstream, form: Form) -> None:
    house = House(upstream, f=form("f"))
    error = (await house.ask("f"))["error"]
    assert error["message"] == f"the function model 'f' may not call 'f': {DEPTH} such calls are nested already"
    assert len(house.records) == DEPTH + 1


# ---- leaving -----------------------------------------------------------------------------------------------------


@looped
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize("model", ["stall", "gate"])
async def test_a_client_that_leaves_ends_the_inner_call(upstream: Upstream, form: Form, model: str) -> None:
    house = House(upstream, model, f=form(model))
    sink, running = house.start("f", stream=True)
    seen = await asyncio.to_thread(upstream.wait, model)
    if model == "gate" and form not in (a_whole, t_whole):
        seen.release(3)
        await sink.read()
    running.cancel()
    await asyncio.wait({running})
    await asyncio.to_thread(seen.wait_gone)
    assert [house.record(name).status for name in ("f", model)] == [CLIENT_GONE, CLIENT_GONE]


@looped
@pytest.mark.parametrize("fails", [False, True])
async def test_a_function_that_goes_on_without_the_rest_ends_the_inner_call(upstream: Upstream, fails: bool) -> None:
    async def first(messages: Any, call: FunctionCall) -> str:
        async for piece in call.chat("gate", messages, stream=True):
            if piece:
                assert not fails
                return str(piece)
        return ""

    def first_in_thread(messages: Any, call: FunctionCall) -> str:
        pieces = call.chat("gate", messages, stream=True)
        assert not fails
        return next(piece for piece in pieces if piece)

    for function in (first, first_in_thread):
        house = House(upstream, "gate", f=function)
        asked = asyncio.create_task(house.ask("f"))
        if fails and function is first_in_thread:
            assert (await asked)["error"]["code"] == "internal_error"
            continue
        seen = await asyncio.to_thread(upstream.wait, "gate")
        seen.release(3)
        answer = await asked
        assert ("error" in answer) is fails
        await asyncio.to_thread(seen.wait_gone)
        assert house.record("gate").status == CLIENT_GONE
        upstream.clear()


@looped
async def test_a_call_that_is_left_alone_ends_with_the_function(upstream: Upstream) -> None:
    """A task of the function's own that nobody waits for."""
    tasks: list[asyncio.Task[Any]] = []

    async def careless(messages: Any, call: FunctionCall) -> str:
        tasks.append(asyncio.ensure_future(call.chat("stall", messages)))
        await asyncio.to_thread(upstream.wait, "stall")
        return "done"

    house = House(upstream, "stall", f=careless)
    assert content(await house.ask("f")) == "done"
    await asyncio.to_thread(upstream.wait("stall").wait_gone)
    await asyncio.wait(tasks)
    assert tasks[0].cancelled()


@looped
async def test_a_function_that_reads_slowly_holds_the_upstream(upstream: Upstream) -> None:
    proceed, started = asyncio.Event(), asyncio.Event()
    sizes: list[int] = []

    async def slow(messages: Any, call: FunctionCall) -> str:
        size = 0
        async for piece in call.chat("huge-64", messages, stream=True):
            size += len(piece)
            started.set()
            await proceed.wait()
        sizes.append(size)
        return "read"

    house = House(upstream, "huge-64", f=slow)
    asked = asyncio.create_task(house.ask("f"))
    await started.wait()
    seen = upstream.wait("huge-64")
    assert not await asyncio.to_thread(seen.done.wait, 0.3)
    proceed.set()
    assert content(await asked) == "read"
    assert sizes[0] >= 64 << 20


# ---- the sink ----------------------------------------------------------------------------------------------------


@looped
async def test_the_sink_is_bounded() -> None:
    sink = Memory()
    sink.start(200, b"")
    assert sink.started
    sink.write(b"x" * (ROOM - 1))
    assert not sink.full
    sink.write(b"x")
    assert sink.full
    draining = asyncio.create_task(sink.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    assert len(await sink.read()) == ROOM
    await draining
    sink.end(b"last")
    assert [await sink.read(), await sink.read()] == [b"last", b""]


@looped
async def test_a_sink_that_nobody_writes_to_any_more() -> None:
    sink = Memory()
    reading = asyncio.create_task(sink.read())
    await asyncio.sleep(0)
    sink.close()
    assert await reading == b""
    assert not sink.ended
    sink.write(b"x" * ROOM)
    await sink.drain()

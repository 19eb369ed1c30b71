"""The engine with real parts around it, a recording client at one end and the scripted provider at the other."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import pytest
from msgspec import structs

from polymux.engine import ERROR_BODY
from polymux.errors import Failure
from polymux.functions import Functions
from polymux.hooks.base import Hook
from polymux.routing.plan import Step
from polymux.routing.registry import Registry
from polymux.run import CLIENT_GONE, Run, Snapshot
from polymux.schema.chat import Chunk
from polymux.surfaces.chat import Chat
from polymux.types import Call, Deployment, Grant, Key, Record, Route, Timeouts
from support.house import Client, House, error, route
from support.peer import looped
from support.scripts import JSON, Script
from support.upstream import Upstream

TEXT: Final = "Hello, 世界!"


# ---- good answers ----------------------------------------------------------------------------------------------


@looped
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_and_its_record(upstream: Upstream, dialect: str, stream: bool) -> None:
    house = House(upstream)
    client = await house.ask(getattr(house, dialect)("text"), stream=stream)
    provider = {"openai": "corp", "anthropic": "claude"}[dialect]
    assert (client.status, client.text()) == (200, TEXT)
    assert client.head["x-polymux-provider"] == provider
    assert client.head["x-polymux-model"] == "text"
    assert client.head["x-polymux-attempts"] == "1"
    assert client.head["x-polymux-cache"] == "off"
    assert "x-ratelimit-limit-requests" not in client.head
    record = house.record
    assert (record.id, record.key_id, record.key_name, record.tenant) == ("req_0", "static-1", "ada", "acme")
    assert (record.surface, record.model, record.provider, record.upstream_model) == (
        "chat",
        "public",
        provider,
        "text",
    )
    assert (record.status, record.error_code, record.stream, record.attempts) == (200, None, stream, 1)
    assert (record.output_tokens, record.cached_tokens, record.usage_source) == (7, 3, "upstream")
    assert record.duration_ms > 0
    assert record.first_token_ms is not None
    if stream:
        assert client.events()[-1] == b"[DONE]"


@looped
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("stream", [False, True])
async def test_the_record_is_appended_before_the_last_byte(upstream: Upstream, dialect: str, stream: bool) -> None:
    house = House(upstream)
    await house.ask(getattr(house, dialect)("text"), stream=stream)
    kinds = [kind for kind, _ in house.log]
    assert kinds[-1] == "end"
    assert kinds.count("record") == 1
    assert kinds.index("record") < kinds.index("end")
    if stream:
        assert kinds.index("start") < kinds.index("record")
        assert house.log[-1][1].endswith(b"data: [DONE]\n\n")


@looped
async def test_the_first_content_commits(upstream: Upstream) -> None:
    """Nothing is sent for a role alone; the first content takes what was held back along."""
    house = House(upstream)
    client, running = house.start(route(house.openai("gate")), stream=True)
    seen = await asyncio.to_thread(upstream.wait, "gate")
    seen.release(1)  # the role
    await asyncio.to_thread(lambda: None)
    assert client.status == 0
    seen.release(1)  # the first content
    await client.wrote.wait()
    assert client.status == 200
    assert client.text() == "Hel"
    assert [kind for kind, _ in house.log] == ["start", "write"]
    seen.release(100)
    await running
    assert client.text() == TEXT


@looped
async def test_a_stream_that_was_asked_for_and_ignored(upstream: Upstream) -> None:
    whole = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "all"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
    upstream.script("plain", Script(headers=JSON, frames=(json.dumps(whole).encode(),)))
    house = House(upstream)
    client = await house.ask(house.openai("plain"), stream=True)
    assert (client.status, client.text(), client.events()[-1]) == (200, "all", b"[DONE]")
    assert house.record.output_tokens == 2


@looped
async def test_a_slow_client_makes_the_upstream_wait(upstream: Upstream) -> None:
    house = House(upstream)
    client, running = house.start(route(house.openai("gate")), stream=True)
    client.full = True
    seen = await asyncio.to_thread(upstream.wait, "gate")
    seen.release(3)
    await client.draining.wait()
    house.transport.expire(asyncio.get_running_loop().time() + 500.0)  # not the upstream's fault: no timeout
    client.drained.set()
    seen.release(100)
    await running
    assert (client.status, client.text()) == (200, TEXT)


# ---- limits ----------------------------------------------------------------------------------------------------


@looped
async def test_a_spent_limit_is_429_with_all_its_headers(upstream: Upstream) -> None:
    house = House(upstream)
    house.key = Key("static-1", "ada", rpm=1)
    good = await house.ask(house.openai("text"))
    assert good.head["x-ratelimit-limit-requests"] == "1"
    assert good.head["x-ratelimit-remaining-requests"] == "0"
    refused = await house.ask(house.openai("text"))
    assert refused.status == 429
    assert (error(refused)["type"], error(refused)["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert int(refused.head["retry-after"]) >= 60
    assert refused.head["x-ratelimit-remaining-requests"] == "0"
    assert refused.head["x-ratelimit-reset-requests"] == "1m1s"
    assert refused.head["x-polymux-attempts"] == "0"
    assert "x-polymux-provider" not in refused.head
    assert [(record.status, record.attempts) for record in house.ledger.records] == [(200, 1), (429, 0)]
    assert len(upstream.requests) == 1


# ---- failures --------------------------------------------------------------------------------------------------

BEFORE_CONTENT: Final = ["status-503", "status-429", "status-401", "close", "html", "cut-1", "errorinside"]


@looped
@pytest.mark.parametrize("model", BEFORE_CONTENT)
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_a_failure_before_content_is_the_next_ones_turn(upstream: Upstream, model: str, dialect: str) -> None:
    house = House(upstream)
    client = await house.ask(getattr(house, dialect)(model), house.anthropic("text"), stream=True)
    assert (client.status, client.text()) == (200, TEXT)
    assert client.head["x-polymux-provider"] == "claude"
    assert client.head["x-polymux-attempts"] == "2"
    assert (house.record.status, house.record.attempts, house.record.provider) == (200, 2, "claude")
    ids = {json.loads(event)["id"] for event in client.events() if event != b"[DONE]"}
    assert len(ids) == 1, "parts of the failed attempt reached the client"


@looped
async def test_fallback_routes_come_after_the_route(upstream: Upstream) -> None:
    house = House(upstream)
    first = route(house.openai("status-503"), retries=0)
    client, running = house.start(first, Route("other", (house.openai("text"),), "ordered"))
    await running
    assert (client.status, client.text()) == (200, TEXT)
    assert (house.record.model, house.record.upstream_model, house.record.attempts) == ("public", "text", 2)


@looped
async def test_each_route_has_turns_of_its_own(upstream: Upstream) -> None:
    """Two routes that are asked for in turn: each goes round."""
    house = House(upstream)
    seen: dict[str, list[str]] = {"a": [], "b": []}
    to = [structs.replace(house.openai("text"), id=f"{one}/m", provider=one) for one in ("x", "y")]
    for name in "abababab":
        client, running = house.start(Route(name, tuple(to), "round-robin"))
        await running
        seen[name].append(client.head["x-polymux-provider"])
    assert [sorted(names) for names in seen.values()] == [["x", "x", "y", "y"]] * 2


@looped
@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("status-400", 400, "invalid_value"),
        ("status-401", 502, "upstream_auth_failed"),
        ("status-503", 503, "upstream_unavailable"),
        ("close", 502, "upstream_unavailable"),
        ("cut-0", 502, "upstream_truncated"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_one_record_for_what_failed(upstream: Upstream, model: str, status: int, code: str, stream: bool) -> None:
    house = House(upstream)
    client, running = house.start(route(house.openai(model), retries=0), stream=stream)
    await running
    assert (client.status, error(client)["code"]) == (status, code)
    assert (house.record.status, house.record.error_code, house.record.usage_source) == (status, code, "none")
    assert house.record.first_token_ms is None
    assert [kind for kind, _ in house.log] == ["record", "start", "end"]


@looped
async def test_every_attempt_was_a_429(upstream: Upstream) -> None:
    house = House(upstream)
    client, running = house.start(route(house.openai("status-429"), house.anthropic("status-429"), retries=1))
    await running
    assert (client.status, error(client)["code"]) == (429, "upstream_rate_limited")
    assert client.head["retry-after"] == "7"
    assert house.record.attempts == 2


@looped
async def test_a_refused_credential_is_not_to_be_tried_again(upstream: Upstream) -> None:
    house = House(upstream)
    client = await house.ask(house.openai("status-401"))
    assert client.head["x-should-retry"] == "false"


@looped
@pytest.mark.parametrize(("dialect", "model"), [("openai", "cut-4"), ("anthropic", "cut-6"), ("openai", "torn-4")])
async def test_a_failure_after_content_is_told_in_the_stream(upstream: Upstream, dialect: str, model: str) -> None:
    house = House(upstream)
    client = await house.ask(getattr(house, dialect)(model), house.openai("text"), stream=True)
    assert client.status == 200
    *_, last = client.events()
    assert json.loads(last)["error"]["code"] == "upstream_truncated"
    assert b"[DONE]" not in client.body
    assert (house.record.status, house.record.error_code, house.record.attempts) == (502, "upstream_truncated", 1)
    assert house.record.first_token_ms is not None
    assert [kind for kind, _ in house.log][-2:] == ["record", "end"]
    assert len(upstream.requests) == 1


@looped
async def test_silence_before_content_is_504(upstream: Upstream) -> None:
    house = House(upstream)
    client, running = house.start(route(house.openai("stall"), retries=0), stream=True)
    seen = await asyncio.to_thread(upstream.wait, "stall")
    house.transport.expire(float("inf"))
    await running
    assert (client.status, error(client)["code"]) == (504, "upstream_timeout")
    await asyncio.to_thread(seen.wait_gone)


@looped
async def test_an_access_token_is_waited_for_no_longer_than_the_answer(upstream: Upstream) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the request, and says nothing
        grant = Grant(f"http://127.0.0.1:{silent.getsockname()[1]}/token", "client", "secret")
        house = House(upstream)
        to = structs.replace(house.openai("text"), grant=grant)
        client, running = house.start(route(to, timeouts=Timeouts(total=0.05)))
        await running
    assert error(client)["code"] == "upstream_timeout"


@looped
async def test_a_fault_of_ours_is_500_and_says_nothing(upstream: Upstream, capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(Hook):
        async def admit(self, call: Call) -> None:
            raise RuntimeError("the secret detail")

    house = House(upstream, (Broken(),))
    client = await house.ask(house.openai("text"))
    assert (client.status, error(client)["code"]) == (500, "internal_error")
    assert b"secret" not in client.body
    assert house.record.error_code == "internal_error"
    assert "the secret detail" in capsys.readouterr().err


@looped
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["text", "status-400"])
async def test_a_ledger_that_cannot_write_leaves_no_client_without_an_answer(
    upstream: Upstream, stream: bool, model: str, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(upstream)
    house.ledger.broken = True
    client, running = house.start(route(house.openai(model)), stream=stream)
    await asyncio.gather(running, return_exceptions=True)
    assert client.ended, "the client waits without end"
    assert "No space left on device" in caplog.text


@looped
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_a_refused_credential_is_told_as_ours(
    upstream: Upstream, dialect: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The client's key is good; the operator hears of it once."""
    house = House(upstream)
    for _ in range(2):
        client = await house.ask(getattr(house, dialect)("status-401"))
        assert (client.status, error(client)["code"]) == (502, "upstream_auth_failed")
        assert "refuses the gateway's own credential: Incorrect API key provided." in error(client)["message"]
        assert client.head["x-should-retry"] == "false"
    assert caplog.text.count("refuses the gateway's credential") == 1


@looped
async def test_a_credential_is_told_once_whatever_the_model(
    upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    """Clients may invent names of models; a credential that has changed is told anew."""
    house = House(upstream)
    refused = house.openai("status-401")
    for id_ in ("corp/a", "corp/b"):
        await house.ask(structs.replace(refused, id=id_))
    await house.ask(structs.replace(refused, headers=(("authorization", "Bearer another"),)))
    assert caplog.text.count("refuses the gateway's credential") == 2


@looped
@pytest.mark.parametrize(("body", "end"), [(b"x" * (ERROR_BODY + 1), ""), (b'{"error": {', "close")])
async def test_the_status_of_an_error_counts_without_its_reason(upstream: Upstream, body: bytes, end: str) -> None:
    """Its body is too long, or does not come to its end."""
    upstream.script("odd", Script(status=429, headers=JSON, frames=(body,), end=end))
    house = House(upstream)
    client, running = house.start(route(house.openai("odd"), retries=0))
    await running
    assert error(client)["code"] == "upstream_rate_limited"


def test_what_no_upstream_was_asked_for_is_not_waited_for() -> None:
    """An attempt that ends before it asks, for a parameter that has no form there."""
    call = Chat().decode(b'{"model": "m", "messages": []}', "req_1", Key("k", "k"))
    run = Run(call, Chat(), Snapshot(Registry((), (), Route("", ()), 0), Functions({})), Client([]))
    run.begin(Step(Deployment("p/m", "p", "m", "openai"), 0.0, "m", "first"))
    run.heard()
    assert run.waited == 0.0


# ---- strictness ------------------------------------------------------------------------------------------------


@looped
@pytest.mark.parametrize("stream", [False, True])
async def test_what_cannot_be_taken_is_dropped_and_told(upstream: Upstream, stream: bool) -> None:
    house = House(upstream)
    client = await house.ask(house.anthropic("text"), seed=7, novelty=True, stream=stream)
    assert client.status == 200
    assert {"seed", "novelty"} <= set(client.head["x-polymux-dropped"].split(","))


@looped
async def test_a_strict_route_refuses_instead(upstream: Upstream) -> None:
    house = House(upstream)
    client = await house.ask(house.anthropic("text"), strict=True, seed=7)
    assert (client.status, error(client)["code"], error(client)["param"]) == (400, "unsupported_parameter", "seed")
    assert upstream.requests == []
    assert house.record.error_code == "unsupported_parameter"


@looped
async def test_a_strict_route_passes_what_fits(upstream: Upstream) -> None:
    house = House(upstream)
    client = await house.ask(house.anthropic("text"), strict=True, temperature=0.5)
    assert (client.status, client.text()) == (200, TEXT)


@looped
async def test_a_name_from_a_client_cannot_forge_a_header(upstream: Upstream) -> None:
    house = House(upstream)
    client = await house.ask(house.anthropic("text"), **{"a\r\nx-forged: 1": 1, "嗯": 2})
    assert client.status == 200
    assert "x-forged" not in client.head


# ---- hooks -----------------------------------------------------------------------------------------------------


class Loud(Hook):
    def chunk(self, call: Call, chunk: Chunk) -> Chunk | None:
        for choice in chunk.choices:
            if choice.delta.content == "世界":
                return None
            if choice.delta.content:
                choice.delta.content = choice.delta.content.upper()
        return chunk


@looped
async def test_a_hook_may_refuse(upstream: Upstream) -> None:
    class Guard(Hook):
        async def admit(self, call: Call) -> None:
            raise Failure("content_filter", "not about cats")

    house = House(upstream, (Guard(),))
    client = await house.ask(house.openai("text"))
    assert (client.status, error(client)["message"]) == (400, "not about cats")
    assert upstream.requests == []
    assert house.record.error_code == "content_filter"


@looped
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_a_hook_may_alter_and_drop_chunks(upstream: Upstream, dialect: str) -> None:
    """An altering hook sends calls through the translated lane, whatever the upstream speaks."""
    house = House(upstream, (Loud(),))
    client = await house.ask(getattr(house, dialect)("text"), stream=True)
    assert client.text() == "HELLO, !"
    assert {json.loads(event)["model"] for event in client.events()[:-1]} == {"public"}
    assert house.record.output_tokens == 7


@looped
@pytest.mark.parametrize("dialect", ["openai", "anthropic", "function"])
async def test_a_whole_answer_does_not_slip_past_an_altering_hook(upstream: Upstream, dialect: str) -> None:
    """A redaction that streams obey and whole answers do not would be no redaction."""
    house = House(upstream, (Loud(),), text=lambda messages: "Hello")
    client = await house.ask(getattr(house, dialect)("text"))
    assert "HELLO" in client.text()


@looped
async def test_settled_comes_after_the_last_byte(upstream: Upstream) -> None:
    class Watch(Hook):
        def __init__(self) -> None:
            self.seen: list[tuple[bool, str, int]] = []
            self.called = asyncio.Event()

        async def settled(self, call: Call, record: Record) -> None:
            self.seen.append((house.log[-1][0] == "end", call.id, record.status))
            self.called.set()

    watch = Watch()
    house = House(upstream, (watch,))
    await house.ask(house.openai("text"), stream=True)
    await watch.called.wait()
    assert watch.seen == [(True, "req_0", 200)]


# ---- leaving ---------------------------------------------------------------------------------------------------


@looped
@pytest.mark.parametrize(("model", "content"), [("stall", False), ("gate", True)])
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_a_client_that_leaves(upstream: Upstream, model: str, content: bool, dialect: str) -> None:
    house = House(upstream)
    client, running = house.start(route(getattr(house, dialect)(model)), stream=True)
    seen = await asyncio.to_thread(upstream.wait, model)
    if content:
        seen.release(5)
        await client.wrote.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.to_thread(seen.wait_gone)
    assert (house.record.status, house.record.error_code) == (CLIENT_GONE, "client_disconnected")
    assert (house.record.provider, house.record.attempts) == ({"openai": "corp", "anthropic": "claude"}[dialect], 1)
    assert (house.record.first_token_ms is not None) is content
    assert not client.ended


@looped
async def test_a_slow_client_that_leaves_lets_the_upstream_go(upstream: Upstream) -> None:
    house = House(upstream)
    client, running = house.start(route(house.openai("gate")), stream=True)
    client.full = True
    seen = await asyncio.to_thread(upstream.wait, "gate")
    seen.release(3)
    await client.draining.wait()
    running.cancel()
    await asyncio.to_thread(seen.wait_gone)
    await asyncio.wait({running})
    assert house.record.status == CLIENT_GONE


# ---- functions -------------------------------------------------------------------------------------------------


@looped
@pytest.mark.parametrize("stream", [False, True])
async def test_a_function_answers_like_a_model(upstream: Upstream, stream: bool) -> None:
    def purr(messages: Any) -> Iterator[str]:
        yield "purr"
        yield "r"

    house = House(upstream, purr=purr)
    client = await house.ask(house.function("purr"), stream=stream)
    assert (client.status, client.text()) == (200, "purrr")
    assert (house.record.provider, house.record.usage_source) == ("functions", "estimated")
    assert house.record.output_tokens == 2


@looped
@pytest.mark.parametrize("stream", [False, True])
async def test_a_function_that_fails_at_once_is_500(
    upstream: Upstream, stream: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def hiss(messages: Any) -> str:
        raise ValueError

    house = House(upstream, hiss=hiss)
    client = await house.ask(house.function("hiss"), stream=stream)
    assert (client.status, error(client)["code"]) == (500, "internal_error")
    assert len(house.ledger.records) == 1


@looped
async def test_a_function_that_fails_midway_is_told_in_the_stream(
    upstream: Upstream, capsys: pytest.CaptureFixture[str]
) -> None:
    async def hiss(messages: Any) -> AsyncIterator[str]:
        yield "purr"
        raise ValueError

    house = House(upstream, hiss=hiss)
    client = await house.ask(house.function("hiss"), stream=True)
    assert client.status == 200
    assert json.loads(client.events()[-1])["error"]["code"] == "internal_error"
    assert house.record.status == 500


@looped
async def test_a_function_may_be_left(upstream: Upstream) -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def ponder(messages: Any) -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return ""

    house = House(upstream, ponder=ponder)
    _, running = house.start(route(house.function("ponder")))
    await started.wait()
    running.cancel()
    await cancelled.wait()
    await asyncio.wait({running})
    assert house.record.status == CLIENT_GONE


@looped
async def test_a_function_that_hangs_is_ended_by_the_routes_total(upstream: Upstream) -> None:
    release = threading.Event()

    def hangs(messages: Any) -> str:
        release.wait(20)
        return "late"

    house = House(upstream, hangs=hangs)
    client, running = house.start(route(house.function("hangs"), timeouts=Timeouts(total=0.05), retries=0))
    done, _ = await asyncio.wait({running}, timeout=3)
    release.set()
    await asyncio.wait({running})
    assert done, "timeouts.total does not bound a function"
    assert client.status == 504


@looped
async def test_a_function_falls_over_to_a_provider(upstream: Upstream, capsys: pytest.CaptureFixture[str]) -> None:
    def busy(messages: Any) -> str:
        raise Failure("upstream_overloaded", "not now")

    house = House(upstream, busy=busy)
    client = await house.ask(house.function("busy"), house.openai("text"))
    assert (client.status, client.text(), house.record.attempts) == (200, TEXT, 2)


# ---- the end ---------------------------------------------------------------------------------------------------


@looped
async def test_close_lets_everything_go(upstream: Upstream) -> None:
    house = House(upstream)
    await house.ask(house.openai("text"))
    await house.engine.close()
    assert house.ledger.closed

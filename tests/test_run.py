"""What a request's record says: its attempts, what they used and cost, and how it is estimated when nobody tells."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import pytest
from msgspec import structs

from polymux.errors import Failure
from polymux.hooks.base import Hook
from polymux.mock import replies
from polymux.mock.replies import Reply
from polymux.providers.catalog import ListPrice
from polymux.routing.price import Price, compiled
from polymux.run import CLIENT_GONE, Run, Said, Snapshot, Unpriced, priced
from polymux.surfaces.chat import Chat
from polymux.types import Call, Deployment, Key, Record, Route
from support.house import House, route
from support.peer import looped, until
from support.scripts import JSON, SSE, Script
from support.upstream import Upstream

LISTED: Final = compiled(ListPrice(Decimal("2.5"), Decimal(10), cache_read=Decimal("1.25")), "list")
OWN: Final = compiled(ListPrice(Decimal(1), Decimal(2)), "route")
WORDS: Final = Reply(text=("word ",) * 40)


class Known:
    """Implements `Pricing`: by route and provider, or by provider."""

    def __init__(self, prices: Mapping[str, Price]) -> None:
        self.prices = prices

    def entry(self, provider: str, upstream: str) -> None:
        return None

    def find(self, route: str, provider: str, upstream: str) -> Price | None:
        return self.prices.get(f"{route}:{provider}") or self.prices.get(provider)


def house(upstream: Upstream, *, drain: bool = False, **functions: Any) -> House:
    built = House(upstream, **functions)
    prices = Known({"corp": LISTED, "claude": LISTED, "spare:corp": OWN})
    built.snapshot = structs.replace(built.snapshot, prices=prices, drain=drain)
    return built


def counts(record: Record) -> tuple[int, int, int, int, str]:
    return (
        *(record.input_tokens, record.output_tokens, record.cached_tokens, record.reasoning_tokens),
        record.usage_source,
    )


# ---- attempts --------------------------------------------------------------------------------------------------


@looped
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_one_attempt(upstream: Upstream, dialect: str, stream: bool) -> None:
    at = house(upstream)
    to = getattr(at, dialect)("text")
    await at.ask(to, stream=stream)
    (one,), record = at.record.tries, at.record
    assert (one.deployment, one.provider, one.model) == (to.id, to.provider, "text")
    assert (one.why, one.outcome, one.status) == ("first", "ok", 200)
    assert (one.input_tokens, one.output_tokens) == (record.input_tokens, record.output_tokens) == (11, 7)
    assert one.cost_usd == record.cost_usd == "0.00009375"  # 8*2.5 + 3*1.25 + 7*10 millionths
    assert record.price == "input=2.5 output=10 cache_read=1.25 from=list"
    assert 0 <= one.at_ms <= one.at_ms + one.ms <= record.duration_ms + 1


@looped
async def test_every_attempt_is_told_with_why_and_how_it_ended(upstream: Upstream) -> None:
    at = house(upstream)
    first = route(at.openai("status-500"), at.anthropic("status-529"), retries=2)
    spare = Route("spare", (at.openai("text"),), "ordered", retries=0)
    _, running = at.start(first, spare)
    await running
    told = [(one.provider, one.model, one.why, one.outcome, one.status, one.cost_usd) for one in at.record.tries]
    assert told == [
        ("corp", "status-500", "first", "upstream_unavailable", 502, "0"),
        ("claude", "status-529", "next deployment", "upstream_unavailable", 503, "0"),
        ("corp", "status-500", "retry", "upstream_unavailable", 502, "0"),
        ("corp", "text", "fallback", "ok", 200, "0.000025"),  # at the price of the route that was asked in the end
    ]
    starts = [one.at_ms for one in at.record.tries]
    assert starts == sorted(starts)
    assert starts[2] - starts[1] >= 400  # the pause before a retry is not a part of it
    assert (at.record.attempts, at.record.cost_usd) == (4, "0.000025")
    assert at.record.price == "input=1 output=2 from=route"


@looped
async def test_what_failed_attempts_used_is_counted_too(upstream: Upstream) -> None:
    at = house(upstream)
    await at.ask(at.anthropic("cut-1"), at.openai("text"), stream=True)  # the first told its prompt, and no more
    first, second = at.record.tries
    assert (first.outcome, first.input_tokens, first.output_tokens) == ("upstream_truncated", 11, 1)
    assert (second.outcome, second.input_tokens, second.output_tokens) == ("ok", 11, 7)
    assert counts(at.record) == (22, 8, 6, 4, "estimated")
    assert first.cost_usd is not None
    assert second.cost_usd is not None
    assert Decimal(at.record.cost_usd or 0) == Decimal(first.cost_usd) + Decimal(second.cost_usd)


@looped
async def test_a_request_that_is_refused_has_no_attempt_and_costs_nothing(upstream: Upstream) -> None:
    at = house(upstream)
    _, running = at.start(route(at.openai("text")), model="nobody")
    await running
    assert (at.record.status, at.record.tries, at.record.attempts) == (404, [], 0)
    assert (at.record.cost_usd, at.record.usage_source) == ("0", "none")


# ---- money -----------------------------------------------------------------------------------------------------


@looped
async def test_an_unknown_price_is_no_zero(upstream: Upstream) -> None:
    at = house(upstream)
    at.snapshot = structs.replace(at.snapshot, prices=Unpriced())
    await at.ask(at.openai("text"))
    assert (at.record.cost_usd, at.record.tries[0].cost_usd, at.record.price) == (None, None, "")


@looped
async def test_a_sum_with_an_unknown_price_in_it_is_unknown(upstream: Upstream) -> None:
    at = house(upstream)
    at.snapshot = structs.replace(at.snapshot, prices=Known({"corp": LISTED}))
    await at.ask(at.anthropic("cut-1"), at.openai("text"), stream=True)
    assert [one.cost_usd for one in at.record.tries] == [None, "0.00009375"]
    assert at.record.cost_usd is None


@looped
async def test_what_has_no_price_is_refused_if_so_configured(upstream: Upstream) -> None:
    at = house(upstream)
    at.snapshot = structs.replace(at.snapshot, prices=Known({"corp": LISTED}), refuse_unpriced=True)
    client = await at.ask(at.anthropic("text"))
    assert (client.status, client.json()["error"]["code"]) == (400, "unsupported_operation")
    assert "ledger.unknown_price" in client.json()["error"]["message"]
    assert not upstream.requests
    client = await at.ask(at.anthropic("text"), at.openai("text"))
    assert (client.status, client.head["x-polymux-provider"]) == (200, "corp")


def test_routes_keep_what_has_a_price() -> None:
    a, b = (Deployment(name, name, "m", "openai") for name in "ab")
    routes = [Route("one", (a, b)), Route("two", (b,)), Route("three", (a,))]
    kept = priced(routes, Known({"a": LISTED}))
    assert [(one.name, one.deployments) for one in kept] == [("one", (a,)), ("three", (a,))]
    with pytest.raises(Failure, match="'one'"):
        priced(routes, Unpriced())


# ---- usage that nobody told ------------------------------------------------------------------------------------


@looped
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("zeros", [False, True])
async def test_an_answer_without_usage_is_estimated(upstream: Upstream, stream: bool, zeros: bool) -> None:
    at = house(upstream)
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0} if zeros else None
    said = "".join(WORDS.text)
    frames: tuple[bytes, ...] = replies.openai_events(WORDS, "mute", False)
    if not stream:
        message = {"role": "assistant", "content": said}
        frames = (replies.dump({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}),)
    elif zeros:
        frames = (*frames[:-1], replies.data({"choices": [], "usage": usage}), frames[-1])
    framing = "chunked" if stream else "length"
    upstream.script("mute", Script(headers=SSE if stream else JSON, framing=framing, frames=frames))
    client = await at.ask(at.openai("mute"), stream=stream)
    assert client.text() == said
    assert (at.record.input_tokens, at.record.usage_source) == (9, "estimated")  # 33 bytes of messages
    assert abs(at.record.output_tokens - 50) <= 3  # 200 bytes of text; the finish is not as long as other events


@looped
@pytest.mark.parametrize("told", [2**53, 2**63, 10**40])
async def test_a_usage_that_cannot_be_is_not_believed(upstream: Upstream, told: int) -> None:
    at = house(upstream)
    answer = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "odd",
        "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "word " * 40}],
        "usage": {"input_tokens": told, "output_tokens": 1},
    }
    upstream.script("odd", Script(headers=JSON, framing="length", frames=(replies.dump(answer),)))
    client = await at.ask(at.anthropic("odd"))
    assert (client.status, at.record.status, at.record.usage_source) == (200, 200, "estimated")
    assert at.record.input_tokens == 9


@looped
async def test_who_looks_on_and_fails_is_not_in_the_way(upstream: Upstream, capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(Hook):
        def ended(self, records: Any) -> None:
            raise ZeroDivisionError

    at = House(upstream, (Broken(),))
    assert (await at.ask(at.openai("text"))).status == 200
    assert "ZeroDivisionError" in capsys.readouterr().err


@looped
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_a_broken_answer_counts_as_far_as_it_came(upstream: Upstream, dialect: str) -> None:
    at = house(upstream)
    frames = replies.openai_events(WORDS, "torn", True) if dialect == "openai" else replies.anthropic_events(WORDS, "x")
    upstream.script("torn", Script(headers=SSE, framing="chunked", frames=frames[:22], end=""))
    client = await at.ask(getattr(at, dialect)("torn"), stream=True)
    record = at.record
    assert (record.status, record.usage_source) == (502, "estimated")
    text = b"".join(client.events()).count(b"word ") * 5
    assert text >= 90
    assert record.output_tokens == -(-text // 4)
    assert record.input_tokens == {"openai": 9, "anthropic": 11}[dialect]  # which tells it at the beginning
    assert record.cached_tokens == {"openai": 0, "anthropic": 3}[dialect]


@looped
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_a_client_that_leaves_is_charged_what_it_got(upstream: Upstream, dialect: str) -> None:
    at = house(upstream)
    client, running = at.start(route(getattr(at, dialect)("gate")), stream=True)
    seen = await asyncio.to_thread(upstream.wait, "gate")
    seen.release(5)
    await client.wrote.wait()
    running.cancel()
    await asyncio.wait({running})
    (one,), record = at.record.tries, at.record
    assert (record.status, one.outcome, one.status) == (CLIENT_GONE, "client_disconnected", CLIENT_GONE)
    assert (record.usage_source, record.input_tokens) == ("estimated", {"openai": 9, "anthropic": 11}[dialect])
    assert record.output_tokens > 0
    assert record.cost_usd not in (None, "0")


@looped
async def test_a_client_that_leaves_before_any_word_is_charged_its_prompt(upstream: Upstream) -> None:
    at = house(upstream)
    _, running = at.start(route(at.openai("stall")))
    await asyncio.to_thread(upstream.wait, "stall")
    running.cancel()
    await asyncio.wait({running})
    assert counts(at.record) == (9, 0, 0, 0, "estimated")


@looped
async def test_a_failure_that_told_nothing_used_nothing(upstream: Upstream) -> None:
    at = house(upstream)
    await at.ask(at.openai("status-400"))
    assert counts(at.record) == (0, 0, 0, 0, "none")
    assert at.record.cost_usd == "0"


def told(*pieces: tuple[bytes, ...]) -> Said:
    parts = [b"".join(piece) for piece in pieces]
    return Said(parts[0], parts[-1], sum(map(len, pieces)), len(b"".join(parts)))


CHUNKS: Final = replies.openai_events(Reply(text=("世界", " and more " * 20, "x", "")), "m", False)
CALLS: Final = replies.openai_events(Reply(text=(), tools=(replies.ToolUse("c", "f", {"a": "b" * 100}),)), "m", False)


@pytest.mark.parametrize(
    ("said", "tokens"),
    [
        (Said(b""), 0),
        (Said(b"no JSON"), 0),
        (Said(b'{"choices":[{"message":{"role":"assistant","content":"12345678","refusal":null}}]}'), 2),
        (Said(b'{"choices":[{"message":{"reasoning_content":"1234","tool_calls":[{"id":"x","function":'
              b'{"name":"abcd","arguments":"{}"}}]}},{"message":{"content":"12"}}]}'), 3),
        (told(CHUNKS[:1]), 0),
        (told(CHUNKS[:2], CHUNKS[2:3], CHUNKS[3:4]), 52),  # 6 + 200 + 1 bytes
        (told(CALLS[:2], CALLS[2:]), 29),
    ],
)  # fmt: skip
def test_the_text_of_an_answer_is_measured(said: Said, tokens: int) -> None:
    surface, nobody = Chat(), None
    body = b'{"model":"m","messages":[{"role":"user","content":"Hi"}]}'
    snapshot: Snapshot = nobody  # type: ignore[assignment]  # no price is asked for
    run = Run(surface.decode(body, "req_1", Key("k", "k")), surface, snapshot, nobody)  # type: ignore[arg-type]  # nor a client
    run.committed, run.said = True, said
    assert run._estimated("ok").output == tokens


# ---- a client that leaves, and an answer that is read to its end -----------------------------------------------


@looped
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("begun", [False, True])
async def test_the_rest_is_read_to_know_the_usage(upstream: Upstream, dialect: str, begun: bool) -> None:
    at = house(upstream, drain=True)
    at.key = structs.replace(at.key, concurrency=1)
    client, running = at.start(route(getattr(at, dialect)("gate")), stream=True)
    seen = await asyncio.to_thread(upstream.wait, "gate")
    if begun:
        seen.release(5)
        await client.wrote.wait()
    running.cancel()
    await asyncio.wait({running})
    assert running.cancelled()
    assert at.ledger.records == []
    written = client.body
    busy, refused = at.start(route(at.openai("text")))
    await refused
    assert busy.status == 429, "its place is taken until the answer is read"
    seen.release(20)
    await until(lambda: len(at.ledger.records) == 2)
    record = at.ledger.records[1]
    assert (record.status, record.error_code) == (CLIENT_GONE, "client_disconnected")
    assert counts(record) == (11, 7, 3, 2, "upstream")
    assert [one.outcome for one in record.tries] == ["ok"]
    assert client.body == written
    free, served = at.start(route(at.openai("text")))
    await served
    assert free.status == 200


@looped
async def test_a_whole_answer_is_waited_for_too(upstream: Upstream) -> None:
    at = house(upstream, drain=True)
    client, running = at.start(route(at.openai("gate")))
    seen = await asyncio.to_thread(upstream.wait, "gate")
    running.cancel()
    await asyncio.wait({running})
    seen.release(20)
    await until(lambda: bool(at.ledger.records))
    assert (at.record.status, at.record.usage_source) == (CLIENT_GONE, "upstream")
    assert not client.started


@looped
async def test_nothing_is_tried_again_for_a_client_that_left(upstream: Upstream) -> None:
    at = house(upstream, drain=True)
    upstream.script("late", Script(status=500, headers=JSON, frames=(b"{}",), start="stall"))
    _, running = at.start(route(at.openai("late"), at.openai("text")))
    seen = await asyncio.to_thread(upstream.wait, "late")
    running.cancel()
    await asyncio.wait({running})
    seen.release()
    await until(lambda: bool(at.ledger.records))
    assert (at.record.attempts, at.record.status) == (1, CLIENT_GONE)


@looped
async def test_the_end_of_the_gateway_does_not_wait_for_the_rest(upstream: Upstream) -> None:
    at = house(upstream, drain=True)
    _, running = at.start(route(at.openai("stall")), stream=True)
    await asyncio.to_thread(upstream.wait, "stall")
    running.cancel()
    await asyncio.wait({running})
    await at.engine.close()
    assert (at.record.status, at.record.usage_source) == (CLIENT_GONE, "estimated")
    assert at.ledger.closed


@looped
async def test_a_function_is_left_at_once(upstream: Upstream) -> None:
    started, left = asyncio.Event(), asyncio.Event()

    async def ponder(messages: Any) -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()
        return ""

    at = house(upstream, drain=True, ponder=ponder)
    _, running = at.start(route(at.function("ponder")))
    await started.wait()
    running.cancel()
    await left.wait()
    await until(lambda: bool(at.ledger.records))
    assert at.record.status == CLIENT_GONE


@looped
async def test_who_leaves_before_anything_is_asked_is_not_waited_for(upstream: Upstream) -> None:
    class Slow(Hook):
        async def admit(self, call: Call) -> None:
            started.set()
            await asyncio.Event().wait()

    started = asyncio.Event()
    at = House(upstream, (Slow(),))
    at.snapshot = structs.replace(at.snapshot, drain=True)
    _, running = at.start(route(at.openai("text")))
    await started.wait()
    running.cancel()
    await until(lambda: bool(at.ledger.records))
    assert (at.record.status, at.record.attempts, at.record.usage_source) == (CLIENT_GONE, 0, "none")

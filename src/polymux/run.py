"""What is known of one request while it is served, and what its usage record says in the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

import msgspec

from polymux.errors import Failure
from polymux.functions import Functions
from polymux.heads import EVENTS, limit_head, served_head
from polymux.providers.catalog import Model
from polymux.routing.limits import Verdict, prompt_tokens, tokens
from polymux.routing.plan import Step
from polymux.routing.price import Price, cost, usd
from polymux.routing.registry import Registry
from polymux.store.base import Keeping
from polymux.surfaces.base import Surface
from polymux.types import NO_USAGE, Call, Deployment, Record, Route, Try, Usage

CLIENT_GONE = 499  # in records only: the client left before the end
DISCONNECTED = "client_disconnected"
MOST = 2**53  # tokens, and no number that every reader of JSON takes


class Pricing(Protocol):
    """What deployments cost (`routing.price.Prices`)."""

    def find(self, route: str, provider: str, upstream: str) -> Price | None:
        """None = unknown."""
        ...

    def entry(self, provider: str, upstream: str) -> Model | None:
        """What is known of a provider's model beside its price; None = nothing."""
        ...


class Unpriced:
    """Knows no price."""

    def find(self, route: str, provider: str, upstream: str) -> Price | None:
        return None

    def entry(self, provider: str, upstream: str) -> Model | None:
        return None


class Snapshot(msgspec.Struct, frozen=True):
    """What can be called, at one moment. A call keeps the snapshot it began with; a reload makes a new one.

    drain: when a client leaves, its answer is read to the end, to know the usage. refuse_unpriced: a model whose price
    nobody knows is not called. keeping: what conversations are kept, None = none at all.
    """

    registry: Registry
    functions: Functions
    prices: Pricing = Unpriced()
    drain: bool = False
    refuse_unpriced: bool = False
    keeping: Keeping | None = None


class Sink(Protocol):
    """Where an answer goes. `head` is a block of header lines, each ended by CRLF."""

    @property
    def started(self) -> bool:
        """The status has been sent."""
        ...

    @property
    def full(self) -> bool:
        """The client reads slower than we write."""
        ...

    def respond(self, status: int, head: bytes, body: bytes) -> None: ...
    def start(self, status: int, head: bytes) -> None: ...
    def write(self, data: bytes) -> None: ...
    def end(self, data: bytes) -> None: ...
    async def drain(self) -> None: ...


class Nobody:
    """The sink when the client has left and the answer is read all the same."""

    started = True
    full = False

    def respond(self, status: int, head: bytes, body: bytes) -> None: ...
    def start(self, status: int, head: bytes) -> None: ...
    def write(self, data: bytes) -> None: ...
    def end(self, data: bytes) -> None: ...
    async def drain(self) -> None: ...


class Said(msgspec.Struct, frozen=True, gc=False):
    """What an attempt has given the client: events of so many bytes, of which the first and the last piece are here,
    if they are two; or no events but a whole answer, which is `first`."""

    first: bytes
    last: bytes = b""
    events: int = 0
    size: int = 0


class Run:
    """One request. A stream's run can say that it is alive (`pulse.Beating`).

    at: Unix seconds; started, begun, asked, first: `time.perf_counter`. No struct, whose members are slower to set.
    """

    __slots__ = (
        *("call", "surface", "snapshot", "sink", "at", "started"),
        *("requests", "tokens", "reserved", "inside"),
        *("step", "attempts", "to", "dropped", "begun", "asked", "waited", "usage", "said"),
        *("first", "committed", "settled", "gone", "beat"),
        *("tries", "used", "paid", "prices"),
    )

    def __init__(self, call: Call, surface: Surface, snapshot: Snapshot, sink: Sink) -> None:
        self.call, self.surface, self.snapshot, self.sink = call, surface, snapshot, sink
        self.at = time.time()
        self.started = time.perf_counter()
        # what it takes of the key's limits
        self.requests: Verdict | None = None
        self.tokens: Verdict | None = None
        self.reserved = 0  # tokens
        self.inside = False  # it counts as under way
        # the attempt under way, and its upstream
        self.step: Step | None = None
        self.attempts = 0
        self.to: Deployment | None = None
        self.dropped: tuple[str, ...] = ()
        self.begun = self.asked = self.started
        self.waited = 0.0  # seconds for upstreams, up to the first content
        self.usage = NO_USAGE  # as the upstream told it
        self.said: Said | None = None
        # the answer
        self.first: float | None = None
        self.committed = False
        self.settled = False
        self.gone = False  # the client, while the answer is read to its end
        self.beat = 0.0
        # the attempts that have ended
        self.tries: list[Try] = []
        self.used = NO_USAGE
        self.paid: int | None = 0  # picodollars; None = a price is not known
        self.prices = ""

    def begin(self, step: Step) -> None:
        """An attempt."""
        self.step, self.to = step, step.deployment
        self.attempts += 1
        self.begun = time.perf_counter()
        self.usage, self.said = NO_USAGE, None

    def heard(self) -> None:
        """What was asked of an upstream has come: an answer, its first content, or a failure."""
        if self.asked >= self.begun:  # else the attempt ended before it asked
            self.waited += time.perf_counter() - self.asked

    def comment(self) -> None:
        """Nothing has been sent for a while: the status, if it is still to come, and a comment."""
        if not self.sink.started:
            self.sink.start(200, EVENTS + self.head())
        if not self.sink.full:
            self.sink.write(self.surface.comment())

    def head(self) -> bytes:
        """Headers of the answer."""
        head = served_head(self.attempts, self.to, self.dropped)
        if self.requests is not None:
            head += limit_head(b"requests", self.call.key.rpm, self.requests)
        if self.tokens is not None:
            head += limit_head(b"tokens", self.call.key.tpm, self.tokens)
        return head

    def tried(self, outcome: str, status: int) -> None:
        """The attempt under way has ended. What it used is counted, whether it was of use or not."""
        step = self.step
        if step is None:
            return
        self.step = None
        now, to, usage = time.perf_counter(), step.deployment, self.usage
        paid: str | None = "0"
        counts = usage.input | usage.output | usage.cached | usage.cache_write | usage.reasoning
        counts |= usage.cache_write_1h | usage.audio_input | usage.audio_output
        if not 0 <= counts < MOST:  # one of them is no count of tokens: what it belongs to is not believed
            usage = self.usage = NO_USAGE
        if outcome != "ok" or usage.source == "none":
            usage = self._estimated(outcome)
        if usage is not NO_USAGE:
            paid = self._pay(usage, step)
        at, took = (self.begun - self.started) * 1e6 // 1 / 1000, (now - self.begun) * 1e6 // 1 / 1000
        one = Try(  # by position, as the record below
            to.id, to.provider, to.model, step.why, outcome, status, at, took, usage.input, usage.output, paid
        )
        self.tries.append(one)

    def record(self, status: int, error: str | None) -> Record:
        """The usage record of the request, which has ended."""
        self.tried(error or "ok", status)
        call, to, used, tries, first = self.call, self.to, self.used, self.tries, self.first
        now = time.perf_counter() - self.started
        key = call.key
        return Record(  # by position: this is the hot path
            call.id,
            self.at,
            key.id,
            key.name,
            key.tenant,
            call.surface,
            call.model,
            to.provider if to else "",
            to.model if to else "",
            status,
            error,
            call.stream,
            used.input,
            used.output,
            used.cached,
            used.cache_write,
            used.reasoning,
            used.source,
            tries[0].cost_usd if len(tries) == 1 else None if self.paid is None else usd(self.paid),
            self.attempts,
            "off",
            now * 1e6 // 1 / 1000,  # milliseconds, to the microsecond
            None if first is None else (first - self.started) * 1e6 // 1 / 1000,
            ((first - self.started if first else now) - self.waited) * 1e6 // 1 / 1000,
            call.client_request_id,
            call.parent_id,
            tries,
            self.prices,
        )

    def _pay(self, usage: Usage, step: Step) -> str | None:
        """What an attempt costs, in dollars, added to what the others did."""
        self.used = usage if self.used is NO_USAGE else _sum(self.used, usage)
        price = self.snapshot.prices.find(step.route, step.deployment.provider, step.deployment.model)
        if price is None:
            self.paid = None
            return None
        paid = cost(price, usage)
        if self.paid is not None:
            self.paid += paid.amount
        if not self.prices:
            self.prices = paid.prices
        elif paid.prices not in self.prices:
            self.prices += f"; {paid.prices}"
        return usd(paid.amount)

    def _estimated(self, outcome: str) -> Usage:
        """The usage of an attempt whose upstream has not told it, or not all of it."""
        told, said = self.usage, self.said
        left = outcome == DISCONNECTED and self.asked >= self.begun  # the upstream is likely to have read the prompt
        if not (self.committed or left or told is not NO_USAGE):
            return NO_USAGE
        size = _size(self.surface, said) if said else 0
        return Usage(
            told.input or prompt_tokens(self.surface.prompt(self.call)),
            max(told.output, tokens(size)),
            told.cached,
            told.cache_write,
            told.reasoning,
            "estimated",
            told.cache_write_1h,
            told.audio_input,
            told.audio_output,
        )


def priced(routes: Sequence[Route], prices: Pricing) -> Sequence[Route]:
    """The routes with those deployments only whose price is known. Raises `Failure` when there is none."""
    known = []
    for route in routes:
        deployments = [one for one in route.deployments if prices.find(route.name, one.provider, one.model)]
        if deployments:
            known.append(msgspec.structs.replace(route, deployments=tuple(deployments)))
    if not known:
        name = routes[0].name
        text = (
            f"the price of the model {name!r} is not known, and this gateway is told to refuse such models "
            "(ledger.unknown_price); its operator can give it a price, or a newer catalogue"
        )
        raise Failure("unsupported_operation", text, param="model")
    return known


def _size(surface: Surface, said: Said) -> int:
    """About how many bytes of text. In most events of a stream all but the text is of the same length, which the last
    ones show; so what came between the first and the last piece need not be read, nor kept."""
    if not said.events:
        return surface.said(said.first)
    pieces = (said.first,) if said.last is said.first else (said.first, said.last)
    events = [event for piece in pieces for event in piece.split(b"\n\n")[:-1]]
    sizes = [surface.said(event.removeprefix(b"data: ")) for event in events]
    between = said.size - sum(map(len, pieces))
    around = min((len(event) + 2 - size for event, size in zip(events, sizes, strict=True) if size), default=0)
    return sum(sizes) + (max(0, between - (said.events - len(events)) * around) if around else 0)


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        one.input + other.input,
        one.output + other.output,
        one.cached + other.cached,
        one.cache_write + other.cache_write,
        one.reasoning + other.reasoning,
        "estimated" if "estimated" in (one.source, other.source) else one.source,
        one.cache_write_1h + other.cache_write_1h,
        one.audio_input + other.audio_input,
        one.audio_output + other.audio_output,
    )

"""The life of a request, top to bottom: admit -> plan -> attempt -> stream -> settle.

Chunks before the first content are held back; the first content commits the answer to one attempt. Until then a
failure goes back into the plan and the next attempt comes out; afterwards it is told inside the stream.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import time
import traceback
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from math import ceil
from typing import Protocol, TypeVar
from urllib.parse import quote

import msgspec

from polymux.errors import Failure, Truncated
from polymux.functions import Functions, Results
from polymux.hooks.base import Hook, overriding
from polymux.nested import Nested
from polymux.providers.base import Adapter, Relaying
from polymux.providers.credentials import hide
from polymux.pulse import Pulse
from polymux.routing.limits import Verdict, duration
from polymux.routing.plan import Event, plan, verdict
from polymux.routing.registry import Registry
from polymux.schema.chat import ChatResponse, Chunk
from polymux.store.base import Counters, Ledger
from polymux.surfaces.assemble import chunks_of, gather
from polymux.surfaces.chat import Chat
from polymux.surfaces.stream import Translated, Writer, usage_of
from polymux.transport import Reply, Transport
from polymux.types import NO_USAGE, Call, Deployment, Record, Route, Usage, WireReply, WireRequest
from polymux.wire.sse import TooLong

ERROR_BODY = 256 * 1024  # bytes of an error answer that are read
JSON = b"content-type: application/json\r\n"
EVENTS = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
LONGEST_NAME, MOST_NAMES = 64, 32  # characters and names that x-polymux-dropped tells
CLIENT_GONE = 499  # in records only: the client left before the end

T = TypeVar("T", contravariant=True)

log = logging.getLogger("polymux")


class Snapshot(msgspec.Struct, frozen=True):
    """What can be called, at one moment. A call keeps the snapshot it began with; a reload makes a new one."""

    registry: Registry
    functions: Functions


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


class Lane(Protocol[T]):
    """What an attempt delivers, turned into the client's bytes."""

    @property
    def content(self) -> bool: ...
    @property
    def usage(self) -> Usage: ...
    @property
    def failed(self) -> Failure | None: ...
    @property
    def done(self) -> bool: ...
    def feed(self, data: T, /) -> bytes: ...
    def close(self) -> bytes: ...


class Run:
    """What is known of one request while it is served. A stream's run can say that it is alive (`pulse.Beating`)."""

    __slots__ = (
        "asked",
        "at",
        "attempts",
        "beat",
        "call",
        "committed",
        "dropped",
        "first",
        "limit",
        "settled",
        "sink",
        "snapshot",
        "started",
        "surface",
        "to",
        "usage",
        "waited",
    )

    def __init__(self, call: Call, surface: Chat, snapshot: Snapshot, sink: Sink) -> None:
        self.call, self.surface, self.snapshot, self.sink = call, surface, snapshot, sink
        self.at = time.time()
        self.started = time.perf_counter()
        self.first: float | None = None
        self.limit: Verdict | None = None
        self.attempts = 0
        self.to: Deployment | None = None
        self.dropped: tuple[str, ...] = ()
        self.usage = NO_USAGE
        self.committed = False
        self.settled = False
        self.beat = 0.0
        self.asked = self.started  # when the attempt's upstream was
        self.waited = 0.0  # seconds for upstreams, up to the first content

    def heard(self) -> None:
        """What was asked of an upstream has come: an answer, its first content, or a failure."""
        self.waited += time.perf_counter() - self.asked

    def comment(self) -> None:
        """Nothing has been sent for a while: the status, if it is still to come, and a comment."""
        if not self.sink.started:
            self.sink.start(200, EVENTS + served_head(self))
        if not self.sink.full:
            self.sink.write(self.surface.comment())


class Engine:
    """Serves decoded calls. One per process; holds no state of a request."""

    def __init__(
        self,
        adapters: Mapping[str, Adapter],
        transport: Transport,
        counters: Counters,
        ledger: Ledger,
        hooks: tuple[Hook, ...] = (),
    ) -> None:
        self._adapters = adapters
        self._relays = {name: adapter for name, adapter in adapters.items() if isinstance(adapter, Relaying)}
        self._transport = transport
        self._counters = counters
        self._ledger = ledger
        self._admitting = overriding(hooks, "admit")
        self._altering = overriding(hooks, "chunk")
        self._failing = overriding(hooks, "failed")
        self._ending = overriding(hooks, "ended")
        self._settling = overriding(hooks, "settled")
        self.pulse = Pulse()
        self._alarmed: set[str] = set()  # deployments whose credential was refused
        self._turn = 0
        self.under_way = 0  # calls
        self._finishing: list[tuple[Run, Record, int, bytes, bytes | None]] = []
        self._after: set[asyncio.Future[None]] = set()  # hooks still at work after the last byte

    @property
    def adapters(self) -> Mapping[str, Adapter]:
        return self._adapters

    @property
    def transport(self) -> Transport:
        return self._transport

    async def close(self) -> None:
        """Nothing runs any more: let go of connections and the ledger."""
        self._deliver()
        await self._transport.close()
        self._ledger.close()

    async def run(self, call: Call, surface: Chat, snapshot: Snapshot, sink: Sink) -> None:
        """Answer the call on `sink`. Raises nothing but cancellation: the client left."""
        run = Run(call, surface, snapshot, sink)
        self.under_way += 1
        try:
            self._admit(run)
            for hook in self._admitting:
                await hook.admit(call)
            routes = snapshot.registry.find(call.model, call.key)
            if call.stream:
                self.pulse.watch(run, self._transport.loop)
            if (failed := await self._attempts(run, routes)) is not None:
                self._fail(run, failed)
        except Failure as failure:
            self._fail(run, failure)
        except Exception:
            traceback.print_exc(file=sys.stderr)
            self._fail(run, Failure("internal_error", "an internal error; the gateway's log has the details"))
        finally:
            self.under_way -= 1
            self.pulse.forget(run)
            if not run.settled:  # the client has left
                run.settled = True
                record = self._record(run, CLIENT_GONE, "client_disconnected")
                self._write((record,))
                self._settled(run, record)

    def _admit(self, run: Run) -> None:
        key = run.call.key
        if not key.rpm:
            return
        run.limit = limit = self._counters.admit("rpm:" + key.id, key.rpm)
        if not limit.admitted:
            text = f"{key.rpm} requests per minute are allowed for this key; try again in {duration(limit.wait)}"
            raise Failure("rate_limit_exceeded", text, retry_after=limit.wait)

    # ---- attempts

    async def _attempts(self, run: Run, routes: Sequence[Route]) -> Failure | None:
        """The failure that is left when nothing is left to try. It is not raised: its traceback would hold this frame,
        which holds the failure, and the request's body would stay until the cycle is collected."""
        loop = self._transport.loop
        final = loop.time() + routes[0].timeouts.total
        if run.call.deadline is not None:
            final = min(final, run.call.deadline)
        self._turn += 1
        steps = plan(routes, random.random(), self._turn, final)  # noqa: S311 - chance, not secrecy
        step = next(steps)
        failures: list[Failure] = []
        while True:
            if step.after:
                await asyncio.sleep(step.after)
            run.attempts += 1
            run.to = step.deployment
            try:
                await self._attempt(run, step.deployment, final, routes[0].strict)
                return None
            except Failure as error:
                error.__traceback__ = error.__context__ = None
                failure = hide(error, step.deployment)
            except TooLong as error:
                failure = Failure("upstream_unavailable", f"the upstream's answer cannot be read: {error}")
            except RecursionError:  # deeper than what has been read already, by the wrapping of a dialect
                failure = Failure("invalid_json", "the request is nested too deeply")
            except Truncated:
                failure = Failure("upstream_truncated", "the upstream's answer ended before it was complete")
            if not run.committed:
                run.heard()
            for hook in self._failing:
                hook.failed(run.call, step.deployment, failure)
            if run.committed:
                return failure
            failures.append(failure)
            try:
                step = steps.send(Event(failure, loop.time()))
            except StopIteration:
                return verdict(failures)

    async def _attempt(self, run: Run, to: Deployment, final: float, strict: bool) -> None:
        if to.dialect == "function":
            run.asked = time.perf_counter()
            await self._function(run, to, final)
            return
        call, adapter = run.call, self._adapters[to.dialect]
        relay = self._relays.get(to.dialect) if run.surface.dialect == to.dialect and not self._altering else None
        request = relay.relay(call, to) if relay else await self._translate(run, adapter, to, final)
        run.dropped = request.dropped
        if strict and run.dropped:
            text = f"{run.dropped[0]!r} cannot be taken by {to.id}, and this route is strict"
            raise Failure("unsupported_parameter", text, param=run.dropped[0])
        run.asked = time.perf_counter()
        reply = await self._transport.send(request, to, final, stream=call.stream)
        try:
            if 300 <= reply.status < 400:
                text = f"the upstream answered with a redirect (status {reply.status}); is its base_url right?"
                raise Failure("upstream_unavailable", text)
            if reply.status >= 400:
                failure = adapter.failure(reply.status, reply.header_map(), await reply.whole(ERROR_BODY))
                raise self._alarm(to, failure) if failure.kind == "upstream_auth_failed" else failure
            if call.stream:
                await self._stream(run, to, reply, relay)
                return
            body = await reply.whole()
            run.heard()
            if relay:
                self._answer(run, *relay.relay_whole(body, to))
            else:
                self._whole(run, adapter.read(body, call.model, int(run.at)))
        finally:
            self._transport.release(reply)

    def _alarm(self, to: Deployment, failure: Failure) -> Failure:
        """A provider refuses our own credential: the operator is told once, and the client that it is not its key."""
        if to.id not in self._alarmed:
            self._alarmed.add(to.id)
            log.warning("%s refuses the gateway's credential: %s", to.provider, hide(failure, to).message)
        text = f"the provider {to.provider!r} refuses the gateway's own credential: {failure.message}"
        return Failure(failure.kind, text)

    async def _translate(self, run: Run, adapter: Adapter, to: Deployment, final: float) -> WireRequest:
        """Drive the adapter's conversation up to the main request."""
        flow = adapter.flow(run.surface.request(run.call), to)
        try:
            request = next(flow)
            while True:
                reply = await self._transport.send(request, to, final, stream=False)
                try:
                    whole = WireReply(reply.status, reply.header_map(), await reply.whole())
                finally:
                    self._transport.release(reply)
                request = flow.send(whole)
        except StopIteration as stop:
            main: WireRequest = stop.value
        if unknown := run.surface.unknown(run.call):
            return WireRequest(main.method, main.url, main.headers, main.body, main.framing, main.dropped + unknown)
        return main

    async def _stream(self, run: Run, to: Deployment, reply: Reply, relay: Relaying | None) -> None:
        kind = reply.header(b"content-type")
        if "html" in kind:
            raise Failure("upstream_unavailable", f"the upstream answered with {kind} instead of a stream")
        call, adapter = run.call, self._adapters[to.dialect]
        if "json" in kind and "ndjson" not in kind:  # streaming was asked for, and ignored
            response = adapter.read(await reply.whole(), call.model, int(run.at))
            writer = self._writer(run)
            await self._pump(run, to, _one(chunks_of(response)), writer, None)
        elif relay:
            await self._pump(run, to, reply, relay.relay_reader(call, to), reply)
        else:
            lane = Translated(adapter.reader(call.model, int(run.at)), self._writer(run))
            await self._pump(run, to, reply, lane, reply)

    async def _function(self, run: Run, to: Deployment, final: float) -> None:
        call, function = run.call, run.snapshot.functions[to.model]
        request, results = run.surface.request(call), Results(call, int(run.at))
        with await function.gate.enter(final) as place:
            given = function.run(call, request, results, Nested(self, run.snapshot, call, final), place)
            try:
                async with asyncio.timeout_at(final), aclosing(given) as chunks:
                    if call.stream:
                        writer = self._writer(run)
                        await self._pump(run, to, _sourced(chunks, results, writer), writer, None)
                    else:
                        answer = gather([chunk async for several in chunks for chunk in several])
                        run.heard()
                        self._whole(run, answer, results.source)
            except TimeoutError:
                raise Failure("upstream_timeout", f"the function model {to.model!r} took too long") from None

    def _whole(self, run: Run, response: ChatResponse, source: str = "upstream") -> None:
        """Answer with everything at once. `source`: where the usage comes from."""
        if self._altering:
            chunks = chunks_of(response)
            kept = [altered for chunk in chunks if (altered := self._alter(run, chunk)) is not None]
            response = gather(kept or chunks[len(response.choices) :])  # at least the finish
        usage = usage_of(response.usage, source) if response.usage else NO_USAGE
        self._answer(run, run.surface.whole(response), usage)

    def _alter(self, run: Run, chunk: Chunk | None) -> Chunk | None:
        for hook in self._altering:
            if chunk is not None:
                chunk = hook.chunk(run.call, chunk)
        return chunk

    def _writer(self, run: Run) -> Writer:
        return Writer(run.surface, run.call, partial(self._alter, run) if self._altering else None)

    # ---- answers

    async def _pump(
        self, run: Run, to: Deployment, source: AsyncIterator[T], lane: Lane[T], reply: Reply | None
    ) -> None:
        """Everything of `source` through `lane` to the client, as it comes."""
        loop, sink, held = self._transport.loop, run.sink, [b""]
        rest = b""
        async for data in source:
            out = lane.feed(data)
            if not run.committed:
                held.append(out)
                if lane.failed:
                    raise lane.failed
                if not lane.content:
                    if lane.done:
                        break
                    continue
                out = b"".join(held)
                self._commit(run)
                if reply is not None:
                    reply.expect(to.timeouts.idle)
            if lane.done and not lane.failed:  # the rest and the end go out in one piece
                rest = out
                break
            if out:
                sink.write(out)
                run.beat = loop.time()
                if sink.full:
                    await _drain(sink, reply, to.timeouts.idle)
            run.usage = lane.usage
            if lane.failed:
                raise lane.failed
        try:
            last = rest + lane.close()
        except (Failure, Truncated):
            if rest:
                sink.write(rest)
            raise
        if not run.committed:
            last = b"".join(held) + last
            self._commit(run)
        run.usage = lane.usage
        self._finish(run, 200, None, last)
        if reply is not None:
            reply.finished = True

    def _commit(self, run: Run) -> None:
        run.committed = True
        run.first = time.perf_counter()
        run.waited += run.first - run.asked
        if not run.sink.started:
            run.sink.start(200, EVENTS + served_head(run))

    def _answer(self, run: Run, body: bytes, usage: Usage) -> None:
        run.usage = usage
        run.committed = True
        run.first = time.perf_counter()
        self._finish(run, 200, None, body, JSON + served_head(run))

    def _fail(self, run: Run, failure: Failure) -> None:
        if run.settled:
            return
        error = failure.code or failure.kind
        if run.sink.started:
            self._finish(run, failure.status, error, run.surface.error_event(failure))
        else:
            head = JSON + served_head(run) + failure_head(failure)
            self._finish(run, failure.status, error, run.surface.error(failure), head)

    def _finish(self, run: Run, status: int, error: str | None, last: bytes, head: bytes | None = None) -> None:
        """The usage record, then the last bytes (with their head, when nothing has been sent yet). What finishes in
        one turn of the loop shares one write to the ledger."""
        run.settled = True
        if not self._finishing:
            self._transport.loop.call_soon(self._deliver)
        self._finishing.append((run, self._record(run, status, error), status, last, head))

    def _deliver(self) -> None:
        finishing, self._finishing = self._finishing, []
        self._write([record for _, record, _, _, _ in finishing])
        for run, record, status, last, head in finishing:
            if head is None:
                run.sink.end(last)
            else:
                run.sink.respond(status, head, last)
            self._settled(run, record)

    def _write(self, records: Sequence[Record]) -> None:
        try:
            self._ledger.append(records)
        except OSError as failure:  # the client gets its answer all the same
            log.error("usage records could not be written: %s; lost: %s", failure, records)
        for hook in self._ending:
            hook.ended(records)

    def _settled(self, run: Run, record: Record) -> None:
        for hook in self._settling:
            task = asyncio.ensure_future(hook.settled(run.call, record))
            self._after.add(task)
            task.add_done_callback(self._after.discard)

    def _record(self, run: Run, status: int, error: str | None) -> Record:
        call, to, usage = run.call, run.to, run.usage
        now = time.perf_counter()
        key = call.key
        return Record(  # by position: this is the hot path
            call.id,
            run.at,
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
            usage.input,
            usage.output,
            usage.cached,
            usage.cache_write,
            usage.reasoning,
            usage.source,
            None,
            run.attempts,
            "off",
            _ms(now - run.started),
            None if run.first is None else _ms(run.first - run.started),
            _ms((run.first or now) - run.started - run.waited),
            call.client_request_id,
            call.parent_id,
        )


def served_head(run: Run) -> bytes:
    """The response headers that tell what happened (INTERFACE.md §4)."""
    head = b"x-polymux-attempts: %d\r\nx-polymux-cache: off\r\n" % run.attempts
    if run.to is not None:
        names = (run.to.provider.encode(), _value(run.to.model).encode())
        head += b"x-polymux-provider: %b\r\nx-polymux-model: %b\r\n" % names
    if run.dropped:
        head += b"x-polymux-dropped: %b\r\n" % _listed(run.dropped)
    if run.limit is not None:
        head += limit_head(run.call.key.rpm, run.limit)
    return head


def _value(text: str) -> str:
    """A name as a header may carry it: what could end or forge a line is percent-encoded."""
    return text if text.isascii() and text.isprintable() else quote(text)


def _listed(names: Sequence[str]) -> bytes:
    """Names for one header. Clients choose them and read at most some KiB of headers: what is too long is cut."""
    text = ",".join(_value(name[:LONGEST_NAME]) for name in names[:MOST_NAMES])
    return f"{text},...".encode() if len(names) > MOST_NAMES else text.encode()


def _ms(seconds: float) -> float:
    """Milliseconds, to the microsecond."""
    return int(seconds * 1e6) / 1000


async def _drain(sink: Sink, reply: Reply | None, idle: float) -> None:
    """Wait for a slow client; the upstream, told to wait as well, is not to blame for the silence."""
    if reply is not None:
        reply.hold()
    await sink.drain()
    if reply is not None:
        reply.expect(idle)


async def _sourced(
    chunks: AsyncIterator[Sequence[Chunk]], results: Results, writer: Writer
) -> AsyncIterator[Sequence[Chunk]]:
    """The same, and where its usage comes from is told in time."""
    async for several in chunks:
        writer.source = results.source
        yield several


async def _one(chunks: Sequence[Chunk]) -> AsyncIterator[Sequence[Chunk]]:
    yield chunks


def failure_head(failure: Failure) -> bytes:
    """Headers that tell a client whether and when to come back."""
    head = b""
    if failure.status in (429, 503) or failure.retry_after is not None:
        head = b"retry-after: %d\r\n" % max(1, ceil(failure.retry_after or 1))
    if failure.should_retry is not None:
        head += b"x-should-retry: %b\r\n" % (b"true" if failure.should_retry else b"false")
    return head


def limit_head(limit: int, verdict: Verdict) -> bytes:
    """The `x-ratelimit-*` headers."""
    return (
        b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\nx-ratelimit-reset-requests: %b\r\n"
        % (limit, verdict.remaining, duration(verdict.reset).encode())
    )

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
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Protocol, TypeVar

from msgspec import structs

from polymux.admit import admit, leave
from polymux.errors import Failure, Truncated
from polymux.flows import Flows
from polymux.functions import Results
from polymux.heads import EVENTS, JSON, failure_head
from polymux.hooks.base import Hook, overriding
from polymux.nested import Nested
from polymux.providers.auth import Headers
from polymux.providers.base import Adapter, Asked, Relaying
from polymux.providers.credentials import hide
from polymux.pulse import Pulse
from polymux.recorder import Recorder
from polymux.routing.plan import Event, Plan, only, plan, verdict
from polymux.routing.registry import serving
from polymux.run import CLIENT_GONE, DISCONNECTED, Nobody, Run, Said, Sink, Snapshot, priced
from polymux.schema.chat import Chunk
from polymux.store.base import Counters, Ledger, Memory
from polymux.surfaces.assemble import chunks_of, gather
from polymux.surfaces.base import Alter, Surface, Talking
from polymux.surfaces.stream import DECODERS, Translated, Writer
from polymux.tokens import Tokens
from polymux.transport import Reply, Transport
from polymux.types import NO_USAGE, Call, Deployment, Record, Route, Usage
from polymux.wire.sse import TooLong

ERROR_BODY = 256 * 1024  # bytes of an error answer that are read
DRAIN = 60.0  # seconds for the rest of an answer whose client has left

T = TypeVar("T", contravariant=True)

log = logging.getLogger("polymux")


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
    @property
    def events(self) -> int: ...
    def feed(self, data: T, /) -> bytes: ...
    def close(self) -> bytes: ...


class Engine:
    """Serves decoded calls. One per process; holds no state of a request."""

    def __init__(
        self,
        adapters: Mapping[str, Adapter],
        transport: Transport,
        counters: Counters,
        ledger: Ledger,
        memory: Memory,
        hooks: tuple[Hook, ...] = (),
    ) -> None:
        self._adapters = adapters
        self._relays = {
            (name, surface): adapter
            for name, adapter in adapters.items()
            if isinstance(adapter, Relaying)
            for surface in adapter.relays
        }
        self._transport = transport
        self.tokens = Tokens(transport)
        self._counters = counters
        self._ledger = ledger
        self._flows = Flows(transport, memory)
        self._admitting = overriding(hooks, "admit")
        self._altering = overriding(hooks, "chunk")
        self._failing = overriding(hooks, "failed")
        self._ending = overriding(hooks, "ended")
        self._settling = overriding(hooks, "settled")
        self.pulse = Pulse()
        self._alarmed: set[tuple[str, Headers]] = set()  # providers, and credentials that they refused
        self._turns: dict[str, int] = {}  # requests for a route; of those that need no turn together
        self.under_way = 0  # calls
        self._finishing: list[tuple[Run, Record, int, bytes, bytes | None]] = []
        self._recording: dict[str, Recorder] = {}  # by the id of the call
        self._after: set[asyncio.Future[None]] = set()  # hooks still at work after the last byte
        self._draining: set[asyncio.Task[None]] = set()  # calls that go on when their client leaves

    @property
    def adapters(self) -> Mapping[str, Adapter]:
        return self._adapters

    def learn(self, adapters: Mapping[str, Adapter]) -> None:
        """Own dialects by name. None is forgotten: calls that began before a reload may need it to the end."""
        self._adapters = {**self._adapters, **adapters}

    @property
    def transport(self) -> Transport:
        return self._transport

    async def close(self) -> None:
        """Nobody waits for anything any more: let go of connections and the ledger."""
        for task in self._draining:
            task.cancel()
        if self._draining:
            await asyncio.wait(self._draining)
        self._deliver()
        self.tokens.close()
        await self._flows.close()
        await self._transport.close()
        self._ledger.close()

    def run(self, call: Call, surface: Surface, snapshot: Snapshot, sink: Sink) -> Coroutine[Any, Any, None]:
        """Answers the call on `sink`. Raises nothing but cancellation: the client left."""
        run = Run(call, surface, snapshot, sink)
        return self._outlive(run) if snapshot.drain else self._serve(run)

    async def _outlive(self, run: Run) -> None:
        """Goes on when the client leaves, as far as there is a usage to be known; functions have none."""
        task = self._transport.loop.create_task(self._serve(run))
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            run.gone = True
            recorder = self._recording.get(run.call.id)
            if recorder is None:
                run.sink = Nobody()
            else:
                recorder.to = Nobody()
            asked = run.step is not None and run.step.deployment.dialect != "function"
            timer = self._transport.loop.call_later(DRAIN if asked else 0, task.cancel)
            task.add_done_callback(lambda _: timer.cancel())
            raise

    async def _serve(self, run: Run) -> None:
        call, key = run.call, run.call.key
        self.under_way += 1
        try:
            keeping = run.snapshot.keeping
            if keeping and (key.log or (keeping.models and keeping.models.match(call.model))):
                run.sink = self._recording[call.id] = Recorder(call, keeping, run.sink)
            if key.rpm or key.tpm or key.concurrency:
                admit(run, self._counters)
            for hook in self._admitting:
                await hook.admit(call)
            routes = serving(run.snapshot.registry.find(call.model, key), call.surface)
            if run.snapshot.refuse_unpriced:
                routes = priced(routes, run.snapshot.prices)
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
            if call.stream:
                self.pulse.forget(run)
            if not run.settled:  # the client has left
                run.settled = True
                record = run.record(CLIENT_GONE, DISCONNECTED)
                self.keep((record,))
                self._settled(run, record)
                self._recorded(record)
            if run.inside or run.reserved:
                leave(run, self._counters)

    # ---- attempts

    async def _attempts(self, run: Run, routes: Sequence[Route]) -> Failure | None:
        """The failure that is left when nothing is left to try. It is not raised: its traceback would hold this frame,
        which holds the failure, and the request's body would stay until the cycle is collected."""
        loop = self._transport.loop
        final = loop.time() + routes[0].timeouts.total
        if run.call.deadline is not None:
            final = min(final, run.call.deadline)
        steps, step = None, only(routes)
        if step is None:
            steps = self._plan(routes, final)
            step = next(steps)
        failures: list[Failure] = []
        while True:
            if step.after:
                await asyncio.sleep(step.after)
            run.begin(step)
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
            run.tried(failure.code or failure.kind, failure.status)
            for hook in self._failing:
                hook.failed(run.call, step.deployment, failure)
            if run.committed or run.gone:
                return failure
            failures.append(failure)
            if steps is None:
                steps = self._plan(routes, final)
                next(steps)
            try:
                step = steps.send(Event(failure, loop.time()))
            except StopIteration:
                return verdict(failures)

    def _plan(self, routes: Sequence[Route], final: float) -> Plan:
        name = routes[0].name if routes[0].strategy == "round-robin" else ""  # other names are the clients' to invent
        turn = self._turns[name] = self._turns.get(name, 0) + 1
        return plan(routes, random.random(), turn, final)  # noqa: S311 - chance, not secrecy

    async def _attempt(self, run: Run, to: Deployment, final: float, strict: bool) -> None:
        if to.dialect == "function":
            run.asked = time.perf_counter()
            await self._function(run, to, final)
            return
        if to.grant is not None:
            try:
                async with asyncio.timeout_at(final):
                    to = await self.tokens.signed(to)
            except TimeoutError:
                raise Failure("upstream_timeout", "no access token came in time") from None
        call, adapter = run.call, self._adapters[to.dialect]
        relay = None
        if call.surface in to.serves and not self._altering:
            relay = self._relays.get((to.dialect, call.surface))
        asked = Asked(call.model, int(run.at), to, call.key.id)
        if relay and not to.quirks.replay:
            request = relay.relay(call, to)
        else:
            flow = relay.replay(call, asked) if relay else run.surface.flow(call, adapter, asked)
            request = await self._flows.drive(flow, asked, call.key.tenant, final)
            if not relay and (unknown := run.surface.unknown(call)):
                request = structs.replace(request, dropped=request.dropped + unknown)
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
                failure = adapter.failure(reply.status, reply.header_map(), await _reason(reply))
                raise self._alarm(to, failure) if failure.kind == "upstream_auth_failed" else failure
            if call.stream:
                await self._stream(run, asked, reply, relay, request.framing)
                return
            if request.streams and "event-stream" in reply.header(b"content-type"):
                await self._gather(run, asked, reply, request.framing)
                return
            body = await reply.whole()
            run.heard()
            if relay:
                body, usage = relay.relay_whole(body, call, to)
                if to.quirks.replay:
                    relay.note(body, asked)
                self._answer(run, body, usage)
            else:
                self._answer(run, *run.surface.read(call, adapter, body, asked, self._alterer(run)))
        except BaseException:
            self._flows.stop(adapter, asked)
            raise
        finally:
            self._transport.release(reply)
            if asked.remembered:
                self._flows.remember(asked, call.key.tenant)  # before the end of the answer goes out

    def _alarm(self, to: Deployment, failure: Failure) -> Failure:
        """A provider refuses our own credential: the operator is told once, and the client that it is not its key."""
        credential = (to.provider, to.headers)  # not the deployment: models' names are the clients' to invent
        if credential not in self._alarmed:
            self._alarmed.add(credential)
            log.warning("%s refuses the gateway's credential: %s", to.provider, hide(failure, to).message)
        self.tokens.refused(to)
        text = f"the provider {to.provider!r} refuses the gateway's own credential: {failure.message}"
        return Failure(failure.kind, text)

    async def _stream(self, run: Run, asked: Asked, reply: Reply, relay: Relaying | None, framing: str) -> None:
        to = asked.to
        kind = reply.header(b"content-type")
        if "html" in kind:
            raise Failure("upstream_unavailable", f"the upstream answered with {kind} instead of a stream")
        call, adapter = run.call, self._adapters[to.dialect]
        if "json" in kind and "ndjson" not in kind:  # streaming was asked for, and ignored
            response = adapter.read(await reply.whole(), asked)
            writer = self._writer(run)
            await self._pump(run, to, _pulled(_one(chunks_of(response))), writer, None)
        elif relay:
            relayed = relay.relay_reader(call, to)
            if to.quirks.replay:
                relayed = relay.noting(relayed, asked)
            await self._pump(run, to, reply.block, relayed, reply)
        else:
            lane = Translated(adapter.reader(asked), self._writer(run), framing)
            await self._pump(run, to, reply.block, lane, reply)

    async def _gather(self, run: Run, asked: Asked, reply: Reply, framing: str) -> None:
        """A whole answer from an upstream that streams: who reads along knows what to stop when the client leaves."""
        decoder, reader = DECODERS[framing](), self._adapters[asked.to.dialect].reader(asked)
        chunks: list[Chunk] = []
        async for data in reply:
            for event, payload in decoder.feed(data):
                chunks += reader.feed(event, payload)
            if reader.done:
                break
        for event, payload in decoder.close():
            chunks += reader.feed(event, payload)
        chunks += reader.close()
        reply.finished = True
        run.heard()
        self._answer(run, *_talking(run).answer(run.call, gather(chunks), self._alterer(run), "upstream"))

    async def _function(self, run: Run, to: Deployment, final: float) -> None:
        call, function = run.call, run.snapshot.functions[to.model]
        surface = _talking(run)
        request, results = surface.request(call), Results(call, int(run.at))
        with await function.gate.enter(final) as place:
            given = function.run(call, request, results, Nested(self, run.snapshot, call, final), place)
            try:
                async with asyncio.timeout_at(final), aclosing(given) as chunks:
                    if call.stream:
                        writer = self._writer(run)
                        await self._pump(run, to, _pulled(_sourced(chunks, results, writer)), writer, None)
                    else:
                        answer = gather([chunk async for several in chunks for chunk in several])
                        run.heard()
                        self._answer(run, *surface.answer(call, answer, self._alterer(run), results.source))
            except TimeoutError:
                raise Failure("upstream_timeout", f"the function model {to.model!r} took too long") from None

    def _alter(self, run: Run, chunk: Chunk | None) -> Chunk | None:
        for hook in self._altering:
            if chunk is not None:
                chunk = hook.chunk(run.call, chunk)
        return chunk

    def _alterer(self, run: Run) -> Alter | None:
        return partial(self._alter, run) if self._altering else None

    def _writer(self, run: Run) -> Writer:
        return Writer(_talking(run), run.call, self._alterer(run))

    # ---- answers

    async def _pump(
        self, run: Run, to: Deployment, pull: Callable[[], Awaitable[T | None]], lane: Lane[T], reply: Reply | None
    ) -> None:
        """Everything that is pulled, up to what is empty, through `lane` to the client, as it comes."""
        loop, held = self._transport.loop, [b""]
        first = out = rest = b""
        events = size = 0
        try:
            while data := await pull():
                out = lane.feed(data)
                if not run.committed:
                    held.append(out)
                    if lane.failed:
                        raise lane.failed
                    if not lane.content:
                        if lane.done:
                            break
                        continue
                    first = out = b"".join(held)
                    self._commit(run)
                    if reply is not None:
                        reply.expect(to.timeouts.idle)
                events = lane.events
                size += len(out)
                if lane.done and not lane.failed:  # the rest and the end go out in one piece
                    rest = out
                    break
                if out:
                    sink = run.sink  # another one, when the client has left
                    sink.write(out)
                    run.beat = loop.time()
                    if sink.full:
                        await _drain(sink, reply, to.timeouts.idle)
                if lane.failed:
                    raise lane.failed
            try:
                last = rest + lane.close()
            except (Failure, Truncated):
                if rest:
                    run.sink.write(rest)
                raise
        finally:
            run.usage = lane.usage
            run.said = Said(first, out, events, size)
        if not run.committed:
            last = b"".join(held) + last
            self._commit(run)
        self._finish(run, 200, None, last)
        if reply is not None:
            reply.finished = True

    def _commit(self, run: Run) -> None:
        run.committed = True
        run.first = time.perf_counter()
        run.waited += run.first - run.asked
        if not run.sink.started:
            run.sink.start(200, EVENTS + run.head())

    def _answer(self, run: Run, body: bytes, usage: Usage) -> None:
        run.usage = usage
        if usage is NO_USAGE:
            run.said = Said(body)
        run.committed = True
        run.first = time.perf_counter()
        self._finish(run, 200, None, body, JSON + run.head())

    def _fail(self, run: Run, failure: Failure) -> None:
        if run.settled:
            return
        error = failure.code or failure.kind
        if run.sink.started:
            self._finish(run, failure.status, error, run.surface.error_event(failure))
        else:
            head = JSON + run.head() + failure_head(failure)
            self._finish(run, failure.status, error, run.surface.error(failure), head)

    def _finish(self, run: Run, status: int, error: str | None, last: bytes, head: bytes | None = None) -> None:
        """The usage record, then the last bytes (with their head, when nothing has been sent yet). What finishes in
        one turn of the loop shares one write to the ledger."""
        run.settled = True
        if run.gone:
            run.tried(error or "ok", status)
            status, error = CLIENT_GONE, DISCONNECTED
        if not self._finishing:
            self._transport.loop.call_soon(self._deliver)
        self._finishing.append((run, run.record(status, error), status, last, head))

    def _deliver(self) -> None:
        finishing, self._finishing = self._finishing, []
        self.keep([record for _, record, _, _, _ in finishing])
        for run, record, status, last, head in finishing:
            if head is None:
                run.sink.end(last)
            else:
                run.sink.respond(status, head, last)
            if self._settling:
                self._settled(run, record)
            if self._recording:
                self._recorded(record)

    def _recorded(self, record: Record) -> None:
        """Keep the conversation of a call that has ended, if it is to be kept."""
        if (recorder := self._recording.pop(record.id, None)) is not None:
            recorder.keep(record)

    def keep(self, records: Sequence[Record]) -> None:
        """Into the ledger, and to those who look at what has ended."""
        try:
            self._ledger.append(records)
        except OSError as failure:  # the client gets its answer all the same
            log.error("usage records could not be written: %s; lost: %s", failure, records)
        except Exception:
            traceback.print_exc(file=sys.stderr)
        for hook in self._ending:
            try:
                hook.ended(records)
            except Exception:  # whoever looks on is not in the way of answers
                traceback.print_exc(file=sys.stderr)

    def _settled(self, run: Run, record: Record) -> None:
        for hook in self._settling:
            task = asyncio.ensure_future(hook.settled(run.call, record))
            self._after.add(task)
            task.add_done_callback(self._after.discard)


def _talking(run: Run) -> Talking:
    """The surface of a call that is streamed, or asks a function: no other surface gets this far."""
    return run.surface  # type: ignore[return-value]  # by what it is served over, and by what its calls are


async def _reason(reply: Reply) -> bytes:
    """The body of an error answer. The status counts all the same when it is too long, or does not come."""
    try:
        return await reply.whole(ERROR_BODY)
    except (Failure, Truncated):
        return b""


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
        if several:
            yield several


async def _one(chunks: Sequence[Chunk]) -> AsyncIterator[Sequence[Chunk]]:
    yield chunks


def _pulled(chunks: AsyncIterator[Sequence[Chunk]]) -> Callable[[], Awaitable[Sequence[Chunk] | None]]:
    return partial(anext, chunks, None)

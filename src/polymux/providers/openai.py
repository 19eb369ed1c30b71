"""The dialect of OpenAI's API, upstream side: what forty providers speak, told apart by their rows.

Two lanes. The relay lane serves clients that speak the same dialect: the body's top level is spliced, and answers
pass unchanged but for the framing and the usage chunk. The translated lane (`flow`, `read`, `reader`) goes through
the pivot and mends what compatible servers get wrong (`openai_repair`). Source: OpenAI's API description.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import structs

from polymux.errors import Failure, Truncated
from polymux.providers.base import Asked, Flow, Lane
from polymux.providers.fates import Column
from polymux.providers.openai_embeddings import read_vectors, relay_vectors
from polymux.providers.openai_errors import failure_of, in_band
from polymux.providers.openai_repair import Repair, counted, repair_whole, usage_of
from polymux.providers.openai_replay import Notes, Noting, completed
from polymux.providers.openai_request import EMBEDDING_FATES, FATES, PATHS, unsigned, wire_request
from polymux.providers.replies import UNREADABLE
from polymux.schema.chat import DONE, ChatRequest, ChatResponse, Chunk, TokenUsage
from polymux.schema.embeddings import EmbeddingRequest, EmbeddingResponse
from polymux.schema.openai import Counts, Glance, GlanceChoice, LooseGlance, ModelList, Opening, Whole
from polymux.types import NO_USAGE, Call, Deployment, Quirks, Usage, WireRequest
from polymux.wire import sse

_glances = msgspec.json.Decoder(Glance).decode_lines
_loose = msgspec.json.Decoder(LooseGlance).decode
_opening = msgspec.json.Decoder(Opening).decode
_whole = msgspec.json.Decoder(Whole).decode
_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

_TEXT_ONLY: Final = Glance([GlanceChoice()])  # what nearly every chunk looks like at a glance


class OpenAI:
    """Implements `providers.base.Adapter` and the relay lane."""

    @property
    def fates(self) -> Column:
        return FATES

    def flow(self, request: ChatRequest, asked: Asked) -> Flow:
        fields = msgspec.to_builtins(request)
        lost = (yield from completed(fields, asked)) if asked.to.quirks.replay else ()
        wire = wire_request(fields, unsigned(asked.to), usage=bool(request.stream))
        return structs.replace(wire, dropped=lost + wire.dropped) if lost else wire

    @property
    def relays(self) -> Collection[str]:
        return PATHS

    def relay(self, call: Call, to: Deployment) -> WireRequest:
        """The client's own body with the upstream's model name and the row's repairs."""
        return self._relay(call, call.fields.copy(), to)

    def replay(self, call: Call, asked: Asked) -> Flow:
        fields = call.fields.copy()
        lost = yield from completed(fields, asked)
        wire = self._relay(call, fields, asked.to)
        return structs.replace(wire, dropped=lost + wire.dropped) if lost else wire

    def _relay(self, call: Call, fields: dict[str, Any], to: Deployment) -> WireRequest:
        if b'"reasoning_details"' in call.body or b'"extra_content"' in call.body:
            to = unsigned(to)
        return wire_request(fields, to, usage=call.stream and not call.wants_usage, surface=call.surface)

    def relay_reader(self, call: Call, to: Deployment) -> Lane:
        mending = to.quirks.repair and call.surface == "chat"
        return Mender(call.wants_usage, to.quirks) if mending else Relay(call.wants_usage)

    def noting(self, lane: Lane, asked: Asked) -> Lane:
        return Noting(lane, asked)

    def note(self, body: bytes, asked: Asked) -> None:
        notes = Notes(asked)
        notes.event(body)
        notes.keep()

    def relay_whole(self, body: bytes, call: Call, to: Deployment) -> tuple[bytes, Usage]:
        """A buffered answer, as it came unless the row says repair. Raises `Failure` for an error inside a 200."""
        if call.surface == "embeddings":
            return relay_vectors(body, call)
        if to.quirks.repair and call.surface == "chat":
            mended = repair_whole(_object(body), to.quirks)
            return _encode(mended), usage_of(mended.get("usage"))
        try:
            seen = _whole(body)
        except msgspec.ValidationError:  # members of types that OpenAI does not send
            mended = repair_whole(_object(body), to.quirks)
            return body, usage_of(mended.get("usage"))
        except UNREADABLE:
            raise _not_a_completion() from None
        if seen.error:
            raise in_band(seen.error)
        if not seen.choices:
            raise Failure("upstream_unavailable", "the upstream's answer has no choices")
        if seen.usage:
            return body, counted(seen.usage)
        return body, usage_of(next((choice.usage for choice in seen.choices if choice.usage), None))

    def read(self, body: bytes, asked: Asked) -> ChatResponse:
        mended = repair_whole(_object(body), asked.to.quirks) | {"model": asked.model, "created": asked.created}
        try:
            answer = msgspec.convert(mended, ChatResponse)
        except msgspec.ValidationError:
            raise _not_a_completion() from None
        if asked.to.quirks.replay:
            self.note(_encode(answer), asked)
        return answer

    def reader(self, asked: Asked) -> Reader:
        return Reader(asked)

    @property
    def embedding_fates(self) -> Column:
        return EMBEDDING_FATES

    def embed(self, request: EmbeddingRequest, asked: Asked) -> Flow:
        yield from ()  # no preparatory exchange
        return wire_request(msgspec.to_builtins(request), asked.to, usage=False, surface="embeddings")

    def read_embeddings(self, body: bytes, asked: Asked) -> EmbeddingResponse:
        return read_vectors(body, asked.model)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        return failure_of(status, headers, body)

    def models(self, to: Deployment) -> WireRequest:
        return WireRequest("GET", f"{to.base_url}/models", to.headers, framing="whole")

    def read_models(self, body: bytes) -> Sequence[str]:
        return [entry.id for entry in msgspec.json.decode(body, type=ModelList).data]


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = _any(body)
    except UNREADABLE:
        value = None
    if not isinstance(value, dict):
        raise _not_a_completion()
    return value


def _not_a_completion() -> Failure:
    return Failure("upstream_unavailable", "the upstream's answer is not a chat completion")


class Relay:
    """A stream that passes unchanged: raw bytes in, client bytes out.

    Looked at on the way: errors, the first content (`content`), the finish and the usage. A chunk that is not JSON
    is left out and counted in `malformed`: clients' readers break on it.
    """

    __slots__ = ("_decoder", "_finished", "_wants_usage", "content", "done", "events", "failed", "malformed", "usage")

    def __init__(self, wants_usage: bool) -> None:
        self._wants_usage = wants_usage
        self.events = 0  # given out
        self._decoder = sse.Decoder()
        self._finished = False
        self.done = False
        self.failed: Failure | None = None
        self.content = False
        self.malformed = 0
        self.usage = NO_USAGE

    def feed(self, data: bytes) -> bytes:
        """What the client gets for these bytes of the upstream."""
        plain = not self._decoder.pending and not self.failed and data.startswith(b"data: {")
        if plain and (out := self._block(data)) is not None:
            return out
        return self._events(self._decoder.feed(data))

    def close(self) -> bytes:
        """The upstream's body has ended. Raises `Truncated` when no choice had finished."""
        last = self._events(self._decoder.close())
        if self.failed:
            raise self.failed
        if not (self.done or self._finished):
            raise Truncated
        return last + DONE

    def _block(self, data: bytes) -> bytes | None:
        """Whole, plainly framed events, which is what nearly every read brings, decoded in one go. None = look at
        them one by one."""
        events = data.removesuffix(DONE)
        if not events.endswith(b"}\n\n"):
            return None
        chunks = events[6:-2].split(b"\n\ndata: ")
        if events.count(b"\n") != 2 * len(chunks):  # JSON that does not keep to its line
            return None
        try:
            seen = _glances(chunks[0] if len(chunks) == 1 else b"\n".join(chunks))
        except UNREADABLE:
            return None
        if len(seen) != len(chunks):
            return None
        told = [chunk for chunk in seen if chunk != _TEXT_ONLY]
        if told and any(chunk.error for chunk in told):
            return None
        self.done |= len(events) != len(data)
        self.content = self.content or any(map(_opens, chunks))
        self.events += len(seen)
        refused = [chunk for chunk in told if not self._note(chunk)] if told else told
        if not refused:
            return events
        self.events -= len(refused)
        if len(refused) == 1 and refused[0] is seen[-1]:  # the usage comes last
            return events[: -len(sse.encode(chunks[-1]))]
        kept = [chunk for chunk, glance in zip(chunks, seen, strict=True) if glance not in refused]
        return b"".join(map(sse.encode, kept))

    def _events(self, events: list[tuple[str, bytes]]) -> bytes:
        out = []
        for _, data in events:
            if self.failed:
                break
            if data == b"[DONE]":
                self.done = True
                continue
            try:
                chunk = _loose(data)
            except UNREADABLE:
                self.malformed += 1
                continue
            if chunk.error:
                self.failed = in_band(chunk.error)
            elif self._note(chunk):
                self.content = self.content or _opens(data)
                out.append(sse.encode(data))
        self.events += len(out)
        return b"".join(out)

    def _note(self, chunk: Glance | LooseGlance) -> bool:
        """Take down what a chunk says; False for a usage chunk that the client did not ask for."""
        for choice in chunk.choices or ():
            if choice.finish_reason:
                self._finished = True
            if choice.usage:
                self.usage = usage_of(choice.usage)
        usage = chunk.usage
        if usage is None:
            return True
        told = counted(usage) if isinstance(usage, Counts) else usage_of(usage)
        if told is not NO_USAGE:
            self.usage = told
        return bool(chunk.choices) or self._wants_usage


def _opens(data: bytes) -> bool:
    """Whether a chunk has content."""
    try:
        choices = _opening(data).choices or ()
    except UNREADABLE:
        return False
    return any(choice.text or (choice.delta is not None and choice.delta.has_content()) for choice in choices)


class _Mended:
    """Decoded chunks, mended one by one."""

    def __init__(self, quirks: Quirks) -> None:
        self._repair = Repair(quirks)
        self.done = False
        self.malformed = 0

    def event(self, data: bytes) -> list[dict[str, Any]]:
        if data.startswith(b"[DONE]"):
            self.done = True
            return []
        try:
            chunk = _any(data)
        except UNREADABLE:
            chunk = None
        if not isinstance(chunk, dict):
            self.malformed += 1
            return []
        return self._repair.chunk(chunk)

    @property
    def usage(self) -> dict[str, Any] | None:
        return self._repair.usage

    def close(self) -> list[dict[str, Any]]:
        return self._repair.close(done=self.done)


class Mender:
    """The relay lane for rows that declare a repair: the same interface as `Relay`, unknown members kept."""

    def __init__(self, wants_usage: bool, quirks: Quirks) -> None:
        self._wants_usage = wants_usage
        self._decoder = sse.Decoder()
        self._mended = _Mended(quirks)
        self.content = False
        self.events = 0  # given out
        self.failed: Failure | None = None
        self.usage = NO_USAGE

    @property
    def malformed(self) -> int:
        return self._mended.malformed

    @property
    def done(self) -> bool:
        return self._mended.done

    def feed(self, data: bytes) -> bytes:
        return self._events(self._decoder.feed(data))

    def close(self) -> bytes:
        last = self._events(self._decoder.close())
        if self.failed:
            raise self.failed
        return b"".join([last, *map(self._write, self._mended.close()), DONE])

    def _events(self, events: list[tuple[str, bytes]]) -> bytes:
        out: list[bytes] = []
        for _, data in events:
            if self.failed:
                break
            try:
                out += map(self._write, self._mended.event(data))
            except Failure as failure:
                self.failed = failure
        return b"".join(out)

    def _write(self, chunk: dict[str, Any]) -> bytes:
        if chunk.get("usage"):
            self.usage = usage_of(chunk["usage"])
            if not self._wants_usage:
                return b""
        elif not self.content:
            self.content = any(v for choice in chunk["choices"] for k, v in choice["delta"].items() if k != "role")
        self.events += 1
        return sse.encode(_encode(chunk))


class Reader:
    """Implements `providers.base.Reader` on the mended chunks."""

    def __init__(self, asked: Asked) -> None:
        self._model, self._created = asked.model, asked.created
        self._mended = _Mended(asked.to.quirks)
        self._notes = Notes(asked) if asked.to.quirks.replay else None

    @property
    def malformed(self) -> int:
        return self._mended.malformed

    @property
    def done(self) -> bool:
        return self._mended.done

    @property
    def usage(self) -> TokenUsage | None:
        try:
            return msgspec.convert(self._mended.usage, TokenUsage | None)
        except msgspec.ValidationError:
            return None

    def feed(self, event: str, data: bytes) -> Sequence[Chunk]:
        return self._chunks(self._mended.event(data))

    def close(self) -> Sequence[Chunk]:
        last = self._chunks(self._mended.close())
        if self._notes:
            self._notes.keep()
        return last

    def _chunks(self, mended: list[dict[str, Any]]) -> list[Chunk]:
        chunks = []
        for chunk in mended:
            chunk["model"], chunk["created"] = self._model, self._created
            try:
                chunks.append(msgspec.convert(chunk, Chunk))
            except msgspec.ValidationError:  # a member of a wrong type: as unreadable as broken JSON
                self._mended.malformed += 1
        if self._notes:
            for one in chunks:
                self._notes.event(_encode(one))
        return chunks

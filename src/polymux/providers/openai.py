"""The dialect of OpenAI's chat completions, upstream side: what forty providers speak, told apart by their rows.

Two lanes. The relay lane serves clients that speak the same dialect: the body's top level is spliced, and answers
pass unchanged but for the framing and the usage chunk. The translated lane (`flow`, `read`, `reader`) goes through
the pivot and mends what compatible servers get wrong (`openai_repair`). Source: OpenAI's API description.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from polymux.errors import Failure, Truncated
from polymux.providers.base import Flow, Lane
from polymux.providers.openai_errors import failure_of, in_band
from polymux.providers.openai_repair import Repair, repair_whole, usage_of
from polymux.schema.chat import ChatRequest, ChatResponse, Chunk
from polymux.schema.openai import Glance, ModelList, Tail, Whole
from polymux.types import NO_USAGE, Call, Deployment, Usage, WireRequest
from polymux.wire import splice, sse

_glance = msgspec.json.Decoder(Glance).decode
_tail = msgspec.json.Decoder(Tail).decode
_whole = msgspec.json.Decoder(Whole).decode
_any = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

DONE: Final = b"data: [DONE]\n\n"


class OpenAI:
    """Implements `providers.base.Adapter` and the relay lane."""

    def flow(self, request: ChatRequest, to: Deployment) -> Flow:
        yield from ()  # no preparatory exchange
        fields = msgspec.to_builtins(request)
        return wire_request(fields, to, usage=bool(request.stream))

    def relay(self, call: Call, to: Deployment) -> WireRequest:
        """The client's own body with the upstream's model name and the row's repairs."""
        return wire_request(call.fields.copy(), to, usage=call.stream and not call.wants_usage)

    def relay_reader(self, call: Call, to: Deployment) -> Lane:
        return Mender(call.wants_usage) if to.quirks.repair else Relay(call.wants_usage)

    def relay_whole(self, body: bytes, to: Deployment) -> tuple[bytes, Usage]:
        """A buffered answer, as it came unless the row says repair. Raises `Failure` for an error inside a 200."""
        if to.quirks.repair:
            mended = repair_whole(_object(body))
            return _encode(mended), usage_of(mended.get("usage"))
        try:
            seen = _whole(body)
        except msgspec.MsgspecError:
            raise Failure("upstream_unavailable", "the upstream's answer is not a chat completion") from None
        if seen.error:
            raise in_band(seen.error)
        if not seen.choices:
            raise Failure("upstream_unavailable", "the upstream's answer has no choices")
        return body, usage_of(seen.usage)

    def read(self, body: bytes, model: str, created: int) -> ChatResponse:
        mended = repair_whole(_object(body))
        mended["model"] = model
        mended.setdefault("created", created)
        return msgspec.convert(mended, ChatResponse)

    def reader(self, model: str, created: int) -> Reader:
        return Reader(model, created)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        return failure_of(status, headers, body)

    def models(self, to: Deployment) -> WireRequest:
        return WireRequest("GET", f"{to.base_url}/models", to.headers, framing="whole")

    def read_models(self, body: bytes) -> Sequence[str]:
        return [entry.id for entry in msgspec.json.decode(body, type=ModelList).data]


def wire_request(fields: dict[str, Any], to: Deployment, *, usage: bool) -> WireRequest:
    """Apply the deployment's name and its row's quirks to a request's top level. `usage`: ask for the usage chunk."""
    quirks = to.quirks
    fields["model"] = to.model
    if usage and quirks.stream_usage:
        fields["stream_options"] = _with_usage(fields.get("stream_options"))
    elif not quirks.stream_usage:
        fields.pop("stream_options", None)
    dropped = []
    for name in quirks.drop:
        if fields.pop(name, None) is not None:
            dropped.append(name)
    for name, new in quirks.rename.items():
        if name in fields:
            fields.setdefault(new, fields[name])
            del fields[name]
    for name, (low, high) in quirks.clamp.items():
        value = _plain(fields.get(name))
        if isinstance(value, int | float) and not low <= value <= high:
            fields[name] = min(max(value, low), high)
            dropped.append(name)
    fields.update(quirks.set)
    return WireRequest(
        "POST", f"{to.base_url}/chat/completions", to.headers, splice.build(fields), dropped=tuple(dropped)
    )


def _with_usage(options: Any) -> Any:
    options = _plain(options)
    return {**options, "include_usage": True} if isinstance(options, dict) else {"include_usage": True}


def _plain(value: Any) -> Any:
    return _any(value) if isinstance(value, msgspec.Raw) else value


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = _any(body)
    except msgspec.MsgspecError:
        value = None
    if not isinstance(value, dict):
        raise Failure("upstream_unavailable", "the upstream's answer is not a chat completion")
    return value


class Relay:
    """A stream that passes unchanged: raw bytes in, client bytes out.

    Looked at on the way: errors, the first content (`content`), the finish and the usage. A chunk that is not JSON
    is left out and counted in `malformed`: clients' readers break on it.
    """

    __slots__ = ("_decoder", "_finished", "_wants_usage", "content", "malformed", "usage")

    def __init__(self, wants_usage: bool) -> None:
        self._wants_usage = wants_usage
        self._decoder = sse.Decoder()
        self._finished = False
        self.content = False
        self.malformed = 0
        self.usage = NO_USAGE

    def feed(self, data: bytes) -> bytes:
        """What the client gets for these bytes of the upstream. Raises `Failure` for an error event."""
        return self._pass(self._decoder.feed(data))

    def close(self) -> bytes:
        """The upstream's body has ended. Raises `Truncated` when no choice had finished."""
        last = self._pass(self._decoder.close())
        if not self._finished:
            raise Truncated
        return last + DONE

    def _pass(self, events: list[tuple[str, bytes]]) -> bytes:
        out = []
        for _, data in events:
            if data == b"[DONE]":
                self._finished = True
                continue
            try:
                seen = _tail(data) if self.content else _glance(data)
            except msgspec.MsgspecError:
                self.malformed += 1
                continue
            if seen.error:
                raise in_band(seen.error)
            choices = seen.choices
            if choices:
                for choice in choices:
                    if choice.finish_reason:
                        self._finished = True
                    if choice.usage:
                        self.usage = usage_of(choice.usage)
                if not self.content and isinstance(seen, Glance):
                    self.content = any(c.delta is not None and c.delta.has_content() for c in seen.choices or ())
            if seen.usage:
                self.usage = usage_of(seen.usage)
                if not choices and not self._wants_usage:
                    continue
            out.append(sse.encode(data))
        return b"".join(out)


class _Mended:
    """Decoded chunks, mended one by one."""

    def __init__(self) -> None:
        self._repair = Repair()
        self.malformed = 0

    def event(self, data: bytes) -> list[dict[str, Any]]:
        if data.startswith(b"[DONE]"):
            return self._repair.done()
        try:
            chunk = _any(data)
        except msgspec.MsgspecError:
            chunk = None
        if not isinstance(chunk, dict):
            self.malformed += 1
            return []
        if chunk.get("error"):
            raise in_band(chunk["error"])
        return self._repair.chunk(chunk)

    def close(self) -> list[dict[str, Any]]:
        return self._repair.close()


class Mender:
    """The relay lane for rows that declare a repair: the same interface as `Relay`, unknown members kept."""

    def __init__(self, wants_usage: bool) -> None:
        self._wants_usage = wants_usage
        self._decoder = sse.Decoder()
        self._mended = _Mended()
        self.content = False
        self.usage = NO_USAGE

    @property
    def malformed(self) -> int:
        return self._mended.malformed

    def feed(self, data: bytes) -> bytes:
        return b"".join([self._write(chunk) for event in self._decoder.feed(data) for chunk in self._mended.event(event[1])])

    def close(self) -> bytes:
        chunks = [chunk for event in self._decoder.close() for chunk in self._mended.event(event[1])]
        chunks += self._mended.close()
        return b"".join(map(self._write, chunks)) + DONE

    def _write(self, chunk: dict[str, Any]) -> bytes:
        if chunk.get("usage"):
            self.usage = usage_of(chunk["usage"])
            if not self._wants_usage:
                return b""
        elif any(set(choice["delta"]) - {"role"} for choice in chunk["choices"]):
            self.content = True
        return sse.encode(_encode(chunk))


class Reader:
    """Implements `providers.base.Reader` on the mended chunks."""

    def __init__(self, model: str, created: int) -> None:
        self._model, self._created = model, created
        self._mended = _Mended()

    @property
    def malformed(self) -> int:
        return self._mended.malformed

    def feed(self, event: str, data: bytes) -> Sequence[Chunk]:
        return [self._chunk(chunk) for chunk in self._mended.event(data)]

    def close(self) -> Sequence[Chunk]:
        return [self._chunk(chunk) for chunk in self._mended.close()]

    def _chunk(self, mended: dict[str, Any]) -> Chunk:
        mended["model"] = self._model
        mended["created"] = self._created
        return msgspec.convert(mended, Chunk)

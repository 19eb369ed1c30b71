"""The dialect of Anthropic's Messages API, upstream side: the adapter, and the reading of answers and errors.

Requests are translated in `anthropic_request`. Source: Anthropic's API reference (Messages, Streaming, Errors).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from polymux.errors import Failure, Truncated
from polymux.providers.anthropic_fates import FATES
from polymux.providers.anthropic_replay import recalled, remember
from polymux.providers.anthropic_request import translate
from polymux.providers.base import Asked, Flow
from polymux.providers.fates import Column, ordered
from polymux.providers.quirks import bent
from polymux.providers.replies import KINDS, LONGEST, SPENT, UNREADABLE, error_of, message_of, retry_after
from polymux.schema.anthropic import (
    BlockKind,
    ErrorBody,
    Event,
    Json,
    ModelList,
    Reply,
    ReplyBlock,
    Usage,
)
from polymux.schema.chat import (
    AnswerMessage,
    ChatRequest,
    ChatResponse,
    Choice,
    Chunk,
    ChunkChoice,
    CompletionDetails,
    Delta,
    FunctionCall,
    FunctionCallDelta,
    PromptDetails,
    TokenUsage,
    ToolCall,
    ToolCallDelta,
)
from polymux.types import Deployment, WireRequest
from polymux.wire.mask import mask

_event = msgspec.json.Decoder(Event).decode
_reply = msgspec.json.Decoder(Reply).decode
_block = msgspec.json.Decoder(ReplyBlock).decode
_kind = msgspec.json.Decoder(BlockKind).decode
_json = msgspec.json.Decoder(Json).decode
_model_list = msgspec.json.Decoder(ModelList).decode


# Every stop reason that is not simply "stop" (end_turn, stop_sequence, pause_turn, and what is not known yet).
_FINISH: Final[Mapping[str, str]] = MappingProxyType(
    {
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "tool_use": "tool_calls",
        "refusal": "content_filter",
    }
)

_BLOCKS: Final = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})  # others are the server's own

# What an error event would have been as a status.
_STATUS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "invalid_request_error": 400,
        "authentication_error": 401,
        "billing_error": 402,
        "permission_error": 403,
        "not_found_error": 404,
        "conflict_error": 409,
        "request_too_large": 413,
        "rate_limit_error": 429,
        "api_error": 500,
        "timeout_error": 504,
        "overloaded_error": 529,
    }
)

# Other 4xx are the request's fault and passed on, other statuses mean "unavailable".
_REQUEST: Final = "invalid_request_error"
_SENT: Final[Mapping[int, tuple[int, str, str]]] = MappingProxyType(
    {
        404: (404, _REQUEST, "model_not_found"),
        413: (413, _REQUEST, "request_too_large"),
    }
)
# A 400 has one type for everything; these phrases of its message tell what it is about. Spent money comes as 429 too.
_TOO_LONG: Final = ("prompt is too long", "exceed context limit")
_SPENT: Final = ("usage limits", "spend limit", "credit balance")


class Anthropic:
    """Implements `providers.base.Adapter`."""

    @property
    def fates(self) -> Column:
        return FATES

    def flow(self, request: ChatRequest, asked: Asked) -> Flow:
        to = asked.to
        wire, dropped = translate(request, to, (yield from recalled(request, asked)))
        # the wire has the messages: while it is encoded, a large image need not be held once more
        request = msgspec.structs.replace(request, messages=[])
        body, lost = bent(wire, request, to.quirks, FATES)
        dropped = ordered({*dropped, *lost}) if lost else dropped
        return WireRequest("POST", f"{to.base_url}/messages", to.headers, body, dropped=dropped)

    def read(self, body: bytes, asked: Asked) -> ChatResponse:
        return _read(body, asked)

    def reader(self, asked: Asked) -> Reader:
        return Reader(asked)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        error = error_of(body)
        kind = error.get("type")
        said = ErrorBody(kind if isinstance(kind, str) else "", message_of(error, status, headers, body))
        return _failure(status, said, retry_after(headers))

    def models(self, to: Deployment) -> WireRequest:
        return WireRequest("GET", f"{to.base_url}/models?limit=1000", to.headers, framing="whole")

    def read_models(self, body: bytes) -> Sequence[str]:
        return [entry.id for entry in _model_list(body).data]


# ---- errors ----------------------------------------------------------------------------------------------------


def _failure(status: int, error: ErrorBody, pause: float | None = None) -> Failure:
    message = mask(error.message[:LONGEST]) or f"the upstream answered with status {status} and gave no reason"
    kind, lower = KINDS.get(status), message.lower()
    if error.type in SPENT or (status in (400, 429) and any(phrase in lower for phrase in _SPENT)):
        return Failure("upstream_auth_failed", message)
    if kind or not 400 <= status < 500:
        return Failure(kind or "upstream_unavailable", message, retry_after=pause)
    if status == 400 and any(phrase in lower for phrase in _TOO_LONG):
        return Failure("context_length_exceeded", message, param="messages")
    rejected = "upstream_model_not_found" if status == 404 else "upstream_rejected"
    return Failure(rejected, message, sent=_SENT.get(status, (status, error.type or None, None)))


def _in_band(error: ErrorBody) -> Failure:
    """An error inside a 200."""
    return _failure(_STATUS.get(error.type, 500), error)


# ---- answers ---------------------------------------------------------------------------------------------------


class _OpenBlock(msgspec.Struct):
    """A block between its start and its stop."""

    block: ReplyBlock  # of thinking: without its text, which is in `texts`
    raw: msgspec.Raw  # the start, complete
    call: int = 0  # number of a tool call
    bare: bool = True  # a tool call without any fragment of its input so far
    start: int = 0  # where a text begins in the whole text, in characters
    texts: list[str] = []


class Reader:
    """Implements `providers.base.Reader`. Blocks are told apart by their index, so that they may overlap."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._model = asked.model
        self._created = asked.created
        self._id = ""
        self._live = False  # between message_start and message_stop; elsewhere only errors count
        self._done = False
        self._open: dict[int, _OpenBlock] = {}
        self._calls = 0
        self._first = ""  # id of the first call
        self._details: list[Json] = []
        self._length = 0  # characters of text so far
        self._stop_reason: str | None = None
        self._usage: Usage | None = None
        self.malformed = 0  # events that could not be read

    @property
    def done(self) -> bool:
        return self._done

    @property
    def usage(self) -> TokenUsage | None:
        return _token_usage(self._usage) if self._usage else None

    def feed(self, event: str, data: bytes) -> Sequence[Chunk]:
        try:
            got = _event(data)
        except UNREADABLE:
            return self._unreadable(event, data)
        delta = got.delta
        if delta is not None and delta.type == "text_delta" and self._live:  # nearly all events of an answer
            self._length += len(delta.text)
            return self._chunk(Delta(content=delta.text))
        kind = got.type or event
        if self._done:
            return ()
        if kind == "error" or (got.error and not kind):
            raise _in_band(got.error or ErrorBody())
        take = _EVENTS.get(kind) if self._live or kind == "message_start" else None
        return take(self, got) if take else ()

    def close(self) -> Sequence[Chunk]:
        if not self._done:
            raise Truncated
        return ()

    def _chunk(self, delta: Delta, finish: str | None = None) -> list[Chunk]:
        return [Chunk(self._id, self._created, self._model, [ChunkChoice(0, delta, finish)])]

    def _unreadable(self, event: str, data: bytes) -> Sequence[Chunk]:
        """An event that is not JSON is left out and counted; what ends the stream is missed at its end."""
        if event == "error" and not self._done:
            raise _in_band(ErrorBody(message=data.decode("utf-8", "replace")))
        self.malformed += 1
        return ()

    def _message_start(self, got: Event) -> Sequence[Chunk]:
        if self._live:  # some front ends that retry send it twice
            return ()
        self._live = True
        self._id = (got.message.id if got.message else "") or _invented(self._created)
        self._usage = got.message.usage if got.message else None
        return self._chunk(Delta(role="assistant", content=""))

    def _block_start(self, got: Event) -> Sequence[Chunk]:
        try:
            bytes(got.content_block).decode()  # what is raw so far is read later
            block = _known(got.content_block)
        except UNREADABLE:
            raise Truncated("a block cannot be read") from None
        opened = _OpenBlock(block, got.content_block, self._calls, start=self._length, texts=[block.thinking])
        self._open[got.index] = opened
        if block.type == "tool_use":
            self._calls += 1
            self._first = self._first or block.id
            function = FunctionCallDelta(block.name, "")
            return self._chunk(Delta(tool_calls=[ToolCallDelta(opened.call, block.id, "function", function)]))
        if block.type == "text" and block.text:
            self._length += len(block.text)
            return self._chunk(Delta(content=block.text))
        return self._chunk(Delta(reasoning_content=block.thinking)) if block.thinking else ()

    def _block_delta(self, got: Event) -> Sequence[Chunk]:
        opened, delta = self._open.get(got.index), got.delta
        if opened is None or delta is None:
            return ()
        block = opened.block
        match delta.type:
            case "input_json_delta" if block.type == "tool_use" and delta.partial_json:
                opened.bare = False
                return self._arguments(opened, delta.partial_json)
            case "thinking_delta" if delta.thinking:
                opened.texts.append(delta.thinking)
                return self._chunk(Delta(reasoning_content=delta.thinking))
            case "signature_delta":
                block.signature = delta.signature
            case "citations_delta" if delta.citation:
                block.citations = [*(block.citations or ()), delta.citation]
        return ()

    def _arguments(self, opened: _OpenBlock, text: str) -> list[Chunk]:
        fragment = ToolCallDelta(opened.call, function=FunctionCallDelta(arguments=text))
        return self._chunk(Delta(tool_calls=[fragment]))

    def _block_stop(self, got: Event) -> Sequence[Chunk]:
        opened = self._open.pop(got.index, None)
        if opened is None:
            return ()
        block = opened.block
        if block.type == "tool_use" and opened.bare:
            return self._arguments(opened, _arguments(block))
        if _comes_back(block):
            given = _json(opened.raw)
            if block.type == "thinking":
                given |= {"thinking": "".join(opened.texts), "signature": block.signature}
            self._details.append(given)
            return self._chunk(Delta(reasoning_details=[given]))
        if annotations := _annotations(block, opened.start, self._length):
            return self._chunk(Delta(annotations=annotations))
        return ()

    def _message_delta(self, got: Event) -> Sequence[Chunk]:
        if got.delta and got.delta.stop_reason:
            self._stop_reason = got.delta.stop_reason
        if got.usage:
            self._usage = self._usage.updated(got.usage) if self._usage else got.usage
        return ()

    def _message_stop(self, _: Event) -> Sequence[Chunk]:
        if self._stop_reason is None:
            raise Truncated
        out = [chunk for index in sorted(self._open) for chunk in self._block_stop(Event(index=index))]
        out += self._chunk(Delta(), _finish(self._stop_reason, self._calls))
        if self._usage:
            out.append(Chunk(self._id, self._created, self._model, [], usage=_token_usage(self._usage)))
        self._live, self._done = False, True
        remember(self._asked, self._first, self._details)
        return out


_EVENTS: Final[Mapping[str, Callable[[Reader, Event], Sequence[Chunk]]]] = MappingProxyType(
    {
        "message_start": Reader._message_start,
        "content_block_start": Reader._block_start,
        "content_block_delta": Reader._block_delta,
        "content_block_stop": Reader._block_stop,
        "message_delta": Reader._message_delta,
        "message_stop": Reader._message_stop,
    }
)


def _read(body: bytes, asked: Asked) -> ChatResponse:
    try:
        body.decode()  # what is raw so far is read later
        reply = _reply(body)
        blocks = [_known(raw) for raw in reply.content or ()]
    except UNREADABLE:
        raise Failure("upstream_unavailable", "the upstream's answer is not a message") from None
    if reply.error:
        raise _in_band(reply.error)
    if reply.content is None:
        raise Failure("upstream_unavailable", "the upstream's answer has no content")
    if reply.stop_reason is None:
        raise Truncated
    text, reasoning = "", ""
    calls: list[ToolCall] = []
    details: list[Json] = []
    annotations: list[Json] = []
    for raw, block in zip(reply.content, blocks, strict=True):
        text += block.text
        reasoning += block.thinking
        annotations += _annotations(block, len(text) - len(block.text), len(text))
        if block.type == "tool_use":
            calls.append(ToolCall(block.id, function=FunctionCall(block.name, _arguments(block))))
        elif _comes_back(block):
            details.append(_json(raw))
    remember(asked, calls[0].id if calls else "", details)
    message = AnswerMessage(content=None if calls and not text else text)
    message.reasoning_content = reasoning or msgspec.UNSET
    message.reasoning_details = details or msgspec.UNSET
    message.tool_calls = calls or msgspec.UNSET
    message.annotations = annotations or msgspec.UNSET
    choice = Choice(0, message, _finish(reply.stop_reason, len(calls)))
    usage = _token_usage(reply.usage) if reply.usage else None
    return ChatResponse(reply.id or _invented(asked.created), asked.created, asked.model, [choice], usage)


def _known(raw: msgspec.Raw) -> ReplyBlock:
    """A block, its members decoded only if it is of a kind that matters here."""
    kind = _kind(raw).type
    return _block(raw) if kind in _BLOCKS else ReplyBlock(kind)


def _comes_back(block: ReplyBlock) -> bool:
    """Reasoning that the API wants back, unmodified, with the results of the tools called after it."""
    return block.type == "redacted_thinking" or (block.type == "thinking" and bool(block.signature))


def _arguments(block: ReplyBlock) -> str:
    return bytes(block.input).decode()


def _annotations(block: ReplyBlock, start: int, end: int) -> list[Json]:
    """Web citations of a text that stands at [start, end), in characters; others point into the request's documents."""
    found = [
        {"url": citation.url, "title": citation.title or "", "start_index": start, "end_index": end}
        for citation in block.citations or ()
        if citation.url
    ]
    return [{"type": "url_citation", "url_citation": one} for one in found]


def _finish(stop_reason: str, calls: int) -> str:
    reason = _FINISH.get(stop_reason, "stop")
    return "tool_calls" if calls and reason == "stop" else reason


def _token_usage(usage: Usage) -> TokenUsage:
    written, cached = usage.cache_creation_input_tokens, usage.cache_read_input_tokens
    prompt = (usage.input_tokens or 0) + (written or 0) + (cached or 0)
    hour = usage.cache_creation.ephemeral_1h_input_tokens if usage.cache_creation else None
    output, details = usage.output_tokens or 0, usage.output_tokens_details
    return TokenUsage(
        prompt,
        output,
        prompt + output,
        None if written is None and cached is None else PromptDetails(cached, written, hour or None),
        CompletionDetails(details.thinking_tokens) if details and details.thinking_tokens is not None else None,
    )


def _invented(created: int) -> str:
    """An id for an answer that came without one."""
    return f"msg_{created}"

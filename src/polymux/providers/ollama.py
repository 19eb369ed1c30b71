"""The dialect of Ollama's own API, upstream side: the adapter, and the reading of answers and errors.

Requests are translated in `ollama_request`. Answers have no id and mostly none for their calls: both are made from the
moment an answer says it was begun. Source: Ollama's API documentation (chat, embeddings, errors) and its Go types.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec

from polymux.errors import Failure, Truncated
from polymux.providers.base import Asked, Flow
from polymux.providers.fates import Column
from polymux.providers.ollama_fates import EMBEDDING_FATES, FATES
from polymux.providers.ollama_request import body, embed_body
from polymux.providers.replies import KINDS, UNREADABLE, error_of, message_of, retry_after
from polymux.schema.chat import (
    AnswerMessage,
    ChatRequest,
    ChatResponse,
    Choice,
    Chunk,
    ChunkChoice,
    Delta,
    FunctionCall,
    FunctionCallDelta,
    TokenUsage,
    ToolCall,
    ToolCallDelta,
)
from polymux.schema.embeddings import EmbeddingObject, EmbeddingRequest, EmbeddingResponse, EmbeddingUsage
from polymux.schema.ollama import Embeddings, Json, Line, ModelList, ReplyCall
from polymux.types import Deployment, WireRequest

_line = msgspec.json.Decoder(Line).decode
_vectors = msgspec.json.Decoder(Embeddings).decode
_models = msgspec.json.Decoder(ModelList).decode
_encode = msgspec.json.Encoder().encode

_REQUEST: Final = "invalid_request_error"
_DIGITS: Final = re.compile(r"\D+")
_ENDING: Final = re.compile(r"(?<=[^/])/(?:v1|api)$")  # of a base URL: as its other layer has it, or its own
# "the input length exceeds the context length"; "request (2622 tokens) exceeds the available context size"
_TOO_LONG: Final = re.compile(r"exceeds? the (?:available |maximum )?context (?:length|size|window)", re.IGNORECASE)
_FINISH: Final[Mapping[str, str]] = MappingProxyType({"length": "length"})  # others (stop, load, unload) are a stop


class Ollama:
    """Implements `providers.base.Adapter` and `Embedding`."""

    @property
    def fates(self) -> Column:
        return FATES

    def flow(self, request: ChatRequest, asked: Asked) -> Flow:
        yield from ()  # no preparatory exchange
        to = asked.to
        data, dropped = body(request, to)
        return WireRequest("POST", f"{root(to)}/api/chat", to.headers, data, "ndjson", dropped)

    def read(self, body: bytes, asked: Asked) -> ChatResponse:
        try:
            line = _line(body)
        except UNREADABLE:
            raise Failure("upstream_unavailable", "the upstream's answer cannot be read") from None
        if line.error:
            raise _in_band(line.error)
        if line.message is None:
            raise Failure("upstream_unavailable", "the upstream's answer has no message")
        if not line.done:
            raise Truncated
        names = _Names(line, asked.created)
        calls = [
            ToolCall(names.call(call), function=FunctionCall(name, text))
            for call in line.message.tool_calls or ()
            if (name := _name(call)) and (text := _arguments(call))
        ]
        content = line.message.content or ""
        message = AnswerMessage(content=None if calls and not content else content)
        message.reasoning_content = line.message.thinking or msgspec.UNSET
        message.tool_calls = calls or msgspec.UNSET
        choice = Choice(0, message, _finish(line, len(calls)), _logprobs(line))
        return ChatResponse(names.answer, asked.created, asked.model, [choice], _usage(line) or msgspec.UNSET)

    def reader(self, asked: Asked) -> Reader:
        return Reader(asked.model, asked.created)

    @property
    def embedding_fates(self) -> Column:
        return EMBEDDING_FATES

    def embed(self, request: EmbeddingRequest, asked: Asked) -> Flow:
        yield from ()  # no preparatory exchange
        to = asked.to
        data, dropped = embed_body(request, to)
        return WireRequest("POST", f"{root(to)}/api/embed", to.headers, data, "whole", dropped)

    def read_embeddings(self, body: bytes, asked: Asked) -> EmbeddingResponse:
        try:
            found = _vectors(body)
        except UNREADABLE:
            raise Failure("upstream_unavailable", "the upstream's answer cannot be read") from None
        if found.error:
            raise _in_band(found.error)
        if not found.embeddings:
            raise Failure("upstream_unavailable", "the upstream's answer has no embeddings")
        data = [EmbeddingObject(n, vector) for n, vector in enumerate(found.embeddings)]
        count = found.prompt_eval_count
        return EmbeddingResponse(data, asked.model, None if count is None else EmbeddingUsage(count, count))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        error = _inner(error_of(body))
        return _failure(status, message_of(error, status, headers, body), bool(error), retry_after(headers))

    def models(self, to: Deployment) -> WireRequest:
        return WireRequest("GET", f"{root(to)}/api/tags", to.headers, framing="whole")

    def read_models(self, body: bytes) -> Sequence[str]:
        return [entry.name for entry in _models(body).models]


def root(to: Deployment) -> str:
    """The server's address, given with or without the path of one of its APIs."""
    return _ENDING.sub("", to.base_url)


# ---- errors ----------------------------------------------------------------------------------------------------


def _inner(error: Json) -> Json:
    """The error of the process that runs the model, where it comes as JSON within the text."""
    text = error.get("message")
    inner = error_of(text.encode()) if isinstance(text, str) and text.startswith("{") else {}
    return inner if inner.get("message") else error


def _failure(status: int, message: str, told: bool, pause: float | None = None) -> Failure:
    """`told`: it is the server that speaks, and not something before it or another server altogether."""
    if status not in KINDS and _TOO_LONG.search(message):
        return Failure("context_length_exceeded", message, param="messages")
    if kind := KINDS.get(status):
        return Failure(kind, message, retry_after=pause)
    if not 400 <= status < 500:
        return Failure("upstream_unavailable", message, retry_after=pause)
    code = "model_not_found" if status == 404 and told else None
    return Failure("upstream_rejected", message, sent=(status, _REQUEST, code), param="model" if code else None)


def _in_band(error: Any) -> Failure:
    """An error inside a 200."""
    found = _inner(error_of(_encode({"error": error})))
    return _failure(500, message_of(found, 500, {}, b""), told=True)


# ---- answers ---------------------------------------------------------------------------------------------------


class _Names:
    """The ids of an answer and of its calls: the same whenever the same answer is read."""

    def __init__(self, line: Line, created: int) -> None:
        self._stamp = _DIGITS.sub("", line.created_at or "") or str(created)
        self._calls = 0
        self._given: set[str] = set()
        self.answer = f"chatcmpl-{self._stamp}"

    def call(self, call: ReplyCall) -> str:
        """The call's own id, unless it has none or another one has it too."""
        own, number = call.id or "", self._calls
        self._calls += 1
        if not own or own in self._given:
            return f"call_{self._stamp}_{number}"
        self._given.add(own)
        return own


class Reader:
    """Implements `providers.base.Reader`. Calls are numbered as they come: the server's own numbers repeat."""

    def __init__(self, model: str, created: int) -> None:
        self._model = model
        self._created = created
        self._names: _Names | None = None
        self._calls = 0
        self._done = False
        self._usage: TokenUsage | None = None
        self.malformed = 0  # lines that could not be read

    @property
    def done(self) -> bool:
        return self._done

    @property
    def usage(self) -> TokenUsage | None:
        return self._usage

    def feed(self, event: str, data: bytes) -> Sequence[Chunk]:
        if self._done:
            return ()
        try:
            line = _line(data)
        except UNREADABLE:
            self.malformed += 1
            return ()
        if line.error:
            raise _in_band(line.error)
        if line.message is None and not line.done:
            return ()
        names = self._names
        delta = Delta()
        if names is None:
            names = self._names = _Names(line, self._created)
            delta.role, delta.content = "assistant", ""
        out = []
        if self._fill(delta, line, names) or delta.role:
            choice = ChunkChoice(0, delta)
            if line.logprobs:
                choice.logprobs = _logprobs(line)
            out.append(self._chunk(names, [choice]))
        return out + self._end(line, names) if line.done else out

    def close(self) -> Sequence[Chunk]:
        if not self._done:
            raise Truncated
        return ()

    def _fill(self, delta: Delta, line: Line, names: _Names) -> bool:
        """What the line says, as a delta; False for nothing."""
        message = line.message
        if message is None:
            return False
        if message.content:
            delta.content = message.content
        if message.thinking:
            delta.reasoning_content = message.thinking
        if message.tool_calls:
            fragments = [fragment for call in message.tool_calls if (fragment := self._call(call, names))]
            delta.tool_calls = fragments or None
        return bool(message.content or message.thinking or delta.tool_calls or line.logprobs)

    def _call(self, call: ReplyCall, names: _Names) -> ToolCallDelta | None:
        name = _name(call)
        if not name:
            self.malformed += 1
            return None
        number, self._calls = self._calls, self._calls + 1
        return ToolCallDelta(number, names.call(call), "function", FunctionCallDelta(name, _arguments(call)))

    def _end(self, line: Line, names: _Names) -> list[Chunk]:
        self._done = True
        self._usage = _usage(line)
        out = [self._chunk(names, [ChunkChoice(0, Delta(), _finish(line, self._calls))])]
        if self._usage:
            out.append(self._chunk(names, []))
            out[-1].usage = self._usage
        return out

    def _chunk(self, names: _Names, choices: list[ChunkChoice]) -> Chunk:
        return Chunk(names.answer, self._created, self._model, choices)


def _name(call: ReplyCall) -> str:
    return (call.function.name or "") if call.function else ""


def _arguments(call: ReplyCall) -> str:
    """As JSON text, which some servers in between have made of them already."""
    given = call.function.arguments if call.function else None
    return given if isinstance(given, str) and given else _encode(given or {}).decode()


def _finish(line: Line, calls: int) -> str:
    reason = _FINISH.get(line.done_reason or "", "stop")
    return "tool_calls" if calls and reason == "stop" else reason


def _usage(line: Line) -> TokenUsage | None:
    """Counts that are zero are left out on the wire; where both are, the model did not run."""
    if line.prompt_eval_count is None and line.eval_count is None:
        return None
    prompt, completion = max(line.prompt_eval_count or 0, 0), max(line.eval_count or 0, 0)
    return TokenUsage(prompt, completion, prompt + completion)


def _objects(given: Any) -> list[Json]:
    return [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []


def _logprobs(line: Line) -> Json | None:
    """Log probabilities with the members that OpenAI's clients rely on."""
    if not line.logprobs:
        return None
    tokens = [
        {
            "bytes": None,
            **token,
            "top_logprobs": [{"bytes": None, **top} for top in _objects(token.get("top_logprobs"))],
        }
        for token in line.logprobs
    ]
    return {"content": tokens, "refusal": None}

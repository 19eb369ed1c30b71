"""The dialect of Google's generateContent (Gemini API, Vertex AI), upstream side: the adapter, answers and errors.

Requests are translated in `gemini_request`, candidates read in `gemini_answer`. Source: the Gemini API reference
(generateContent, batchEmbedContents, models, errors) and google.rpc's error details.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from math import ceil
from types import MappingProxyType
from typing import Any, Final

import msgspec

from polymux.errors import Failure, Truncated
from polymux.providers.base import Asked, Flow, Recall
from polymux.providers.embeddings import texts
from polymux.providers.fates import Column, asks, ordered
from polymux.providers.gemini_answer import MADE, Answer, logprobs
from polymux.providers.gemini_fates import EMBEDDING_FATES, FATES
from polymux.providers.gemini_request import address, translate
from polymux.providers.gemini_turns import unsigned_calls
from polymux.providers.quirks import bent
from polymux.providers.replies import (
    KINDS,
    LONGEST_WAIT,
    SPENT,
    UNREADABLE,
    error_of,
    message_of,
    retry_after,
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
    PromptDetails,
    TokenUsage,
    ToolCall,
)
from polymux.schema.embeddings import EmbeddingObject, EmbeddingRequest, EmbeddingResponse, EmbeddingUsage
from polymux.schema.gemini import (
    BatchEmbedReply,
    BatchEmbedRequest,
    Candidate,
    Content,
    EmbedRequest,
    Json,
    ModalityCount,
    ModelList,
    Part,
    Reply,
    Totals,
    UsageMetadata,
)
from polymux.types import Deployment, WireRequest

_reply = msgspec.json.Decoder(Reply).decode
_pieces = msgspec.json.Decoder(list[msgspec.Raw]).decode
_totals = msgspec.json.Decoder(Totals).decode
_vectors = msgspec.json.Decoder(BatchEmbedReply).decode
_model_list = msgspec.json.Decoder(ModelList).decode
_encode = msgspec.json.Encoder().encode

# Other 4xx are the request's fault and passed on, other statuses mean "unavailable".
_REQUEST: Final = "invalid_request_error"
_SENT: Final[Mapping[int, str]] = MappingProxyType({404: "model_not_found", 413: "request_too_large"})
# A 400 has one name for everything; details and these phrases of its message tell what it is about.
_BAD_KEY: Final = ("API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED", "BILLING_DISABLED")
_NOT_SERVED: Final = ("user location is not supported", "enable billing", "prepayment credits", "api key expired")
_TOO_LONG: Final = ("input token count", "exceeds the maximum number of tokens")
_CANCELLED: Final = 499
_LONG_ID: Final = 100  # characters
_RETRY_INFO: Final = "google.rpc.RetryInfo"
_TOTAL: Final = b'"totalTokenCount"'  # of usage; Vertex AI has it in the last event alone
_PROMPT: Final = b'"promptTokenCount"'


class Gemini:
    """Implements `providers.base.Adapter` and `Embedding`."""

    @property
    def fates(self) -> Column:
        return FATES

    def flow(self, request: ChatRequest, asked: Asked) -> Flow:
        to, known = asked.to, {}
        asked.carried = sum(len(message.tool_calls or ()) for message in request.messages)
        if unsigned := unsigned_calls(request.messages):
            found = yield Recall(tuple(_name(to, call) for call in unsigned))
            known = {call: found[name].decode() for call in unsigned if (name := _name(to, call)) in found}
        wire, dropped = translate(request, to, known)
        url = address(to, "streamGenerateContent?alt=sse" if request.stream else "generateContent")
        # the wire has the messages: while it is encoded, a large image need not be held once more
        request = msgspec.structs.replace(request, messages=[])
        body, lost = bent(wire, request, to.quirks, FATES)
        dropped = ordered({*dropped, *lost}) if lost else dropped
        return WireRequest("POST", url, to.headers, body, dropped=dropped)

    def read(self, body: bytes, asked: Asked) -> ChatResponse:
        reader = Reader(asked)
        try:
            body.decode()  # what is raw so far is read later
            pieces = map(bytes, _pieces(body)) if body.lstrip()[:1] == b"[" else [body]  # of a stream, not as events
            chunks = [chunk for piece in pieces for chunk in reader.take(piece)]
        except UNREADABLE:
            raise Failure("upstream_unavailable", "the upstream's answer cannot be read") from None
        if not reader.told:
            raise Failure("upstream_unavailable", "the upstream's answer has no candidates")
        return _gathered(chunks + reader.close())

    def reader(self, asked: Asked) -> Reader:
        return Reader(asked)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        error = error_of(body)
        return _failure(status, error, message_of(error, status, headers, body), retry_after(headers))

    def models(self, to: Deployment) -> WireRequest:
        return WireRequest("GET", f"{to.base_url}/models?pageSize=1000", to.headers, framing="whole")

    def read_models(self, body: bytes) -> Sequence[str]:
        return [model.name.removeprefix("models/") for model in _model_list(body).models]

    # ---- embeddings

    @property
    def embedding_fates(self) -> Column:
        return EMBEDDING_FATES

    def embed(self, request: EmbeddingRequest, asked: Asked) -> Flow:
        yield from ()  # no preparatory exchange
        to = asked.to
        model = f"models/{to.model.removeprefix('models/')}"
        each = [
            EmbedRequest(model, Content([Part(text)]), output_dimensionality=request.dimensions)
            for text in texts(request)
        ]
        dropped = ("user",) if asks("user", request.user) else ()
        body = _encode(BatchEmbedRequest(each))
        return WireRequest("POST", address(to, "batchEmbedContents"), to.headers, body, "whole", dropped)

    def read_embeddings(self, body: bytes, asked: Asked) -> EmbeddingResponse:
        try:
            reply = _vectors(body)
        except UNREADABLE:
            reply = BatchEmbedReply()
        if reply.error:
            raise _in_band(reply.error)
        if reply.embeddings is None:
            raise Failure("upstream_unavailable", "the upstream's answer has no embeddings")
        data = [EmbeddingObject(n, vector.values) for n, vector in enumerate(reply.embeddings)]
        tokens = reply.usage_metadata.prompt_token_count if reply.usage_metadata else None
        return EmbeddingResponse(data, asked.model, None if tokens is None else EmbeddingUsage(tokens, tokens))


def _name(to: Deployment, call: str) -> str:
    """Under which a call's thought signature is remembered."""
    short = call if len(call) <= _LONG_ID else hashlib.sha256(call.encode()).hexdigest()
    return f"gemini:{to.provider}:sig:{short}"


# ---- errors ----------------------------------------------------------------------------------------------------


def _failure(status: int, error: Json, message: str, pause: float | None = None) -> Failure:
    given, name = error.get("details"), error.get("status")
    details = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    name = name if isinstance(name, str) else None
    kind, lower = KINDS.get(status), message.lower()
    refused = any(one.get("reason") in _BAD_KEY for one in details) or any(phrase in lower for phrase in _NOT_SERVED)
    if status in (400, 429) and (refused or name in SPENT):
        return Failure("upstream_auth_failed", message)
    if kind or not 400 <= status < 500 or status == _CANCELLED:
        return Failure(kind or "upstream_unavailable", message, retry_after=_pause(details) or pause)
    if status == 400 and all(phrase in lower for phrase in _TOO_LONG):
        return Failure("context_length_exceeded", message, param="messages")
    return Failure("upstream_rejected", message, sent=(status, _REQUEST, _SENT.get(status) or name))


def _pause(details: Sequence[Json]) -> float | None:
    """Seconds to wait: the delay of google.rpc.RetryInfo ("34.4s"), rounded up."""
    for one in details:
        delay = one.get("retryDelay")
        if str(one.get("@type", "")).endswith(_RETRY_INFO) and isinstance(delay, str):
            number = delay.removesuffix("s")
            if number.replace(".", "", 1).isdecimal() and len(number) < 12:
                return min(float(ceil(float(number))), LONGEST_WAIT)
    return None


def _in_band(error: Any) -> Failure:
    """An error inside a 200."""
    told = error_of(_encode({"error": error}))
    code = told.get("code")
    status = code if isinstance(code, int) and not isinstance(code, bool) else 500
    return _failure(status, told, message_of(told, status, {}, b"{}"))


# ---- answers ---------------------------------------------------------------------------------------------------


class Reader:
    """Implements `providers.base.Reader`. An answer ends where its body does: each candidate must have said why."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._id = ""
        self._answers: dict[int, Answer] = {}
        self._blocked = False
        self._totals = b""  # the last piece that told how much was used
        self.malformed = 0  # events that could not be read

    @property
    def done(self) -> bool:
        return False  # usage, and other candidates, may follow a finish

    @property
    def usage(self) -> TokenUsage | None:
        try:
            told = _totals(self._totals).usage_metadata
        except UNREADABLE:  # there is none, or it cannot be read: the answer counts all the same
            return None
        return _token_usage(told) if told else None

    @property
    def told(self) -> bool:
        """Something of an answer has come."""
        return self._blocked or bool(self._answers)

    def feed(self, event: str, data: bytes) -> Sequence[Chunk]:
        try:
            return self.take(data)
        except UNREADABLE:  # an event that cannot be read is left out and counted
            self.malformed += 1
            return ()

    def take(self, data: bytes) -> list[Chunk]:
        """What a piece of the answer says. Raises `Failure` for an error, `UNREADABLE` for what is none."""
        reply = _reply(data)
        if reply.error:
            raise _in_band(reply.error)
        if _TOTAL in data or (_PROMPT in data and _TOTAL not in self._totals):
            self._totals = data
        if reply.prompt_feedback is not None and reply.prompt_feedback.block_reason:
            self._blocked = True
        if not self._id:
            self._id = reply.response_id or ""
        choices = [choice for one in reply.candidates or () if (choice := self._candidate(one))]
        return [self._chunk(choices)] if choices else []

    def close(self) -> list[Chunk]:
        if self._blocked and not self._answers:
            self._answers[0] = Answer(0)
        answers = [answer for _, answer in sorted(self._answers.items())]
        if not answers or not all(answer.finish or self._blocked for answer in answers):
            raise Truncated
        out = []
        for answer in answers:
            if delta := answer.last(self._answer_id()):
                out.append(self._chunk([ChunkChoice(answer.index, delta)]))
            self._remember(answer)
            finish = answer.finish_reason(blocked=self._blocked)
            out.append(self._chunk([ChunkChoice(answer.index, answer.begun(Delta()), finish)]))
        if usage := self.usage:
            out.append(self._chunk([]))
            out[-1].usage = usage
        return out

    def _candidate(self, candidate: Candidate) -> ChunkChoice | None:
        index = candidate.index or 0
        answer = self._answers.get(index)
        if answer is None:
            answer = self._answers[index] = Answer(index)
        delta = answer.take(candidate, self._id or self._answer_id())
        if delta is None:
            return None
        if delta.tool_calls:
            self._remember(answer)
        choice = ChunkChoice(index, delta)
        if candidate.logprobs_result is not None:
            choice.logprobs = logprobs(candidate.logprobs_result)
        return choice

    def _remember(self, answer: Answer) -> None:
        for call, signature in answer.signatures.items():
            self._asked.remembered[_name(self._asked.to, call)] = signature.encode()

    def _answer_id(self) -> str:
        """The upstream's id, or one for an answer that came without: no two of a conversation's calls are one."""
        self._id = self._id or f"{MADE}{self._asked.created}_{self._asked.carried or 0}"
        return self._id

    def _chunk(self, choices: list[ChunkChoice]) -> Chunk:
        return Chunk(self._id or self._answer_id(), self._asked.created, self._asked.model, choices)


def _gathered(chunks: Sequence[Chunk]) -> ChatResponse:
    """The chunks of an answer that was whole as one."""
    choices: dict[int, Choice] = {}
    for part in (part for chunk in chunks for part in chunk.choices):
        choice = choices.setdefault(part.index, Choice(part.index))
        _add(choice.message, part.delta)
        choice.finish_reason = part.finish_reason or choice.finish_reason
        if part.logprobs:
            held = choice.logprobs or {"content": []}
            choice.logprobs = part.logprobs | {"content": held["content"] + part.logprobs["content"]}
    for choice in choices.values():
        if choice.message.content is None and not choice.message.tool_calls:
            choice.message.content = ""
    last = chunks[-1]
    return ChatResponse(last.id, last.created, last.model, [choices[n] for n in sorted(choices)], last.usage)


def _add(message: AnswerMessage, delta: Delta) -> None:
    if delta.content:
        message.content = (message.content or "") + delta.content
    if delta.reasoning_content:
        message.reasoning_content = (message.reasoning_content or "") + delta.reasoning_content
    for name in ("reasoning_details", "annotations", "images"):
        if more := getattr(delta, name):
            setattr(message, name, [*(getattr(message, name) or ()), *more])
    if delta.audio:
        held: dict[str, Any] = message.audio or {}
        message.audio = {**held, **delta.audio, "data": held.get("data", "") + delta.audio["data"]}
    for call in delta.tool_calls or ():
        function = FunctionCall(call.function.name or "", call.function.arguments or "") if call.function else None
        made = ToolCall(call.id or "", function=function, extra_content=call.extra_content)
        message.tool_calls = [*(message.tool_calls or ()), made]


def _token_usage(usage: UsageMetadata) -> TokenUsage:
    thoughts, cached = usage.thoughts_token_count, usage.cached_content_token_count
    prompt = _sum(usage.prompt_token_count, usage.tool_use_prompt_token_count)
    output = _sum(usage.candidates_token_count, thoughts)
    heard, said = _audio(usage.prompt_tokens_details), _audio(usage.candidates_tokens_details)
    return TokenUsage(
        prompt,
        output,
        _sum(usage.total_token_count) or prompt + output,
        None if cached is None and heard is None else PromptDetails(cached, audio_tokens=heard),
        None if thoughts is None and said is None else CompletionDetails(thoughts, said),
    )


def _sum(*counts: int | None) -> int:
    return sum(max(count or 0, 0) for count in counts)


def _audio(details: Sequence[ModalityCount] | None) -> int | None:
    """Tokens of sound; None where they are not told."""
    return next((one.token_count for one in details or () if one.modality == "AUDIO"), None)

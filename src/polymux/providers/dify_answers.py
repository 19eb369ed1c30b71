"""What a Dify app answers -> chunks and answers of the pivot, and what its errors mean.

Source: Dify's service API documentation and its server. A chatflow says that its workflow has finished before the end
of its message, or after it, by version; only the end of the message is that of the answer. A workflow has no message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec

from polymux.errors import Failure, Truncated
from polymux.providers.base import Asked
from polymux.providers.dify_request import CHATS, Turn
from polymux.providers.replies import KINDS, UNREADABLE, error_of, message_of, retry_after
from polymux.schema.chat import (
    AnswerMessage,
    ChatResponse,
    Choice,
    Chunk,
    ChunkChoice,
    Delta,
    Json,
    TokenUsage,
)
from polymux.schema.dify import Answer, Metadata, Progress, Resource, Usage

_answer = msgspec.json.Decoder(Answer).decode
_encode = msgspec.json.Encoder().encode

_REQUEST: Final = "invalid_request_error"
_SPENT: Final = ("provider_quota_exceeded", "rate_limit_error")  # a plan's quota: waiting does not help
_BEHIND: Final = ("provider_not_initialize", "model_currently_not_support", "completion_request_error")  # of its model
_CODE: Final = re.compile(r"[a-z_]{1,64}")  # what else stands there is not passed on
_GONE: Final = "conversation not exists"  # said with not_found, which is any 404
_USUAL: Final = ("text", "answer", "result")  # names of a workflow's output that is the answer
_NOTHING: Final = Progress()
_SILENT: Final = Usage()


class Held(msgspec.Struct):
    """What is remembered of a conversation: its id at Dify, and that of its last message. doubtful: it was asked to go
    on since, and it is not known whether it did."""

    conversation: str
    message: str
    doubtful: bool = False


# ---- errors ----------------------------------------------------------------------------------------------------


def failure_of(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """The failure behind an error, a status or an event. Secrets in its text are masked."""
    error = error_of(body)
    message, code = message_of(error, status, headers, body), error.get("code")
    if code in _SPENT:  # whatever the status
        return Failure("upstream_auth_failed", message)
    if code in _BEHIND or status >= 500 or (status == 404 and _GONE in message.lower()):
        return Failure(KINDS.get(status, "upstream_unavailable"), message, retry_after=retry_after(headers))
    if kind := KINDS.get(status):
        return Failure(kind, message, retry_after=retry_after(headers))
    status = 400 if status == 415 else status
    named = code if isinstance(code, str) and _CODE.fullmatch(code) else None
    return Failure("upstream_rejected", message, sent=(status, _REQUEST, named))


def _in_band(got: Answer) -> Failure:
    status = got.status if isinstance(got.status, int) and 400 <= got.status < 600 else 500
    return failure_of(status, {}, _encode({"code": got.code, "message": got.message}))


# ---- answers ---------------------------------------------------------------------------------------------------


class _Step(msgspec.Struct):
    """What was told of an agent's step so far."""

    thought: str = ""
    call: str = ""
    observation: str = ""


class Reader:
    """Implements `providers.base.Reader`. Unless the client streams, the text is held to the end, for an app may take
    it back."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._turn: Turn | None = asked.carried
        self._streamed = self._turn is None or self._turn.streamed
        _taken(asked)
        self._id = ""
        self._said = ""  # to the client, or held for it
        self._finish = "stop"
        self._steps: dict[str, _Step] = {}
        self._agent = False  # its text comes as `agent_message`
        self._flows = False  # a workflow runs behind the message, and has not finished
        self._ended = False  # the message is complete
        self._done = False
        self._conversation = self._message = ""
        self._annotations: list[Json] = []
        self._usage: TokenUsage | None = None
        self.malformed = 0  # events that could not be read

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
            got = _answer(data)
        except UNREADABLE:
            self.malformed += 1
            return ()
        if got.event == "error" or (got.event is None and got.code and got.message):
            self._asked.task = ""  # nothing is under way any more
            raise _in_band(got)
        take = _EVENTS.get(got.event or "")
        if take is None:
            return ()
        opening = [] if self._id else self._open(got)
        return [*opening, *take(self, got)]

    def close(self) -> Sequence[Chunk]:
        if self._ended and not self._done:  # the workflow's end was never told
            return self._end()
        if not self._done:
            raise Truncated
        return ()

    def _open(self, got: Answer) -> list[Chunk]:
        self._id = _id_of(got)
        self._asked.task = got.task_id or ""
        return self._chunk(Delta(role="assistant", content=""))

    def _chunk(self, delta: Delta, finish: str | None = None) -> list[Chunk]:
        return [Chunk(self._id, self._asked.created, self._asked.model, [ChunkChoice(0, delta, finish)])]

    def _say(self, text: str) -> list[Chunk]:
        self._said += text
        return self._chunk(Delta(content=text)) if text and self._streamed else []

    def _reason(self, text: str) -> list[Chunk]:
        return self._chunk(Delta(reasoning_content=text)) if text else []

    def _replace(self, text: str) -> list[Chunk]:
        """The text is taken back. What a client has cannot be: the rest follows it, and the finish says so."""
        if not self._streamed or not self._said:
            self._said = ""
            return self._say(text)
        self._finish = "content_filter"
        return self._say(text)

    # ---- events

    def _on_message(self, got: Answer) -> list[Chunk]:
        text = got.answer or ""
        if not self._agent:
            return self._say(text)
        if not self._streamed:  # an agent ends by saying all of its answer once more
            self._said = text
            return []
        return self._say(text[len(self._said) :]) if text.startswith(self._said) else []

    def _on_agent_message(self, got: Answer) -> list[Chunk]:
        self._agent = True
        return self._say(got.answer or "")

    def _on_agent_thought(self, got: Answer) -> list[Chunk]:
        """A step is sent again and again as it grows; its thought is mostly what is said to the client as well."""
        step = self._steps.setdefault(got.id or "", _Step())
        thought, call = got.thought or "", f"{got.tool} {got.tool_input or ''}".rstrip() if got.tool else ""
        told = []
        if thought.strip() and thought.strip() not in self._said and thought != step.thought:
            told.append(thought.removeprefix(step.thought))
        if call and call != step.call:
            told.append(call)
        if got.observation and got.observation != step.observation:
            told.append(got.observation)
        self._steps[got.id or ""] = _Step(thought, call or step.call, got.observation or step.observation)
        return self._reason("".join(f"{text}\n" for text in told))

    def _on_message_file(self, got: Answer) -> list[Chunk]:
        if got.url and got.belongs_to != "user":
            self._annotations.append(_citation(got.url, got.type or "file", len(self._said)))
        return []

    def _on_replace(self, got: Answer) -> list[Chunk]:
        return self._replace((got.answer if got.data is None else got.data.text) or "")

    def _on_text(self, got: Answer) -> list[Chunk]:
        return self._say((got.data or _NOTHING).text or "")

    def _on_reasoning(self, got: Answer) -> list[Chunk]:
        return self._reason((got.data or _NOTHING).reasoning or "")

    def _on_workflow_started(self, got: Answer) -> list[Chunk]:
        self._flows = True
        return []

    def _on_human_input(self, got: Answer) -> list[Chunk]:
        """Nobody can answer through this API: the client is at least told what is waited for."""
        return self._reason((got.data or _NOTHING).form_content or "")

    def _on_message_end(self, got: Answer) -> list[Chunk]:
        self._ended = True
        self._conversation, self._message = got.conversation_id or "", got.message_id or ""
        self._usage = _usage(got.metadata)
        self._annotations += _citations(got.metadata, len(self._said))
        return [] if self._flows else self._end()

    def _on_workflow_finished(self, got: Answer) -> list[Chunk]:
        data = got.data or _NOTHING
        self._flows = False
        if data.status == "failed":
            self._asked.task = ""
            raise _failed(data)
        if got.message_id:
            return self._end() if self._ended else []
        out = [] if self._said else self._say(_output(data, self._asked))
        self._usage = _total(data)
        return out + self._end()

    def _on_workflow_paused(self, got: Answer) -> list[Chunk]:
        return self._end()

    def _end(self) -> list[Chunk]:
        self._done = True
        self._asked.task = ""
        _remember(self._asked, self._conversation, self._message, self._said)
        out = self._chunk(Delta(content=self._said)) if self._said and not self._streamed else []
        if self._annotations:
            out += self._chunk(Delta(annotations=self._annotations))
        out += self._chunk(Delta(), self._finish)
        if self._usage:
            out.append(Chunk(self._id, self._asked.created, self._asked.model, [], usage=self._usage))
        return out


_EVENTS: Final[Mapping[str, Callable[[Reader, Answer], list[Chunk]]]] = MappingProxyType(
    {
        "message": Reader._on_message,
        "agent_message": Reader._on_agent_message,
        "agent_thought": Reader._on_agent_thought,
        "message_file": Reader._on_message_file,
        "message_replace": Reader._on_replace,
        "text_replace": Reader._on_replace,
        "text_chunk": Reader._on_text,
        "reasoning_chunk": Reader._on_reasoning,
        "workflow_started": Reader._on_workflow_started,
        "human_input_required": Reader._on_human_input,
        "message_end": Reader._on_message_end,
        "workflow_finished": Reader._on_workflow_finished,
        "workflow_paused": Reader._on_workflow_paused,
    }
)


def read(body: bytes, asked: Asked) -> ChatResponse:
    """An answer whole: Dify's blocking mode, which is not asked for, but what stands before it may see to that."""
    try:
        got = _answer(body)
    except UNREADABLE:
        raise Failure("upstream_unavailable", "the upstream's answer is not that of an app") from None
    if got.answer is None and got.data is None:
        raise _in_band(got)
    _taken(asked)
    if got.data is not None and got.data.status == "failed":
        raise _failed(got.data)
    text = got.answer if got.answer is not None else _output(got.data or _NOTHING, asked)
    _remember(asked, got.conversation_id or "", got.message_id or "", text)
    message = AnswerMessage(content=text)
    message.annotations = _citations(got.metadata, len(text)) or msgspec.UNSET
    usage = _usage(got.metadata) or (None if got.data is None else _total(got.data))
    return ChatResponse(_id_of(got), asked.created, asked.model, [Choice(0, message, "stop")], usage)


def _taken(asked: Asked) -> None:
    """The app has taken the question: the conversation is no longer what it was before."""
    turn: Turn | None = asked.carried
    if turn is not None:
        asked.remembered.pop(turn.before.name(), None)


def _remember(asked: Asked, conversation: str, message: str, said: str) -> None:
    turn: Turn | None = asked.carried
    if turn is not None and turn.kind in CHATS and conversation:
        asked.remembered[turn.so_far.then(said).name()] = _encode(Held(conversation, message))


def _id_of(got: Answer) -> str:
    return f"chatcmpl-{got.message_id or got.workflow_run_id or got.task_id or 'dify'}"


def _failed(data: Progress) -> Failure:
    return failure_of(500, {}, _encode({"message": data.error or "the workflow has failed, and does not say why"}))


def _output(data: Progress, asked: Asked) -> str:
    """The answer among the outputs of a workflow: the configured one, the only one, one that is called as answers are,
    or all of them as JSON."""
    outputs: dict[str, Any] = data.outputs or {}
    names = [asked.to.app.output, *(outputs if len(outputs) == 1 else ()), *_USUAL]
    value = next((outputs[name] for name in names if name in outputs), outputs or "")
    return value if isinstance(value, str) else _encode(value).decode()


def _usage(metadata: Metadata | None) -> TokenUsage | None:
    told = metadata.usage if metadata else None
    if told is None or told == _SILENT:
        return None
    prompt, completion = _tokens(told.prompt_tokens), _tokens(told.completion_tokens)
    return TokenUsage(prompt, completion, _tokens(told.total_tokens) or prompt + completion)


def _tokens(told: float | None) -> int:
    return max(int(told or 0), 0)


def _total(data: Progress) -> TokenUsage | None:
    """A workflow tells the sum alone."""
    return None if data.total_tokens is None else TokenUsage(0, 0, _tokens(data.total_tokens))


def _citations(metadata: Metadata | None, length: int) -> list[Json]:
    """The pieces of knowledge behind an answer of so many characters."""
    resources = (metadata.retriever_resources if metadata else None) or ()
    return [
        _citation(_address(one), one.document_name or one.dataset_name or "", length, one.content) for one in resources
    ]


def _citation(url: str, title: str, length: int, content: str | None = None) -> Json:
    cited: Json = {"start_index": 0, "end_index": length, "title": title, "url": url}
    return {"type": "url_citation", "url_citation": cited | ({"content": content} if content else {})}


def _address(one: Resource) -> str:
    """Documents of a knowledge base have no URL that clients could open: a name in place of it."""
    return f"dify:{one.dataset_id or ''}/{one.document_id or ''}#{one.segment_id or ''}"

"""What a function model is told of its call, and the way from it to other models."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, Protocol, TypeVar

import msgspec

from polymux.errors import Failure
from polymux.marks import ModelError
from polymux.schema.chat import ChatResponse, Chunk, Json
from polymux.types import Call
from polymux.wire.printable import printable

T = TypeVar("T")
Messages = Sequence[Mapping[str, Any]]
Parameters = Mapping[str, Any]

_APART: Final = frozenset(  # members that are no parameters, or none of a chat
    {"messages", "model", "stream", "stream_options", "prompt", "suffix", "echo", "best_of"}
)
_END: Final = object()
NOTES: Final = 256  # lines of a call that are kept with its conversation
_json = msgspec.json.encode

log = logging.getLogger("polymux.functions")


class Chats(Protocol):
    """The gateway, as one call of a function reaches it. It belongs to the event loop."""

    async def whole(self, model: str, messages: Messages, params: Parameters) -> ChatResponse:
        """Raises `Failure`."""
        ...

    def stream(self, model: str, messages: Messages, params: Parameters) -> AsyncGenerator[Chunk]:
        """Raises `Failure`."""
        ...

    async def close(self) -> None:
        """End what is still under way; later calls are cancelled at once."""
        ...


class Said(str):
    """What a model said: the text, with what came beside it. A function that gives it out gives all of it."""

    members: Json  # of the message or delta, without the role
    finish_reason: str | None
    usage: Json | None
    model: str
    logprobs: Json | None

    @property
    def tool_calls(self) -> list[Json]:
        calls: list[Json] = self.members.get("tool_calls") or []
        return calls


class Answer(Said):
    """The whole answer of `call.chat`."""

    @property
    def message(self) -> Json:
        """The message in OpenAI's form, as the next request's `messages` takes it."""
        return {"role": "assistant", "content": None} | self.members


class Piece(Said):
    """One piece of a streamed answer; the last ones may have no text, but a finish reason or the usage."""

    @property
    def delta(self) -> Json:
        return self.members


def _shown(told: str | Mapping[str, Any]) -> str:
    try:
        return told if isinstance(told, str) else _json(told, enc_hook=str).decode()
    except (ValueError, RecursionError):  # no JSON; that is no reason for a call to fail
        return repr(told)


def _decoded(name: str, raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except msgspec.MsgspecError as error:  # it is JSON, but a number that Python does not hold
        raise Failure("invalid_value", f"{name!r}: {str(error).lower()}", param=name) from None


class FunctionCall:
    """One call of a function model.

    id: the request's `x-request-id`. client_request_id: the client's own, or "". model: the name it called. user: the
    request's `user`, or "". key: name of the client's key. stream: whether it streams. params: the request's other
    members (`temperature`, `tools` ...).
    """

    def __init__(
        self, call: Call, chats: Chats, loop: asyncio.AbstractEventLoop | None, gone: threading.Event | None = None
    ) -> None:
        """`loop`: for a function that runs in a thread. `gone`: set when nobody waits for the result any more."""
        self.id, self.client_request_id = call.id, call.client_request_id
        self.model, self.key, self.stream = call.model, call.key.name, call.stream
        self.params: Json = {n: _decoded(n, raw) for n, raw in call.fields.items() if n not in _APART}
        self.user = str(self.params.get("user") or "")
        self._chats, self._loop = chats, loop
        self._gone = gone or threading.Event()
        self._notes = call.notes

    @property
    def cancelled(self) -> bool:
        """Nobody listens any more. For functions that block; async ones are cancelled."""
        return self._gone.is_set()

    def log(self, text: str | Mapping[str, Any], fields: Mapping[str, Any] | None = None) -> None:
        """One line in the gateway's log, with the call's id and model: a text, fields (as JSON), or both. It is kept
        with the conversation, if that is."""
        line = " ".join(filter(None, map(_shown, (text, fields or ""))))
        if self._notes is not None and len(self._notes) < NOTES:
            self._notes.append(line)
        log.info("%s %s: %s", self.id, self.model, printable(line))

    def chat(self, model: str, messages: Messages, *, stream: bool = False, **params: Any) -> Any:
        """Ask another model, through the gateway: its limits, failover and records hold, and this call's deadline.

        params: other members of a chat request (`temperature`, `tools` ...). Gives an `Answer`, or with `stream` an
        iterator of `Piece`; in an async function an awaitable and an async iterator of these. Raises `ModelError`.
        """
        asked = {name: value for name, value in params.items() if name not in _APART}
        if stream:
            pieces = _pieces(self._chats.stream(model, messages, asked))
            return pieces if self._loop is None else self._stepped(pieces, self._loop)
        answer = _answer(self._chats, model, messages, asked)
        return answer if self._loop is None else self._wait(answer, self._loop)

    def _wait(self, work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> T:
        """In a thread: have the loop do it."""
        if self.cancelled or loop.is_closed():
            work.close()
            raise asyncio.CancelledError
        try:
            return asyncio.run_coroutine_threadsafe(work, loop).result()
        except concurrent.futures.CancelledError:
            raise asyncio.CancelledError from None

    def _stepped(self, pieces: AsyncGenerator[Piece], loop: asyncio.AbstractEventLoop) -> Generator[Piece]:
        async def step() -> Any:
            return await anext(pieces, _END)

        try:
            while (piece := self._wait(step(), loop)) is not _END:
                yield piece
        finally:
            end = _closed(pieces)
            if loop.is_closed():
                end.close()
            else:  # its end is not waited for: a collector may run this, in any thread
                asyncio.run_coroutine_threadsafe(end, loop)


async def _answer(chats: Chats, model: str, messages: Messages, params: Parameters) -> Answer:
    try:
        response = await chats.whole(model, messages, params)
    except Failure as failure:
        raise _error(failure) from None
    choice = response.choices[0]
    members = msgspec.to_builtins(choice.message)
    answer = Answer(members.get("content") or "")
    _fill(answer, members, response)
    answer.finish_reason, answer.logprobs = choice.finish_reason, choice.logprobs
    return answer


async def _pieces(chunks: AsyncGenerator[Chunk]) -> AsyncGenerator[Piece]:
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                choice = next((choice for choice in chunk.choices if choice.index == 0), None)
                if choice is None and not chunk.usage:
                    continue
                members = msgspec.to_builtins(choice.delta) if choice else {}
                piece = Piece(members.get("content") or "")
                _fill(piece, members, chunk)
                piece.finish_reason = choice.finish_reason if choice else None
                piece.logprobs = (choice.logprobs or None) if choice else None
                yield piece
    except Failure as failure:
        raise _error(failure) from None


def _fill(said: Said, members: Json, of: ChatResponse | Chunk) -> None:
    said.members = {name: value for name, value in members.items() if value is not None and name != "role"}
    said.usage = msgspec.to_builtins(of.usage) if of.usage else None
    said.model = of.model


async def _closed(pieces: AsyncGenerator[Piece]) -> None:
    await pieces.aclose()


def _error(failure: Failure) -> ModelError:
    return ModelError(
        failure.status, failure.message, code=failure.code, retry_after=failure.retry_after, type=failure.type
    )

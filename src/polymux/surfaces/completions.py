"""The surface `/v1/completions`: a text and its continuation, as it was before chats.

Providers that have it get the request as it is. For the others the prompt becomes a chat of one message, and what the
assistant says is the text; `FATES` says what becomes of the parameters then. Source: OpenAI's API description
(completions, legacy).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import msgspec

from polymux.errors import Failure
from polymux.providers.base import Adapter, Asked, Flow
from polymux.providers.fates import COMPLETIONS, DROPPED, EMULATED, FORWARDED, REFUSED, Column, Fate, column
from polymux.schema.chat import DONE, AnswerMessage, ChatRequest, ChatResponse, Chunk, Delta, Json, Message
from polymux.schema.completions import Completion, CompletionChoice, CompletionRequest
from polymux.surfaces.assemble import settled
from polymux.surfaces.base import Alter
from polymux.surfaces.openai import Common, encode, tokens_of, typed
from polymux.types import Call, Usage, WireRequest
from polymux.wire import sse

FATES: Final[Column] = column(
    {
        "prompt": Fate("mapped", "messages"),
        "prompt=several": REFUSED,
        "prompt=tokens": REFUSED,
        "best_of": DROPPED,
        "echo": EMULATED,
        "logprobs": Fate("mapped", "top_logprobs"),
        "suffix": REFUSED,
    },
    FORWARDED,
    COMPLETIONS,
)
LENGTH: Final = 16  # tokens of an answer, where the client says nothing

_SAME: Final = tuple(name for name in CompletionRequest.__struct_fields__ if FATES[name] == FORWARDED)
_NAMES: Final[Mapping[str, str]] = MappingProxyType({"top_logprobs": "logprobs"})  # a chat's parameters -> ours
_FINISHES: Final = ("stop", "length", "content_filter")

_request = msgspec.json.Decoder(CompletionRequest).decode
_member = msgspec.json.Decoder().decode


class _Choice(msgspec.Struct):
    text: Any = None


class _Said(msgspec.Struct):
    """An answer or an event, as far as it says something."""

    choices: list[_Choice] | None = None


_said = msgspec.json.Decoder(_Said).decode


class Completions(Common):
    """Implements `surfaces.base.Talking`."""

    name = "completions"
    wanted = "prompt"

    def request(self, call: Call) -> ChatRequest:
        """As a chat. Raises `Failure`, also for what no chat can do."""
        given = typed(_request, call.body)
        request = ChatRequest(given.model, [Message("user", _prompt(given.prompt))])
        for name in _SAME:
            setattr(request, name, getattr(given, name))
        if request.max_tokens is None:
            request.max_tokens = LENGTH
        if given.suffix:
            raise Failure("unsupported_parameter", "this model cannot insert text before a 'suffix'", param="suffix")
        if given.logprobs is not None:
            request.logprobs, request.top_logprobs = True, given.logprobs
        return request

    def flow(self, call: Call, adapter: Adapter, asked: Asked) -> Flow:
        request = self.request(call)
        try:
            main: WireRequest = yield from adapter.flow(request, asked)
        except Failure as failure:
            failure.param = _named(failure.param)
            raise
        dropped = tuple(dict.fromkeys(_named(name) or name for name in main.dropped))
        return main if dropped == main.dropped else msgspec.structs.replace(main, dropped=dropped)

    def unknown(self, call: Call) -> tuple[str, ...]:
        lost = [name for name in call.fields if name not in CompletionRequest.__struct_fields__]
        best = _value(call, "best_of")
        return (*lost, "best_of") if best is not None and best != (_value(call, "n") or 1) else tuple(lost)

    def prompt(self, call: Call) -> list[memoryview]:
        return [memoryview(call.fields[name]) for name in ("prompt", "suffix") if name in call.fields]

    def longest(self, call: Call) -> int:
        given = tokens_of(call, "max_tokens")
        return LENGTH if given is None else max(0, given)

    def said(self, data: bytes) -> int:
        try:
            choices = _said(data).choices or ()
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return 0
        return sum(len(encode(choice.text)) - 2 for choice in choices if isinstance(choice.text, str))

    def read(self, call: Call, adapter: Adapter, body: bytes, asked: Asked, alter: Alter | None) -> tuple[bytes, Usage]:
        return self.answer(call, adapter.read(body, asked), alter, "upstream")

    def answer(self, call: Call, response: ChatResponse, alter: Alter | None, source: str) -> tuple[bytes, Usage]:
        response, usage = settled(response, alter, source)
        before = _echo(call)
        choices = [
            CompletionChoice(
                before + _text(one.message), one.index, _logprobs(one.logprobs), _finish(one.finish_reason)
            )
            for one in response.choices
        ]
        return encode(_completion(response, choices)), usage

    def events(self, call: Call, chunks: Sequence[Chunk]) -> bytes:
        out = []
        for chunk in chunks:
            choices = []
            for one in chunk.choices:
                text, finish = _text(one.delta), _finish(one.finish_reason)
                if one.delta.role:  # it comes once, before all text
                    text = _echo(call) + text
                if text or finish:
                    choices.append(CompletionChoice(text, one.index, _logprobs(one.logprobs), finish))
            if choices or (chunk.usage and call.wants_usage):
                out.append(sse.encode(encode(_completion(chunk, choices))))
        return b"".join(out)

    def end(self) -> bytes:
        return DONE


def _named(name: str | None) -> str | None:
    """A chat's parameter as clients of completions know it."""
    return "prompt" if name and name.startswith("messages") else _NAMES.get(name or "", name)


def _prompt(given: str | list[str | int | list[int]] | None) -> str:
    """The only text. Raises `Failure` for what a chat cannot take."""
    if given is None or isinstance(given, str):
        return given or ""
    if any(not isinstance(one, str) for one in given):
        text = "this model takes text as 'prompt', and no tokens: each model counts its own"
        raise Failure("unsupported_content", text, param="prompt")
    if len(given) != 1:
        text = f"this model takes one 'prompt' a request, and not {len(given)}: send them one by one"
        raise Failure("unsupported_content", text, param="prompt")
    return str(given[0])


def _echo(call: Call) -> str:
    """What stands before the answer: the prompt, if it is wanted."""
    if _value(call, "echo") is not True:
        return ""
    return _prompt(_value(call, "prompt"))


def _value(call: Call, name: str) -> Any:
    return _member(call.fields[name]) if name in call.fields else None


def _text(said: AnswerMessage | Delta) -> str:
    """What is said aloud: reasoning and calls are not."""
    return (said.content or "") + (said.refusal or "")


def _finish(reason: str | None) -> str | None:
    return reason if reason is None or reason in _FINISHES else "stop"


def _logprobs(given: Json | msgspec.UnsetType | None) -> Json | None:
    """A chat's in the form of completions; where in the text the tokens stand is not told."""
    if not given or not isinstance(listed := given.get("content"), list):
        return given or None  # none, or those of a server that answers chats as completions
    tokens = [one for one in listed if isinstance(one, dict)]
    return {
        "tokens": [one.get("token") for one in tokens],
        "token_logprobs": [one.get("logprob") for one in tokens],
        "top_logprobs": [_likely(one.get("top_logprobs")) for one in tokens],
        "text_offset": None,
    }


def _likely(given: Any) -> Json:
    listed = given if isinstance(given, list) else ()
    return {str(one.get("token")): one.get("logprob") for one in listed if isinstance(one, dict)}


def _completion(said: ChatResponse | Chunk, choices: list[CompletionChoice]) -> Completion:
    made = Completion(said.id, said.created, said.model, choices)
    made.usage, made.system_fingerprint = said.usage, said.system_fingerprint
    return made

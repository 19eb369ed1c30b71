"""What a function model gives, as the chunks of one answer: text, deltas, messages and whole answers as dicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec

from polymux.functions.call import Said
from polymux.schema.chat import Chunk, ChunkChoice, Delta, Json, TokenUsage
from polymux.types import Call

_DELTA: Final = frozenset(Delta.__struct_fields__)
_BESIDE: Final = frozenset({"finish_reason", "usage", "logprobs"})
_ENVELOPE: Final = frozenset({"id", "object", "created", "model", "system_fingerprint", "service_tier", "index"})
_ENDLESS: Final = 1 << 53  # tokens: more than any call has, and what a float still counts exactly
_PROMPT: Final = ("messages", "prompt")  # as surfaces call it
T = TypeVar("T")


class WrongResult(TypeError):
    """What a function gave is none of the forms; the text goes on after "the function model ..."."""


class Results:
    """The chunks of one answer; owns all state of it.

    The role comes first and once, tool calls have ids and indices 0, 1, 2 ..., then one finish and one usage: the
    function's own (`source` is then "upstream"), else an estimate at four bytes a token ("estimated").
    """

    def __init__(self, call: Call, created: int) -> None:
        self.source = "estimated"
        self._head = (f"chatcmpl-{call.id}", created, call.model)
        self._call_id = call.id.rpartition("_")[2]
        self._prompt = sum(len(bytes(call.fields[name])) for name in _PROMPT if name in call.fields)
        self._role: str | None = "assistant"
        self._written = 0
        self._finish: str | None = None
        self._usage: Json = {}
        self._calls: list[str] = []  # ids of the tool calls so far
        self._places: dict[int, int] = {}  # the function's index of a tool call -> ours

    def feed(self, value: Any) -> list[Chunk]:
        """One result or piece. Raises `WrongResult`."""
        logprobs: Json = {}
        if isinstance(value, str) and not isinstance(value, Said):
            delta = Delta(content=value)
        else:
            members = _members(value)
            self._finish = members.pop("finish_reason", None) or self._finish
            self._count(members.pop("usage", None))
            logprobs = _dict(members.pop("logprobs", {}), "logprobs")
            if members.pop("role", "assistant") != "assistant":
                raise WrongResult("gave a message whose role is not 'assistant'")
            if not members:
                return []
            if "tool_calls" in members:
                members["tool_calls"] = [self._tool_call(call) for call in _list(members["tool_calls"])]
            delta = _converted(members, Delta)
        self._written += _size(delta)
        delta.role, self._role = self._role, None
        return [Chunk(*self._head, [ChunkChoice(0, delta, None, logprobs or msgspec.UNSET)])]

    def close(self) -> list[Chunk]:
        """The end of the answer."""
        finish = self._finish or ("tool_calls" if self._calls else "stop")
        last = Chunk(*self._head, [ChunkChoice(0, Delta(role=self._role), finish)])
        return [last, Chunk(*self._head, [], usage=self._tokens())]

    def _tokens(self) -> TokenUsage:
        guess = {"prompt_tokens": _tokens(self._prompt), "completion_tokens": _tokens(self._written)}
        counts = guess | self._usage
        total = counts["prompt_tokens"] + counts["completion_tokens"]
        return msgspec.convert({"total_tokens": total} | counts, TokenUsage)

    def _count(self, usage: Any) -> None:
        if usage is None:
            return
        given = _dict(usage, "usage")
        _converted({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0} | given, TokenUsage)
        counts = [
            one for count in given.values() for one in (count.values() if isinstance(count, Mapping) else [count])
        ]
        if not all(0 <= one < _ENDLESS for one in counts if isinstance(one, int)):
            raise WrongResult("gave a usage with a number of tokens that cannot be")
        self._usage = {name: count for name, count in given.items() if count is not None}
        self.source = "upstream"

    def _tool_call(self, given: Any) -> Json:
        """A tool call, whole or a fragment, with its index; the first fragment also with id and type."""
        call = _dict(given, "tool_calls")
        kind = "custom" if call.get("custom") else "function"
        inner = dict(_dict(call.get(kind) or {}, kind))
        if "arguments" in inner and not isinstance(inner["arguments"], str):
            inner["arguments"] = _encoded(inner["arguments"])
        index, id_ = call.get("index"), call.get("id")
        place = self._places.get(index) if isinstance(index, int) else len(self._calls) - 1
        if id_ and id_ in self._calls:
            place = self._calls.index(id_)
        elif place is None or place < 0 or id_ or (index is None and inner.get("name")):
            if not inner.get("name"):
                raise WrongResult(f"gave a tool call without the name of a {kind}")
            place = len(self._calls)
            self._calls.append(id_ or f"call_{self._call_id}{place}")
            call = {"type": kind} | call | {"id": self._calls[place]}
        if isinstance(index, int):
            self._places[index] = place
        return call | {"index": place, kind: inner}


def _members(value: Any) -> Json:
    """The members of a delta or message and what stands beside them, whichever form they come in."""
    if isinstance(value, Said):
        beside = {"finish_reason": value.finish_reason, "usage": value.usage, "logprobs": value.logprobs}
        return {name: given for name, given in beside.items() if given} | value.members
    if not isinstance(value, Mapping):
        raise WrongResult(f"gave a result of type {type(value).__name__}; it is to give text or a dict")
    found = dict(value)
    if "choices" in found:
        choices = _list(found.pop("choices"))
        if len(choices) > 1:
            raise WrongResult("gave an answer of several choices; it is to give one")
        for choice in choices:
            found |= _dict(choice, "choices")
    for name in ("message", "delta"):
        if name in found:
            found |= _dict(found.pop(name), name)
    known = {name: given for name, given in found.items() if given is not None and name not in _ENVELOPE}
    if unknown := sorted(map(str, known.keys() - _DELTA - _BESIDE)):
        expected = ", ".join(sorted(_DELTA | _BESIDE))
        raise WrongResult(f"gave a dict with {unknown[0]!r}; known are {expected}, or message, delta and choices")
    if "finish_reason" in known and not isinstance(known["finish_reason"], str):
        raise WrongResult(f"gave a 'finish_reason' of type {type(known['finish_reason']).__name__}, not text")
    return known


def _dict(value: Any, what: str) -> Json:
    if not isinstance(value, Mapping):
        raise WrongResult(f"gave {what!r} of type {type(value).__name__} where a dict belongs")
    return dict(value)


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise WrongResult(f"gave a value of type {type(value).__name__} where a list of dicts belongs")
    return list(value)


def _encoded(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, UnicodeError) as error:
        raise WrongResult(f"gave arguments of a tool call that are no JSON: {error}") from None


def _converted(value: Json, to: type[T]) -> T:
    try:
        return msgspec.convert(value, to)
    except msgspec.ValidationError as error:
        raise WrongResult(f"gave a dict with a wrong type in it: {error}") from None


def _size(delta: Delta) -> int:
    """Bytes of what a delta says."""
    said = [delta.content or "", delta.reasoning_content or "", delta.refusal or ""]
    for call in delta.tool_calls or ():
        inner = call.function
        said += [inner.name or "", inner.arguments or ""] if inner else []
    try:
        return len("".join(said).encode())
    except UnicodeEncodeError:
        raise WrongResult("gave text with half a surrogate pair in it, which is no Unicode") from None


def _tokens(size: int) -> int:
    """An estimate: four bytes a token."""
    return (size + 3) // 4

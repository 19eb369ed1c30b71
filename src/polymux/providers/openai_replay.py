"""Reasoning that OpenAI-shaped providers want back in earlier turns, for clients that lose it: noted while an answer
passes, remembered, and put into the requests that follow. Which member it is, a provider's row says (`Quirks.replay`).

Sources: the pages on thinking with tools of DeepSeek, Moonshot, Z.AI and MiniMax, OpenRouter's on reasoning tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from polymux.errors import Failure
from polymux.providers.base import Asked, Lane, Recall
from polymux.providers.quirks import plain
from polymux.providers.replay import RECENT, grown, ids, name, pack, place, unpack
from polymux.providers.replies import UNREADABLE
from polymux.schema.openai import Thinking, Thought
from polymux.types import Usage

Json = dict[str, Any]

# Where reasoning must stand and there is none (the turn is another vendor's, or the memory is lost), a blank does:
# DeepSeek and Moonshot refuse the turn otherwise, and Moonshot an empty text too.
_BLANK: Final = " "

_REASONING: Final = ("reasoning_content", "reasoning", "reasoning_details")

_messages = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_thinking = msgspec.json.Decoder(Thinking).decode
_encode = msgspec.json.Encoder().encode


# ---- what a provider wants -------------------------------------------------------------------------------------


class Form(msgspec.Struct, frozen=True):
    """One way to bring reasoning back.

    lacks: whether an assistant's turn has to be completed. put: completes it; without a value as far as it can be.
    every: turns without tool calls too. bound: what one model has said is of no use to another of the provider's.
    """

    lacks: Callable[[Json], bool]
    put: Callable[[Json, bytes | None], None]
    value: Callable[[_Noted], bytes]
    every: bool = False
    bound: bool = False


def _lacks_text(turn: Json) -> bool:
    return not turn.get("reasoning_content")


def _put_text(turn: Json, value: bytes | None) -> None:
    own = turn.pop("reasoning", None)  # the same by another vendor's name
    if text := _text(own) or (value or b"").decode():
        turn["reasoning_content"] = text


def _put_text_always(turn: Json, value: bytes | None) -> None:
    _put_text(turn, value)
    if _lacks_text(turn):
        turn["reasoning_content"] = _BLANK


def _lacks_details(turn: Json) -> bool:
    """What another dialect's vendor has signed (`anthropic_turns.is_reasoning`) is no reasoning here."""
    details = turn.get("reasoning_details")
    kinds = [str(one.get("type")) for one in details if isinstance(one, dict)] if isinstance(details, list) else []
    return not any(kind.startswith("reasoning.") for kind in kinds)


def _put_details(turn: Json, value: bytes | None) -> None:
    turn.pop("reasoning_details", None)
    if value:
        turn["reasoning_details"] = msgspec.Raw(value)


def _lacks_tags(turn: Json) -> bool:
    content = turn.get("content")
    return isinstance(content, str | None) and not (content or "").lstrip().startswith("<think>")


def _put_tags(turn: Json, value: bytes | None) -> None:
    own = turn.pop("reasoning_content", None)
    if thought := _text(own) or (value or b"").decode():
        turn["content"] = f"<think>\n{thought}\n</think>\n\n{plain(turn.get('content')) or ''}"


FORMS: Final[Mapping[str, Form]] = MappingProxyType(
    {
        "reasoning_content": Form(_lacks_text, _put_text, lambda noted: noted.reasoning()),
        "reasoning_content, always": Form(_lacks_text, _put_text_always, lambda noted: noted.reasoning()),
        "reasoning_details": Form(_lacks_details, _put_details, lambda noted: noted.details(), bound=True),
        "tags": Form(_lacks_tags, _put_tags, lambda noted: noted.reasoning().strip(), every=True),
    }
)


# ---- requests --------------------------------------------------------------------------------------------------


def completed(fields: Json, asked: Asked) -> Generator[Recall, Mapping[str, bytes], tuple[str, ...]]:
    """Put reasoning into those of a request's `messages` that lack it. What the client brings stays; nothing is asked
    for when no turn needs any. Messages that cannot be read are for the provider to judge. Gives the names of what a
    provider of this form does not take."""
    form = FORMS[asked.to.quirks.replay]
    turns = _turns(fields.get("messages"))
    try:
        wanted = _wanted(turns, form, asked)
    except UNREADABLE:
        return ()
    if not wanted:
        return ()
    signed = form.bound and any(turns[n].get("reasoning_details") for n in wanted)
    foreign = ("messages[].reasoning_details",) if signed else ()
    found = yield Recall(tuple(wanted.values())[-RECENT:])
    for n, one in wanted.items():
        form.put(turns[n], unpack(found[one]) if one in found else None)
    fields["messages"] = msgspec.Raw(_encode(turns))
    return foreign


def _wanted(turns: list[Json], form: Form, asked: Asked) -> dict[int, str]:
    """The turns that lack reasoning, by number, and under which name theirs is remembered. Members of these that hold
    reasoning are raw no more."""
    wanted = {}
    for n, turn in enumerate(turns):
        seen = {member: plain(turn.get(member)) for member in ("role", "content", "tool_calls", "tool_call_id")}
        calls = ids(seen["tool_calls"])
        if seen["role"] == "assistant" and (calls or form.every):
            turn.update({member: plain(turn[member]) for member in _REASONING if member in turn})
            if form.lacks(turn | seen):
                wanted[n] = _name(asked, form, calls[0] if calls else "", _text(seen["content"]))
        asked.thread = grown(asked.thread, seen)
    return wanted


def _turns(messages: Any) -> list[Json]:
    """The messages as objects, whose members may be raw."""
    if not isinstance(messages, msgspec.Raw):
        return messages if isinstance(messages, list) else []
    try:
        return _messages(messages)
    except UNREADABLE:
        return []


def _text(content: Any) -> str:
    return content if isinstance(content, str) else ""


def _name(asked: Asked, form: Form, call: str, text: str) -> str:
    return name(asked.to, place(asked.thread, call, text), bound=form.bound)


# ---- answers ---------------------------------------------------------------------------------------------------


class _Noted:
    """What one choice of an answer has said so far."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.called = False
        self.call = ""  # id of the first
        self._details: dict[str, Json] = {}

    def add(self, thought: Thought) -> None:
        self.texts.append(_text(thought.content))
        self.thoughts.append(_text(thought.reasoning_content or thought.reasoning))
        if thought.tool_calls:
            self.called = True
            self.call = self.call or next(iter(ids(thought.tool_calls)), "")
        details = thought.reasoning_details
        for n, detail in enumerate(details if isinstance(details, list) else ()):
            if isinstance(detail, dict):
                key = f"{detail.get('type')} {detail.get('index', n)}"
                self._details[key] = _joined(self._details.get(key, {}), detail)

    def reasoning(self) -> bytes:
        return "".join(self.thoughts).encode()

    def details(self) -> bytes:
        return _encode(list(self._details.values())) if self._details else b""


def _joined(held: Json, more: Json) -> Json:
    """A detail so far and its next piece: texts go on, what else is said replaces. A text that begins with all that
    there was is the whole so far, which is how MiniMax streams them."""
    out = held | {member: value for member, value in more.items() if value is not None}
    for member in ("text", "summary", "data"):
        before, after = held.get(member), more.get(member)
        if isinstance(before, str) and isinstance(after, str):
            out[member] = after if before and len(after) > len(before) and after.startswith(before) else before + after
    return out


class Notes:
    """What an answer says of its reasoning, kept when it is complete."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._form = FORMS[asked.to.quirks.replay]
        self._choices: dict[Any, _Noted] = {}

    def event(self, data: bytes) -> None:
        """An event or a whole answer, as JSON."""
        try:
            self.add(_thinking(data))
        except UNREADABLE:
            return

    def add(self, seen: Thinking) -> None:
        for choice in seen.choices or ():
            if thought := choice.delta or choice.message:
                self._choices.setdefault(choice.index, _Noted()).add(thought)

    def keep(self) -> None:
        """The answer is complete."""
        for noted in self._choices.values():
            value = self._form.value(noted) if noted.called or self._form.every else b""
            if value:
                kept = _name(self._asked, self._form, noted.call, "".join(noted.texts))
                self._asked.remembered[kept] = pack(value)


class Noting:
    """A relay lane, and beside it somebody who takes notes of what the client gets."""

    def __init__(self, lane: Lane, asked: Asked) -> None:
        self._lane = lane
        self._notes = Notes(asked)

    @property
    def content(self) -> bool:
        return self._lane.content

    @property
    def usage(self) -> Usage:
        return self._lane.usage

    @property
    def failed(self) -> Failure | None:
        return self._lane.failed

    @property
    def done(self) -> bool:
        return self._lane.done

    @property
    def events(self) -> int:
        return self._lane.events

    def feed(self, data: bytes) -> bytes:
        return self._noted(self._lane.feed(data))

    def close(self) -> bytes:
        last = self._noted(self._lane.close())
        self._notes.keep()
        return last

    def _noted(self, out: bytes) -> bytes:
        """A lane gives out whole events, each with its data on one line."""
        for event in out.split(b"\n\n"):
            if event.startswith(b"data: {"):
                self._notes.event(event[6:])
        return out

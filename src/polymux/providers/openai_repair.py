"""Mends what OpenAI-compatible servers get wrong in an answer, chunk by chunk, on plain dicts: unknown members survive.

What comes out follows OpenAI's own order: one id, role once and first, tool calls numbered 0, 1, 2 ... with ids, one
finish for each choice, one usage chunk, last. What servers do instead is listed in tests/transcripts/openai-compat.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from polymux.errors import Failure, Truncated
from polymux.providers.openai_errors import check
from polymux.providers.openai_tags import Tags, untagged
from polymux.schema.openai import Counts
from polymux.types import NO_USAGE, Quirks, Usage

Json = dict[str, Any]

NO_ID: Final = "chatcmpl-upstream"  # for answers that have none


class Repair:
    """State of one streamed answer. `quirks`: what its provider's row says of answers."""

    def __init__(self, quirks: Quirks) -> None:
        self._quirks = quirks
        self._base: Json = {}
        self._choices: dict[int, _Choice] = {}
        self._usage: Json | None = None

    def chunk(self, chunk: Json) -> list[Json]:
        """What the client gets for one chunk of the upstream; may be nothing. Raises `Failure` for an error in it."""
        check(chunk, self._quirks)
        usage = chunk.pop("usage", None)
        choices = []
        for given in _dicts(chunk.pop("choices", None)):
            index = _int(given.get("index"))
            choice = self._choices.setdefault(index, _Choice(index, self._quirks.tags))
            usage = given.pop("usage", None) or usage
            if (mended := choice.mend(given)) is not None:
                choices.append(mended)
        if isinstance(usage, dict) and usage:
            self._usage = usage
        for name in ("id", "created", "model", "system_fingerprint", "service_tier"):
            if chunk.get(name) and name not in self._base:
                self._base[name] = str(chunk[name]) if name == "id" else chunk[name]
        return [self._event(choices, chunk)] if choices else []

    @property
    def usage(self) -> Json | None:
        """The last that was said of it."""
        return mend_usage(self._usage) if self._usage else None

    def close(self, *, done: bool) -> list[Json]:
        """The body has ended: finishes, then usage. Raises `Truncated` without a finish or an end mark (`done`)."""
        choices = [choice for _, choice in sorted(self._choices.items()) if choice.started]
        if not choices or not (done or all(choice.finish for choice in choices)):
            raise Truncated
        rest = [left for choice in choices if (left := choice.rest()) is not None]
        out = [self._event([choice], {}) for choice in (*rest, *(choice.end() for choice in choices))]
        if self._usage:
            out.append(self._event([], {}) | {"usage": mend_usage(self._usage)})
        return out

    def _event(self, choices: list[Json], extra: Json) -> Json:
        base = self._base = {"id": NO_ID, "created": 0, "model": ""} | self._base  # what is told once stays
        for choice in choices:
            for call in choice["delta"].get("tool_calls", ()):
                if "id" in call:
                    call["id"] = call["id"] or f"call_{base['id']}_{choice['index']}_{call['index']}"
        return base | extra | base | {"object": "chat.completion.chunk", "choices": choices}


class _Choice:
    def __init__(self, index: int, tags: bool) -> None:
        self.index = index
        self._tags = Tags() if tags else None
        self.finish: str | None = None
        self.started = False
        self._last: Json = {}  # what was told beside the finish
        self._calls = Calls()

    def mend(self, choice: Json) -> Json | None:
        """The choice with a clean delta, or None when nothing is left to say. The finish is kept for the end."""
        reason = choice.pop("finish_reason", None)
        delta = _dict(choice.pop("delta", None))
        role = delta.pop("role", None)
        mend_reasoning(delta)
        calls = _dicts(delta.pop("tool_calls", None))
        if self._tags is not None and isinstance(content := delta.get("content"), str):
            delta |= self._tags.feed(content)
        if calls:
            delta["tool_calls"] = [self._calls.fragment(call) for call in calls]
        clean = {name: value for name, value in delta.items() if value is not None and name != "index"}
        if reason:
            self.finish = self.finish or str(reason)
            clean = {name: value for name, value in clean.items() if value != ""}
        elif self.started:
            clean = {name: value for name, value in clean.items() if value != "" or name == "content"}
        if not self.started:
            if not clean and not role and reason is None:
                return None
            self.started = True
            clean = {"role": "assistant", "content": "" if not calls else None, **clean}
        elif not clean or clean == {"content": ""}:
            self._last |= choice if reason else {}
            return None
        return choice | {"index": self.index, "delta": clean, "finish_reason": None}

    def rest(self) -> Json | None:
        """Text that might have become a tag, and did not."""
        left = self._tags.close() if self._tags is not None else {}
        return {"index": self.index, "delta": left, "finish_reason": None} if left else None

    def end(self) -> Json:
        reason = self.finish or "stop"
        if self._calls.count and reason == "stop":
            reason = "tool_calls"
        return self._last | {"index": self.index, "delta": {}, "finish_reason": reason}


class Calls:
    """Assembles parallel tool calls whose fragments are numbered badly or not at all (wire facts: openai.md §4)."""

    def __init__(self) -> None:
        self.count = 0
        self._by_index: dict[int, _Open] = {}
        self._by_id: dict[str, _Open] = {}
        self._last: _Open | None = None

    def fragment(self, given: Json) -> Json:
        """One fragment as OpenAI would have sent it: numbered; id, type and name only on the first of its call."""
        kind, member = ("custom", "input") if isinstance(given.get("custom"), dict) else ("function", "arguments")
        body = _dict(given.get(kind))
        name, id_ = str(body.get("name") or ""), str(given.get("id") or "")
        index = given.get("index") if isinstance(given.get("index"), int) else None
        call = self._find(index, id_, bool(name))
        out: Json = {k: v for k, v in given.items() if k not in ("id", "type", "index", "function", "custom")}
        out["index"] = call.number if call else self.count
        said = {member: _text(body.get(member))}
        if call is None:
            call = self._open(index, id_)
            call.named = bool(name)
            return out | {"id": id_, "type": kind, kind: {**body, "name": name, **said}}
        self._last = call
        if name and not call.named:
            call.named = True
            said = {"name": name} | said
        return out | {kind: said}

    def _find(self, index: int | None, id_: str, named: bool) -> _Open | None:
        """The open call that a fragment belongs to; None = it opens a new one."""
        if index is None:
            return self._by_id.get(id_) if id_ else None if named else self._last
        call = self._by_index.get(index)
        if call is not None and id_ and call.id and id_ != call.id and named:
            return None
        return call

    def _open(self, index: int | None, id_: str) -> _Open:
        call = self._last = _Open(self.count, id_)
        self.count += 1
        if index is not None:
            self._by_index[index] = call
        if id_:
            self._by_id[id_] = call
        return call


class _Open:
    def __init__(self, number: int, id_: str) -> None:
        self.number, self.id = number, id_
        self.named = False


def mend_reasoning(delta: Json) -> None:
    """Reasoning always under `reasoning_content`, content always a string."""
    content = delta.get("content")
    if isinstance(content, list):
        text, thought = [], []
        for part in content:
            if not isinstance(part, dict):
                continue
            if part.get("type") == "thinking":
                inner = part.get("thinking")
                thought += [str(p.get("text") or "") for p in _dicts(inner)] or [_text(inner or None)]
            else:
                text.append(str(part.get("text") or ""))
        delta["content"] = "".join(text) or None
        if thought:
            delta["reasoning_content"] = "".join(thought)
    reasoning = delta.pop("reasoning", None)
    if isinstance(reasoning, str) and not delta.get("reasoning_content"):
        delta["reasoning_content"] = reasoning
    if not delta.get("reasoning_content"):
        delta.pop("reasoning_content", None)


def repair_whole(body: Json, quirks: Quirks) -> Json:
    """A buffered answer, mended alike. Raises `Failure` for an error, or no choice, inside a 200."""
    check(body, quirks)
    choices = body["choices"] = _dicts(body.get("choices"))
    if not choices:
        raise Failure("upstream_unavailable", "the upstream's answer has no choices")
    body["id"] = str(body.get("id") or NO_ID)
    for number, choice in enumerate(choices):
        choice.setdefault("index", number)
        body["usage"] = body.get("usage") or choice.pop("usage", None)
        message = _dict(choice.get("message")) or _completed(choice)
        mend_reasoning(message)
        if quirks.tags and isinstance(content := message.get("content"), str):
            message |= untagged(content)
        calls = _dicts(message.pop("tool_calls", None))
        if calls:
            message["tool_calls"] = [_whole_call(call, f"{body['id']}_{number}_{n}") for n, call in enumerate(calls)]
        reason = choice.get("finish_reason") or "stop"
        choice["finish_reason"] = "tool_calls" if calls and reason == "stop" else reason
        choice["message"] = {"role": "", "content": None, "refusal": None} | message | {"role": "assistant"}
    body["object"] = "chat.completion"
    usage = _dict(body.pop("usage", None))
    return body | {"usage": mend_usage(usage)} if usage else body


def _completed(choice: Json) -> Json:
    """A choice of a completion, which has its text and no message."""
    return {"content": choice["text"]} if isinstance(choice.get("text"), str) else {}


def _whole_call(call: Json, id_: str) -> Json:
    """A complete call: with an id and a type, without a number, its arguments as text."""
    call = {"id": call.get("id") or f"call_{id_}", "type": call.get("type") or "function"} | call
    call.pop("index", None)
    if isinstance(function := call.get("function"), dict):
        call["function"] = function | {"arguments": _text(function.get("arguments"))}
    return call


def mend_usage(usage: Json) -> Json:
    """Completion tokens that leave reasoning out get it added (the total shows it), cached tokens told elsewhere get
    their place, a missing total is the sum; the rest stays as sent."""
    prompt, completion = _int(usage.get("prompt_tokens")), _int(usage.get("completion_tokens"))
    total = _int(usage.get("total_tokens")) or prompt + completion
    reasoning = _int(_dict(usage.get("completion_tokens_details")).get("reasoning_tokens"))
    if total - prompt - completion == reasoning:
        completion += reasoning
    usage = usage | {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
    cached = _int(usage.get("cached_tokens") or usage.get("prompt_cache_hit_tokens"))
    if cached and not usage.get("prompt_tokens_details"):
        usage = usage | {"prompt_tokens_details": {"cached_tokens": cached}}
    return usage


def counted(usage: Counts | None) -> Usage:
    """Token counts from a typed usage object; what needs mending goes the long way. Zeros are no counts: some servers
    send them where others send nothing."""
    if usage is None or not (usage.prompt_tokens or usage.completion_tokens):
        return NO_USAGE
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    elsewhere = prompt is None and (usage.cached_tokens or usage.prompt_cache_hit_tokens)
    if elsewhere or usage.total_tokens != usage.prompt_tokens + usage.completion_tokens:
        return usage_of(msgspec.to_builtins(usage))
    return Usage(
        usage.prompt_tokens,
        usage.completion_tokens,
        (prompt.cached_tokens or 0) if prompt else 0,
        (prompt.cache_write_tokens or 0) if prompt else 0,
        (completion.reasoning_tokens or 0) if completion else 0,
        "upstream",
        0,
        (prompt.audio_tokens or 0) if prompt else 0,
        (completion.audio_tokens or 0) if completion else 0,
    )


def usage_of(usage: Any) -> Usage:
    """Token counts from a usage object; anything else, and zeros, count as none. What a total has beyond its parts is
    thinking that is nowhere else told (Gemini's layer)."""
    if not isinstance(usage, dict):
        return NO_USAGE
    counted = mend_usage(usage)
    into, out = counted["prompt_tokens"], counted["completion_tokens"]
    if not (into or out):
        return NO_USAGE
    prompt, completion = _dict(counted.get("prompt_tokens_details")), _dict(counted.get("completion_tokens_details"))
    reasoning = _int(completion.get("reasoning_tokens"))
    hidden = 0 if reasoning else max(0, counted["total_tokens"] - into - out)
    return Usage(
        into,
        out + hidden,
        _int(prompt.get("cached_tokens")),
        _int(prompt.get("cache_write_tokens")),
        reasoning + hidden,
        audio_input=_int(prompt.get("audio_tokens")),
        audio_output=_int(completion.get("audio_tokens")),
    )


def _int(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _dict(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[Json]:
    """The objects of a list; nothing for what is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    """Text as it is, nothing for null, another value as JSON."""
    return value if isinstance(value, str) else "" if value is None else msgspec.json.encode(value).decode()

"""Mends what OpenAI-compatible servers get wrong in an answer, chunk by chunk, on plain dicts: unknown members survive.

What comes out follows OpenAI's own order: one id, role once and first, tool calls numbered 0, 1, 2 ... with ids, one
finish for each choice, one usage chunk, last. What servers do instead is listed in tests/transcripts/openai-compat.
"""

from __future__ import annotations

from typing import Any

import msgspec

from polymux.errors import Failure, Truncated
from polymux.providers.openai_errors import in_band
from polymux.types import NO_USAGE, Usage

Json = dict[str, Any]


class Repair:
    """State of one streamed answer."""

    def __init__(self) -> None:
        self._base: Json = {}
        self._choices: dict[int, _Choice] = {}
        self._usage: Json | None = None

    def chunk(self, chunk: Json) -> list[Json]:
        """What the client gets for one chunk of the upstream; may be nothing."""
        usage = chunk.pop("usage", None)
        choices = []
        for given in chunk.pop("choices", None) or ():
            if not isinstance(given, dict):
                continue
            index = _int(given.get("index"))
            choice = self._choices.setdefault(index, _Choice(index))
            usage = given.pop("usage", None) or usage
            if (mended := choice.mend(given)) is not None:
                choices.append(mended)
        if isinstance(usage, dict) and usage:
            self._usage = usage
        for name in ("id", "created", "model", "system_fingerprint", "service_tier"):
            if chunk.get(name) and name not in self._base:
                self._base[name] = chunk[name]
        return [self._event(choices, chunk)] if choices else []

    def close(self, *, done: bool) -> list[Json]:
        """The body has ended: finishes, then usage. Raises `Truncated` without a finish or an end mark (`done`)."""
        if not self._choices or not (done or all(choice.finish for choice in self._choices.values())):
            raise Truncated
        out = [self._event([choice.end()], {}) for _, choice in sorted(self._choices.items())]
        if self._usage:
            out.append(self._event([], {}) | {"usage": mend_usage(self._usage)})
        return out

    def _event(self, choices: list[Json], extra: Json) -> Json:
        base = {"id": "chatcmpl-upstream", "created": 0, "model": ""} | extra | self._base
        for choice in choices:
            for call in choice["delta"].get("tool_calls", ()):
                if "id" in call:
                    call["id"] = call["id"] or f"call_{base['id']}_{choice['index']}_{call['index']}"
        return base | {"object": "chat.completion.chunk", "choices": choices}


class _Choice:
    def __init__(self, index: int) -> None:
        self.index = index
        self.finish: str | None = None
        self._started = False
        self._calls = Calls()

    def mend(self, choice: Json) -> Json | None:
        """The choice with a clean delta, or None when nothing is left to say. The finish is kept for the end."""
        reason = choice.pop("finish_reason", None)
        delta = choice.get("delta") or {}
        role = delta.pop("role", None)
        mend_reasoning(delta)
        calls = delta.pop("tool_calls", None)
        if calls:
            delta["tool_calls"] = [self._calls.fragment(call) for call in calls]
        clean = {name: value for name, value in delta.items() if value is not None and name != "index"}
        if reason:
            self.finish = self.finish or str(reason)
            clean = {name: value for name, value in clean.items() if value != ""}
        elif self._started:
            clean = {name: value for name, value in clean.items() if value != "" or name == "content"}
        if not self._started:
            if not clean and not role and reason is None:
                return None
            self._started = True
            clean = {"role": "assistant", "content": "" if not calls else None, **clean}
        elif not clean or clean == {"content": ""}:
            return None
        choice.pop("delta", None)
        return choice | {"index": self.index, "delta": clean, "finish_reason": None}

    def end(self) -> Json:
        reason = self.finish or "stop"
        if self._calls.count and reason == "stop":
            reason = "tool_calls"
        return {"index": self.index, "delta": {}, "finish_reason": reason}


class Calls:
    """Assembles parallel tool calls whose fragments are numbered badly or not at all (wire facts: openai.md §4)."""

    def __init__(self) -> None:
        self.count = 0
        self._by_index: dict[int, _Open] = {}
        self._by_id: dict[str, _Open] = {}
        self._last: _Open | None = None

    def fragment(self, given: Json) -> Json:
        """One fragment as OpenAI would have sent it: numbered; id, type and name only on the first of its call."""
        function = given.get("function") or {}
        name, arguments = function.get("name") or "", function.get("arguments")
        id_, index = given.get("id") or "", given.get("index")
        call = self._find(index if isinstance(index, int) else None, id_, bool(name))
        out: Json = {k: v for k, v in given.items() if k not in ("id", "type", "index", "function")}
        out["index"] = call.number if call else self.count
        text = arguments if isinstance(arguments, str) else "" if arguments is None else _dump(arguments)
        if call is None:
            call = self._open(index if isinstance(index, int) else None, id_)
            rest = {k: v for k, v in function.items() if k not in ("name", "arguments")}
            return out | {"id": id_, "type": "function", "function": {"name": name, "arguments": text, **rest}}
        self._last = call
        return out | {"function": {"arguments": text}}

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
                thought += [p.get("text", "") for p in inner] if isinstance(inner, list) else [str(inner or "")]
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


def repair_whole(body: Json) -> Json:
    """A buffered answer, mended alike. Raises `Failure` for an error, or no choice, inside a 200."""
    if body.get("error"):
        raise in_band(body["error"])
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices:
        raise Failure("upstream_unavailable", "the upstream's answer has no choices")
    for number, choice in enumerate(choices):
        choice.setdefault("index", number)
        body["usage"] = body.get("usage") or choice.pop("usage", None)
        message = choice.get("message") or {}
        mend_reasoning(message)
        calls = message.pop("tool_calls", None)
        if calls:
            for n, call in enumerate(calls):
                call["id"] = call.get("id") or f"call_{body.get('id') or 'upstream'}_{number}_{n}"
                call["type"] = call.get("type") or "function"
                call.pop("index", None)
            message["tool_calls"] = calls
        reason = choice.get("finish_reason") or "stop"
        choice["finish_reason"] = "tool_calls" if calls and reason == "stop" else reason
        choice["message"] = {"role": "assistant", "content": None, "refusal": None} | message
    body["object"] = "chat.completion"
    body["id"] = body.get("id") or "chatcmpl-upstream"
    if body.get("usage"):
        body["usage"] = mend_usage(body["usage"])
    else:
        body.pop("usage", None)
    return body


def mend_usage(usage: Json) -> Json:
    """Completion tokens that leave reasoning out get it added (the total shows it), cached tokens told elsewhere get
    their place; the rest stays as sent."""
    prompt, completion = _int(usage.get("prompt_tokens")), _int(usage.get("completion_tokens"))
    details = usage.get("completion_tokens_details")
    reasoning = _int(details.get("reasoning_tokens")) if isinstance(details, dict) else 0
    if reasoning and _int(usage.get("total_tokens")) - prompt - completion == reasoning:
        usage = usage | {"completion_tokens": completion + reasoning}
    cached = _int(usage.get("cached_tokens") or usage.get("prompt_cache_hit_tokens"))
    if cached and not usage.get("prompt_tokens_details"):
        usage = usage | {"prompt_tokens_details": {"cached_tokens": cached}}
    return usage


def usage_of(usage: Any) -> Usage:
    """Token counts from a usage object; anything else counts as none."""
    if not isinstance(usage, dict):
        return NO_USAGE
    counted = mend_usage(usage)
    prompt, completion = counted.get("prompt_tokens_details"), counted.get("completion_tokens_details")
    return Usage(
        _int(counted.get("prompt_tokens")),
        _int(counted.get("completion_tokens")),
        _int(prompt.get("cached_tokens")) if isinstance(prompt, dict) else 0,
        _int(prompt.get("cache_write_tokens")) if isinstance(prompt, dict) else 0,
        _int(completion.get("reasoning_tokens")) if isinstance(completion, dict) else 0,
    )


def _int(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


def _dump(value: Any) -> str:
    return msgspec.json.encode(value).decode()

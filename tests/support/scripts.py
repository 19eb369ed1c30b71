"""What the scripted provider does with a request: a `Script`, chosen by the model's name. Pure.

A name is a scenario, optionally with an argument after a dash: `text`, `tools`, `status-429`, `cut-3`, `huge-64` ...
Any other name answers as `text` does.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from support import replies, rules
from support.replies import Reply, ToolUse, dump

Headers = tuple[tuple[str, str], ...]
SSE: Final[Headers] = (("content-type", "text/event-stream; charset=utf-8"), ("x-vendor-secret", "do-not-pass"))
JSON: Final[Headers] = (("content-type", "application/json"), ("x-vendor-secret", "do-not-pass"))
MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True)
class Ask:
    """The part of a request that a scenario looks at. `dialect` is openai or anthropic."""

    dialect: str
    model: str
    body: Mapping[str, Any]

    @property
    def streamed(self) -> bool:
        return bool(self.body.get("stream"))

    @property
    def wants_usage(self) -> bool:
        return bool((self.body.get("stream_options") or {}).get("include_usage"))


@dataclass(frozen=True)
class Script:
    """How one request is answered.

    frames: the body, each frame written by itself. framing: `chunked`, `length` or `close` (ended by the connection).
    gate: after the first `free` frames, one goes out only when the test releases it. start: what happens before the
    status line, end: what happens after the last frame; both are one of "" (nothing special), `reset`, `close`,
    `stall`. With an `end` the body is left unfinished. stale: after a whole answer the idle connection is closed
    without a notice.
    """

    status: int = 200
    headers: Headers = JSON
    frames: tuple[bytes, ...] = ()
    framing: str = "length"
    gate: bool = False
    free: int = 0
    start: str = ""
    end: str = ""
    stale: bool = False


# ---- plain answers ---------------------------------------------------------------------------------------------


def render(reply: Reply, ask: Ask) -> Script:
    """The reply in the dialect and form that was asked for; a streamed one has a frame per event."""
    if ask.dialect == "anthropic":
        if ask.streamed:
            return Script(headers=SSE, framing="chunked", frames=replies.anthropic_events(reply, ask.model))
        return Script(frames=(replies.anthropic_whole(reply, ask.model),))
    if ask.streamed:
        return Script(headers=SSE, framing="chunked", frames=replies.openai_events(reply, ask.model, ask.wants_usage))
    return Script(frames=(replies.openai_whole(reply, ask.model),))


def error(message: str, kind: str, dialect: str, code: str | None = None, param: str | None = None) -> bytes:
    """The provider's own error envelope."""
    if dialect == "anthropic":
        return dump({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_up1"})
    return dump({"error": {"message": message, "type": kind, "param": param, "code": code}})


_ERRORS: Final[Mapping[int, tuple[str, str, str | None, str]]] = {
    400: ("invalid_request_error", "invalid_request_error", "invalid_value", "The value is not right."),
    401: ("invalid_request_error", "authentication_error", "invalid_api_key", "Incorrect API key provided."),
    403: ("invalid_request_error", "permission_error", "unsupported_country_region_territory", "Not in your region."),
    404: ("invalid_request_error", "not_found_error", "model_not_found", "The model does not exist."),
    413: ("invalid_request_error", "request_too_large", None, "Request exceeds the maximum size."),
    422: ("invalid_request_error", "invalid_request_error", None, "Unprocessable."),
    429: ("requests", "rate_limit_error", "rate_limit_exceeded", "Rate limit reached."),
    500: ("server_error", "api_error", None, "The server had an error."),
    503: ("server_error", "overloaded_error", "server_is_overloaded", "Overloaded."),
    529: ("server_error", "overloaded_error", None, "Overloaded."),
}


def _status(ask: Ask, argument: int) -> Script:
    openai_type, anthropic_type, code, message = _ERRORS[argument]
    kind = anthropic_type if ask.dialect == "anthropic" else openai_type
    headers = (*JSON, ("retry-after", "7")) if argument in (429, 503) else JSON
    return Script(argument, headers, (error(message, kind, ask.dialect, code),))


def _last_text(ask: Ask) -> str:
    content = ask.body["messages"][-1]["content"]
    if isinstance(content, str):
        return content
    return "".join(part.get("text") or "" for part in content)


def _tool_result(ask: Ask) -> str | None:
    last = ask.body["messages"][-1]
    if last["role"] == "tool":
        return json.dumps(last["content"], ensure_ascii=False)
    if isinstance(last["content"], list):
        for block in last["content"]:
            if block["type"] == "tool_result":
                content = block["content"]
                return json.dumps(content if isinstance(content, str) else content[0]["text"], ensure_ascii=False)
    return None


PARIS: Final = ToolUse("call_a1", "get_weather", {"city": "Paris", "note": 'a "quoted" wörd'})
TOKYO: Final = ToolUse("call_b2", "get_weather", {"city": "東京", "days": 3})


def _tool(ask: Ask, calls: tuple[ToolUse, ...]) -> Script:
    """Calls the tools, and once a result has come says what it was."""
    result = _tool_result(ask)
    if result is not None:
        return render(Reply(text=("The tool said ", result)), ask)
    if not ask.body.get("tools"):
        return render(Reply(text=("I have no tools.",)), ask)
    return render(Reply(text=(), tools=calls, finish="tool_calls"), ask)


def seen_image(body: Mapping[str, Any]) -> str:
    """What the provider saw of the first image in the last message, e.g. `image/png 68 bytes`."""
    for part in body["messages"][-1]["content"]:
        if part["type"] == "image_url":
            head, _, payload = part["image_url"]["url"].partition(";base64,")
            return f"{head.removeprefix('data:')} {len(base64.b64decode(payload, validate=True))} bytes"
        if part["type"] == "image":
            source = part["source"]
            return f"{source['media_type']} {len(base64.b64decode(source['data'], validate=True))} bytes"
    return "no image"


def _structured(ask: Ask) -> Script:
    """An object for the schema that was asked for, by whichever of the dialect's means it was asked."""
    value = {"name": "Ada", "age": 36}
    text = dump(value).decode()
    asked = ask.body.get("response_format") or (ask.body.get("output_config") or {}).get("format")
    if asked is not None:
        return render(Reply(text=(text[:9], text[9:])), ask)
    if (ask.body.get("tool_choice") or {}).get("type") == "tool":
        call = ToolUse("call_json", ask.body["tool_choice"]["name"], value)
        return render(Reply(text=(), tools=(call,), finish="tool_calls"), ask)
    return render(Reply(text=("no schema was asked for",)), ask)


def _stopped(ask: Ask) -> Script:
    """Says `one two STOP three` and obeys the stop sequences."""
    sequences = ask.body.get("stop_sequences") or ask.body.get("stop") or []
    sequences = [sequences] if isinstance(sequences, str) else sequences
    text = "one two STOP three"
    for sequence in sequences:
        if sequence in text:
            return render(Reply(text=(text[: text.index(sequence)],), stop_sequence=sequence), ask)
    return render(Reply(text=(text,)), ask)


def _told(ask: Ask) -> Script:
    """Repeats the last message, so that a test knows what arrived."""
    return render(Reply(text=(_last_text(ask),)), ask)


# ---- faults ----------------------------------------------------------------------------------------------------


def _huge(ask: Ask, mebibytes: int) -> Script:
    """A streamed text of that many MiB in events of 64 KiB."""
    filler = "x" * (MEBIBYTE // 16)
    script = render(Reply(text=(filler,)), ask)
    long = max(script.frames, key=len)
    at = script.frames.index(long)
    return replace(script, frames=script.frames[:at] + (long,) * (16 * mebibytes) + script.frames[at + 1 :])


def _error_inside(ask: Ask) -> Script:
    kind = "overloaded_error" if ask.dialect == "anthropic" else "server_error"
    body = error("The server had an error.", kind, ask.dialect)
    if not ask.streamed:
        return Script(frames=(body,))
    event = b"event: error\ndata: " if ask.dialect == "anthropic" else b"data: "
    return Script(headers=SSE, framing="chunked", frames=(event + body + b"\n\n",))


def _error_later(ask: Ask) -> Script:
    """Some text, then, when the test releases it, an error event."""
    streamed = replace(ask, body={**ask.body, "stream": True})
    good = render(Reply(), streamed)
    return replace(good, gate=True, free=4, frames=good.frames[:4] + _error_inside(streamed).frames)


def _malformed(ask: Ask) -> Script:
    """One event that is not JSON in the midst of a good stream."""
    script = render(Reply(), ask)
    bad = b'event: content_block_delta\ndata: {"type": "content_bl\n\n'
    if ask.dialect == "openai":
        bad = b'data: {"id": "chatcmpl-up1", "choi\n\n'
    return replace(script, frames=(*script.frames[:3], bad, *script.frames[3:])) if ask.streamed else script


def _stray(ask: Ask) -> Script:
    """Legal but unusual framing: comments, `id:` lines, `retry:`, a named event without data, an unknown one."""
    script = render(Reply(), ask)
    noise = b": hello\n\nid: 7\nretry: 10\n\nevent: ping\n\n" + b'event: novelty\ndata: {"type":"novelty"}\n\n'
    if ask.dialect == "openai":
        noise = b": hello\n\nid: 7\nretry: 10\n\nevent: ping\n\n"
    return replace(script, frames=(noise, *script.frames)) if ask.streamed else script


def _html(ask: Ask) -> Script:
    page = b"<!DOCTYPE html><html><body><h1>Welcome to the captive portal</h1></body></html>"
    return Script(headers=(("content-type", "text/html; charset=utf-8"),), frames=(page,))


def _unended(ask: Ask) -> Script:
    """Everything but the dialect's own end mark (`[DONE]`, `message_stop`), then a clean end of the body."""
    script = render(Reply(), ask)
    return replace(script, frames=script.frames[:-1]) if ask.streamed else script


def _broken_off(ask: Ask, frames: int, end: str) -> Script:
    """The first frames of a good answer, then its end: `clean` (a whole body that lacks the rest) or a fault."""
    script = render(Reply(reasoning=("hm",)), ask)
    if not ask.streamed:
        half = script.frames[0][: len(script.frames[0]) // 2]
        return replace(script, frames=(half,), end=end.replace("clean", "close"))
    return replace(script, frames=script.frames[:frames], end=end.replace("clean", ""))


_LOGPROBS: Final = Reply(text=("Yes", "."), logprobs=True)
_THOUGHT: Final = Reply(reasoning=("First ", "think. "), text=("Then ", "speak."))

SCENARIOS: Final[Mapping[str, Callable[[Ask, int], Script]]] = {
    "text": lambda ask, _: render(Reply(), ask),
    "told": lambda ask, _: _told(ask),
    "tool": lambda ask, _: _tool(ask, (PARIS,)),
    "tools": lambda ask, _: _tool(ask, (PARIS, TOKYO)),
    "image": lambda ask, _: render(Reply(text=(seen_image(ask.body),)), ask),
    "reasoning": lambda ask, _: render(_THOUGHT, ask),
    "structured": lambda ask, _: _structured(ask),
    "stopped": lambda ask, _: _stopped(ask),
    "length": lambda ask, _: render(Reply(finish="length"), ask),
    "filtered": lambda ask, _: render(Reply(finish="content_filter"), ask),
    "many": lambda ask, _: render(Reply(n=ask.body.get("n") or 1), ask),
    "logprobs": lambda ask, _: render(_LOGPROBS, ask),
    "gate": lambda ask, _: replace(render(Reply(), ask), gate=True),
    "huge": _huge,
    "status": _status,
    "reset": lambda ask, _: Script(start="reset"),
    "close": lambda ask, _: Script(start="close"),
    "stall": lambda ask, _: replace(render(Reply(), ask), start="stall"),
    "cut": lambda ask, k: _broken_off(ask, k, "close"),
    "torn": lambda ask, k: _broken_off(ask, k, "reset"),
    "ended": lambda ask, k: _broken_off(ask, k, "clean"),
    "hang": lambda ask, k: _broken_off(ask, k, "stall"),
    "html": lambda ask, _: _html(ask),
    "errorinside": lambda ask, _: _error_inside(ask),
    "errorlater": lambda ask, _: _error_later(ask),
    "unended": lambda ask, _: _unended(ask),
    "malformed": lambda ask, _: _malformed(ask),
    "stray": lambda ask, _: _stray(ask),
    "stale": lambda ask, _: replace(render(Reply(), ask), stale=True),
}


def events_in(dialect: str, model: str = "cut") -> int:
    """How many events the answer that `cut-k` cuts has in all (with the usage chunk)."""
    body = {"stream": True, "stream_options": {"include_usage": True}, "messages": [{"role": "user", "content": "x"}]}
    return len(render(Reply(reasoning=("hm",)), Ask(dialect, model, body)).frames)


def choose(ask: Ask) -> Script:
    """The script of a request: the provider's complaint, or the model's scenario."""
    if ask.dialect == "anthropic":
        complaint = rules.anthropic(ask.body)
        if complaint is not None:
            return Script(400, JSON, (error(complaint, "invalid_request_error", "anthropic"),))
    else:
        fault = rules.openai(ask.body)
        if fault is not None:
            message, param, code = fault
            body = error(message, "invalid_request_error", "openai", code or None, param)
            return Script(400, JSON, (body,))
    name, _, argument = ask.model.partition("-")
    scenario = SCENARIOS.get(name, SCENARIOS["text"])
    return scenario(ask, int(argument) if re.fullmatch(r"\d+", argument) else 0)


@dataclass(frozen=True)
class Catalog:
    """The ids that `/v1/models` lists."""

    ids: tuple[str, ...] = field(default=("text", "tools", "meta/llama 3:8b"))

    def body(self, dialect: str) -> bytes:
        if dialect == "anthropic":
            entries = [
                {"type": "model", "id": i, "display_name": i, "created_at": "2026-01-01T00:00:00Z"} for i in self.ids
            ]
            return dump({"data": entries, "has_more": False, "first_id": self.ids[0], "last_id": self.ids[-1]})
        listed = [{"id": i, "object": "model", "created": replies.CREATED, "owned_by": "upstream"} for i in self.ids]
        return dump({"object": "list", "data": listed})

"""What the tests' provider does with a request: a `Script`, chosen by the model's name. Pure.

A name is a scenario, optionally with an argument after a dash: `text`, `tools`, `status-429`, `cut-3`, `huge-64` ...
Any other name answers as `text` does.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from polymux.mock.faults import MEBIBYTE, html, huge, malformed, unended
from polymux.mock.replies import Reply, ToolUse, dump
from polymux.mock.scripts import JSON, SSE, Ask, Script, broken_off, error_inside, refused, render

__all__ = ["JSON", "MEBIBYTE", "SSE", "Ask", "Script"]

SECRET: Final = ("x-vendor-secret", "do-not-pass")  # in the head of every answer
MODELS: Final = ("text", "tools", "meta/llama 3:8b")
RETRY_AFTER: Final = 7


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


def _error_later(ask: Ask) -> Script:
    """Some text, then, when the test releases it, an error event."""
    streamed = replace(ask, body={**ask.body, "stream": True})
    good = render(Reply(), streamed)
    return replace(good, gate=True, free=4, frames=good.frames[:4] + error_inside(streamed).frames)


def _stray(ask: Ask) -> Script:
    """Legal but unusual framing: comments, `id:` lines, `retry:`, a named event without data, an unknown one."""
    script = render(Reply(), ask)
    noise = b": hello\n\nid: 7\nretry: 10\n\nevent: ping\n\n" + b'event: novelty\ndata: {"type":"novelty"}\n\n'
    if ask.dialect == "openai":
        noise = b": hello\n\nid: 7\nretry: 10\n\nevent: ping\n\n"
    return replace(script, frames=(noise, *script.frames)) if ask.streamed else script


def _broken_off(ask: Ask, frames: int, end: str) -> Script:
    return broken_off(render(Reply(reasoning=("hm",)), ask), frames, end)


def _status(ask: Ask, status: int) -> Script:
    return refused(ask, status, RETRY_AFTER if status in (429, 503) else 0)


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
    "huge": huge,
    "status": _status,
    "reset": lambda ask, _: Script(start="reset"),
    "close": lambda ask, _: Script(start="close"),
    "stall": lambda ask, _: replace(render(Reply(), ask), start="stall"),
    "cut": lambda ask, k: _broken_off(ask, k, "close"),
    "torn": lambda ask, k: _broken_off(ask, k, "reset"),
    "ended": lambda ask, k: _broken_off(ask, k, ""),
    "hang": lambda ask, k: _broken_off(ask, k, "stall"),
    "html": lambda ask, _: html(),
    "errorinside": lambda ask, _: error_inside(ask),
    "errorlater": lambda ask, _: _error_later(ask),
    "unended": lambda ask, _: unended(render(Reply(), ask)),
    "malformed": lambda ask, _: malformed(ask, render(Reply(), ask)),
    "stray": lambda ask, _: _stray(ask),
    "stale": lambda ask, _: replace(render(Reply(), ask), stale=True),
}


def events_in(dialect: str, model: str = "cut") -> int:
    """How many events the answer that `cut-k` cuts has in all (with the usage chunk)."""
    body = {"stream": True, "stream_options": {"include_usage": True}, "messages": [{"role": "user", "content": "x"}]}
    return len(render(Reply(reasoning=("hm",)), Ask(dialect, model, body)).frames)


def choose(ask: Ask) -> Script:
    """The script of the model's scenario."""
    name, _, argument = ask.model.partition("-")
    scenario = SCENARIOS.get(name, SCENARIOS["text"])
    script = scenario(ask, int(argument) if re.fullmatch(r"\d+", argument) else 0)
    return replace(script, headers=(*script.headers, SECRET))

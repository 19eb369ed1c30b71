"""What a provider that works answers: an echo that obeys the request's parameters and counts its tokens. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, Final

from polymux.mock.replies import Reply, ToolUse, dump
from polymux.mock.scripts import Ask

CHUNKS: Final = 8  # pieces of a streamed text
_TOKEN: Final = re.compile(r"\s*\S{1,4}|\s+$")  # about what tokenizers make of English
_NO_EFFORT: Final = (None, "none")


def tokens(text: str) -> list[str]:
    """A text in pieces that count as one token each."""
    return _TOKEN.findall(text)


def answer(ask: Ask, chunks: int = CHUNKS) -> Reply:
    """A plausible reply: a tool call where one is demanded, an object where a schema is given, else an echo."""
    body = ask.body
    calls = _calls(ask)
    said = [] if calls else tokens(_said(ask))
    thought = tokens(f"The user said {len(_last(body))} characters. An echo will do.") if _thinks(body) else []
    finish, sequence = "tool_calls" if calls else "stop", None
    for stop in _stops(body):
        if (at := "".join(said).find(stop)) >= 0:
            said, sequence = tokens("".join(said)[:at]), stop
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if limit and len(said) > limit and not calls:
        said, finish, sequence = said[:limit], "length", None
    n = body.get("n") or 1
    written = len(said) + len(thought) + sum(len(tokens(dump(call.arguments).decode())) for call in calls)
    usage = {"input": _input(body), "cached": 0, "output": n * written, "reasoning": n * len(thought)}
    return Reply(
        text=grouped(said, chunks),
        reasoning=grouped(thought, chunks),
        tools=calls,
        finish=finish,
        stop_sequence=sequence,
        n=n,
        usage=usage,
        logprobs=bool(body.get("logprobs")),
    )


def grouped(pieces: Sequence[str], chunks: int) -> tuple[str, ...]:
    """Tokens as so many pieces, or fewer."""
    size = max(1, ceil(len(pieces) / chunks))
    return tuple("".join(pieces[start : start + size]) for start in range(0, len(pieces), size))


def _said(ask: Ask) -> str:
    asked = ask.body.get("response_format") or (ask.body.get("output_config") or {}).get("format")
    if asked and asked.get("type") != "text":
        schema = (asked.get("json_schema") or asked).get("schema")
        return dump(sample(schema) if schema else {"said": _last(ask.body)}).decode()
    if result := _result(ask.body):
        return f"The tool says: {result}"
    seen = "".join(f" I see {image}." for image in _images(ask.body))
    return f"This is {ask.model}, a mock.{seen} You said: {_last(ask.body)}"


def _thinks(body: Mapping[str, Any]) -> bool:
    thinking = body.get("thinking") or {}
    return thinking.get("type") in ("enabled", "adaptive") or body.get("reasoning_effort") not in _NO_EFFORT


def _stops(body: Mapping[str, Any]) -> Sequence[str]:
    stops = body.get("stop_sequences") or body.get("stop") or ()
    return (stops,) if isinstance(stops, str) else stops


# ---- what the request says -------------------------------------------------------------------------------------


def _parts(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = message.get("content") or ""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _text(message: Mapping[str, Any]) -> str:
    return "".join(part.get("text") or "" for part in _parts(message))


def _last(body: Mapping[str, Any]) -> str:
    return _text(body["messages"][-1])


def _result(body: Mapping[str, Any]) -> str:
    """What the tool said, when the last message is its result."""
    last = body["messages"][-1]
    if last["role"] == "tool":
        return _text(last)
    return "".join(_text(part) for part in _parts(last) if part["type"] == "tool_result")


def _images(body: Mapping[str, Any]) -> list[str]:
    """The images of the last message, e.g. `image/png of 68 bytes`."""
    found = []
    for part in _parts(body["messages"][-1]):
        if part["type"] == "image_url":
            url = part["image_url"] if isinstance(part["image_url"], str) else part["image_url"]["url"]
            head, _, payload = url.partition(";base64,")
            found.append(_image(head.removeprefix("data:"), payload))
        elif part["type"] == "image":
            source = part["source"]
            found.append(_image(source.get("media_type") or source.get("url", "an image"), source.get("data", "")))
    return found


def _image(kind: str, payload: str) -> str:
    try:
        return f"{kind} of {len(base64.b64decode(payload, validate=True))} bytes" if payload else kind
    except binascii.Error:
        return f"{kind} that is not base64"


def _input(body: Mapping[str, Any]) -> int:
    """Tokens of all that was sent."""
    told = [_text(message) + _result({"messages": [message]}) for message in body["messages"]]
    system = body.get("system") or ""
    told.append(_text({"content": system}))
    told += [dump(tool).decode() for tool in body.get("tools") or ()]
    return sum(len(tokens(text)) for text in told)


# ---- tools -----------------------------------------------------------------------------------------------------


def _calls(ask: Ask) -> tuple[ToolUse, ...]:
    """The call that `tool_choice` demands: of the tool it names, else of the first."""
    choice = ask.body.get("tool_choice")
    kind = choice.get("type") if isinstance(choice, dict) else choice
    if kind not in ("required", "any", "tool", "function"):
        return ()
    schemas = dict(_tool(tool) for tool in ask.body.get("tools") or ())
    named = (choice.get("function") or choice).get("name") if isinstance(choice, dict) else None
    name = named or next(iter(schemas), "")
    return (ToolUse("call_mock1", name, sample(schemas[name])),) if name in schemas else ()


def _tool(tool: Mapping[str, Any]) -> tuple[str, Any]:
    """Name and schema of a tool in either dialect."""
    function = tool.get("function") or tool
    return function.get("name", ""), function.get("parameters") or function.get("input_schema") or {"type": "object"}


def sample(schema: Mapping[str, Any]) -> Any:
    """A value that fits a plain JSON schema."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    if one_of := schema.get("anyOf") or schema.get("oneOf"):
        return sample(one_of[0])
    kind = schema.get("type") or ("object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: sample(inner) for name, inner in schema.get("properties", {}).items()}
    if kind == "array":
        return [sample(schema.get("items") or {})]
    low = schema.get("minimum", 1)
    return {"integer": int(low), "number": float(low), "boolean": True, "null": None}.get(kind, "mock")

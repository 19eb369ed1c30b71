"""What the scripted provider says, and how it is written in the two dialects it speaks. Pure.

Shapes: OpenAI chat completions and Anthropic Messages as their published schemas describe them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

DIALECTS: Final = ("openai", "anthropic")
CREATED: Final = 1_793_552_400
PADDING: Final = "q7Zk"  # OpenAI's filler member; a receiver ignores it

_ANTHROPIC_STOP: Final[Mapping[str, str]] = MappingProxyType(
    {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
)


@dataclass(frozen=True)
class ToolUse:
    """A call the model makes; `arguments` is streamed in two fragments cut inside the JSON text."""

    id: str
    name: str
    arguments: Mapping[str, Any]

    def fragments(self) -> tuple[str, str]:
        text = dump(self.arguments).decode()
        return text[: len(text) // 2], text[len(text) // 2 :]


@dataclass(frozen=True)
class Reply:
    """One answer. `text` and `reasoning` are given as the pieces they are streamed in.

    usage: tokens; `input` includes `cached`, `output` includes `reasoning`. n: how often the answer is given.
    """

    text: tuple[str, ...] = ("Hel", "lo, ", "世界", "!")
    reasoning: tuple[str, ...] = ()
    tools: tuple[ToolUse, ...] = ()
    finish: str = "stop"
    stop_sequence: str | None = None
    n: int = 1
    logprobs: bool = False
    usage: Mapping[str, int] = field(default_factory=lambda: {"input": 11, "cached": 3, "output": 7, "reasoning": 2})


def dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def data(value: object) -> bytes:
    """One server-sent event without a name."""
    return b"data: " + dump(value) + b"\n\n"


def named(value: Mapping[str, Any]) -> bytes:
    """One server-sent event named after its `type`."""
    return b"event: " + str(value["type"]).encode() + b"\n" + data(value)


# ---- OpenAI ----------------------------------------------------------------------------------------------------


def openai_usage(reply: Reply) -> dict[str, Any]:
    use = reply.usage
    return {
        "prompt_tokens": use["input"],
        "completion_tokens": use["output"],
        "total_tokens": use["input"] + use["output"],
        "prompt_tokens_details": {"cached_tokens": use["cached"]},
        "completion_tokens_details": {"reasoning_tokens": use["reasoning"]},
    }


def _logprobs(text: str) -> dict[str, Any]:
    token = {"token": text, "logprob": -0.25, "bytes": list(text.encode())}
    return {"content": [{**token, "top_logprobs": [token]}], "refusal": None}


def openai_whole(reply: Reply, model: str) -> bytes:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(reply.text) or None, "refusal": None}
    if reply.reasoning:
        message["reasoning_content"] = "".join(reply.reasoning)
    if reply.tools:
        message["tool_calls"] = [
            {"id": t.id, "type": "function", "function": {"name": t.name, "arguments": dump(t.arguments).decode()}}
            for t in reply.tools
        ]
    logprobs = _logprobs("".join(reply.text)) if reply.logprobs else None
    choices = [
        {"index": i, "message": message, "logprobs": logprobs, "finish_reason": reply.finish} for i in range(reply.n)
    ]
    return dump(
        {
            "id": "chatcmpl-up1",
            "object": "chat.completion",
            "created": CREATED,
            "model": f"{model}-2026",
            "choices": choices,
            "usage": openai_usage(reply),
            "x_vendor": {"kept": True},  # as vendors add them: a gateway lets pass what it does not know
        }
    )


def openai_events(reply: Reply, model: str, usage: bool) -> tuple[bytes, ...]:
    """The events of a streamed answer, `[DONE]` included. `usage`: the request asked for the usage chunk."""

    def chunk(choices: list[dict[str, Any]], used: dict[str, Any] | None = None) -> bytes:
        head = {"id": "chatcmpl-up1", "object": "chat.completion.chunk", "created": CREATED, "model": f"{model}-2026"}
        return data({**head, "choices": choices, **({"usage": used} if usage else {}), "obfuscation": PADDING})

    def choice(delta: dict[str, Any], finish: str | None = None, logprobs: object = None) -> bytes:
        return chunk(
            [{"index": i, "delta": delta, "logprobs": logprobs, "finish_reason": finish} for i in range(reply.n)]
        )

    events = [choice({"role": "assistant", "content": None if reply.tools else "", "refusal": None})]
    events += [choice({"reasoning_content": piece}) for piece in reply.reasoning]
    events += [choice({"content": p}, logprobs=_logprobs(p) if reply.logprobs else None) for p in reply.text]
    for index, tool in enumerate(reply.tools):
        start = {"id": tool.id, "type": "function", "function": {"name": tool.name, "arguments": ""}}
        events.append(choice({"tool_calls": [{"index": index, **start}]}))
        events += [
            choice({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}) for piece in tool.fragments()
        ]
    events.append(choice({}, reply.finish))
    if usage:
        events.append(chunk([], openai_usage(reply)))
    return (*events, b"data: [DONE]\n\n")


# ---- Anthropic -------------------------------------------------------------------------------------------------


def _anthropic_usage(reply: Reply) -> dict[str, Any]:
    use = reply.usage
    return {
        "input_tokens": use["input"] - use["cached"],
        "cache_read_input_tokens": use["cached"],
        "cache_creation_input_tokens": 0,
        "output_tokens": use["output"],
        "output_tokens_details": {"thinking_tokens": use["reasoning"]},
    }


def _stop(reply: Reply) -> dict[str, str | None]:
    reason = "stop_sequence" if reply.stop_sequence else _ANTHROPIC_STOP[reply.finish]
    return {"stop_reason": reason, "stop_sequence": reply.stop_sequence}


def anthropic_whole(reply: Reply, model: str) -> bytes:
    blocks: list[dict[str, Any]] = []
    if reply.reasoning:
        blocks.append({"type": "thinking", "thinking": "".join(reply.reasoning), "signature": "c2lnbmVk"})
    if reply.text:
        blocks.append({"type": "text", "text": "".join(reply.text)})
    blocks += [{"type": "tool_use", "id": t.id, "name": t.name, "input": t.arguments} for t in reply.tools]
    head = {"id": "msg_up1", "type": "message", "role": "assistant", "model": f"{model}-2026"}
    return dump({**head, "content": blocks, **_stop(reply), "usage": _anthropic_usage(reply)})


def anthropic_events(reply: Reply, model: str) -> tuple[bytes, ...]:
    """The events of a streamed answer, from `message_start` to `message_stop`, a `ping` among them."""
    usage = _anthropic_usage(reply)
    message = {"id": "msg_up1", "type": "message", "role": "assistant", "model": f"{model}-2026", "content": []}
    start = {**message, "stop_reason": None, "stop_sequence": None, "usage": {**usage, "output_tokens": 1}}
    events = [named({"type": "message_start", "message": start})]
    index = 0

    def block(opening: dict[str, Any], deltas: list[dict[str, Any]]) -> None:
        nonlocal index
        events.append(named({"type": "content_block_start", "index": index, "content_block": opening}))
        if index == 0:
            events.append(named({"type": "ping"}))
        events.extend(named({"type": "content_block_delta", "index": index, "delta": delta}) for delta in deltas)
        events.append(named({"type": "content_block_stop", "index": index}))
        index += 1

    if reply.reasoning:
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in reply.reasoning]
        deltas.append({"type": "signature_delta", "signature": "c2lnbmVk"})
        block({"type": "thinking", "thinking": "", "signature": ""}, deltas)
    if reply.text:
        block({"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in reply.text])
    for tool in reply.tools:
        fragments = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", *tool.fragments())]
        block({"type": "tool_use", "id": tool.id, "name": tool.name, "input": {}}, fragments)
    events.append(named({"type": "message_delta", "delta": _stop(reply), "usage": usage}))
    return (*events, named({"type": "message_stop"}))

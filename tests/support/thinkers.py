"""Providers that think before each call of a tool, and refuse a turn that comes back without what they thought.

Each has a path of its own (`/claude/v1`, `/deepseek/v1` ...) and the rules of its vendor's documentation. What one
thinks follows from the conversation, so that anything else in its place is seen. Stateless, as the vendors are.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from polymux.mock import rules
from polymux.mock.replies import Reply, ToolUse, dump
from polymux.mock.scripts import Ask, Script, invalid, render
from polymux.mock.server import Exchange, Server

TURNS: Final = 3  # calls before the answer
FINAL: Final = "It is warm."
OPENAI_SHAPED: Final = ("deepseek", "moonshot", "zai", "minimax", "openrouter")
VENDORS: Final = ("claude", *OPENAI_SHAPED)

Json = dict[str, Any]


class Wrong(Exception):
    """What a vendor says of a request that it refuses."""


def thought(vendor: str, question: str, step: int) -> str:
    return f"{vendor} thinks of {question!r}, {step}"


def sealed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def call_id(vendor: str, question: str, step: int) -> str:
    """Moonshot counts its calls, in each conversation anew; the others' ids are one of a kind."""
    unique = sealed(f"{vendor} {question} {step}")[:20]
    return {"claude": f"toolu_{unique}", "moonshot": f"functions.look:{step}"}.get(vendor, f"{vendor}_{unique}")


def tagged(text: str) -> str:
    return f"<think>\n{text}\n</think>\n\n"


def details(text: str) -> list[Json]:
    return [
        {
            "type": "reasoning.text",
            "text": text,
            "format": "anthropic-claude-v1",
            "index": 0,
            "signature": sealed(text),
        },
        {"type": "reasoning.encrypted", "data": sealed(f"{text}!"), "format": "openai-responses-v1", "index": 1},
    ]


# ---- rules -----------------------------------------------------------------------------------------------------


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content or ())


def _question(body: Mapping[str, Any]) -> str:
    return next(_text(message["content"]) for message in body["messages"] if message["role"] == "user")


def judge_claude(body: Mapping[str, Any]) -> None:
    """Thinking blocks stand before the call they led to, signed here and as they were. Where thinking has a budget the
    last turn that called tools must have them."""
    if complaint := rules.anthropic(body):
        raise Wrong(complaint)
    thinking, question = body.get("thinking", {}).get("type") == "enabled", _question(body)
    turns = [message["content"] for message in body["messages"] if message["role"] == "assistant"]
    for step, blocks in enumerate(turns):
        kinds = [block["type"] for block in blocks]
        own = any(block.get("id") == call_id("claude", question, step) for block in blocks)
        if "thinking" not in kinds:
            if thinking and blocks is turns[-1]:
                raise Wrong("Expected `thinking` or `redacted_thinking`, but found `tool_use`")
            continue
        text = thought("claude", question, step)
        told = [{"type": "thinking", "thinking": text, "signature": sealed(text)}]
        if not own or blocks[:1] != told or "thinking" in kinds[1:]:
            raise Wrong(f"messages: turn {step}: Invalid `signature` in `thinking` block")


def judge_openai(vendor: str, body: Mapping[str, Any]) -> None:
    """As the vendor documents it: what must stand in a turn that called tools, and nothing of another vendor's."""
    if fault := rules.openai(body):
        raise Wrong(fault[0])
    known = {"role", "content", "tool_calls", "tool_call_id", REPLAYED[vendor]}
    question = _question(body)
    turns = [message for message in body["messages"] if message["role"] == "assistant"]
    for message in body["messages"]:
        if set(message) - known or any(
            set(call) != {"id", "type", "function"} for call in message.get("tool_calls", ())
        ):
            raise Wrong(f"property {set(message) - known} is unsupported")
    for step, turn in enumerate(turns):
        own = turn.get("tool_calls", [{}])[0].get("id") == call_id(vendor, question, step)
        brought, text = turn.get(REPLAYED[vendor]), thought(vendor, question, step)
        if vendor in ("deepseek", "moonshot") and not (isinstance(brought, str) and (brought or vendor == "deepseek")):
            raise Wrong(f"thinking is enabled but reasoning_content is missing in assistant tool call message {step}")
        wanted: Any = text if own else " "
        if vendor == "minimax":
            brought, wanted = turn["content"] or "", tagged(text) + "Looking." if own else "Looking."
        elif vendor in ("openrouter", "zai"):
            wanted = (details(text) if vendor == "openrouter" else text) if own else None
        if brought != wanted:
            raise Wrong(f"turn {step} came back with {brought!r} instead of {wanted!r}")


REPLAYED: Final = {
    "deepseek": "reasoning_content",
    "moonshot": "reasoning_content",
    "zai": "reasoning_content",
    "minimax": "content",
    "openrouter": "reasoning_details",
}


# ---- answers ---------------------------------------------------------------------------------------------------


def answer(vendor: str, ask: Ask) -> Script:
    step = sum(message["role"] == "assistant" for message in ask.body["messages"])
    question = _question(ask.body)
    if step == TURNS:
        return render(Reply(text=(FINAL,)), ask)
    text = thought(vendor, question, step)
    pieces = (text[:5], text[5:])
    call = ToolUse(call_id(vendor, question, step), "look", {"step": step})
    reply = Reply(text=("Looking.",), reasoning=pieces, tools=(call,), finish="tool_calls")
    if vendor == "minimax":
        reply = replace(reply, reasoning=(), text=("<think>\n", *pieces, "\n</think>\n", "\nLooking."))
    script = render(reply, ask)
    if vendor == "claude":
        return replace(
            script, frames=tuple(frame.replace(b"c2lnbmVk", sealed(text).encode()) for frame in script.frames)
        )
    return replace(script, frames=_detailed(script.frames, text)) if vendor == "openrouter" else script


def _detailed(frames: tuple[bytes, ...], text: str) -> tuple[bytes, ...]:
    """Reasoning in `reasoning_details`: streamed in pieces, the signature with the last of them."""
    if not frames[0].startswith(b"data: "):
        whole = json.loads(frames[0])
        message = whole["choices"][0]["message"]
        message["reasoning"], message["reasoning_details"] = message.pop("reasoning_content"), details(text)
        return (dump(whole),)
    signed, encrypted = details(text)
    out, reasoned = [], 0
    for frame in frames:
        chunk = json.loads(frame[6:]) if frame.startswith(b"data: {") else {}
        delta = chunk["choices"][0]["delta"] if chunk.get("choices") else {}
        if "reasoning_content" not in delta:
            out.append(frame)
            continue
        reasoned += 1
        piece = delta.pop("reasoning_content")
        part = {**signed, "text": piece, "signature": signed["signature"] if reasoned == 2 else None}
        delta |= {"reasoning": piece, "reasoning_details": [part, *([encrypted] if reasoned == 2 else ())]}
        out.append(b"data: " + dump(chunk) + b"\n\n")
    return tuple(out)


# ---- serving ---------------------------------------------------------------------------------------------------


class Thinkers:
    """All of them on one socket. seen: the bodies of the requests, by vendor."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Json]] = {vendor: [] for vendor in VENDORS}
        self.url = ""

    def script(self, exchange: Exchange) -> Script:
        vendor = exchange.path.split("/")[1]
        self.seen[vendor].append(exchange.json)
        ask = Ask("anthropic" if vendor == "claude" else "openai", exchange.model, exchange.json)
        try:
            judge_claude(ask.body) if vendor == "claude" else judge_openai(vendor, ask.body)
        except Wrong as wrong:
            return invalid(ask, str(wrong))
        return answer(vendor, ask)

    def config(self) -> str:
        """Providers of the real presets, with these addresses."""
        rows = {"claude": "anthropic"}
        return "".join(
            f'[providers.{vendor}]\npreset = "{rows.get(vendor, vendor)}"\nbase_url = "{self.url}/{vendor}/v1"\n'
            f'api_key = "upstream-key-{vendor}"\nmodels = ["{MODELS[vendor]}"]\n'
            for vendor in VENDORS
        )


MODELS: Final = {
    "claude": "claude-sonnet-4-5",
    "deepseek": "deepseek-v4",
    "moonshot": "kimi-k2.6",
    "zai": "glm-4.7",
    "minimax": "MiniMax-M2",
    "openrouter": "anthropic/claude-sonnet-4.5",
}


@contextlib.contextmanager
def thinking() -> Iterator[Thinkers]:
    thinkers, end, loop = Thinkers(), asyncio.Event(), asyncio.new_event_loop()
    server = Server(thinkers.script, Exchange)
    with contextlib.closing(loop), socket.create_server(("127.0.0.1", 0)) as listening:
        thinkers.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread = threading.Thread(target=loop.run_until_complete, args=(server.run(listening, end),), daemon=True)
        thread.start()
        try:
            yield thinkers
        finally:
            loop.call_soon_threadsafe(end.set)
            thread.join(20)

"""Requests as other programs send them (`shapes/*.http`), byte for byte, twice on one connection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.gateway import Gateway
from support.raw import Answer
from support.upstream import Upstream

SHAPES = {path.stem: path for path in sorted((Path(__file__).parent / "shapes").glob("*.http"))}
PROVIDERS = ["corp", "claude"]
USED_BY_ANTHROPIC = {"messages", "model", "max_tokens", "temperature", "top_p", "stop", "stream", "user"}


def request_of(name: str, key: str, model: str) -> tuple[bytes, Any]:
    """The bytes to send and the decoded body. A chunked body goes in one chunk, as the clients in question do it."""
    lines = SHAPES[name].read_text(encoding="utf-8").splitlines()
    lines = lines[next(number for number, line in enumerate(lines) if not line.startswith("# ")) :]
    at = lines.index("")
    body = "\n".join(lines[at + 1 :]).replace("{model}", model).encode()
    head = "\r\n".join(lines[:at]).replace("{key}", key).replace("{length}", str(len(body)))
    if "chunked" in head:
        return head.encode() + b"\r\n\r\n%X\r\n%s\r\n0\r\n\r\n" % (len(body), body), json.loads(body)
    return head.encode() + b"\r\n\r\n" + body, json.loads(body)


def told(body: Any) -> str:
    """The text of the last message."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def check(answer: Answer, body: Any) -> None:
    assert answer.status == 200
    if not body.get("stream"):
        decoded = answer.json()
        assert decoded["object"] == "chat.completion"
        assert decoded["choices"][0]["message"]["content"] == told(body)
        assert decoded["usage"]["total_tokens"] == 18
        return
    *chunks, done = answer.events()
    decoded = [json.loads(chunk) for chunk in chunks]
    assert done == b"[DONE]"
    text = "".join(c["delta"].get("content") or "" for chunk in decoded for c in chunk["choices"])
    assert text == told(body)
    usage = [chunk["usage"]["total_tokens"] for chunk in decoded if chunk.get("usage")]
    assert usage == ([18] if (body.get("stream_options") or {}).get("include_usage") else [])


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("name", SHAPES)
def test_the_answer_is_right(gateway: Gateway, upstream: Upstream, name: str, provider: str) -> None:
    request, body = request_of(name, gateway.key, f"{provider}/told")
    times = 1 if b"Connection: close" in request else 2
    with gateway.wire() as wire:
        for _ in range(times):
            wire.send(request)
            check(wire.answer(), body)
    for seen in upstream.seen("told"):
        if provider == "corp":  # the same dialect: nothing of the body is lost, nothing but the usage is asked for
            got = {name: value for name, value in seen.json.items() if name not in ("model", "stream_options")}
            assert got == {name: value for name, value in body.items() if name not in ("model", "stream_options")}
        assert gateway.key not in str(seen.headers)


@pytest.mark.parametrize("name", SHAPES)
def test_what_an_anthropic_provider_cannot_take_is_named(gateway: Gateway, upstream: Upstream, name: str) -> None:
    request, body = request_of(name, gateway.key, "claude/told")
    with gateway.wire() as wire:
        wire.send(request)
        answer = wire.answer()
    check(answer, body)
    dropped = {part.strip() for part in answer.headers.get("x-polymux-dropped", "").split(",")} - {""}
    foreign = {"chatId", "detail", "responseChatItemId", "variables"}
    assert dropped & foreign == set(body) & foreign
    assert dropped & USED_BY_ANTHROPIC == set()

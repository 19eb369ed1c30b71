"""Signed thinking for clients that lose it: remembered by the id of the call it led to, and put back before that call.

Source: Anthropic's API reference (Extended thinking with tool use): thinking and redacted blocks come back unmodified,
in order, at the beginning of the turn. Without them a model that was given a budget cannot go on thinking there.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

import msgspec

from polymux.providers.anthropic_request import COMPATIBLE, generation
from polymux.providers.anthropic_turns import Recalled, is_reasoning
from polymux.providers.base import Asked, Recall
from polymux.providers.replay import RECENT, grown, name, pack, place, unpack
from polymux.providers.replies import UNREADABLE
from polymux.schema.anthropic import Json
from polymux.schema.chat import ChatRequest

_blocks = msgspec.json.Decoder(list[Json]).decode
_encode = msgspec.json.Encoder().encode


def recalled(request: ChatRequest, asked: Asked) -> Generator[Recall, Mapping[str, bytes], Recalled]:
    """The blocks that the client has not brought back. Nothing is asked for when no call needs any."""
    to = asked.to
    kind = generation(to.model)
    if not kind.thinking:
        return {}
    counts = kind is COMPATIBLE and bool(request.tools)  # Claude's own calls have ids of their own
    wanted: dict[int, str] = {}
    for n, message in enumerate(request.messages):
        if message.role == "assistant" and message.tool_calls and not _brought(message.reasoning_details):
            wanted[n] = _name(asked, message.tool_calls[0].id)
        if counts:
            asked.thread = grown(asked.thread, msgspec.to_builtins(message))
    if not wanted:
        return {}
    found = yield Recall(tuple(wanted.values())[-RECENT:])
    blocks = {n: _read(found[one]) for n, one in wanted.items() if one in found}
    return {n: several for n, several in blocks.items() if several}


def remember(asked: Asked, call: str, blocks: Sequence[Json]) -> None:
    """Keep the reasoning that led to an answer's calls, of which `call` is the first."""
    if call and blocks:
        asked.remembered[_name(asked, call)] = pack(_encode(blocks))


def _name(asked: Asked, call: str) -> str:
    """Claude's ids need no conversation to tell them apart, those of other vendors' servers may."""
    whole = generation(asked.to.model) is not COMPATIBLE
    return name(asked.to, call if whole else place(asked.thread, call))


def _brought(details: Sequence[Json] | None) -> bool:
    return any(is_reasoning(block) for block in details or ())


def _read(value: bytes) -> list[Json]:
    try:
        return [block for block in _blocks(unpack(value)) if is_reasoning(block)]
    except UNREADABLE:
        return []

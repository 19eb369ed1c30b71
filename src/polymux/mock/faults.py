"""The faults by name: one table, a sentence each. A fault takes the good answer and bends it. Pure.

Among them are the sixteen of Failover Bench, a public yardstick for gateways.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final, NamedTuple

from polymux.mock.replies import Reply, dump
from polymux.mock.scripts import SSE, Ask, Script, broken_off, error_inside, invalid, refused, render

MEBIBYTE: Final = 1 << 20
HUGE: Final = 96  # MiB
RETRY_AFTER: Final = 2  # seconds


class Case(NamedTuple):
    """What a fault is given. slow: seconds of silence for the faults that are slow."""

    ask: Ask
    good: Script
    slow: float

    @property
    def streamed(self) -> bool:
        return self.good.framing == "chunked"

    @property
    def middle(self) -> int:
        """A number of frames after which some content has been sent, and some is missing."""
        return len(self.good.frames) // 2


class Fault(NamedTuple):
    """every: the Nth requests have it, first: only so many have it (0 = no bound), both counted for the fault."""

    sentence: str
    bend: Callable[[Case], Script]
    every: int = 1
    first: int = 0


def huge(ask: Ask, mebibytes: int) -> Script:
    """A text of that many MiB; streamed, in events of 64 KiB."""
    filler = "x" * (MEBIBYTE // 16)
    script = render(Reply(text=(filler,)), ask)
    if not ask.streamed:
        start, _, end = script.frames[0].partition(filler.encode())
        return replace(script, frames=(start, *[filler.encode()] * (16 * mebibytes), end))
    long = max(script.frames, key=len)
    at = script.frames.index(long)
    return replace(script, frames=script.frames[:at] + (long,) * (16 * mebibytes) + script.frames[at + 1 :])


def malformed(ask: Ask, good: Script) -> Script:
    """One event that is not JSON in the midst of a good stream."""
    bad = b'event: content_block_delta\ndata: {"type": "content_bl\n\n'
    if ask.dialect == "openai":
        bad = b'data: {"id": "chatcmpl-up1", "choi\n\n'
    return replace(good, frames=(*good.frames[:3], bad, *good.frames[3:])) if ask.streamed else good


def html() -> Script:
    page = b"<!DOCTYPE html><html><body><h1>Welcome to the captive portal</h1></body></html>"
    return Script(headers=(("content-type", "text/html; charset=utf-8"),), frames=(page,))


def unended(good: Script) -> Script:
    """Everything but the dialect's own end mark (`[DONE]`, `message_stop`), then a clean end of the body."""
    return replace(good, frames=good.frames[:-1]) if good.framing == "chunked" else good


def _status(status: int, retry_after: int = 0) -> Callable[[Case], Script]:
    return lambda case: refused(case.ask, status, retry_after)


def _broken(end: str) -> Callable[[Case], Script]:
    return lambda case: broken_off(case.good, case.middle, end)


def _context(case: Case) -> Script:
    if case.ask.dialect == "anthropic":
        return invalid(case.ask, "prompt is too long: 210000 tokens > 200000 maximum")
    text = "This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens."
    return invalid(case.ask, text, "context_length_exceeded", "messages")


def _prefill(case: Case) -> Script:
    messages = case.ask.body.get("messages") or [{}]
    if messages[-1].get("role") != "assistant":
        return case.good
    return invalid(case.ask, "This model does not support assistant message prefill. End with a user message.")


def _error_event(case: Case) -> Script:
    if not case.streamed:
        return error_inside(case.ask)
    return replace(case.good, frames=case.good.frames[: case.middle] + error_inside(case.ask).frames)


def _empty_choices(case: Case) -> Script:
    body = {"id": "up1", "choices": [], "content": []}
    return (
        Script(headers=SSE, frames=(b"data: " + dump(body) + b"\n\n",))
        if case.streamed
        else Script(frames=(dump(body),))
    )


def _double_finish(case: Case) -> Script:
    frames: list[bytes] = []
    for frame in case.good.frames:
        ends = b'"finish_reason":"' in frame or b'"message_delta"' in frame
        frames += [frame, frame] if ends and case.streamed else [frame]
    return replace(case.good, frames=tuple(frames))


def _cut_after_usage(case: Case) -> Script:
    if not case.streamed:
        return broken_off(case.good, 1, "close")
    return replace(case.good, frames=case.good.frames[:-1], end="close")


def _endless_event(case: Case) -> Script:
    if not case.streamed:
        return huge(case.ask, HUGE)
    filler = b"x" * (MEBIBYTE // 16)
    return replace(case.good, frames=(b"data: ", *[filler] * (16 * HUGE)))


def _bad_chunk(case: Case) -> Script:
    frames = case.good.frames[: max(1, case.middle)]
    chunked = replace(case.good, framing="chunked", frames=frames)
    return Script(framing="raw", frames=(chunked.head(), *map(chunked.framed, frames), b"zz\r\nno chunk\r\n"))


def _gzip(case: Case) -> Script:
    """Each event is flushed, as servers do that compress streams."""
    headers = (*case.good.headers, ("content-encoding", "gzip"))
    if not case.streamed:
        return replace(case.good, headers=headers, frames=(gzip.compress(case.good.frames[0]),))
    squeeze = zlib.compressobj(wbits=31)
    frames = [squeeze.compress(frame) + squeeze.flush(zlib.Z_SYNC_FLUSH) for frame in case.good.frames]
    return replace(case.good, headers=headers, frames=(*frames, squeeze.flush()))


FAULTS: Final[Mapping[str, Fault]] = MappingProxyType(
    {
        # statuses
        "400": Fault("The request is refused as invalid.", _status(400)),
        "401": Fault("The key is refused.", _status(401)),
        "403": Fault("The key may not do this.", _status(403)),
        "404": Fault("The model does not exist.", _status(404)),
        "408": Fault("The provider says that the request took too long.", _status(408)),
        "413": Fault("The request is too large.", _status(413)),
        "422": Fault("The request is refused as unprocessable.", _status(422)),
        "429": Fault("Rate limited, without a word on when to come back.", _status(429)),
        "429-retry-after": Fault("Rate limited, with retry-after: 2.", _status(429, RETRY_AFTER)),
        "500": Fault("The provider has an internal error.", _status(500)),
        "500-once": Fault("An internal error for the first request, good answers after it.", _status(500), first=1),
        "502": Fault("A proxy in front of the provider reaches nobody.", _status(502)),
        "503": Fault("Overloaded.", _status(503)),
        "503-retry-after": Fault("Overloaded, with retry-after: 2.", _status(503, RETRY_AFTER)),
        "504": Fault("A proxy in front of the provider has waited too long.", _status(504)),
        "529": Fault("Overloaded, by the status that one provider has for it.", _status(529)),
        "flapping": Fault("Overloaded for every second request.", _status(503), every=2),
        # refusals with a meaning of their own
        "context-length": Fault("The request is longer than the model's context.", _context),
        "content-filter": Fault(
            "The provider's filter refuses the request.",
            lambda case: invalid(case.ask, "Output blocked by content filtering policy", "content_filter"),
        ),
        "prefill": Fault("Refuses requests that end with a message of the assistant.", _prefill),
        # silence
        "slow-head": Fault("Silence before the status line.", lambda case: replace(case.good, before=case.slow)),
        "slow-first-token": Fault(
            "Status and preamble come at once, the first token after a silence.",
            lambda case: replace(case.good, pause=(1 if case.streamed else 0, case.slow)),
        ),
        "no-answer": Fault(
            "Takes the request and never says anything.", lambda case: replace(case.good, start="stall")
        ),
        "stall": Fault("Falls silent in mid-answer and keeps the connection open.", _broken("stall")),
        "trickle": Fault("The good answer, one byte at a time.", lambda case: replace(case.good, bite=1)),
        # answers that break off
        "truncate": Fault("The body ends in good order, but without the rest and its end mark.", _broken("")),
        "cut": Fault("The connection is closed in mid-answer.", _broken("close")),
        "reset": Fault("The connection is reset (TCP RST) in mid-answer.", _broken("reset")),
        "cut-after-usage": Fault(
            "The connection is closed when all is said, the usage too, but for the end mark.", _cut_after_usage
        ),
        "close-before-answer": Fault(
            "The connection is closed in place of an answer.", lambda case: Script(start="close")
        ),
        "reset-before-answer": Fault(
            "The connection is reset (TCP RST) in place of an answer.", lambda case: Script(start="reset")
        ),
        # answers that are none
        "garbage": Fault(
            "What comes back is no HTTP.",
            lambda case: Script(framing="raw", frames=(b"\x16\x03\x01 this is not HTTP\r\n\r\n",)),
        ),
        "html": Fault("A web page, with status 200.", lambda case: html()),
        "empty-200": Fault("Status 200 and no body.", lambda case: Script(headers=case.good.headers, frames=())),
        "empty-choices": Fault("Status 200 and an answer without any choice or content.", _empty_choices),
        "error-in-200": Fault(
            "Status 200 and an error in the body, or as the first event.", lambda case: error_inside(case.ask)
        ),
        "redirect": Fault(
            "A redirect to another path.",
            lambda case: Script(307, (("location", "/elsewhere"),)),
        ),
        # streams with a flaw (an answer that is not streamed is good, or has the flaw in its own way)
        "error-event": Fault("An error event in mid-stream.", _error_event),
        "malformed-event": Fault(
            "One event that is not JSON in the midst of a good stream.", lambda case: malformed(case.ask, case.good)
        ),
        "no-done": Fault("A whole stream that lacks only its end mark.", lambda case: unended(case.good)),
        "double-finish": Fault("The event that says why the answer ended comes twice.", _double_finish),
        "wrong-content-type": Fault(
            "A good answer that calls itself text/plain.",
            lambda case: replace(case.good, headers=(("content-type", "text/plain"),)),
        ),
        "gzip": Fault("A good answer, compressed though nobody asked for it.", _gzip),
        "bad-chunk": Fault("A broken chunk size in mid-answer.", _bad_chunk),
        # sizes
        "huge-head": Fault(
            "A header of 1 MiB.",
            lambda case: replace(case.good, headers=(*case.good.headers, ("x-huge", "x" * MEBIBYTE))),
        ),
        "huge-body": Fault(f"A text of {HUGE} MiB.", lambda case: huge(case.ask, HUGE)),
        "endless-event": Fault(f"One event of {HUGE} MiB that does not end.", _endless_event),
    }
)

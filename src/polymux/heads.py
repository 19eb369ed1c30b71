"""The response headers that tell what happened (INTERFACE.md §4), as blocks of lines."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil
from urllib.parse import quote

from polymux.errors import Failure
from polymux.routing.limits import Verdict, duration
from polymux.types import Deployment

JSON = b"content-type: application/json\r\n"
EVENTS = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
LONGEST_NAME, MOST_NAMES = 64, 32  # characters and names that x-polymux-dropped tells


def served_head(attempts: int, to: Deployment | None, dropped: Sequence[str]) -> bytes:
    """By whom, after how many attempts, and without which parameters."""
    head = _served(attempts, to.provider, to.model) if to is not None else _served(attempts, "", "")
    return head + b"x-polymux-dropped: %b\r\n" % _listed(dropped) if dropped else head


@lru_cache(1024)
def _served(attempts: int, provider: str, model: str) -> bytes:
    head = b"x-polymux-attempts: %d\r\nx-polymux-cache: off\r\n" % attempts
    if provider:
        head += b"x-polymux-provider: %b\r\nx-polymux-model: %b\r\n" % (provider.encode(), _value(model).encode())
    return head


def failure_head(failure: Failure) -> bytes:
    """Headers that tell a client whether and when to come back."""
    head = b""
    if failure.status in (429, 503) or failure.retry_after is not None:
        head = b"retry-after: %d\r\n" % max(1, ceil(failure.retry_after or 1))
    if failure.should_retry is not None:
        head += b"x-should-retry: %b\r\n" % (b"true" if failure.should_retry else b"false")
    return head


def limit_head(what: bytes, limit: int, verdict: Verdict) -> bytes:
    """The `x-ratelimit-*` headers. `what`: requests or tokens."""
    reset = duration(verdict.reset).encode()
    lines = b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %d\r\nx-ratelimit-reset-%b: %b\r\n"
    return lines % (what, limit, what, verdict.remaining, what, reset)


def _value(text: str) -> str:
    """A name as a header may carry it: what could end or forge a line is percent-encoded."""
    return text if text.isascii() and text.isprintable() else quote(text)


def _listed(names: Sequence[str]) -> bytes:
    """Names for one header. Clients choose them and read at most some KiB of headers: what is too long is cut."""
    text = ",".join(_value(name[:LONGEST_NAME]) for name in names[:MOST_NAMES])
    return f"{text},...".encode() if len(names) > MOST_NAMES else text.encode()

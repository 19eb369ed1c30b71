"""The debug log: calls in short, and what passes between us and the upstreams, without secrets.

Blocks of an answer are cut anywhere, so a line is shown when it is whole: no secret has a line's end inside. What is
said of one exchange carries its number, and what others wrote is indented, so that it cannot pass for ours.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from polymux.errors import Failure
from polymux.hooks.base import Hook
from polymux.hooks.output import Output
from polymux.providers.credentials import harmless, secrets_to
from polymux.types import Call, Deployment, Record, WireRequest
from polymux.wire.mask import Known
from polymux.wire.printable import printable

MOST: Final = 64 * 1024  # characters that are shown of a body
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]{512,}={0,2}")


class _Exchange:
    """One request to an upstream. rest: what has come of a line; left: characters that may still be shown."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.rest = b""
        self.left = MOST
        self.whole = False  # the answer comes in one piece


class WireLog(Hook):
    """Implements `transport.Tap`, and is a hook. write: gets whole lines. secrets: the gateway's, beyond those of its
    deployments, which are learnt as they are met."""

    def __init__(self, write: Callable[[bytes], None], secrets: Iterable[str] = ()) -> None:
        self._write = write
        self._secrets = set(secrets)
        self._known = Known(self._secrets)
        self._met: set[str] = set()
        self._count = 0
        # the task that serves a call drives its exchanges one after the other
        self._exchanges: WeakKeyDictionary[asyncio.Task[object], _Exchange] = WeakKeyDictionary()
        self._calls: WeakKeyDictionary[asyncio.Task[object], str] = WeakKeyDictionary()

    # ---- Hook

    async def admit(self, call: Call) -> None:
        if (task := asyncio.current_task()) is not None:
            self._calls[task] = call.id
        kind = "stream" if call.stream else "whole"
        self._say(f"{call.id} from {call.key.name!r}: {call.surface} {call.model!r}, {kind}, {len(call.body)} bytes")

    def failed(self, call: Call, to: Deployment, failure: Failure) -> None:
        self._say(f"{call.id} attempt at {to.id} failed: {failure.kind}: {failure.message}")

    def ended(self, records: Sequence[Record]) -> None:
        for record in records:
            error = f" {record.error_code}" if record.error_code else ""
            self._say(f"{record.id} ended: {record.status}{error}, {record.duration_ms:g} ms")

    # ---- Tap

    def sent(self, to: Deployment, request: WireRequest) -> None:
        self._learn(to, request.url)
        self._count += 1
        exchange = _Exchange(self._count)
        call = ""
        if (task := asyncio.current_task()) is not None:
            call = self._calls.get(task, "")
            if (before := self._exchanges.get(task)) is not None:
                self._rest(before)
            else:
                task.add_done_callback(self._done)
            self._exchanges[task] = exchange
        line = f"#{exchange.number} > {to.id} {request.method} {_shown(request.url)} {call}"
        self._say(line.rstrip(), _lines(request.headers))
        self._body(exchange, request.body)
        exchange.left = MOST

    def answered(self, to: Deployment, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        exchange = self._exchange()
        pairs = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers]
        kind = dict(pairs).get("content-type", "")
        exchange.whole = status >= 400 or ("json" in kind and "ndjson" not in kind)
        self._say(f"#{exchange.number} < {to.id} {status}", _lines(pairs))

    def received(self, to: Deployment, data: bytes) -> None:
        exchange = self._exchange()
        lines, end, rest = (exchange.rest + data).rpartition(b"\n")
        exchange.rest = rest
        self._body(exchange, lines + end)
        if exchange.whole or len(rest) > MOST:
            self._rest(exchange)

    # ----

    def _exchange(self) -> _Exchange:
        task = asyncio.current_task()
        found = None if task is None else self._exchanges.get(task)
        return found or _Exchange(0)

    def _done(self, task: asyncio.Task[object]) -> None:
        if (exchange := self._exchanges.pop(task, None)) is not None:
            self._rest(exchange)

    def _rest(self, exchange: _Exchange) -> None:
        rest, exchange.rest = exchange.rest, b""
        self._body(exchange, rest)

    def _body(self, exchange: _Exchange, data: bytes) -> None:
        if not data or not exchange.left:
            return
        text = _BASE64.sub(_shortened, data).decode("utf-8", "replace")
        text = self._known.hide(text[: exchange.left + self._known.longest])  # no half of a secret at the cut
        more = "" if len(text) <= exchange.left else " ... (the rest is not shown)"
        shown = text[: exchange.left]
        exchange.left -= len(shown) if not more else exchange.left
        self._say(f"#{exchange.number}", f"{shown}{more}".splitlines(), known=True)

    def _say(self, line: str, more: Iterable[str] = (), known: bool = False) -> None:
        hide = str if known else self._known.hide
        lines = [printable(hide(line)), *(f"    {printable(hide(one))}" for one in more)]
        self._write("".join(f"{one}\n" for one in lines).encode("utf-8", "backslashreplace"))

    def _learn(self, to: Deployment, url: str) -> None:
        if to.id in self._met and url in self._met:
            return
        self._met |= {to.id, url}
        self._secrets.update(secrets_to(to, url))
        self._known = Known(self._secrets)


def wire_log(fd: int, secrets: Iterable[str]) -> WireLog:
    """On a descriptor; it never waits for who reads it."""
    note = "{} lines of the debug log were dropped: they were not read in time\n"
    return WireLog(Output(fd, lambda count: note.format(count).encode()).put, secrets)


def _lines(headers: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{name}: {value if harmless(name) else '…'}" for name, value in headers]


def _shown(url: str) -> str:
    """A URL without what may be secret: userinfo and the values of its query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")
    netloc = f"…@{host[2]}" if host[1] else host[2]
    names = "&".join(f"{pair.partition('=')[0]}=…" for pair in parts.query.split("&")) if parts.query else ""
    return f"{parts.scheme}://{netloc}{parts.path}{f'?{names}' if names else ''}"


def _shortened(found: re.Match[bytes]) -> bytes:
    return b"%b...(%d bytes)" % (found[0][:4], len(found[0]))  # no more than of a masked secret: it may be one

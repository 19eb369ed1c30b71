"""A line on stdout for each request: for people, or as JSON, which is the journal's own line."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from polymux.hooks.base import Hook
from polymux.hooks.output import Output
from polymux.types import Record
from polymux.wire.printable import printable

LONGEST: Final = 80  # characters of a name
_RED, _YELLOW, _GREEN, _PLAIN = "\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[0m"

_encode = msgspec.json.Encoder().encode_lines


class RequestLog(Hook):
    """The journal echoes its lines here (`wrote`); records that no journal keeps come as a hook's do (`ended`)."""

    def __init__(self, output: Output, line: Callable[[Record], str] | None = None) -> None:
        """`line`: makes a record readable; without it, lines are JSON."""
        self._put = output.put
        self._line = line

    def wrote(self, records: Sequence[Record], lines: bytes) -> None:
        """`lines`: the records as JSON."""
        if self._line is not None:
            lines = "".join([f"{self._line(record)}\n" for record in records]).encode("utf-8", "backslashreplace")
        self._put(lines)

    def ended(self, records: Sequence[Record]) -> None:
        self.wrote(records, b"" if self._line else _encode(records))


def request_log(form: str, fd: int, env: Mapping[str, str]) -> RequestLog | None:
    """What `server.log` asks for: auto, text, json or off."""
    if form == "off":
        return None
    terminal = os.isatty(fd)
    if form == "json" or (form == "auto" and not terminal):
        return RequestLog(Output(fd, lambda count: _encode([{"dropped_lines": count}])))
    colour = terminal and not env.get("NO_COLOR") and env.get("TERM") != "dumb"
    output = Output(fd, lambda count: f"{count} lines of the log were dropped: they were not read in time\n".encode())
    return RequestLog(output, coloured if colour else text)


def text(record: Record) -> str:
    """`12:34:56 200 smart -> openai/gpt-4o 12+34 tokens 1.23s (0.35s to first) 2 attempts key "team a" req_...`."""
    parts = [time.strftime("%H:%M:%S", time.localtime(record.at)), str(record.status)]
    parts.append(plain(record.model or record.surface))
    if record.provider:
        parts.append(f"\u2192 {plain(f'{record.provider}/{record.upstream_model}')}")
    if record.usage_source != "none":
        parts.append(f"{record.input_tokens}+{record.output_tokens} tokens")
    if record.key_id:  # else it was refused before anything took time
        parts.append(f"{record.duration_ms / 1000:.3g}s")
    if record.stream and record.first_token_ms is not None:
        parts.append(f"({record.first_token_ms / 1000:.3g}s to first)")
    if record.attempts > 1:
        parts.append(f"{record.attempts} attempts")
    if record.error_code:
        parts.append(plain(record.error_code))
    if record.key_name:
        parts.append(f"[{plain(record.key_name)}]")
    return " ".join([*parts, record.id])


def coloured(record: Record) -> str:
    """The same with the status in colour."""
    colour = _GREEN if record.status < 400 else _YELLOW if record.status < 500 else _RED
    status = str(record.status)
    return text(record).replace(f" {status} ", f" {colour}{status}{_PLAIN} ", 1)


def plain(name: str) -> str:
    """A name that others chose, on one line and of bounded length; what does not print is escaped."""
    return printable(name if len(name) <= LONGEST else f"{name[:LONGEST]}...")

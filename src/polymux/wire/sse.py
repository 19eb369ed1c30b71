"""Server-sent events: bytes in, (event name, data) pairs out, wherever the network cuts.

Source: WHATWG HTML, "Server-sent events", event stream interpretation. Accepts LF, CRLF and CR line ends, also mixed
and split between reads; several `data:` lines are joined by LF; comments, ids, retry hints and events without data
give nothing.
"""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"


class Decoder:
    """State between two reads of one stream: the unfinished event and whether a CR was the last byte seen."""

    __slots__ = ("_rest", "_skip_lf", "_started")

    def __init__(self) -> None:
        self._rest = b""
        self._skip_lf = False
        self._started = False

    @property
    def pending(self) -> bool:
        """Something of the last read is held: the next bytes are not the start of an event."""
        return bool(self._rest) or self._skip_lf

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """The events that `data` completes. The name is "" where the stream gives none."""
        if self._skip_lf or b"\r" in data:
            data = self._normalise(data)
        if self._rest:
            data = self._rest + data
        blocks = data.split(b"\n\n")
        self._rest = blocks.pop()
        if not self._started:
            if not blocks:
                return []
            self._started = True
            blocks[0] = blocks[0].removeprefix(_BOM)
        events = []
        for block in blocks:
            if block.startswith(b"data: ") and b"\n" not in block:  # what nearly every event looks like
                if len(block) > 6:
                    events.append(("", block[6:]))
            elif event := _parse(block):
                events.append(event)
        return events

    def close(self) -> list[tuple[str, bytes]]:
        """The stream has ended: an event that lacks only its blank line still counts."""
        rest, self._rest = self._rest, b""
        if not self._started:
            rest = rest.removeprefix(_BOM)
        event = _parse(rest)
        return [event] if event else []

    def _normalise(self, data: bytes) -> bytes:
        """Line ends to LF. A final CR ends its line at once; an LF that follows in the next read is part of it."""
        if not data:
            return data
        if self._skip_lf:
            data = data.removeprefix(b"\n")
        self._skip_lf = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _parse(block: bytes) -> tuple[str, bytes] | None:
    name, data = "", []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ").decode("utf-8", "replace")
    joined = b"\n".join(data)
    return (name, joined) if joined else None


def encode(data: bytes) -> bytes:
    """One event without a name. `data` with line ends becomes several `data:` lines."""
    if b"\n" in data:
        data = data.replace(b"\n", b"\ndata: ")
    return b"data: %b\n\n" % data

"""Server-sent events: bytes in, (event name, data) pairs out, wherever the network cuts.

Source: WHATWG HTML, "Server-sent events", event stream interpretation. Accepts LF, CRLF and CR line ends, also mixed
and split between reads; several `data:` lines are joined by LF; comments, ids, retry hints and events without data
give nothing.
"""

from __future__ import annotations

from typing import Final

MAX: Final = 32 * 1024 * 1024  # bytes of an event that has not ended
PIECE: Final = 64  # bytes that a piece of it costs beside its own
_BOM: Final = b"\xef\xbb\xbf"


class TooLong(ValueError):
    """An event has grown beyond `MAX` without an end: it is no event, and is not held any longer."""

    def __init__(self) -> None:
        super().__init__(f"an event of its stream exceeds {MAX // 2**20} MiB")


class Decoder:
    """State between two reads of one stream: the unfinished event and whether a CR was the last byte seen."""

    __slots__ = ("_held", "_size", "_skip_lf", "_started")

    def __init__(self) -> None:
        self._held: list[bytes] = []  # the unfinished event, in the pieces it came in
        self._size = 0  # of them
        self._skip_lf = False
        self._started = False

    @property
    def pending(self) -> bool:
        """Something of the last read is held: the next bytes are not the start of an event."""
        return bool(self._held) or self._skip_lf

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """The events that `data` completes. The name is "" where the stream gives none. Raises `TooLong`."""
        if self._skip_lf or b"\r" in data:
            data = self._normalise(data)
        if self._held:
            if b"\n\n" not in data and not (data.startswith(b"\n") and self._held[-1].endswith(b"\n")):
                self._hold(data)  # pieces are joined once, however many there are
                return []
            data = b"".join([*self._held, data])
            self._held.clear()
            self._size = 0
        blocks = data.split(b"\n\n")
        if rest := blocks.pop():
            self._hold(rest)
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
        rest = b"".join(self._held)
        self._held.clear()
        if not self._started:
            rest = rest.removeprefix(_BOM)
        event = _parse(rest)
        return [event] if event else []

    def _hold(self, piece: bytes) -> None:
        if not piece:
            return
        self._held.append(piece)
        self._size += len(piece) + PIECE
        if self._size > MAX:
            self._held.clear()
            raise TooLong

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

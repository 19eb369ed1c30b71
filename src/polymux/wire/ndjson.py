"""Newline-delimited JSON: bytes in, lines out, wherever the network cuts. Each is an event without a name.

Source: the ndjson specification (lines end by LF, a CR before it is part of the end, empty lines mean nothing).
"""

from __future__ import annotations

from polymux.wire.sse import MAX, PIECE, TooLong


class Decoder:
    """State between two reads of one stream: the unfinished line. Used as `sse.Decoder` is."""

    __slots__ = ("_held", "_size")

    def __init__(self) -> None:
        self._held: list[bytes] = []  # the unfinished line, in the pieces it came in
        self._size = 0

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """The lines that `data` completes, without their ends. Raises `TooLong`."""
        first, *rest = data.split(b"\n")
        if not rest:
            self._hold(first)
            return []
        lines = [b"".join([*self._held, first]), *rest]  # pieces are joined once, however many there are
        self._held.clear()
        self._size = 0
        self._hold(lines.pop())
        return [("", text) for line in lines if (text := line.removesuffix(b"\r"))]

    def close(self) -> list[tuple[str, bytes]]:
        """The stream has ended: a last line that lacks its end still counts."""
        line = b"".join(self._held).removesuffix(b"\r")
        self._held.clear()
        return [("", line)] if line else []

    def _hold(self, piece: bytes) -> None:
        if not piece:
            return
        self._held.append(piece)
        self._size += len(piece) + PIECE
        if self._size > MAX:
            self._held.clear()
            raise TooLong

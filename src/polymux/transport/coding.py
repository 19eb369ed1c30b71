"""Compressed answers (RFC 9110 §8.4.1; RFC 1950, 1951, 1952): read as they come, in pieces of bounded size."""

from __future__ import annotations

import zlib

from polymux.errors import Failure, Truncated

PIECE = 256 * 1024  # the most bytes that are decoded at once
GZIP, ZLIB, RAW = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


def decoder(codings: str) -> Decoder | None:
    """What reads a body with this `content-encoding`; None when it is as it is. Raises `Failure` in words."""
    given = [name for coding in codings.lower().split(",") if (name := coding.strip()) not in ("", "identity")]
    if not given:
        return None
    if given in (["gzip"], ["x-gzip"]):
        return Decoder(GZIP)
    if given == ["deflate"]:
        return Decoder(0)
    text = f"the upstream's answer is encoded as {', '.join(given)[:40]!r}, which was not asked for"
    raise Failure("upstream_unavailable", text)


class Decoder:
    """Takes what arrives and gives it back decoded, a piece at a time.

    bits: `GZIP`, or 0 for `deflate`: zlib's format by the book, the bare stream from some servers.
    """

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._rest = b""  # not yet decoded
        self._stream = zlib.decompressobj(bits) if bits else None
        self._begun = False  # a member that has not ended

    def push(self, data: bytes) -> None:
        self._rest += data

    def pull(self) -> bytes:
        """Decoded bytes, at most `PIECE`; b"" when more input is needed. Raises `Failure`."""
        while self._rest or self._begun:
            if self._stream is None:
                if len(self._rest) < 2:
                    break
                self._bits = ZLIB if _is_zlib(self._rest) else RAW
                self._stream = zlib.decompressobj(self._bits)
            elif self._stream.eof:
                if self._bits != GZIP:
                    raise _corrupt()
                self._stream = zlib.decompressobj(self._bits)  # the next member
            try:
                data = self._stream.decompress(self._rest, PIECE)
            except zlib.error:
                raise _corrupt() from None
            self._begun = not self._stream.eof
            self._rest = self._stream.unused_data or self._stream.unconsumed_tail
            if data or (self._begun and not self._rest):
                return data
        return b""

    def close(self) -> None:
        """Nothing more comes. Raises `Truncated` when the end is missing. No bytes at all are an empty body."""
        if self._begun or self._rest:
            raise Truncated


def _is_zlib(data: bytes) -> bool:
    return data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0


def _corrupt() -> Failure:
    return Failure("upstream_unavailable", "the upstream's answer is compressed and cannot be read")

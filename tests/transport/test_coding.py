"""Compressed answers."""

from __future__ import annotations

import contextlib
import gzip
import zlib
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymux.errors import Failure, Truncated
from polymux.transport.coding import PIECE, decoder
from polymux.transport.coding import Decoder as Decoding

TEXT: Final = ("data: 世界 " * 500).encode()


def raw(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def members(data: bytes) -> bytes:
    return gzip.compress(data[:9], mtime=0) + gzip.compress(b"") + gzip.compress(data[9:])


WAYS: Final[dict[str, tuple[str, Callable[[bytes], bytes]]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": (" X-GZip ", gzip.compress),
    "members": ("gzip, identity", members),
    "deflate": ("deflate", zlib.compress),
    "raw": ("Deflate", raw),
}


def decoding(coding: str) -> Decoding:
    made = decoder(coding)
    assert made is not None
    return made


def decode(coding: str, *pieces: bytes) -> bytes:
    reading, out = decoding(coding), b""
    for piece in pieces:
        reading.push(piece)
        while data := reading.pull():
            assert len(data) <= PIECE
            out += data
    reading.close()
    return out


@pytest.mark.parametrize("way", WAYS)
@given(st.integers(min_value=1, max_value=400))
def test_at_any_cut(way: str, size: int) -> None:
    coding, pack = WAYS[way]
    wire = pack(TEXT)
    assert decode(coding, *(wire[at : at + size] for at in range(0, len(wire), size))) == TEXT


@pytest.mark.parametrize("way", WAYS)
def test_cut_short_is_truncated(way: str) -> None:
    coding, pack = WAYS[way]
    wire = pack(TEXT)
    for end in range(1, len(wire)):
        if way == "members" and end in (
            len(gzip.compress(TEXT[:9], mtime=0)),
            len(gzip.compress(TEXT[:9], mtime=0) + gzip.compress(b"")),
        ):
            continue  # a whole member has no sign that another follows
        with pytest.raises(Truncated):
            decode(coding, wire[:end])


@pytest.mark.parametrize("way", WAYS)
def test_no_body_is_an_empty_one(way: str) -> None:
    assert decode(WAYS[way][0]) == b""
    assert decode(WAYS[way][0], WAYS[way][1](b"")) == b""


@pytest.mark.parametrize("way", WAYS)
def test_a_bomb_comes_in_bounded_pieces(way: str) -> None:
    coding, pack = WAYS[way]
    reading = decoding(coding)
    reading.push(pack(bytes(50 * 1024 * 1024)))
    for _ in range(10):
        assert 0 < len(reading.pull()) <= PIECE


@pytest.mark.parametrize(
    ("coding", "wire"),
    [
        ("gzip", b"not gzip"),
        ("gzip", gzip.compress(TEXT, mtime=0) + b"surplus"),
        ("gzip", gzip.compress(TEXT, mtime=0)[:-8] + bytes(8)),
        ("deflate", b"\xff\xff\xff"),
        ("deflate", zlib.compress(TEXT) + b"surplus"),
        ("deflate", raw(TEXT) + b"surplus"),
        ("deflate", zlib.compress(TEXT)[:-4] + bytes(4)),
    ],
)
def test_what_cannot_be_read_is_told_in_words(coding: str, wire: bytes) -> None:
    with pytest.raises(Failure, match="compressed and cannot be read"):
        decode(coding, wire)


@pytest.mark.parametrize("coding", ["", "identity", " Identity , ", ","])
def test_nothing_to_decode(coding: str) -> None:
    assert decoder(coding) is None


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "deflate, gzip", "gzip;q=1", "x" * 9999])
def test_an_unknown_encoding_is_told_in_words(coding: str) -> None:
    with pytest.raises(Failure, match=r"^the upstream's answer is encoded as '.{2,40}', which was not") as caught:
        decoder(coding)
    assert caught.value.kind == "upstream_unavailable"


@given(st.sampled_from(["gzip", "deflate"]), st.lists(st.binary(max_size=60), max_size=9), st.data())
def test_rubbish_has_no_other_end(coding: str, pieces: list[bytes], data: st.DataObject) -> None:
    if data.draw(st.booleans()):  # something that begins well
        pieces.insert(0, (gzip.compress if coding == "gzip" else zlib.compress)(TEXT)[: data.draw(st.integers(0, 90))])
    with contextlib.suppress(Failure, Truncated):
        decode(coding, *pieces)

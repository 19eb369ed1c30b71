"""Lines of JSON, however the network cuts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymux.wire import ndjson, sse

LINES = b'{"a":1}\n{"b":"\xe5\x96\xb5"}\r\n\n{"c":3}'
EVENTS = [("", b'{"a":1}'), ("", b'{"b":"\xe5\x96\xb5"}'), ("", b'{"c":3}')]


def decoded(*pieces: bytes) -> list[tuple[str, bytes]]:
    decoder = ndjson.Decoder()
    return [event for piece in pieces for event in decoder.feed(piece)] + decoder.close()


@pytest.mark.parametrize("cut", range(len(LINES) + 1))
def test_cuts_change_nothing(cut: int) -> None:
    assert decoded(LINES[:cut], LINES[cut:]) == EVENTS


def test_byte_by_byte() -> None:
    assert decoded(*(LINES[n : n + 1] for n in range(len(LINES)))) == EVENTS


@given(st.lists(st.binary(max_size=20), max_size=20))
def test_any_bytes_are_the_lines_that_they_hold(pieces: list[bytes]) -> None:
    lines = (line.removesuffix(b"\r") for line in b"".join(pieces).split(b"\n"))
    assert [data for _, data in decoded(*pieces)] == [line for line in lines if line]


def test_a_line_comes_as_soon_as_it_has_ended() -> None:
    decoder = ndjson.Decoder()
    assert decoder.feed(b'{"a"') == []
    assert decoder.feed(b":1}\n{") == [("", b'{"a":1}')]


def test_a_line_without_end_is_not_held_for_ever() -> None:
    decoder = ndjson.Decoder()
    for _ in range(sse.MAX // 2**20 - 1):
        decoder.feed(b"x" * 2**20)
    with pytest.raises(sse.TooLong):
        decoder.feed(b"x" * 2**20)

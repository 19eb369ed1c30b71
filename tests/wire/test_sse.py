"""The decoder against a slow reading of the standard, and at every cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymux.wire import sse
from polymux.wire.sse import Decoder, TooLong, encode

STEADY = settings(derandomize=True, deadline=None, max_examples=500)
Event = tuple[str, bytes]


def decode(*pieces: bytes) -> list[Event]:
    decoder = Decoder()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.close()


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[n : n + 1] for n in range(len(data))]


def oracle(data: bytes) -> list[Event]:
    """The standard, line by line. Ours alone: the body's end ends an event, an event without data is left out."""
    lines = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    events, name, held = [], "", []
    for line in [*lines, b""]:
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            if joined := b"\n".join(held):
                events.append((name, joined))
            name, held = "", []
        elif field == b"data":
            held.append(value)
        elif field == b"event":
            name = value.decode("utf-8", "replace")
    return events


CASES = {
    "plain": (b"data: a\n\ndata: b\n\n", [("", b"a"), ("", b"b")]),
    "no space": (b"data:a\n\n", [("", b"a")]),
    "one space only is framing": (b"data:  a \n\n", [("", b" a ")]),
    "named": (b"event: ping\ndata: {}\n\n", [("ping", b"{}")]),
    "the name does not outlive its event": (b"event: x\ndata: 1\n\ndata: 2\n\n", [("x", b"1"), ("", b"2")]),
    "the last name counts": (b"event: x\nevent: y\ndata: 1\n\n", [("y", b"1")]),
    "several data lines": (b"data: {\ndata: }\n\n", [("", b"{\n}")]),
    "data without a colon is an empty line": (b"data\ndata: x\n\n", [("", b"\nx")]),
    "a comment before, inside and alone": (b": hi\n\n: hi\ndata: 1\n:\ndata: 2\n\n", [("", b"1\n2")]),
    "id and retry are not looked at": (b"id: 7\nretry: 5\ndata: 1\n\n", [("", b"1")]),
    "a name without data": (b"event: ping\n\ndata: 1\n\n", [("", b"1")]),
    "empty data": (b"data:\n\ndata: \n\ndata: 1\n\n", [("", b"1")]),
    "an unknown field, and one that begins like data": (b"x: 1\ndata2: 2\ndat: 3\ndata: 4\n\n", [("", b"4")]),
    "a colon inside data": (b"data: a: b\n\n", [("", b"a: b")]),
    "more blank lines than needed": (b"\n\n\ndata: 1\n\n\n\n\ndata: 2\n\n\n", [("", b"1"), ("", b"2")]),
    "CRLF": (b"data: 1\r\n\r\ndata: 2\r\n\r\n", [("", b"1"), ("", b"2")]),
    "CR": (b"data: 1\r\rdata: 2\r\r", [("", b"1"), ("", b"2")]),
    "mixed line ends": (b"data: 1\r\n\ndata: 2\n\r\ndata: 3\r\r\ndata: 4\n\r", [("", b"%d" % n) for n in range(1, 5)]),
    "a byte-order mark": (b"\xef\xbb\xbfdata: 1\n\n", [("", b"1")]),
    "a second byte-order mark is no framing": (b"\xef\xbb\xbf\xef\xbb\xbfdata: 1\n\ndata: 2\n\n", [("", b"2")]),
    "a byte-order mark, nothing more": (b"\xef\xbb\xbfdata: 1", [("", b"1")]),
    "the last blank line is missing": (b"data: 1\n\ndata: 2\n", [("", b"1"), ("", b"2")]),
    "the last line end is missing": (b"data: 1\n\ndata: 2", [("", b"1"), ("", b"2")]),
    "nothing": (b"", []),
    "a name that is no UTF-8": (b"event: \xff\ndata: \xff\n\n", [("\ufffd", b"\xff")]),
}


@pytest.mark.parametrize("name", CASES)
def test_reads_what_the_standard_says(name: str) -> None:
    data, events = CASES[name]
    assert decode(data) == oracle(data) == events
    assert decode(*byte_by_byte(data)) == events
    for cut in range(len(data)):
        assert decode(data[:cut], data[cut:]) == events, f"cut at byte {cut}"


FRAGMENTS = st.sampled_from(
    [b"data", b"data:", b"data: ", b"event: e", b"id: 1", b":", b" ", b"x", b"{}", b"\n", b"\r", b"\r\n", b"\n\n"]
)
BODIES = st.builds(
    lambda mark, parts: mark + b"".join(parts),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.lists(FRAGMENTS, max_size=30),
)


@STEADY
@given(BODIES | st.binary(), st.data())
def test_any_cut_gives_the_events_of_the_standard(body: bytes, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))  # equal cuts make empty reads
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert decode(*pieces) == oracle(body)
    assert decode(*byte_by_byte(body)) == oracle(body)


@STEADY
@given(st.lists(st.binary(min_size=1).filter(lambda text: b"\r" not in text and text.strip(b"\n"))))
def test_what_is_encoded_is_decoded(payloads: list[bytes]) -> None:
    assert decode(*map(encode, payloads)) == [("", payload) for payload in payloads]


def test_events_come_out_as_soon_as_they_are_complete() -> None:
    decoder = Decoder()
    assert decoder.feed(b"data: 1\n") == []
    assert decoder.feed(b"\ndata: 2") == [("", b"1")]
    assert decoder.feed(b"\r") == []
    assert decoder.feed(b"\r") == [("", b"2")]  # a CR alone ends the line; what may follow is not waited for


def test_pending_tells_whether_the_next_bytes_begin_an_event() -> None:
    decoder = Decoder()
    assert not decoder.pending
    for data, pending in ((b"data: 1", True), (b"\n\n", False), (b"data: 2\r\n\r", True), (b"\n", False)):
        decoder.feed(data)
        assert decoder.pending is pending, data


def test_encode_never_lets_data_end_its_event() -> None:
    assert encode(b"{}") == b"data: {}\n\n"
    assert encode(b"{\n\n}") == b"data: {\ndata: \ndata: }\n\n"


def last_fed(decoder: Decoder, piece: bytes) -> int:
    """How many bytes it took, in such pieces, until it refused."""
    try:
        for count in range(200_000):  # noqa: B007 - told in the except
            assert decoder.feed(piece) == []
    except TooLong:
        return count * len(piece)
    raise AssertionError("it took everything")


def test_an_event_without_end_is_not_held_beyond_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX", 100_000)
    for piece, least in ((b"x" * 1000, 90_000), (b"x", 1000), (b"\n:", 1000)):  # a piece costs more than its bytes
        decoder = Decoder()
        assert least < last_fed(decoder, piece) <= 100_000
        assert not decoder.pending
    assert Decoder().feed(b"data: " + b"x" * 200_000 + b"\n\n") == [("", b"x" * 200_000)]  # one that ends is read


def test_a_long_event_in_many_pieces_is_read_in_linear_time() -> None:
    """Joining at each of 400,000 reads would not come back within the life of the test run."""
    decoder = Decoder()
    assert all(not decoder.feed(piece) for piece in [b"data: ", *[b"0123456789"] * 400_000])
    assert decoder.feed(b"\n\n") == [("", b"0123456789" * 400_000)]

"""Answers cut at every byte, mutated, made of rubbish: a right reply, `Failure` or `Truncated`; nothing is left."""

from __future__ import annotations

import asyncio
import gzip
from itertools import pairwise
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymux.errors import Failure, Truncated
from polymux.types import Timeouts
from support.peer import LOOPS, PATIENCE, looped
from transport.lab import CHUNKED, NOTHING, OK, Server, deployment

BODY: Final = b'{"id":"x","choices":[]}'
PACKED: Final = gzip.compress(BODY)
ANSWERS: Final = {
    "length": b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY),
    "chunked": CHUNKED + b"%x\r\n%b\r\n%x;a=b\r\n%b\r\n0\r\nx: y\r\n\r\n" % (9, BODY[:9], len(BODY) - 9, BODY[9:]),
    "gzip": b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%b" % (len(PACKED), PACKED),
    "hints": b"HTTP/1.1 103 Early Hints\r\nlink: </>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b"
    % (len(BODY), BODY),
}
UNTIL_CLOSE: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + BODY


async def outcome(server: Server, pieces: list[bytes], stream: bool = False) -> bytes | Exception:
    """What comes of an answer that arrives in these pieces, before the upstream closes."""
    sending = server.send(deployment(timeouts=Timeouts(connect=1000.0)), stream=stream)
    peer = await server.accept()
    await peer.request()
    try:
        for piece in pieces:
            await peer.send(piece)
            await asyncio.sleep(0)
    except ConnectionError:  # we have had enough of it
        pass
    peer.close()
    try:
        reply = await sending
    except Failure as failure:
        return failure
    try:
        return b"".join([block async for block in reply]) if stream else await reply.whole()
    except (Failure, Truncated) as error:
        return error
    finally:
        server.transport.release(reply)
        await server.stats(*NOTHING)


@looped
@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("stream", [False, True])
async def test_cut_at_every_byte(name: str, stream: bool) -> None:
    wire = ANSWERS[name]
    async with Server() as server:
        for end in range(len(wire)):
            assert isinstance(await outcome(server, [wire[:end]], stream), Failure | Truncated), wire[:end]
        assert await outcome(server, [wire], stream) == BODY


@looped
async def test_cut_at_every_byte_where_the_close_is_the_end() -> None:
    """HTTP cannot tell a cut from the end here; the readers of the dialects can."""
    async with Server() as server:
        head = UNTIL_CLOSE.index(BODY)
        for end in range(len(UNTIL_CLOSE) + 1):
            came = await outcome(server, [UNTIL_CLOSE[:end]], True)
            assert isinstance(came, Failure) if end < head else came == UNTIL_CLOSE[head:end]


@looped
@pytest.mark.parametrize("name", ANSWERS)
async def test_byte_by_byte(name: str) -> None:
    async with Server() as server:
        assert await outcome(server, [bytes([byte]) for byte in ANSWERS[name]], True) == BODY


def run(loop: str, pieces: list[bytes], stream: bool) -> bytes | Exception:
    async def one() -> bytes | Exception:
        async with Server() as server:
            came = await outcome(server, pieces, stream)
            await server.round_trip()  # the next one is well
            return came

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(asyncio.wait_for(one(), PATIENCE))


def split(wire: bytes, cuts: list[int]) -> list[bytes]:
    points = sorted({0, len(wire), *(cut % (len(wire) + 1) for cut in cuts)})
    return [wire[start:end] for start, end in pairwise(points)]


CUTS: Final = st.lists(st.integers(min_value=0, max_value=999), max_size=5)
TOKENS: Final = st.sampled_from(
    (
        *(OK, b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 204 No\r\n", b"HTTP/1.0 500 X\r\n"),
        *(b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n", b"connection: close\r\n", b"upgrade: h2c\r\n"),
        *(b"content-encoding: gzip\r\n", b"content-encoding: deflate\r\n", PACKED),
        *(b"\r\n", b"\n", b"5\r\n", b"hello", b"0\r\n\r\n", b"\x00"),
    )
)


@pytest.mark.parametrize("loop", LOOPS)
@settings(deadline=None, max_examples=300)
@given(wire=st.lists(TOKENS | st.binary(max_size=9), max_size=9).map(b"".join), cuts=CUTS, stream=st.booleans())
def test_rubbish(loop: str, wire: bytes, cuts: list[int], stream: bool) -> None:
    assert isinstance(run(loop, split(wire, cuts), stream), bytes | Failure | Truncated)


@pytest.mark.parametrize("loop", LOOPS)
@settings(deadline=None, max_examples=300)
@given(
    wire=st.sampled_from(sorted(ANSWERS.values())),
    at=st.integers(min_value=0, max_value=999),
    drop=st.integers(min_value=0, max_value=3),
    more=st.binary(max_size=3),
    cuts=CUTS,
)
def test_mutations(loop: str, wire: bytes, at: int, drop: int, more: bytes, cuts: list[int]) -> None:
    at %= len(wire)
    assert isinstance(run(loop, split(wire[:at] + more + wire[at + drop :], cuts), False), bytes | Failure | Truncated)


@pytest.mark.parametrize("loop", LOOPS)
@settings(deadline=None, max_examples=50)
@given(wire=st.sampled_from(sorted(ANSWERS.values())), cuts=CUTS, stream=st.booleans())
def test_at_random_cuts(loop: str, wire: bytes, cuts: list[int], stream: bool) -> None:
    assert run(loop, split(wire, cuts), stream) == BODY

"""An answer as its reader sees it."""

from __future__ import annotations

import asyncio
import gzip
import zlib

from polymux.transport import Reply
from polymux.transport.coding import PIECE
from polymux.transport.connection import Connection
from polymux.transport.reply import HIGH_WATER
from support.peer import looped, until
from transport.lab import CHUNKED, Server, failing


@looped
async def test_blocks_come_as_they_arrive() -> None:
    async with Server() as server:
        sending = server.send(stream=True)
        peer = await server.accept()
        await peer.answer(CHUNKED)
        reply = await sending
        for piece in (b"one", b"two"):
            await peer.send(b"3\r\n%b\r\n" % piece)
            assert await anext(reply) == piece
        await peer.send(b"0\r\n\r\n")
        assert [piece async for piece in reply] == []
        server.transport.release(reply)


@looped
async def test_headers_are_found_in_any_case() -> None:
    async with Server() as server:
        sending = server.send()
        peer = await server.accept()
        await peer.answer(b"HTTP/1.1 429 Slow\r\nRetry-After: 7\r\nX-Name: \xe9\r\ncontent-length: 0\r\n\r\n")
        reply = await sending
        assert reply.status == 429
        assert reply.header(b"retry-after") == "7"
        assert reply.header(b"absent") == ""
        assert reply.header_map() == {"retry-after": "7", "x-name": "é", "content-length": "0"}


@looped
async def test_a_body_beyond_the_limit_is_refused() -> None:
    async with Server() as server:
        sending = server.send()
        peer = await server.accept()
        await peer.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello world")
        reply = await sending
        assert (await failing(reply.whole(limit=10))).message == "the upstream's answer is too large"
        server.transport.release(reply)


# ---- compressed ------------------------------------------------------------------------------------------------


def bomb(size: int) -> bytes:
    body = gzip.compress(bytes(size))
    return b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


@looped
async def test_the_limit_is_of_what_is_decoded() -> None:
    async with Server() as server:
        sending = server.send()
        peer = await server.accept()
        await peer.answer(bomb(1_000_000))
        reply = await sending
        assert len(await reply.whole(limit=1_000_000)) == 1_000_000
        server.transport.release(reply)
        sending = server.send()
        await peer.answer(bomb(1_000_001))
        reply = await sending
        assert (await failing(reply.whole(limit=1_000_000))).message == "the upstream's answer is too large"
        server.transport.release(reply)


@looped
async def test_a_bomb_comes_in_bounded_blocks() -> None:
    async with Server() as server:
        sending = server.send(stream=True)
        peer = await server.accept()
        await peer.answer(bomb(20_000_000))
        reply = await sending
        size = 0
        async for block in reply:
            assert len(block) <= PIECE
            size += len(block)
        assert size == 20_000_000
        server.transport.release(reply)


@looped
async def test_compressed_events_come_as_they_arrive() -> None:
    packer = zlib.compressobj(wbits=31)
    async with Server() as server:
        sending = server.send(stream=True)
        peer = await server.accept()
        await peer.answer(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n")
        reply = await sending
        for event in (b"data: one\n\n", b"data: two\n\n"):
            await peer.send(packer.compress(event) + packer.flush(zlib.Z_SYNC_FLUSH))
            assert await anext(reply) == event
        await peer.send(packer.flush())
        peer.close()
        assert [block async for block in reply] == []
        server.transport.release(reply)


# ---- backpressure


@looped
async def test_an_upstream_that_is_faster_than_its_reader_has_to_wait() -> None:
    size = 64 * 1024 * 1024
    async with Server() as server:
        sending = server.send(stream=True)
        peer = await server.accept()
        await peer.answer(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        reply = await sending
        writing = asyncio.create_task(peer.send(b"x" * size))
        socket_ = reply._conn._socket
        await until(lambda: not socket_.is_reading())
        assert not writing.done()
        first = await reply.block()
        assert HIGH_WATER < len(first) < 4 * HIGH_WATER
        assert socket_.is_reading()
        rest = 0
        while block := await reply.block():
            assert len(block) < 4 * HIGH_WATER
            rest += len(block)
        assert len(first) + rest == size
        await writing
        server.transport.release(reply)
        await server.round_trip(peer)


@looped
async def test_a_paused_connection_that_is_left_is_closed() -> None:
    async with Server() as server:
        sending = server.send(stream=True)
        peer = await server.accept()
        await peer.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n")
        reply = await sending
        writing = asyncio.create_task(peer.send(b"x" * 9_999_999))
        await until(lambda: not reply._conn._socket.is_reading())
        server.transport.release(reply)
        await peer.gone()
        await asyncio.wait({writing})
        assert isinstance(writing.exception(), ConnectionError | None)


def test_the_parts_stay_small() -> None:
    """What is made for each request has no dict of its own."""
    assert not hasattr(Reply(Connection.__new__(Connection), 0.0, 0.0), "__dict__")
    assert issubclass(Connection, asyncio.Protocol)

"""What comes back, byte for byte."""

from __future__ import annotations

import asyncio
import gzip
from typing import Final

import pytest

from polymux.errors import Failure, Truncated
from polymux.transport.connection import MAX_HEAD, MOST_HEADERS, PIECE
from polymux.types import Link
from support.peer import looped, until
from transport.lab import CHUNKED, NOTHING, OK, Certificates, Server, deployment

WORDS: Final = b"hello world, " * 9
GZIPPED: Final = gzip.compress(WORDS)
FRAMINGS: Final = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world", b"hello world"),
    "empty": (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b""),
    "chunked": (CHUNKED + b"5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\n\r\n", b"hello world"),
    "trailers": (CHUNKED + b"b\r\nhello world\r\n0\r\nx-sum: 1\r\n\r\n", b"hello world"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 11\r\n\r\n", b""),
    "both lines": (b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length:2\r\n\r\nok", b"ok"),
    "gzip": (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(GZIPPED) + GZIPPED,
        WORDS,
    ),
    "gzip, chunked": (
        b"HTTP/1.1 200 OK\r\ncontent-encoding: x-gzip\r\ntransfer-encoding: chunked\r\n\r\n"
        b"5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (GZIPPED[:5], len(GZIPPED) - 5, GZIPPED[5:]),
        WORDS,
    ),
    "identity": (b"HTTP/1.1 200 OK\r\ncontent-encoding: identity\r\ncontent-length: 2\r\n\r\nok", b"ok"),
    "compressed nothing": (b"HTTP/1.1 204 No Content\r\ncontent-encoding: gzip\r\n\r\n", b""),
    "early hints": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: <x>\r\n\r\n" + OK, b"ok"),
}


@looped
@pytest.mark.parametrize("name", FRAMINGS)
@pytest.mark.parametrize("size", [1, 7, 4096])
async def test_a_framed_answer_leaves_its_connection_usable(name: str, size: int) -> None:
    wire, body = FRAMINGS[name]
    async with Server() as server:
        sending = server.send()
        peer = await server.accept()
        await peer.request()
        for at in range(0, len(wire), size):
            await peer.send(wire[at : at + size])
            await asyncio.sleep(0)
        reply = await sending
        assert await reply.whole() == body
        assert await reply.block() == b""
        assert "link" not in reply.header_map()
        assert reply.complete
        server.transport.release(reply)
        await server.round_trip(peer)
        assert server.accepted == 1


@looped
@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"]
)
@pytest.mark.parametrize("body", [b"", b"hello world"])
async def test_a_body_may_end_with_its_connection(head: bytes, body: bytes) -> None:
    async with Server() as server:
        sending = server.send()
        peer = await server.accept()
        await peer.answer(head + body)
        peer.close()
        assert await (await sending).whole() == body
        await server.round_trip()
        assert server.accepted == 2


@looped
@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize(
    "wire",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello worl",
        CHUNKED,
        CHUNKED + b"5\r\nhel",
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"5\r\nhello\r\n0\r\n",
    ],
)
async def test_a_body_cut_short_is_truncated(wire: bytes, how: str) -> None:
    async with Server() as server:
        sending = server.send()
        peer = await server.accept()
        await peer.answer(wire)
        reply = await sending
        getattr(peer, how)()
        with pytest.raises(Truncated):
            await reply.whole()
        server.transport.release(reply)


@looped
@pytest.mark.parametrize("more", [OK, OK + b"rubbish", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart"])
async def test_a_second_answer_is_no_part_of_the_first(more: bytes) -> None:
    """Both come in one read."""
    async with Server() as server:
        sending = server.send()
        peer = await server.accept()
        await peer.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst" + more)
        assert await (await sending).whole() == b"first"
        await peer.gone()


@looped
async def test_a_reset_in_a_body_without_length_is_truncated() -> None:
    async with Server() as server:
        sending = server.send()
        peer = await server.accept()
        await peer.answer(b"HTTP/1.1 200 OK\r\n\r\nhello")
        reply = await sending
        assert await reply.block() == b"hello"
        peer.reset()
        with pytest.raises(Truncated):
            await reply.block()
        server.transport.release(reply)


@looped
async def test_what_came_before_the_cut_is_delivered() -> None:
    async with Server() as server:
        sending = server.send()
        peer = await server.accept()
        await peer.answer(CHUNKED + b"5\r\nhello\r\n")
        reply = await sending
        peer.close()
        await until(lambda: not reply._conn.open)
        assert await reply.block() == b"hello"
        with pytest.raises(Truncated):
            await reply.block()
        server.transport.release(reply)


@looped
@pytest.mark.parametrize(
    ("wire", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.9\r\n", "not valid HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x50", "not valid HTTP"),
        (b"HTTP/1.1 abc\r\n\r\n", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nx\x00y: z\r\n\r\n", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "unknown transfer-encoding"),
        (b"HTTP/1.1 200 OK\r\ncontent-encoding: br\r\ncontent-length: 2\r\n\r\nok", "encoded as 'br'"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * (MOST_HEADERS + 1) + b"\r\n", "too many headers"),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n", "another protocol"),
        (b"HTTP/1.1 200 OK\r\nx-filler: " + b"x" * (MAX_HEAD + 1), "headers .* too large"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_HEAD // 25 + 1), "headers .* too large"),
    ],
)
async def test_what_is_not_an_answer_is_told_in_words(wire: bytes, words: str) -> None:
    async with Server() as server:
        sending = server.send()
        peer = await server.accept()
        await peer.request()
        peer.writer.write(wire)
        with pytest.raises(Failure, match=words) as caught:
            await sending
        assert caught.value.kind == "upstream_unavailable"
        await peer.gone()


@looped
async def test_rubbish_inside_a_body_fails_it() -> None:
    async with Server() as server:
        sending = server.send()
        peer = await server.accept()
        await peer.answer(CHUNKED + b"5\r\nhello\r\nzz\r\n")
        reply = await sending
        with pytest.raises(Failure, match="not valid HTTP"):
            await reply.whole()
        await peer.gone()


@looped
@pytest.mark.parametrize(
    "more", [b"0\r\nx: " + b"x" * MAX_HEAD, b"0\r\n" + b"x: y\r\n" * MAX_HEAD, b"1;" + b"x" * 2 * MAX_HEAD]
)
async def test_trailers_and_extensions_have_an_end(more: bytes) -> None:
    async with Server() as server:
        sending = server.send()
        peer = await server.accept()
        await peer.answer(CHUNKED + b"5\r\nhello\r\n")
        reply = await sending
        assert await reply.block() == b"hello"
        for at in range(0, len(more), 1000):
            peer.writer.write(more[at : at + 1000])
        with pytest.raises(Failure, match="too large"):
            await reply.block()
        await peer.gone()


@looped
async def test_a_long_body_is_no_long_head() -> None:
    """Much that comes in one read is not taken for headers, and its connection is used again."""
    size = 8 * MAX_HEAD
    async with Server() as server:
        sending = server.send()
        peer = await server.accept()
        await peer.answer(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (size, b"x" * size))
        assert len(await (await sending).whole()) == size
        await server.round_trip(peer)


# ---- compressed ------------------------------------------------------------------------------------------------


@looped
async def test_a_compressed_body_ends_with_its_end() -> None:
    """The length is right and the data are not whole, or not data at all."""
    for body, error in ((GZIPPED[:-1], Truncated), (GZIPPED[:-8] + bytes(8), Failure)):
        async with Server() as server:
            sending = server.send()
            peer = await server.accept()
            head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body)
            await peer.answer(head + body)
            reply = await sending
            with pytest.raises(error):
                await reply.whole()
            server.transport.release(reply)


# ---- large requests, early answers -----------------------------------------------------------------------------


@looped
async def test_a_large_request_goes_out_as_the_upstream_takes_it(certificates: Certificates) -> None:
    body = bytes(range(256)) * 128 * 1024  # 32 MiB
    for trust in (None, certificates.server()):
        async with Server(trust) as server:
            sending = server.send(deployment(link=Link(certificates.ca)), body=body)
            peer = await server.accept()
            await peer.reader.readuntil(b"content-length: %d\r\n\r\n" % len(body))
            (conn,) = next(iter(server.transport._pools.values())).all
            await until(lambda: conn._choked)  # noqa: B023 - done before the loop goes on
            assert conn._socket.get_write_buffer_size() < 4 * PIECE
            assert await peer.reader.readexactly(len(body)) == body
            assert conn._rest.obj == b"", "the connection keeps the request"
            await peer.send(OK)
            reply = await sending
            assert await reply.whole() == b"ok"
            server.transport.release(reply)
            await server.round_trip(peer, deployment(link=Link(certificates.ca)))


@looped
@pytest.mark.parametrize("stays", [True, False])
async def test_an_answer_before_the_end_of_the_request(stays: bool) -> None:
    """It counts; the connection, on which the rest of the request would still have to go, does not."""
    async with Server() as server:
        sending = server.send(body=bytes(32 * 1024 * 1024))
        peer = await server.accept()
        await peer.reader.readuntil(b"\r\n\r\n")
        closing = b"" if stays else b"connection: close\r\n"
        await peer.send(b"HTTP/1.1 413 Too Large\r\n%bcontent-length: 4\r\n\r\nmuch" % closing)
        reply = await sending
        assert (reply.status, await reply.whole()) == (413, b"much")
        server.transport.release(reply)
        await server.stats(*NOTHING)
        await peer.gone()


@looped
async def test_who_leaves_a_large_request_ends_it() -> None:
    async with Server() as server:
        sending = server.send(body=bytes(32 * 1024 * 1024))
        peer = await server.accept()
        await peer.reader.readuntil(b"\r\n\r\n")
        sending.cancel()
        await server.stats(*NOTHING)
        await peer.gone()

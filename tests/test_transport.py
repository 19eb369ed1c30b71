"""The upstream transport against raw servers, byte for byte, on both event loops it runs on."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pytest
import trustme

from polymux.errors import Failure, Truncated
from polymux.transport import HIGH_WATER, IDLE, MAX_HEAD, Connection, Lost, Pool, Reply, Transport
from polymux.types import Deployment, Link, Timeouts, WireRequest
from support.peer import Listener, Peer, looped, until

OK: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
HEADERS: Final = (("authorization", "Bearer k"),)


class Server(Listener):
    """A raw upstream with a transport to it."""

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.transport = Transport()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.transport.close()
        await super().__aexit__(kind, exc, at)

    def send(self, to: Deployment | None = None, *, path: str = "/v1/x", stream: bool = False) -> asyncio.Task[Reply]:
        request = WireRequest("POST", self.url + path, HEADERS, b"{}")
        final = asyncio.get_running_loop().time() + 1000.0
        return asyncio.create_task(self.transport.send(request, to or deployment(), final, stream=stream))

    async def round_trip(self, peer: Peer | None = None, to: Deployment | None = None) -> Peer:
        """One good request, whole; on a new connection, unless a peer is given."""
        sending = self.send(to)
        peer = peer or await self.accept()
        await peer.answer(OK)
        reply = await sending
        assert await reply.whole() == b"ok"
        self.transport.release(reply)
        return peer


def deployment(**members: Any) -> Deployment:
    return Deployment(**{"id": "corp/m", "provider": "corp", "model": "m", "dialect": "openai", **members})


async def failing(work: Awaitable[Any]) -> Failure:
    with pytest.raises(Failure) as caught:
        await work
    return caught.value


# ---- what goes out ---------------------------------------------------------------------------------------------


@looped
async def test_the_bytes_of_a_request() -> None:
    async with Server() as server:
        sending = server.send(path="/v1/chat?api-version=1")
        peer = await server.accept()
        assert await peer.request() == (
            b"POST /v1/chat?api-version=1 HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nauthorization: Bearer k\r\n"
            b"content-type: application/json\r\ncontent-length: 2\r\n\r\n{}" % server.port
        )
        await peer.send(OK)
        server.transport.release(await sending)


@looped
async def test_what_is_prepared_follows_headers_and_method() -> None:
    """The head of a request is kept per deployment and URL; a changed one must not be taken for it."""
    async with Server() as server:
        peer = await server.round_trip()
        final = asyncio.get_running_loop().time() + 1000.0
        for method, headers in (("POST", (("authorization", "Bearer new"),)), ("GET", HEADERS), ("POST", HEADERS)):
            request = WireRequest(method, server.url + "/v1/x", headers, b"{}")
            sending = asyncio.create_task(server.transport.send(request, deployment(), final, stream=False))
            sent = await peer.request()
            assert sent.startswith(method.encode() + b" /v1/x ")
            assert b"authorization: %b\r\n" % headers[0][1].encode() in sent
            await peer.send(OK)
            server.transport.release(await sending)


# ---- connections -----------------------------------------------------------------------------------------------


@looped
async def test_a_connection_is_used_again() -> None:
    async with Server() as server:
        peer = await server.round_trip()
        await server.round_trip(peer)
        await server.round_trip(peer)
        assert server.accepted == 1


@looped
async def test_requests_at_once_have_connections_of_their_own() -> None:
    async with Server() as server:
        one, two = server.send(), server.send()
        for _ in range(2):
            await (await server.accept()).answer(OK)
        assert [await (await sending).whole() for sending in (one, two)] == [b"ok", b"ok"]


@looped
async def test_connections_are_shared_only_under_the_same_trust() -> None:
    async with Server() as server:
        await server.round_trip(to=deployment(link=Link()))
        await server.round_trip(to=deployment(link=Link(verify=False)))
        assert server.accepted == 2


@looped
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ],
)
async def test_an_upstream_that_wants_to_close_is_obeyed(answer: bytes) -> None:
    async with Server() as server:
        sending = server.send()
        peer = await server.accept()
        await peer.answer(answer)
        assert await (await sending).whole() == b"ok"
        await peer.gone()
        await server.round_trip()
        assert server.accepted == 2


@looped
async def test_a_connection_closed_while_idle_is_not_used() -> None:
    async with Server() as server:
        peer = await server.round_trip()
        peer.close()
        await peer.writer.wait_closed()
        await server.round_trip()
        assert server.accepted == 2


@looped
async def test_a_stale_connection_costs_one_more_request() -> None:
    """The upstream closes the idle connection at the very moment the next request is on its way."""
    async with Server() as server:
        peer = await server.round_trip()
        sending = server.send()
        first = await peer.request()
        peer.close()
        fresh = await server.accept()
        assert await fresh.request() == first
        await fresh.send(OK)
        assert await (await sending).whole() == b"ok"


@looped
async def test_the_second_connection_is_the_last() -> None:
    async with Server() as server:
        peer = await server.round_trip()
        sending = server.send()
        await peer.request()
        peer.close()
        fresh = await server.accept()
        await fresh.request()
        fresh.close()
        failure = await failing(sending)
        assert failure.kind == "upstream_unavailable"
        assert server.accepted == 2


@looped
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_fresh_connection_is_not_retried(how: str) -> None:
    async with Server() as server:
        sending = server.send()
        peer = await server.accept()
        await peer.request()
        getattr(peer, how)()
        failure = await failing(sending)
        assert isinstance(failure, Lost)
        assert str(failure) == "the upstream closed the connection before it answered"
        assert server.accepted == 1


@looped
@pytest.mark.parametrize(
    "begun", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nx: y\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"]
)
async def test_a_request_that_was_answered_in_part_is_not_sent_again(begun: bytes) -> None:
    """One byte of an answer shows that the upstream took the request."""
    async with Server() as server:
        peer = await server.round_trip()
        sending = server.send()
        await peer.answer(begun)
        peer.close()
        again = asyncio.create_task(server.accept())
        await asyncio.wait({sending, again}, return_when=asyncio.FIRST_COMPLETED)
        assert not again.done(), "the request was sent a second time"
        again.cancel()
        assert (await failing(sending)).kind == "upstream_unavailable"


@looped
async def test_a_connection_ages() -> None:
    async with Server() as server:
        loop = asyncio.get_running_loop()
        pool = Pool(("http", "127.0.0.1", server.port, Link()))
        conn = await pool.connect(5.0, loop)
        peer = await server.accept()
        pool.park(conn)
        assert pool.take(conn.since + IDLE - 0.001) is conn
        pool.park(conn)
        assert pool.take(conn.since + IDLE) is None
        await peer.gone()


@looped
async def test_what_nobody_asked_for_ends_an_idle_connection() -> None:
    async with Server() as server:
        peer = await server.round_trip()
        await peer.send(OK)
        await peer.gone()
        await server.round_trip()
        assert server.accepted == 2


@looped
@pytest.mark.parametrize(
    "more", [b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", b"HTTP/1.1 200 OK\r\nconte", b"x"]
)
async def test_a_second_answer_to_one_request_does_not_serve_the_next(more: bytes) -> None:
    """The surplus comes in the same segment as the answer."""
    async with Server() as server:
        sending = server.send()
        peer = await server.accept()
        await peer.answer(OK + more)
        await asyncio.wait({sending})  # the answer may be taken or mistrusted; the connection is not used again
        await server.round_trip()
        assert server.accepted == 2


@looped
@pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nsome"])
async def test_who_leaves_early_takes_the_connection_along(begun: bytes) -> None:
    async with Server() as server:
        sending = server.send()
        peer = await server.accept()
        await peer.request()
        if begun:
            await peer.send(begun)
            server.transport.release(await sending)
        else:
            sending.cancel()
        await peer.gone()


@looped
async def test_close_ends_all_connections() -> None:
    async with Server() as server:
        idle, sending = await server.round_trip(), server.send()
        second = server.send()
        await idle.request()
        other = await server.accept()
        await other.request()
        await server.transport.close()
        await idle.gone()
        await other.gone()
        for task in (sending, second):
            task.cancel()


# ---- framing ---------------------------------------------------------------------------------------------------

CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
FRAMINGS: Final = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world", b"hello world"),
    "empty": (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b""),
    "chunked": (CHUNKED + b"5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\n\r\n", b"hello world"),
    "trailers": (CHUNKED + b"b\r\nhello world\r\n0\r\nx-sum: 1\r\n\r\n", b"hello world"),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 11\r\n\r\n", b""),
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
@pytest.mark.parametrize(
    ("wire", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.9\r\n", "not valid HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x50", "not valid HTTP"),
        (b"HTTP/1.1 abc\r\n\r\n", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", "not valid HTTP"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "not valid HTTP"),
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
async def test_a_body_beyond_the_limit_is_refused() -> None:
    async with Server() as server:
        sending = server.send()
        peer = await server.accept()
        await peer.answer(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello world")
        reply = await sending
        assert (await failing(reply.whole(limit=10))).message == "the upstream's answer is too large"
        server.transport.release(reply)


# ---- connecting ------------------------------------------------------------------------------------------------


@looped
async def test_a_refused_connection_is_told_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    request = WireRequest("POST", f"http://127.0.0.1:{port}/", (), b"")
    final = asyncio.get_running_loop().time() + 1000.0
    failure = await failing(Transport().send(request, deployment(), final, stream=False))
    assert failure.kind == "upstream_unavailable"
    assert failure.message == f"cannot connect to 127.0.0.1:{port}: connection refused"


@looped
async def test_a_name_that_does_not_resolve_is_told_in_words() -> None:
    request = WireRequest("POST", "http://no-such-host.invalid/", (), b"")
    final = asyncio.get_running_loop().time() + 1000.0
    failure = await failing(Transport().send(request, deployment(), final, stream=False))
    assert failure.kind == "upstream_unavailable"
    assert failure.message.startswith("cannot connect to no-such-host.invalid:80: ")
    assert "errno" not in failure.message.lower()


@looped
@pytest.mark.parametrize("timeouts", [Timeouts(connect=0.0), Timeouts()])
async def test_a_connection_that_takes_too_long_is_told_in_words(timeouts: Timeouts) -> None:
    async with Server() as server:
        request = WireRequest("POST", server.url, (), b"")
        final = asyncio.get_running_loop().time() + (1000.0 if timeouts.connect == 0.0 else 0.0)
        failure = await failing(server.transport.send(request, deployment(timeouts=timeouts), final, stream=False))
        assert failure.kind == "upstream_timeout"
        assert f"no connection to 127.0.0.1:{server.port} within" in failure.message
        assert "-" not in failure.message.rpartition("within")[2], "a time is not negative"


# ---- deadlines -------------------------------------------------------------------------------------------------


@looped
@pytest.mark.parametrize(
    ("timeouts", "stream", "limit"),
    [
        (Timeouts(first_token=3.0), True, 3.0),
        (Timeouts(first_token=3.0), False, 3.0),
        (Timeouts(), True, 60.0),
        (Timeouts(total=90.0), False, 90.0),
        (Timeouts(first_token=5000.0), True, 1000.0),  # the request's own end comes first
    ],
)
async def test_a_head_that_does_not_come_in_time(timeouts: Timeouts, stream: bool, limit: float) -> None:
    async with Server() as server:
        before = asyncio.get_running_loop().time()
        sending = server.send(deployment(timeouts=timeouts), stream=stream)
        peer = await server.accept()
        await peer.request()
        after = asyncio.get_running_loop().time()
        server.transport.expire(before + limit - 0.001)
        await asyncio.sleep(0)
        assert not sending.done()
        server.transport.expire(after + limit)
        failure = await failing(sending)
        assert (failure.kind, failure.message) == ("upstream_timeout", "no content from the upstream in time")
        await peer.gone()


@looped
async def test_a_head_alone_wins_no_time() -> None:
    """Status line and headers are no content: the deadline of the first one stays."""
    async with Server() as server:
        sending = server.send(deployment(timeouts=Timeouts(first_token=3.0)), stream=True)
        peer = await server.accept()
        await peer.answer(CHUNKED)
        reply = await sending
        server.transport.expire(reply.deadline)
        assert (await failing(reply.block())).kind == "upstream_timeout"
        await peer.gone()


@looped
async def test_silence_after_the_first_content() -> None:
    async with Server() as server:
        sending = server.send(stream=True)
        peer = await server.accept()
        await peer.answer(CHUNKED + b"3\r\none\r\n")
        reply = await sending
        assert await reply.block() == b"one"
        reply.expect(5.0)
        expected = reply.deadline
        reply.deadline = 0.0
        await peer.send(b"3\r\ntwo\r\n")
        assert await reply.block() == b"two"
        assert reply.deadline >= expected  # each read wins the idle time anew
        server.transport.expire(reply.deadline)
        failure = await failing(reply.block())
        assert (failure.kind, failure.message) == ("upstream_timeout", "the upstream fell silent")
        await peer.gone()


@looped
async def test_an_upstream_told_to_wait_is_not_blamed_for_silence() -> None:
    async with Server() as server:
        sending = server.send(stream=True)
        peer = await server.accept()
        await peer.answer(CHUNKED + b"3\r\none\r\n")
        reply = await sending
        reply.expect(5.0)
        reply.hold()
        server.transport.expire(reply.final - 0.001)
        assert await reply.block() == b"one"
        server.transport.expire(reply.final)
        assert (await failing(reply.block())).kind == "upstream_timeout"


@looped
async def test_idle_time_does_not_outlast_the_request() -> None:
    async with Server() as server:
        sending = server.send(stream=True)
        peer = await server.accept()
        await peer.answer(CHUNKED)
        reply = await sending
        reply.expect(1_000_000.0)
        assert reply.deadline == reply.final
        server.transport.release(reply)


@looped
async def test_a_released_reply_has_no_deadline() -> None:
    async with Server() as server:
        peer = await server.round_trip()
        server.transport.expire(float("inf"))
        await server.round_trip(peer)


# ---- backpressure ----------------------------------------------------------------------------------------------


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


# ---- TLS -------------------------------------------------------------------------------------------------------


class Certificates:
    """Two authorities; `ours` has signed the server and a client."""

    def __init__(self, directory: Path) -> None:
        self.ours, other = trustme.CA(), trustme.CA()
        self.leaf = self.ours.issue_cert("127.0.0.1", "localhost")
        client = self.ours.issue_cert("client@example.org")
        self.ca, self.other = str(directory / "ca.pem"), str(directory / "other.pem")
        self.client_cert, self.client_key = str(directory / "client.pem"), str(directory / "client.key")
        self.ours.cert_pem.write_to_path(self.ca)
        other.cert_pem.write_to_path(self.other)
        client.cert_chain_pems[0].write_to_path(self.client_cert)
        client.private_key_pem.write_to_path(self.client_key)

    def server(self, *, mutual: bool = False, names: tuple[str, ...] = ()) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        (self.ours.issue_cert(*names) if names else self.leaf).configure_cert(context)
        if mutual:
            self.ours.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


@looped
async def test_a_private_authority(certificates: Certificates) -> None:
    async with Server(certificates.server()) as server:
        to = deployment(link=Link(ca_file=certificates.ca))
        peer = await server.round_trip(to=to)
        await server.round_trip(peer, to)
        assert server.accepted == 1


@looped
async def test_verification_can_be_switched_off(certificates: Certificates) -> None:
    async with Server(certificates.server(names=("elsewhere.example",))) as server:
        await server.round_trip(to=deployment(link=Link(verify=False)))


@looped
async def test_a_client_certificate(certificates: Certificates) -> None:
    async with Server(certificates.server(mutual=True)) as server:
        link = Link(certificates.ca, certificates.client_cert, certificates.client_key)
        await server.round_trip(to=deployment(link=link))


@looped
@pytest.mark.parametrize(
    ("trust", "names", "words"),
    [
        ("", (), "unable to get local issuer certificate|self-signed certificate"),
        ("other", (), "unable to get local issuer certificate|self-signed certificate|certificate signature failure"),
        ("ca", ("elsewhere.example",), "IP address mismatch"),
    ],
)
async def test_a_certificate_that_is_not_trusted_is_told_in_words(
    certificates: Certificates, trust: str, names: tuple[str, ...], words: str
) -> None:
    async with Server(certificates.server(names=names)) as server:
        sending = server.send(deployment(link=Link(ca_file=getattr(certificates, trust, ""))))
        with pytest.raises(Failure, match=words) as caught:
            await sending
        assert caught.value.kind == "upstream_unavailable"
        assert caught.value.message.startswith(f"TLS with 127.0.0.1:{server.port} failed: ")
        assert "_ssl.c" not in caught.value.message


@looped
async def test_tls_to_a_server_without_it_is_told_in_words() -> None:
    async with Server() as server:
        server.url = server.url.replace("http:", "https:")
        sending = server.send()
        peer = await server.accept()
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(Failure, match=f"^TLS with 127.0.0.1:{server.port} failed: ") as caught:
            await sending
        assert caught.value.kind == "upstream_unavailable"


@looped
@pytest.mark.parametrize("field", ["ca_file", "client_cert"])
async def test_a_file_that_is_no_certificate_is_not_blamed_on_the_network(tmp_path: Path, field: str) -> None:
    (tmp_path / "note.pem").write_text("not a certificate")
    async with Server() as server:
        server.url = server.url.replace("http:", "https:")
        for path in (tmp_path / "note.pem", tmp_path / "absent.pem"):
            failure = await failing(server.send(deployment(link=Link(**{field: str(path)}))))
            assert failure.kind == "upstream_unavailable"
            assert "cannot connect" not in failure.message


def test_the_parts_stay_small() -> None:
    """What is made for each request has no dict of its own."""
    assert not hasattr(Reply.__new__(Reply), "__dict__")
    assert issubclass(Connection, asyncio.Protocol)

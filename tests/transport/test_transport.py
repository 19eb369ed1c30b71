"""Sending requests: what goes out, on which connection, and until when."""

from __future__ import annotations

import asyncio

import pytest

from polymux.transport.connection import Lost
from polymux.types import Link, Timeouts, WireRequest
from support.peer import looped
from transport.lab import CHUNKED, HEADERS, OK, Server, deployment, failing


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


@looped
async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polymux.transport.MOST_PREPARED", 3)
    async with Server() as server, Server() as other:
        peer = await server.round_trip()
        other.transport = server.transport
        await (await other.round_trip()).send(b"!")  # so that it has no connection any more
        await server.stats(1, 1, 0, 0)
        for number in range(9):
            sending = server.send(path=f"/{number}")
            await peer.answer(OK)
            server.transport.release(await sending)
        assert len(server.transport._prepared) <= 3
        assert [pool.target.port for pool in server.transport._pools.values()] == [server.port]
        assert server.accepted == 1


@looped
@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/x", (("authorization", "Bearer k\r\nx-evil: 1"),)),
        ("/v1/x", (("authorization", "Bearer k\n"),)),
        ("/v1/x HTTP/1.1", HEADERS),
        ("/v1/模型", HEADERS),
    ],
)
async def test_nothing_of_a_request_ends_its_line(path: str, headers: tuple[tuple[str, str], ...]) -> None:
    async with Server() as server:
        request = WireRequest("POST", server.url + path, headers, b"{}")
        final = asyncio.get_running_loop().time() + 1000.0
        failure = await failing(server.transport.send(request, deployment(), final, stream=False))
        assert failure.kind == "upstream_unavailable"
        assert "Bearer" not in failure.message
        assert server.accepted == 0


# ---- connections


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
async def test_what_may_have_been_worked_on_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a connection is taken for staleness when it comes at once, not later."""
    monkeypatch.setattr("polymux.transport.RESEND", -1.0)  # everything comes later
    async with Server() as server:
        peer = await server.round_trip()
        sending = server.send()
        await peer.request()
        peer.close()
        assert isinstance(await failing(sending), Lost)
        assert server.accepted == 1


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


# ---- deadlines


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
async def test_the_time_for_the_first_token_holds_for_the_way_there_too() -> None:
    """Waiting for a connection and connecting are not on top of it."""
    async with Server() as server:
        link, long = Link(max_connections=1), Timeouts(connect=1000.0)
        short = Timeouts(connect=1000.0, first_token=0.05)
        first = server.send(deployment(link=link, timeouts=long))
        peer = await server.accept()
        await peer.request()
        assert (await failing(server.send(deployment(link=link, timeouts=short)))).kind == "overloaded"
        await peer.send(OK)
        server.transport.release(await first)
        server.url = f"https://127.0.0.1:{server.port}"  # nobody answers in TLS
        failure = await failing(server.send(deployment(timeouts=short)))
        assert (failure.kind, "no connection to" in failure.message) == ("upstream_timeout", True)


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
async def test_what_comes_behind_the_end_wins_no_time() -> None:
    """An upstream that goes on after the end mark must not hold its connection for as long as it likes."""
    async with Server() as server:
        sending = server.send(stream=True)
        peer = await server.accept()
        await peer.answer(CHUNKED + b"3\r\nend\r\n")
        reply = await sending
        assert await reply.block() == b"end"
        reply.finished = True
        server.transport.release(reply)
        deadline = reply.deadline
        await peer.send(b"7\r\n: ping\n\r\n")
        assert await reply.block() == b": ping\n"
        assert reply.deadline == deadline < reply.final
        server.transport.expire(deadline)
        await peer.gone()


@looped
async def test_a_released_reply_has_no_deadline() -> None:
    async with Server() as server:
        peer = await server.round_trip()
        server.transport.expire(float("inf"))
        await server.round_trip(peer)

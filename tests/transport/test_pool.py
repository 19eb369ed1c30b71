"""Connections are kept, counted and waited for."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from polymux.errors import Failure
from polymux.transport import Reply
from polymux.transport.dial import Target, dialer
from polymux.transport.pool import IDLE, Pool
from polymux.types import Deployment, Link, Timeouts
from support.peer import Peer, looped, until
from transport.lab import NOTHING, OK, Certificates, Server, deployment, failing

PATIENT = Timeouts(connect=1000.0)


def limited(most: int, timeouts: Timeouts = PATIENT) -> Deployment:
    return deployment(link=Link(max_connections=most), timeouts=timeouts)


async def finish(server: Server, sending: asyncio.Task[Reply]) -> None:
    reply = await sending
    assert await reply.whole() == b"ok"
    server.transport.release(reply)


# ---- age -------------------------------------------------------------------------------------------------------


@looped
async def test_a_connection_ages() -> None:
    async with Server() as server:
        loop = asyncio.get_running_loop()
        pool = Pool(Target("http", "127.0.0.1", server.port, Link()), dialer(loop), loop)
        conn = await pool.connect(5.0, loop.time() + 5.0)
        peer = await server.accept()
        pool.park(conn)
        assert pool.take(conn.since + IDLE - 0.001) is conn
        pool.park(conn)
        assert pool.take(conn.since + IDLE) is None
        await peer.gone()
        pool.close()


@looped
async def test_unused_connections_are_closed_without_any_request() -> None:
    async with Server() as server:
        loop = asyncio.get_running_loop()
        pool = Pool(Target("http", "127.0.0.1", server.port, Link()), dialer(loop), loop)
        old, young = [await pool.connect(5.0, loop.time() + 5.0) for _ in range(2)]
        peers = [await server.accept() for _ in range(2)]
        pool.park(old)
        pool.park(young)
        assert pool._timer is not None
        assert pool._timer.when() == pytest.approx(old.since + IDLE)
        old.since -= IDLE
        pool._timer.cancel()
        pool._sweep()  # as the timer would
        await until(lambda: pool.all == {young})
        assert pool.idle == [young]
        assert pool._timer.when() == pytest.approx(young.since + IDLE)
        young.since -= IDLE
        pool._sweep()
        assert pool._timer is None
        for peer in peers:
            await peer.gone()
        await until(lambda: pool.used == 0)


# ---- the limit ---------------------------------------------------------------------------------------------------


@looped
async def test_at_the_limit_requests_wait_their_turn() -> None:
    async with Server() as server:
        to = limited(2)
        sendings = [server.send(to, path=f"/{number}") for number in range(4)]
        peers = [await server.accept(), await server.accept()]
        await server.stats(2, 0, 0, 2)
        for number, peer in enumerate([*peers, *peers]):
            assert (await peer.request()).startswith(b"POST /%d " % number)
            await peer.send(OK)
            await finish(server, sendings[number])
        await server.stats(2, 2, 0, 0)
        assert server.accepted == 2


@looped
async def test_who_waits_gets_the_place_of_a_connection_that_ends() -> None:
    async with Server() as server:
        to = limited(1)
        first, second = server.send(to), server.send(to)
        peer = await server.accept()
        await peer.request()
        await server.stats(1, 0, 0, 1)
        peer.close()
        await failing(first)
        peer = await server.accept()
        await peer.answer(OK)
        await finish(server, second)
        await server.stats(1, 1, 0, 0)


@looped
async def test_when_as_many_wait_as_are_allowed_the_next_is_refused() -> None:
    async with Server() as server:
        to = limited(1)
        first, second = server.send(to), server.send(to)
        await server.stats(0, 0, 1, 1)
        failure = await failing(server.send(to))
        assert failure.kind == "overloaded"
        assert failure.message == (
            f"all 1 connections to 127.0.0.1:{server.port} are busy, and as many requests wait for one"
        )
        peer = await server.accept()
        for sending in (first, second):
            await peer.answer(OK)
            await finish(server, sending)


@looped
@pytest.mark.parametrize("timeouts", [Timeouts(connect=0.01), Timeouts(connect=0.01, first_token=1000.0)])
async def test_the_wait_has_an_end(timeouts: Timeouts) -> None:
    async with Server() as server:
        first = server.send(limited(1))
        peer = await server.accept()
        await peer.request()
        failure = await failing(server.send(limited(1, timeouts)))
        assert failure.kind == "overloaded"
        assert failure.message == f"all 1 connections to 127.0.0.1:{server.port} have been busy for 0.01 s"
        await peer.send(OK)
        await finish(server, first)
        await server.stats(1, 1, 0, 0)


@looped
async def test_the_limit_is_of_an_address_under_one_link() -> None:
    async with Server() as server:
        sendings = [server.send(limited(1)), server.send(limited(2))]
        for _ in sendings:
            await (await server.accept()).answer(OK)
        for sending in sendings:
            await finish(server, sending)


# ---- nothing leaks ------------------------------------------------------------------------------------------------


@looped
async def test_who_waits_may_leave() -> None:
    async with Server() as server:
        to = limited(1)
        first, second, third = [server.send(to) for _ in range(2)] + [server.send(limited(2))]
        peer, other = await server.accept(), await server.accept()
        await peer.request()
        await server.stats(2, 0, 0, 1)
        second.cancel()
        await server.stats(2, 0, 0, 0)
        for one in (peer, other):
            await one.send(OK)
        for sending in (first, third):
            await finish(server, sending)


@looped
@pytest.mark.parametrize("ended", [False, True])
async def test_who_leaves_at_its_turn_passes_it_on(ended: bool) -> None:
    """Cancelled in the very turn of the loop in which it was given a connection, or a place for one."""
    async with Server() as server:
        to = limited(2)
        loop = asyncio.get_running_loop()
        pool = Pool(Target("http", "127.0.0.1", server.port, to.link), dialer(loop), loop)
        final = loop.time() + 1000.0
        conns = [await pool.connect(5.0, final) for _ in range(2)]
        waiting = [asyncio.ensure_future(pool.connect(5.0, final)) for _ in range(2)]
        await until(lambda: len(pool.waiting) == 2)
        if ended:
            pool.forget(conns[0])
            conns[0].abort()
        else:
            pool.park(conns[0])
        waiting[0].cancel()
        given = await waiting[1]
        assert (given is conns[0]) is not ended
        assert waiting[0].cancelled()
        assert (pool.used, pool.dialing, len(pool.waiting)) == (2, 0, 0)
        pool.close()
        await until(lambda: pool.used == 0)


@looped
async def test_a_connection_that_ended_on_its_way_to_who_waited_is_not_used() -> None:
    async with Server() as server:
        to = limited(1)
        first, second = server.send(to), server.send(to)
        peer = await server.accept()
        await server.stats(1, 0, 0, 1)
        await peer.answer(OK + b"surplus")  # parked, and mistrusted in the same read
        peer = await server.accept()
        await peer.answer(OK)
        await finish(server, first)
        await finish(server, second)
        assert server.accepted == 2


@looped
async def test_a_stale_connection_at_the_limit() -> None:
    """Its place may be taken when the request is to be sent again."""
    async with Server() as server:
        to = limited(1)
        peer = await server.round_trip(to=to)
        first, second = server.send(to), server.send(to)
        await peer.request()
        await server.stats(1, 0, 0, 1)
        peer.close()
        peer = await server.accept()
        for _ in range(2):
            await peer.answer(OK)
        for sending in (first, second):
            await finish(server, sending)
        assert server.accepted == 2


@looped
@pytest.mark.parametrize("how", ["cancel", "refuse", "tls", "abort", "silence"])
async def test_no_place_is_lost(how: str, certificates: Certificates) -> None:
    secure = how in ("tls", "silence")
    async with Server(certificates.server() if how == "tls" else None) as server:
        if secure:
            server.url = f"https://127.0.0.1:{server.port}"
        elif how == "refuse":
            server.url = "http://127.0.0.1:1"
        to = limited(1, Timeouts(connect=0.05) if how == "silence" else PATIENT)
        for _ in range(3):
            sending = server.send(to, stream=True)
            if how == "cancel":
                await server.accept()
                sending.cancel()
            elif how == "abort":
                peer = await server.accept()
                await peer.answer(b"HTTP/1.1 200 OK\r\n\r\nbegun")
                server.transport.release(await sending)
            with contextlib.suppress(Failure, asyncio.CancelledError):
                await sending
            await until(lambda: server.transport.stats() == NOTHING)


@looped
async def test_a_crowd_is_served_by_a_few() -> None:
    """More requests than places, some of whose clients leave: all the others are served, and nothing is left."""
    async with Server() as server:
        to = limited(20)
        sendings = [server.send(to) for _ in range(40)]

        async def serve(peer: Peer) -> None:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                while True:
                    await peer.answer(OK)

        async def listen() -> None:
            async with asyncio.TaskGroup() as group:
                while True:
                    group.create_task(serve(await server.accept()))

        await server.stats(0, 0, 20, 20)
        for sending in sendings[::3]:
            sending.cancel()
        listening = asyncio.create_task(listen())
        for sending in sendings:
            with contextlib.suppress(asyncio.CancelledError):
                await finish(server, sending)
        assert sum(sending.cancelled() for sending in sendings) == 14
        await until(lambda: server.transport.stats()[2:] == (0, 0))
        listening.cancel()
        await asyncio.wait({listening})

"""The bounds of the server's protocol, on real sockets: sizes, time (by a clock of the test), connections, readers."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import trustme

from polymux.http.head import MAX_FIELDS, MAX_HEAD
from polymux.http.protocol import (
    BODY_PACE,
    BODY_TIME,
    CROWD,
    HEAD_TIME,
    LINGER,
    MAX_FRAMING,
    STALL_TIME,
)
from support.edge import HEALTH, KEEP_ALIVE, MAX_BODY, App, Client, Clock, chunked, connected, listening, post
from support.peer import looped, until

UPLOAD: Final = b"POST /x HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n"
CHUNKS: Final = b"POST /x HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n"


def tick(client: Client, seconds: float) -> None:
    """So much later the server looks at its connections."""
    clock = client.protocol.loop
    assert isinstance(clock, Clock)
    clock.now += seconds
    client.protocol.expire(clock.now)


# ---- sizes -----------------------------------------------------------------------------------------------------


@looped
@pytest.mark.parametrize("ended", [b"", b"\r\n\r\n"])
@pytest.mark.parametrize("step", [1 << 20, 1000])
@pytest.mark.parametrize("ahead", [b"", HEALTH])
async def test_headers_too_large(ended: bytes, step: int, ahead: bytes) -> None:
    app = App()
    request = b"GET /x HTTP/1.1\r\nhost: g\r\n"
    request += b"".join(b"x-%d: %b\r\n" % (n, b"x" * 1000) for n in range(2 * MAX_HEAD // 1000))
    request = ahead + request + b"y: " + b"y" * 200_000 + ended
    async with connected(app) as client:
        for at in range(0, len(request), step):
            await client.send(request[at : at + step])
        if ahead:
            assert (await client.answer()).status == 200
        assert (await client.answer()).status == 431
        assert await client.ended()
        assert len(app.exchanges) == bool(ahead)


@looped
async def test_headers_just_below_the_limit_and_a_large_body_are_good() -> None:
    body = b"b" * (MAX_BODY - 1)
    request = post("/x", body, "x: " + "x" * (MAX_HEAD - 100))
    async with connected(App()) as client:
        sending = asyncio.create_task(client.send(request + HEALTH))
        assert (await client.answer()).body == body
        assert (await client.answer()).body == b"ok"
        await sending


@looped
@pytest.mark.parametrize("name", ["x", "x-%d"])
@pytest.mark.parametrize(("count", "status"), [(MAX_FIELDS - 2, 200), (MAX_FIELDS, 431), (10_000, 431)])
async def test_so_many_headers(name: str, count: int, status: int) -> None:
    lines = [f"{name % n if '%' in name else name}:" for n in range(count)]
    async with connected(App()) as client:
        await client.send(post("/x", b"", *lines))
        assert (await client.answer()).status == status


@looped
async def test_a_long_request_line_is_too_large() -> None:
    async with connected(App()) as client:
        await client.send(b"GET /" + b"x" * MAX_HEAD)
        assert (await client.answer()).status == 431


@looped
@pytest.mark.parametrize("form", ["length", "chunked"])
async def test_a_client_that_is_still_sending_can_read_that_its_body_is_too_large(form: str) -> None:
    size = 8 * MAX_BODY
    sized, pieces = UPLOAD % size + b"x" * size, chunked([b"x" * 65536] * (size // 65536))
    request = sized if form == "length" else pieces
    app = App()
    async with connected(app) as client:
        await client.send(request)  # all of it: nobody resets the connection while we send
        assert (await client.answer()).status == 413
        assert [failure.kind for failure in app.failures] == ["request_too_large"]
        assert app.exchanges == []


@looped
async def test_a_body_at_the_limit_is_taken() -> None:
    for request in (post("/x", b"x" * MAX_BODY), chunked([b"x" * (MAX_BODY // 2)] * 2)):
        async with connected(App()) as client:
            sending = asyncio.create_task(client.send(request))
            assert len((await client.answer()).body) == MAX_BODY
            await sending


@looped
async def test_a_body_in_tiny_chunks_is_not_kept_in_pieces() -> None:
    async with connected(App()) as client:
        sending = asyncio.create_task(client.send(chunked([b"xy"] * 100_000)))
        await until(lambda: len(client.protocol._body) > 2)
        assert isinstance(client.protocol._body, bytearray)
        assert (await client.answer()).body == b"xy" * 100_000
        await sending


@looped
@pytest.mark.parametrize(
    "endless",
    [
        pytest.param(b"5;x", id="extension"),
        pytest.param(b"0\r\nx: y", id="trailer"),
        pytest.param(b"0", id="size"),
    ],
)
async def test_what_stands_between_chunks_is_bounded(endless: bytes) -> None:
    app = App()
    async with connected(app) as client:
        await client.send(CHUNKS + b"1\r\nx\r\n" + endless)
        await until(lambda: client.protocol._reading is not None)
        while client.protocol._reading is not None:
            assert client.protocol._framing <= MAX_FRAMING
            await client.send(endless[-1:] * 1000)
            await asyncio.sleep(0)
        assert (await client.answer()).status == 400
        assert app.exchanges == []


# ---- time ------------------------------------------------------------------------------------------------------


@looped
@pytest.mark.parametrize(
    ("begun", "seconds", "part"),
    [
        (b"GET /x HTT", HEAD_TIME, "headers"),
        (b"GET /x HTTP/1.1\r\nhost: g\r\n", HEAD_TIME, "headers"),
        (UPLOAD % 9, BODY_TIME, "body"),
        (UPLOAD % 9 + b"abc", BODY_TIME, "body"),
        (CHUNKS + b"3\r\nabc\r\n", BODY_TIME, "body"),
    ],
)
@pytest.mark.parametrize("earlier", [b"", HEALTH])
async def test_a_slow_request(begun: bytes, seconds: float, part: str, earlier: bytes) -> None:
    app = App()
    async with connected(app, clock=True) as client:
        if earlier:
            await client.send(earlier)
            await client.answer()
        await client.send(begun)
        await until(lambda: client.protocol._head_size == len(begun))
        tick(client, seconds - 0.1)
        assert app.failures == []
        tick(client, 0.1)
        assert (await client.answer()).status == 408
        assert part in app.failures[0].message
        assert await client.ended()


@looped
async def test_a_head_that_comes_byte_by_byte_wins_no_time() -> None:
    app = App()
    async with connected(app, clock=True) as client:
        for number, byte in enumerate(HEALTH[:20], 1):
            await client.send(bytes([byte]))
            await until(lambda number=number: client.protocol._head_size == number)  # type: ignore[misc]  # bound at once
            tick(client, HEAD_TIME / 20)
        assert (await client.answer()).status == 408
        assert app.exchanges == []


@looped
@pytest.mark.parametrize(("piece", "pause", "seconds"), [(1, 100.0, BODY_TIME), (10 * BODY_PACE, 9.0, None)])
async def test_a_body_has_a_pace(piece: int, pause: float, seconds: float | None) -> None:
    """A byte each hundred seconds is no body; one that keeps the pace may take as long as it needs."""
    app = App()
    number = 20
    async with connected(app, clock=True) as client:
        await client.send(UPLOAD % (piece * number))
        await until(lambda: client.protocol._reading is not None)
        spent = 0.0
        for count in range(1, number):
            await client.send(b"x" * piece)
            await until(lambda count=count: len(client.protocol._body) == count * piece)  # type: ignore[misc]  # bound at once
            tick(client, pause)
            spent += pause
            if app.failures:
                break
        if seconds is None:
            await client.send(b"x" * piece)
            assert len((await client.answer()).body) == piece * number
        else:
            assert (await client.answer()).status == 408
            assert seconds <= spent < seconds + pause


@looped
async def test_the_time_that_a_body_waits_for_another_answer_does_not_count() -> None:
    app = App()
    async with connected(app, clock=True) as client:
        await client.send(post("/later") + post("/x", b"body")[:-1])
        await until(lambda: client.protocol._reading is not None and bool(app.exchanges))
        await asyncio.sleep(0)
        tick(client, 10 * BODY_TIME)
        app.proceed.set()
        assert (await client.answer()).status == 200
        tick(client, BODY_TIME - 1)
        await client.send(b"y")
        assert (await client.answer()).body == b"body"[:-1] + b"y"


@looped
@pytest.mark.parametrize("requests", [0, 1])
async def test_an_idle_connection_is_closed_in_silence(requests: int) -> None:
    app = App()
    async with connected(app, clock=True) as client:
        for _ in range(requests):
            await client.send(HEALTH)
            await client.answer()
        tick(client, KEEP_ALIVE - 1.0)
        assert not client.protocol.transport.is_closing()
        tick(client, 1.0)
        assert await client.ended()
        assert app.failures == []


@looped
async def test_empty_lines_are_no_request() -> None:
    app = App()
    async with connected(app, clock=True) as client:
        await client.send(b"\r\n")
        await until(lambda: client.protocol._head_size == 2)
        tick(client, HEAD_TIME)
        assert await client.ended()
        assert app.failures == []


@looped
async def test_an_answer_may_take_any_time() -> None:
    app = App()
    async with connected(app, clock=True) as client:
        await client.send(post("/later"))
        await until(lambda: bool(app.exchanges))
        tick(client, 1e9)
        app.proceed.set()
        assert (await client.answer()).status == 200


@looped
async def test_a_refused_client_is_not_waited_for_without_end() -> None:
    async with connected(App(), clock=True) as client:
        await client.send(UPLOAD % (2 * MAX_BODY))
        assert (await client.answer()).status == 413
        tick(client, LINGER - 0.1)
        assert not client.protocol.transport.is_closing()
        tick(client, 0.1)
        assert client.protocol.transport.is_closing()


# ---- who does not read -----------------------------------------------------------------------------------------


@looped
@pytest.mark.parametrize("path", ["/flood", "/huge"])
@pytest.mark.parametrize("secure", [False, True])
async def test_a_client_that_never_reads_is_let_go(path: str, secure: bool) -> None:
    async with slow_reader(path, secure) as client:
        tick(client, STALL_TIME - 1.0)
        assert not client.protocol.transport.is_closing()
        tick(client, 1.0)
        await until(lambda: client.protocol.transport.is_closing())


@looped
@pytest.mark.parametrize("path", ["/flood", "/huge"])
@pytest.mark.parametrize("secure", [False, True])
async def test_a_client_that_reads_slowly_is_waited_for(path: str, secure: bool) -> None:
    async with slow_reader(path, secure) as client:
        for _ in range(5):
            tick(client, STALL_TIME - 1.0)
            assert not client.protocol.transport.is_closing()
            held = client.protocol._held()
            while client.protocol._held() == held > 0:
                assert await client.reader.read(65536)
                await asyncio.sleep(0)
            if not client.protocol._held():
                break


@looped
@pytest.mark.parametrize("secure", [False, True])
async def test_a_slow_client_gets_all_of_the_last_answer(secure: bool) -> None:
    """Not as much as TLS transports deliver in the time that they take to close."""
    async with slow_reader("/huge", secure, "connection: close") as client:
        tick(client, STALL_TIME / 2)
        size = 0
        while size < 16 << 20:
            size += len(await client.reader.read(1 << 20))
        while not client.protocol.transport.is_closing():
            tick(client, 0.1)
            await asyncio.sleep(0)
        size += len(await client.reader.read())
        assert (16 << 20) < size < (16 << 20) + 1000


@looped
async def test_who_does_not_read_is_not_served_more() -> None:
    """Each request is small and each answer large; what is not taken is not made."""
    app = App()
    async with listening(app) as edge:
        client = await edge.connect(limit=1)
        client.writer.write(post("/huge") * 50)
        await until(lambda: client.protocol.full and len(client.protocol._queue) == 49)
        await settled(client)
        assert len(app.exchanges) == 1
        read = 0
        while read < 40 << 20:
            read += len(await client.reader.read(1 << 20))
        assert len(app.exchanges) in (3, 4)


@looped
async def test_a_slow_client_stops_the_writer_and_no_more() -> None:
    app = App()
    async with connected(app) as client:
        await client.send(post("/flood"))
        await app.blocked.wait()
        assert not app.exchanges[0].done
        answer = await client.answer()
        assert app.exchanges[0].done
        assert set(answer.body) == {ord("x")}


@contextlib.asynccontextmanager
async def slow_reader(path: str, secure: bool, *lines: str) -> AsyncIterator[Client]:
    """A client that has not read any of its answer, of which the sockets have taken what they take."""
    app, authority = App(), trustme.CA()
    trust: dict[str, Any] = {"ssl": client_side(authority), "server_hostname": "g"} if secure else {}
    async with listening(app, tls=server_side(authority) if secure else None, clock=True) as edge:
        client = await edge.connect(limit=1, **trust)
        await client.send(post(path, b"", *lines))
        await until(lambda: bool(app.exchanges) and app.exchanges[0].started)
        await settled(client)
        tick(client, 1.0)
        yield client


async def settled(client: Client) -> None:
    quiet, before = 0, -1
    while quiet < 50:
        await asyncio.sleep(0)
        now = client.protocol._held()
        quiet, before = (quiet + 1, now) if now == before else (0, now)
    assert before > 0


# ---- the cap on connections ------------------------------------------------------------------------------------


@looped
async def test_the_connection_that_has_been_idle_longest_makes_room() -> None:
    app = App()
    app.max_connections = 4
    async with listening(app, clock=True) as edge:
        busy, reading, old, new = [await edge.connect() for _ in range(4)]
        await busy.send(post("/later"))
        await reading.send(b"GET /x")
        await until(lambda: bool(app.exchanges) and bool(reading.protocol._head_size))
        for client in (old, new):
            await client.send(HEALTH)
            await client.answer()
            tick(client, 1.0)
        fifth = await edge.connect()
        assert await old.ended()
        for client in (new, fifth):
            await client.send(HEALTH)
            assert (await client.answer()).status == 200
        await reading.send(HEALTH[len(b"GET /x") :].replace(b"/health", b""))
        assert (await reading.answer()).status == 200
        app.proceed.set()
        assert (await busy.answer()).body == b"late"


@looped
async def test_where_nobody_is_idle_the_last_one_is_told_that_there_is_no_room() -> None:
    app = App()
    app.max_connections = 2
    async with listening(app) as edge:
        busy = [await edge.connect() for _ in range(2)]
        for client in busy:
            await client.send(post("/stream"))
            await client.head()
        late = await edge.connect()
        await late.send(post("/x", b"body"))
        answer = await late.answer()
        assert (answer.status, answer.headers["connection"]) == (503, "close")
        assert await late.ended()
        assert [failure.kind for failure in app.failures] == ["overloaded"]
        app.proceed.set()
        for client in busy:
            assert [piece async for piece in client.chunks()] == [b"one", b"two", b"three"]
        assert len(app.exchanges) == 2
        late.writer.close()
        await until(lambda: len(edge.state.connections) == 2)
        again = await edge.connect()  # the others are idle now
        await again.send(HEALTH)
        assert (await again.answer()).status == 200


@looped
async def test_who_finds_no_room_and_asks_for_nothing_is_closed_in_silence() -> None:
    app = App()
    app.max_connections = 0
    async with listening(app, clock=True) as edge:
        client = await edge.connect()
        tick(client, LINGER)
        assert await client.ended()
        assert app.failures == []


@looped
async def test_a_crowd_is_not_even_told() -> None:
    app = App()
    app.max_connections = 0
    async with listening(app) as edge:
        for _ in range(CROWD):
            await edge.connect()
        last = await edge.connect()
        with contextlib.suppress(ConnectionError):
            assert await last.ended()
        await until(lambda: len(edge.state.connections) == CROWD)


# ---- other sockets ---------------------------------------------------------------------------------------------


def server_side(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("g").configure_cert(context)
    return context


def client_side(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@looped
async def test_the_address_of_a_client() -> None:
    app = App()
    async with connected(app) as client:
        await client.send(HEALTH)
        await client.answer()
        assert app.exchanges[0].client == "127.0.0.1"


@looped
async def test_a_unix_socket() -> None:
    app = App()
    with tempfile.TemporaryDirectory() as directory:
        async with listening(app, path=str(Path(directory, "g"))) as edge:
            client = await edge.connect(path=str(Path(directory, "g")))
            await client.send(post("/x", b"body") + HEALTH)
            assert [(await client.answer()).body for _ in range(2)] == [b"body", b"ok"]
            assert app.exchanges[0].client == ""
            await client.send(b"BAD\r\n\r\n")
            assert (await client.answer()).status == 400
            assert await client.ended()


@looped
async def test_over_tls_a_refusal_can_be_read_too() -> None:
    app = App()
    authority = trustme.CA()
    async with listening(app, tls=server_side(authority), clock=True) as edge:
        client = await edge.connect(ssl=client_side(authority), server_hostname="g")
        await client.send(HEALTH)
        assert (await client.answer()).body == b"ok"
        await client.send(UPLOAD % (8 * MAX_BODY) + bytes(8 * MAX_BODY))
        assert (await client.answer()).status == 413
        tick(client, LINGER)
        assert await client.ended()

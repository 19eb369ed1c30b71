"""The server's protocol on real sockets: limits, order, refusals, and what a client's leaving does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import uvicorn
from uvicorn.server import ServerState

from polymux.errors import Failure
from polymux.http.protocol import (
    BODY_TIME,
    HEAD_TIME,
    LINGER,
    MAX_HEAD,
    PIPELINE,
    Exchange,
    PolymuxProtocol,
)
from support.peer import looped, until
from support.raw import Answer, Head

KEEP_ALIVE: Final = 75
MAX_BODY: Final = 1 << 20
HEALTH: Final = b"GET /health HTTP/1.1\r\nhost: g\r\n\r\n"


class App:
    """Implements `Serving`. Answers `method target body` at once, or as the path says."""

    def __init__(self) -> None:
        self.max_body = MAX_BODY
        self.exchanges: list[Exchange] = []
        self.failures: list[Failure] = []
        self.proceed = asyncio.Event()
        self.cancelled: list[str] = []
        self.blocked = asyncio.Event()

    def serve(self, exchange: Exchange) -> Any:
        self.exchanges.append(exchange)
        path = exchange.target.decode().partition("?")[0]
        work: Any = getattr(self, "_" + path.strip("/"), None)
        if work is not None:
            return work(exchange)
        exchange.respond(200, b"x-target: %b\r\n" % exchange.target, exchange.body or b"ok")
        return None

    def refuse(self, exchange: Exchange, failure: Failure) -> None:
        self.failures.append(failure)
        exchange.respond(failure.status, b"content-type: application/json\r\n", b'{"error":{}}')

    async def _later(self, exchange: Exchange) -> None:
        try:
            await self.proceed.wait()
        except asyncio.CancelledError:
            self.cancelled.append("later")
            raise
        exchange.respond(200, b"", exchange.body or b"late")

    async def _stream(self, exchange: Exchange) -> None:
        exchange.start(200, b"content-type: text/event-stream\r\n")
        exchange.write(b"one")
        try:
            await self.proceed.wait()
        except asyncio.CancelledError:
            self.cancelled.append("stream")
            raise
        exchange.write(b"two")
        exchange.end(b"three")

    async def _flood(self, exchange: Exchange) -> None:
        exchange.start(200, b"")
        while not exchange.full:
            exchange.write(b"x" * 65536)
        self.blocked.set()
        await exchange.drain()
        assert not exchange.full
        exchange.end(b"")

    def _nothing(self, exchange: Exchange) -> None:
        exchange.respond(204, b"", b"")

    async def _broken(self, exchange: Exchange) -> None:
        raise ValueError("a fault of ours")


class Client:
    """The client's end, and the protocol object at the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, state: ServerState) -> None:
        self.reader, self.writer, self._state = reader, writer, state

    @property
    def protocol(self) -> PolymuxProtocol:
        (protocol,) = self._state.connections
        assert isinstance(protocol, PolymuxProtocol)
        return protocol

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Head:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = [line.partition(": ") for line in lines[1:] if line]
        assert lines[0].startswith("HTTP/1.1 "), lines[0]
        return Head(int(lines[0].split(" ")[1]), {name.lower(): value for name, _, value in pairs})

    async def answer(self, *, body: bool = True) -> Answer:
        head = await self.head()
        if not body or head.status == 204:
            return Answer(head.status, head.headers, b"")
        if "chunked" in head.headers.get("transfer-encoding", ""):
            data = b"".join([piece async for piece in self.chunks()])
        elif "content-length" in head.headers:
            data = await self.reader.readexactly(int(head.headers["content-length"]))
        else:
            data = await self.reader.read()
        return Answer(head.status, head.headers, data)

    async def chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self.reader.readline(), 16):
            yield await self.reader.readexactly(size)
            assert await self.reader.readline() == b"\r\n"
        assert await self.reader.readline() == b"\r\n"

    async def ended(self) -> bool:
        """Whether the server has closed, with nothing left to read."""
        return not await self.reader.read()


@contextlib.asynccontextmanager
async def connected(app: App) -> AsyncIterator[Client]:
    state = ServerState()
    state.default_headers = [(b"server", b"test")]
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]  # as `polymux serve` does
        lifespan="off",
        interface="asgi3",
        ws="none",
        proxy_headers=False,
        log_config=None,
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE,
    )
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: PolymuxProtocol(config, state, {}), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await until(lambda: bool(state.connections))
    try:
        yield Client(reader, writer, state)
    finally:
        writer.close()
        for protocol in list(state.connections):
            protocol.transport.abort()
        await until(lambda: not state.connections)
        server.close()
        await server.wait_closed()


def post(path: str = "/x", body: bytes = b"", *lines: str, version: str = "1.1") -> bytes:
    head = "\r\n".join([f"POST {path} HTTP/{version}", "host: g", f"content-length: {len(body)}", *lines, "", ""])
    return head.encode() + body


def chunked(pieces: list[bytes]) -> bytes:
    head = b"POST /x HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


# ---- answers ---------------------------------------------------------------------------------------------------


@looped
async def test_a_request_becomes_an_exchange() -> None:
    app = App()
    async with connected(app) as client:
        await client.send(post("/a%20b?c=d", b"body", "X-Name: Value"))
        answer = await client.answer()
    (exchange,) = app.exchanges
    assert (exchange.method, exchange.target, exchange.version) == ("POST", b"/a%20b?c=d", "1.1")
    assert exchange.headers[b"x-name"] == b"Value"
    assert exchange.body == b"body"
    assert exchange.done
    assert answer.body == b"body"
    assert answer.headers["server"] == "test"
    assert "connection" not in answer.headers


@looped
async def test_a_connection_serves_one_request_after_the_other() -> None:
    app = App()
    async with connected(app) as client:
        for path in ("/1", "/later", "/2", "/later"):
            app.proceed.set()
            await client.send(post(path, path.encode()))
            assert (await client.answer()).body == path.encode()


@looped
async def test_pipelined_requests_are_answered_in_order() -> None:
    app = App()
    async with connected(app) as client:
        await client.send(post("/later", b"1") + post("/x", b"2") + post("/later", b"3") + post("/x", b"4"))
        await until(lambda: bool(app.exchanges))
        assert [exchange.target for exchange in app.exchanges] == [b"/later"]  # the others wait their turn
        app.proceed.set()
        assert [(await client.answer()).body for _ in range(4)] == [b"1", b"2", b"3", b"4"]


@looped
async def test_more_pipelined_requests_than_are_read_ahead() -> None:
    app = App()
    number = 5 * PIPELINE
    async with connected(app) as client:
        await client.send(b"".join(post("/later", b"%d" % n) for n in range(number)))
        await until(lambda: bool(app.exchanges))
        app.proceed.set()
        assert [(await client.answer()).body for _ in range(number)] == [b"%d" % n for n in range(number)]


@looped
async def test_a_stream_is_chunked_and_comes_as_it_is_written() -> None:
    app = App()
    async with connected(app) as client:
        await client.send(post("/stream"))
        head = await client.head()
        assert head.headers["transfer-encoding"] == "chunked"
        pieces = client.chunks()
        assert await anext(pieces) == b"one"
        app.proceed.set()
        assert [piece async for piece in pieces] == [b"two", b"three"]
        await client.send(HEALTH)
        assert (await client.answer()).status == 200


@looped
async def test_http_1_0_is_not_chunked_and_closes() -> None:
    app = App()
    app.max_body = 10
    async with connected(app) as client:
        app.proceed.set()
        await client.send(post("/stream", version="1.0"))
        answer = await client.answer()
        assert "transfer-encoding" not in answer.headers
        assert answer.headers["connection"] == "close"
        assert answer.body == b"onetwothree"
        assert await client.ended()


@looped
@pytest.mark.parametrize("request_", [post("/x", b"hi", version="1.0"), post("/x", b"hi", "Connection: Close")])
async def test_a_whole_answer_and_a_close(request_: bytes) -> None:
    async with connected(App()) as client:
        await client.send(request_)
        answer = await client.answer()
        assert (answer.headers["connection"], answer.headers["content-length"], answer.body) == ("close", "2", b"hi")
        assert await client.ended()


@looped
async def test_head_has_the_length_and_no_body() -> None:
    async with connected(App()) as client:
        await client.send(b"HEAD /health HTTP/1.1\r\nhost: g\r\n\r\n" + HEALTH)
        assert (await client.answer(body=False)).headers["content-length"] == "2"
        assert (await client.answer()).body == b"ok"


@looped
async def test_204_has_neither_length_nor_body() -> None:
    async with connected(App()) as client:
        await client.send(post("/nothing") + HEALTH)
        answer = await client.answer()
        assert answer.status == 204
        assert "content-length" not in answer.headers
        assert (await client.answer()).body == b"ok"


# ---- requests --------------------------------------------------------------------------------------------------


@looped
async def test_a_body_held_back_until_100_continue() -> None:
    async with connected(App()) as client:
        request = post("/x", b"body", "Expect: 100-continue")
        await client.send(request[:-4])
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"body")
        assert (await client.answer()).body == b"body"


@looped
async def test_a_body_that_was_not_held_back_is_not_waited_for() -> None:
    """The client did not wait; its answer must be readable whether or not a 100 comes first (RFC 9110 §10.1.1)."""
    async with connected(App()) as client:
        await client.send(post("/x", b"body", "Expect: 100-continue"))
        head = await client.head()
        if head.status == 100:
            head = await client.head()
        assert head.status == 200


@looped
async def test_a_body_too_large_is_refused_instead_of_continued() -> None:
    async with connected(App()) as client:
        await client.send(b"POST /x HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: %d\r\n\r\n" % (MAX_BODY + 1))
        assert (await client.answer()).status == 413


@looped
@pytest.mark.parametrize("settings", ["HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA", "X-Other: 1"])
@pytest.mark.parametrize("cut", [0, 1, 4])
async def test_an_upgrade_that_is_offered_is_answered_as_plain_http(settings: str, cut: int) -> None:
    """Java's client offers h2c with every cleartext request, body included."""
    request = post("/x", b"body", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", settings)
    app = App()
    async with connected(app) as client:
        for piece in (request[: len(request) - cut], request[len(request) - cut :]):
            await client.send(piece)
            await asyncio.sleep(0)
        assert (await client.answer()).body == b"body"
        await client.send(HEALTH)
        assert (await client.answer()).body == b"ok"


@looped
@pytest.mark.parametrize("size", [1, 5, 65536])
async def test_a_request_in_pieces(size: int) -> None:
    for request in (post("/x", b"hello world"), chunked([b"hello", b" ", b"world"])):
        async with connected(App()) as client:
            for at in range(0, len(request), size):
                await client.send(request[at : at + size])
                await asyncio.sleep(0)
            assert (await client.answer()).body == b"hello world"


@looped
@pytest.mark.parametrize(
    "line",
    [
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"POST /x HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST /x HTTP/1.1\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nab",
        b"POST /x HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /x HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n0\r\n\r\n",
        b"POST /x HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST /x HTTP/1.1\r\ncontent-length: 1_0\r\n\r\n0123456789",
        b"POST /x HTTP/1.1\r\ncontent-length: 99999999999999999999999999\r\n\r\n",
        b"POST /x HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nx y: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: a\x00b\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_refused_in_the_envelope(line: bytes) -> None:
    app = App()
    async with connected(app) as client:
        await client.send(line)
        answer = await client.answer()
        assert answer.status == 400
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["connection"] == "close"
        assert await client.ended()
        assert app.exchanges == []
        assert [failure.kind for failure in app.failures] == ["bad_request"]


@looped
async def test_rubbish_behind_a_request_under_way_is_answered_after_it_or_not_at_all() -> None:
    """The first answer is never mixed with the refusal of the second."""
    app = App()
    async with connected(app) as client:
        await client.send(post("/stream"))
        await until(lambda: bool(app.exchanges))
        await client.send(b"\x00\x01\x02 garbage\r\n\r\n")
        read = await client.reader.read()
        assert read.count(b"HTTP/1.1 ") == 1
        await until(lambda: bool(app.cancelled))


# ---- limits ----------------------------------------------------------------------------------------------------


@looped
@pytest.mark.parametrize("ended", [b"", b"\r\n\r\n"])
@pytest.mark.parametrize("step", [1 << 20, 1000])
async def test_headers_too_large(ended: bytes, step: int) -> None:
    app = App()
    request = b"GET /x HTTP/1.1\r\n" + b"".join(b"x-%d: %b\r\n" % (n, b"x" * 1000) for n in range(MAX_HEAD // 1000))
    request += b"y: " + b"y" * 2000 + ended
    async with connected(app) as client:
        for at in range(0, len(request), step):
            await client.send(request[at : at + step])
        answer = await client.answer()
        assert answer.status == 431
        assert await client.ended()
        assert app.exchanges == []


@looped
async def test_headers_just_below_the_limit_and_a_large_body_are_good() -> None:
    body = b"b" * (MAX_BODY - 1)
    request = post("/x", body, "x: " + "x" * (MAX_HEAD - 100))
    async with connected(App()) as client:
        sending = asyncio.create_task(client.send(request))
        assert (await client.answer()).body == body
        await sending


@looped
async def test_a_long_request_line_is_too_large() -> None:
    async with connected(App()) as client:
        await client.send(b"GET /" + b"x" * MAX_HEAD)
        assert (await client.answer()).status == 431


@looped
@pytest.mark.parametrize("form", ["length", "chunked"])
async def test_a_client_that_is_still_sending_can_read_that_its_body_is_too_large(form: str) -> None:
    size = 8 * MAX_BODY
    head = b"POST /x HTTP/1.1\r\nhost: g\r\n"
    if form == "length":
        request = head + b"content-length: %d\r\n\r\n" % size + b"x" * size
    else:
        piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        request = head + b"transfer-encoding: chunked\r\n\r\n" + piece * (size // 65536) + b"0\r\n\r\n"
    app = App()
    async with connected(app) as client:
        await client.send(request)  # all of it: nobody resets the connection while we send
        answer = await client.answer()
        assert answer.status == 413
        assert [failure.kind for failure in app.failures] == ["request_too_large"]
        assert app.exchanges == []


@looped
async def test_a_refused_client_is_not_waited_for_without_end() -> None:
    async with connected(App()) as client:
        await client.send(b"POST /x HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (2 * MAX_BODY))
        assert (await client.answer()).status == 413
        protocol = client.protocol
        now = asyncio.get_running_loop().time()
        protocol.expire(now + LINGER - 1.0)
        assert not protocol.transport.is_closing()
        protocol.expire(now + LINGER)
        assert protocol.transport.is_closing()


@looped
async def test_a_body_at_the_limit_is_taken() -> None:
    for request in (post("/x", b"x" * MAX_BODY), chunked([b"x" * (MAX_BODY // 2)] * 2)):
        async with connected(App()) as client:
            sending = asyncio.create_task(client.send(request))
            assert len((await client.answer()).body) == MAX_BODY
            await sending


# ---- time ------------------------------------------------------------------------------------------------------


@looped
@pytest.mark.parametrize(
    ("begun", "seconds", "part"),
    [
        (b"GET /x HTT", HEAD_TIME, "headers"),
        (b"GET /x HTTP/1.1\r\nhost: g\r\n", HEAD_TIME, "headers"),
        (b"POST /x HTTP/1.1\r\ncontent-length: 9\r\n\r\n", BODY_TIME, "body"),
        (b"POST /x HTTP/1.1\r\ncontent-length: 9\r\n\r\nabc", BODY_TIME, "body"),
        (b"POST /x HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", BODY_TIME, "body"),
    ],
)
@pytest.mark.parametrize("earlier", [b"", HEALTH])
async def test_a_slow_request(begun: bytes, seconds: float, part: str, earlier: bytes) -> None:
    app = App()
    async with connected(app) as client:
        if earlier:
            await client.send(earlier)
            await client.answer()
        protocol = client.protocol
        before = asyncio.get_running_loop().time()
        old = protocol._deadline
        await client.send(begun)
        await until(lambda: protocol._deadline != old)
        after = asyncio.get_running_loop().time()
        protocol.expire(before + seconds - 0.1)
        assert app.failures == []
        protocol.expire(after + seconds)
        answer = await client.answer()
        assert answer.status == 408
        assert part in app.failures[0].message
        assert await client.ended()


@looped
async def test_the_rest_of_a_head_wins_no_time() -> None:
    """One byte every nine seconds is still a head that did not come in ten."""
    async with connected(App()) as client:
        protocol = client.protocol
        await client.send(b"GET /x HTT")
        await until(lambda: protocol._head_size == 10)
        deadline = protocol._deadline
        await client.send(b"P")
        await until(lambda: protocol._head_size == 11)
        assert protocol._deadline == deadline


@looped
async def test_an_idle_connection_is_closed_in_silence() -> None:
    app = App()
    async with connected(app) as client:
        await client.send(HEALTH)
        await client.answer()
        protocol = client.protocol
        now = asyncio.get_running_loop().time()
        protocol.expire(now + KEEP_ALIVE - 1.0)
        assert not protocol.transport.is_closing()
        protocol.expire(now + KEEP_ALIVE)
        assert await client.ended()
        assert app.failures == []


@looped
async def test_a_connection_without_any_request_is_closed_in_silence() -> None:
    async with connected(App()) as client:
        client.protocol.expire(asyncio.get_running_loop().time() + KEEP_ALIVE)
        assert await client.ended()


@looped
async def test_an_answer_may_take_any_time() -> None:
    app = App()
    async with connected(app) as client:
        await client.send(post("/later"))
        await until(lambda: bool(app.exchanges))
        client.protocol.expire(float("inf"))
        app.proceed.set()
        assert (await client.answer()).status == 200


# ---- leaving and ending ----------------------------------------------------------------------------------------


@looped
@pytest.mark.parametrize("path", ["/later", "/stream"])
@pytest.mark.parametrize("earlier", [0, 1, 2])
async def test_a_client_that_leaves_cancels_what_runs_for_it(path: str, earlier: int) -> None:
    app = App()
    async with connected(app) as client:
        app.proceed.set()
        for _ in range(earlier):
            await client.send(post("/later"))
            await client.answer()
        app.proceed.clear()
        await client.send(post(path))
        await until(lambda: len(app.exchanges) == earlier + 1)
        await asyncio.sleep(0)
        client.writer.transport.abort()
        await until(lambda: bool(app.cancelled))
        assert app.cancelled == [path.strip("/")]


@looped
async def test_a_client_that_ends_its_side_only_is_gone_too() -> None:
    """A half-closed connection is a client that left: no HTTP client closes its side and waits."""
    app = App()
    async with connected(app) as client:
        await client.send(post("/later"))
        await until(lambda: bool(app.exchanges))
        await asyncio.sleep(0)
        client.writer.write_eof()
        await until(lambda: bool(app.cancelled))


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


@looped
async def test_a_fault_of_ours_ends_the_connection(capsys: pytest.CaptureFixture[str]) -> None:
    async with connected(App()) as client:
        await client.send(post("/broken"))
        with contextlib.suppress(ConnectionError):
            assert await client.ended()
    assert "a fault of ours" in capsys.readouterr().err


@looped
async def test_shutdown_closes_an_idle_connection() -> None:
    async with connected(App()) as client:
        client.protocol.shutdown()
        assert await client.ended()


@looped
async def test_shutdown_lets_what_is_under_way_finish() -> None:
    app = App()
    async with connected(app) as client:
        await client.send(post("/stream") + post("/x", b"next"))
        await client.head()
        client.protocol.shutdown()
        pieces = client.chunks()
        assert await anext(pieces) == b"one"
        app.proceed.set()
        assert [piece async for piece in pieces] == [b"two", b"three"]
        # what was read before is answered or the connection ends; it does not stay open
        rest = await client.reader.read()
        assert rest == b"" or rest.endswith(b"next")


@looped
async def test_a_request_half_read_at_shutdown_does_not_hang() -> None:
    """Either it may be completed and is answered, or the connection ends at once."""
    async with connected(App()) as client:
        request = post("/x", b"body")
        await client.send(request[:-1])
        protocol = client.protocol
        await until(lambda: protocol._reading is not None)
        protocol.shutdown()
        with contextlib.suppress(ConnectionError):
            await client.send(request[-1:])
        await until(lambda: protocol.transport.is_closing())


@looped
async def test_writing_after_the_client_has_left_does_no_harm() -> None:
    app = App()
    async with connected(app) as client:
        await client.send(post("/later"))
        await until(lambda: bool(app.exchanges))
        client.writer.transport.abort()
        await until(lambda: bool(app.cancelled))
        exchange = app.exchanges[0]
        exchange.start(200, b"")
        exchange.write(b"x")
        exchange.end(b"")

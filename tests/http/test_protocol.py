"""The server's protocol on real sockets: answers, order, and what a client's leaving does."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from polymux.http.protocol import EARLY, PIPELINE, READ_AHEAD
from support.edge import HEALTH, MAX_BODY, App, chunked, connected, listening, post
from support.peer import looped, until

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


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
async def test_of_more_pipelined_requests_than_are_read_ahead_the_client_repeats_the_rest_elsewhere() -> None:
    app = App()
    async with connected(app) as client:
        await client.send(b"".join(post("/later", b"%d" % n) for n in range(2 * PIPELINE)))
        await until(lambda: bool(app.exchanges))
        app.proceed.set()
        answers = [await client.answer() for _ in range(PIPELINE + 1)]
        assert [answer.body for answer in answers] == [b"%d" % n for n in range(PIPELINE + 1)]
        assert [n for n, answer in enumerate(answers) if "connection" in answer.headers] == [PIPELINE]
        assert await client.ended()
        assert len(app.exchanges) == PIPELINE + 1


@looped
async def test_large_bodies_are_not_read_ahead() -> None:
    app = App()
    app.max_body = 2 * READ_AHEAD
    async with connected(app) as client:
        body = b"x" * (READ_AHEAD + 1)
        await client.send(post("/later", b"1"))
        sending = asyncio.create_task(client.send(post("/x", body) + post("/x", b"3")))
        await until(lambda: client.protocol._deaf)
        app.proceed.set()
        assert (await client.answer()).body == b"1"
        answer = await client.answer()
        assert (answer.headers["connection"], len(answer.body)) == ("close", len(body))
        assert await client.ended()
        await sending


@looped
@pytest.mark.parametrize("ahead", [0, 1, 3])
async def test_a_pipelined_request_that_is_refused_is_answered_last(ahead: int) -> None:
    """What came before is answered whole, what comes after is not read."""
    app = App()
    async with connected(app) as client:
        await client.send(post("/stream") + post("/x", b"ahead") * ahead + b"BAD\r\n\r\n" + post("/x", b"after"))
        await until(lambda: client.protocol._deaf)
        app.proceed.set()
        assert (await client.answer()).body == b"onetwothree"
        assert [(await client.answer()).body for _ in range(ahead)] == [b"ahead"] * ahead
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert await client.ended()
        assert len(app.exchanges) == 1 + ahead


@looped
@pytest.mark.parametrize("first", ["/x", "/later"])
async def test_what_follows_a_close_is_not_served(first: str) -> None:
    app = App()
    app.proceed.set()
    async with connected(app) as client:
        await client.send(post(first, b"1", "connection: close") + post("/x", b"2"))
        assert (await client.answer()).body == b"1"
        assert await client.ended()
        assert len(app.exchanges) == 1


@looped
async def test_a_connection_is_good_for_so_many_requests() -> None:
    app = App()
    async with connected(app) as client:
        client.protocol._left = 2
        await client.send(HEALTH)
        assert "connection" not in (await client.answer()).headers
        await client.send(HEALTH)
        assert (await client.answer()).headers["connection"] == "close"
        assert await client.ended()


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
@pytest.mark.parametrize("value", ["100-continue", "100-Continue "])
async def test_a_body_held_back_until_100_continue(value: str) -> None:
    async with connected(App()) as client:
        for _ in range(2):
            await client.send(post("/x", b"body", f"Expect: {value}")[:-4])
            assert await client.reader.readuntil(b"\r\n\r\n") == CONTINUE
            await client.send(b"body")
            assert (await client.answer()).body == b"body"


@looped
async def test_a_chunked_body_held_back_until_100_continue() -> None:
    async with connected(App()) as client:
        head, _, body = chunked([b"body"]).partition(b"\r\n\r\n")
        await client.send(head + b"\r\nexpect: 100-continue\r\n\r\n")
        assert await client.reader.readuntil(b"\r\n\r\n") == CONTINUE
        await client.send(body)
        assert (await client.answer()).body == b"body"


@looped
@pytest.mark.parametrize("first", ["/later", "/stream"])
async def test_a_body_held_back_behind_another_request_is_asked_for_in_its_turn(first: str) -> None:
    app = App()
    async with connected(app) as client:
        await client.send(post(first) + post("/x", b"body", "Expect: 100-continue")[:-4])
        await until(lambda: client.protocol._expects)
        app.proceed.set()
        assert (await client.answer()).status == 200
        assert await client.reader.readuntil(b"\r\n\r\n") == CONTINUE
        await client.send(b"body")
        assert (await client.answer()).body == b"body"


@looped
@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(post("/x", b"body", "Expect: 100-continue"), id="the body is here"),
        pytest.param(post("/x", b"", "Expect: 100-continue"), id="no body"),
        pytest.param(post("/x", b"body", "Expect: 100-continue", version="1.0"), id="HTTP/1.0"),
        pytest.param(post("/x", b"body", "Expect: tea"), id="another expectation"),
    ],
)
async def test_no_100_where_none_is_waited_for(request_: bytes) -> None:
    async with connected(App()) as client:
        await client.send(request_)
        assert (await client.answer()).status == 200


@looped
@pytest.mark.parametrize(("length", "extra", "status"), [(MAX_BODY + 1, b"", 413), (9, b"x-no-key: 1\r\n", 401)])
async def test_a_body_that_is_not_wanted_is_refused_instead_of_continued(
    length: int, extra: bytes, status: int
) -> None:
    async with connected(App()) as client:
        head = b"POST /x HTTP/1.1\r\nhost: g\r\nexpect: 100-continue\r\n%bcontent-length: %d\r\n\r\n"
        await client.send(head % (extra, length))
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        assert await client.ended()


@looped
@pytest.mark.parametrize("form", ["length", "chunked"])
async def test_who_has_no_key_need_not_send_a_large_body(form: str) -> None:
    app = App()
    async with connected(app) as client:
        request = post("/x", bytes(MAX_BODY)) if form == "length" else chunked([bytes(MAX_BODY)])
        head, _, body = request.partition(b"\r\n\r\n")
        await client.send(head + b"\r\nx-no-key: 1\r\n\r\n" + body[: EARLY + 100])
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (401, "close")
        assert app.exchanges == []


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
async def test_many_wishes_for_another_protocol_in_one_read() -> None:
    wish = post("/x", b"%04d", "Connection: Upgrade", "Upgrade: h2c")
    app = App()
    async with connected(app) as client:
        await client.send(b"".join(wish % n for n in range(1000)))
        assert [(await client.answer()).body for _ in range(1000)] == [b"%04d" % n for n in range(1000)]


@looped
async def test_a_wish_for_another_protocol_and_a_close() -> None:
    async with connected(App()) as client:
        await client.send(post("/x", b"body", "Connection: close, Upgrade", "Upgrade: h2c"))
        answer = await client.answer()
        assert (answer.body, answer.headers["connection"]) == (b"body", "close")
        assert await client.ended()


@looped
@pytest.mark.parametrize("size", [1, 5, 65536])
async def test_a_request_in_pieces(size: int) -> None:
    for request in (post("/x", b"hello world"), chunked([b"hello", b" ", b"world"])):
        async with connected(App()) as client:
            for at in range(0, len(request), size):
                await client.send(request[at : at + size])
                await asyncio.sleep(0)
            assert (await client.answer()).body == b"hello world"


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
async def test_a_fault_of_ours_in_an_answer_at_once_ends_the_connection() -> None:
    """It is reported as what it is, not as a bad request."""
    app, reported = App(), asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.set())
    async with connected(app) as client:
        await client.send(post("/fault"))
        with contextlib.suppress(ConnectionError):
            assert await client.ended()
        await reported.wait()
        assert app.failures == []


@looped
async def test_shutdown_closes_an_idle_connection() -> None:
    async with connected(App()) as client:
        client.protocol.shutdown()
        assert await client.ended()


@looped
async def test_shutdown_lets_what_is_under_way_finish() -> None:
    app = App()
    async with connected(app) as client:
        await client.send(post("/stream") + post("/later", b"next") + post("/x", b"last"))
        await client.head()
        client.protocol.shutdown()
        pieces = client.chunks()
        assert await anext(pieces) == b"one"
        app.proceed.set()
        assert [piece async for piece in pieces] == [b"two", b"three"]
        answers = [await client.answer() for _ in range(2)]
        assert [(answer.body, answer.headers.get("connection")) for answer in answers] == [
            (b"next", None),
            (b"last", "close"),
        ]
        assert await client.ended()


@looped
async def test_shutdown_tells_a_client_that_waits_for_its_answer_that_it_is_the_last() -> None:
    app = App()
    async with connected(app) as client:
        await client.send(post("/later"))
        await until(lambda: bool(app.exchanges))
        client.protocol.shutdown()
        await client.send(HEALTH)  # too late: to be repeated on another connection
        await until(lambda: client.protocol._unread)
        app.proceed.set()
        answer = await client.answer()
        assert (answer.body, answer.headers["connection"]) == (b"late", "close")
        assert await client.ended()
        assert len(app.exchanges) == 1


@looped
@pytest.mark.parametrize("cut", [1, 4, 30])
async def test_a_request_half_read_at_shutdown_is_the_last(cut: int) -> None:
    async with connected(App()) as client:
        request = post("/x", b"body")
        await client.send(request[:-cut])
        await until(lambda: bool(client.protocol._head_size))
        client.protocol.shutdown()
        await client.send(request[-cut:] + HEALTH)
        answer = await client.answer()
        assert (answer.body, answer.headers["connection"]) == (b"body", "close")
        assert await client.ended()


@looped
async def test_nobody_connects_while_the_gateway_drains() -> None:
    app = App()
    app.draining = True
    async with listening(app) as edge:
        client = await edge.connect()
        with contextlib.suppress(ConnectionError):
            await client.send(HEALTH)
            assert await client.ended()
        await until(lambda: not edge.state.connections)
        assert app.exchanges == []


@looped
@pytest.mark.parametrize(("path", "body"), [("/later", b'{"error":{}}'), ("/stream", b"onecut")])
async def test_what_does_not_finish_in_time_is_cut_in_words(path: str, body: bytes) -> None:
    app = App()
    async with connected(app) as client:
        await client.send(post(path) + HEALTH)
        await until(lambda: bool(client.protocol._queue))
        await asyncio.sleep(0)
        client.protocol.shutdown()
        client.protocol.cut()
        assert (await client.answer()).body == body
        assert await client.ended()
        await until(lambda: bool(app.cancelled))
        assert [failure.kind for failure in app.failures] == ["overloaded"]
        assert len(app.exchanges) == 1


@looped
@pytest.mark.parametrize("begun", [b"", b"GET /x", post("/x", b"body")[:-1]])
async def test_a_cut_where_nothing_is_answered(begun: bytes) -> None:
    async with connected(App()) as client:
        await client.send(begun)
        await until(lambda: client.protocol._head_size >= len(begun))
        client.protocol.cut()
        with contextlib.suppress(ConnectionError):
            assert await client.ended()


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

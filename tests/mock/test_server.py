"""Scripts as they arrive at the other end of a real connection."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from polymux.mock.scripts import Headers, Script
from polymux.mock.server import Exchange, Server
from support.peer import looped

ASK = b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


class Held(Exchange):
    """What became of it, by events."""

    def __init__(self, method: str, path: str, headers: Headers, body: bytes, connection: int) -> None:
        super().__init__(method, path, headers, body, connection)
        self.go = asyncio.Semaphore(0)
        self.blocked = asyncio.Event()
        self.over: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def permit(self) -> None:
        await self.go.acquire()

    def when_blocked(self) -> None:
        self.blocked.set()

    def when_ended(self, whole: bool) -> None:
        self.over.set_result(whole)


class Client:
    """The other end. `seen` holds the exchanges in the order they came."""

    def __init__(self, seen: list[Held], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen, self.reader, self.writer = seen, reader, writer

    async def ask(self, data: bytes = ASK) -> None:
        self.writer.write(data)
        await self.writer.drain()


@asynccontextmanager
async def playing(*scripts: Script) -> AsyncIterator[Client]:
    seen: list[Held] = []

    def script(exchange: Held) -> Script:
        seen.append(exchange)
        return scripts[min(len(seen), len(scripts)) - 1]

    listening = socket.create_server(("127.0.0.1", 0))
    end = asyncio.Event()
    running = asyncio.create_task(Server(script, Held).run(listening, end))
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    try:
        yield Client(seen, reader, writer)
    finally:
        writer.close()
        end.set()
        await running


@looped
async def test_requests_arrive_whole_on_one_connection() -> None:
    chunked = (
        b"PUT /q HTTP/1.1\r\nX-A: 1\r\nx-a: 2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    async with playing(Script(frames=(b"a", b"b"))) as client:
        await client.ask()
        assert await client.reader.readexactly(len(OK) + 23) == OK + b"content-length: 2\r\n\r\nab"
        await client.ask(chunked)
        await client.reader.readuntil(b"ab")
        first, second = client.seen
    assert (first.method, first.path, first.json, first.header("HOST")) == ("POST", "/p", {}, "h")
    assert (second.body, second.json, second.header("x-a"), second.header("x-b")) == (b"abcde", None, "1, 2", None)
    assert first.connection == second.connection == 1
    assert [await first.over, await second.over] == [True, True]


@looped
async def test_a_gate_lets_frames_out_one_by_one() -> None:
    frames = (b"one", b"two", b"three")
    async with playing(Script(framing="chunked", frames=frames, gate=True, free=1)) as client:
        await client.ask()
        assert (await client.reader.readuntil(b"one\r\n")).endswith(b"3\r\none\r\n")
        for frame in frames[1:]:
            client.seen[0].go.release()
            assert await client.reader.readuntil(frame + b"\r\n") == b"%x\r\n%b\r\n" % (len(frame), frame)
        assert await client.reader.readexactly(5) == b"0\r\n\r\n"
        assert client.seen[0].sent == 11


@looped
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (Script(start="close"), b""),
        (Script(frames=(b"abc",), end="close"), OK + b"content-length: 4\r\n\r\nabc"),
        (
            Script(framing="chunked", frames=(b"abc",), end="close"),
            OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ),
        (Script(framing="close", frames=(b"abc",)), OK + b"connection: close\r\n\r\nabc"),
        (Script(framing="raw", frames=(b"abc",)), b"abc"),
        (Script(stale=True), OK + b"content-length: 0\r\n\r\n"),
    ],
)
async def test_the_connection_ends(script: Script, expected: bytes) -> None:
    async with playing(script) as client:
        await client.ask()
        assert await client.reader.read() == expected
        assert await client.seen[0].over


@looped
@pytest.mark.parametrize("script", [Script(start="reset"), Script(frames=(b"abc",), end="reset")])
async def test_a_reset(script: Script) -> None:
    async with playing(script) as client:
        await client.ask()
        with pytest.raises(ConnectionResetError):
            await client.reader.read()


@looped
@pytest.mark.parametrize(
    "script",
    [Script(start="stall"), Script(end="stall"), Script(before=3600.0), Script(frames=(b"x",), between=3600.0)],
)
async def test_who_leaves_in_a_silence_is_noticed(script: Script) -> None:
    async with playing(script, Script()) as client:
        await client.ask()
        while not client.seen:  # noqa: ASYNC110 - the request's arrival has no event of its own
            await asyncio.sleep(0)
        client.writer.close()
        assert await client.seen[0].over is False


@looped
async def test_silences_end() -> None:
    async with playing(Script(frames=(b"ab",), before=0.001, between=0.001)) as client:
        await client.ask()
        assert (await client.reader.readuntil(b"ab")).startswith(OK)


@looped
async def test_one_byte_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    write: Callable[[asyncio.StreamWriter, bytes], None] = asyncio.StreamWriter.write

    def noted(writer: asyncio.StreamWriter, data: bytes) -> None:
        sizes.append(len(data))
        write(writer, data)

    async with playing(Script(frames=(b"abc",), bite=1)) as client:
        await client.ask()
        monkeypatch.setattr(asyncio.StreamWriter, "write", noted)
        whole = await client.reader.readuntil(b"abc")
    assert sizes == [1] * len(whole)


@looped
async def test_a_peer_that_does_not_read_is_waited_for() -> None:
    async with playing(Script(framing="close", frames=(b"x" * 65536,) * 1000)) as client:
        await client.ask()
        while not client.seen:  # noqa: ASYNC110 - the request's arrival has no event of its own
            await asyncio.sleep(0)
        await client.seen[0].blocked.wait()
        assert client.seen[0].sent < 1000 * 65536
        assert len(await client.reader.read()) > 1000 * 65536
        assert await client.seen[0].over


@looped
@pytest.mark.parametrize("data", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"GET / HTT"])
async def test_what_is_no_request_ends_the_connection(data: bytes) -> None:
    async with playing(Script()) as client:
        await client.ask(data)
        client.writer.write_eof()
        assert await client.reader.read() == b""
        assert not client.seen


def test_a_body_nested_too_deeply_is_no_json() -> None:
    assert Exchange("POST", "/", (), b"[" * 100_000, 1).json is None
    assert Exchange("POST", "/", (), b"[]", 1).model == ""

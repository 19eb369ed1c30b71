"""The bytes of an answer."""

from __future__ import annotations

import pytest

from polymux.http.exchange import HIGH_WATER, Exchange


class Connection:
    """Implements `exchange.Connection`."""

    full = False
    client = "192.0.2.1"

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.finished: list[Exchange] = []

    def stamp(self) -> bytes:
        return b"date: now\r\n"

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def finish(self, exchange: Exchange) -> None:
        self.finished.append(exchange)

    async def drain(self) -> None: ...


def made(method: str = "GET", version: str = "1.1") -> tuple[Connection, Exchange]:
    connection = Connection()
    exchange = Exchange(connection, method, b"/", {})
    exchange.version = version
    exchange.extra = b"x-request-id: 1\r\n"
    return connection, exchange


@pytest.mark.parametrize(
    ("method", "status", "body", "expected"),
    [
        ("GET", 200, b"hi", b"content-length: 2\r\n\r\nhi"),
        ("GET", 404, b"", b"content-length: 0\r\n\r\n"),
        ("HEAD", 200, b"hi", b"content-length: 2\r\n\r\n"),
        ("OPTIONS", 204, b"", b"\r\n"),
    ],
)
def test_a_whole_answer(method: str, status: int, body: bytes, expected: bytes) -> None:
    connection, exchange = made(method)
    exchange.respond(status, b"x: y\r\n", body)
    (sent,) = connection.sent
    line, _, rest = sent.partition(b"\r\n")
    assert line.startswith(b"HTTP/1.1 %d " % status)
    assert rest == b"date: now\r\nx-request-id: 1\r\nx: y\r\n" + expected
    assert connection.finished == [exchange]
    assert exchange.done


def test_a_large_answer_is_not_copied() -> None:
    connection, exchange = made()
    body = bytes(HIGH_WATER)
    exchange.respond(200, b"", body)
    assert connection.sent[1] is body


def test_a_stream_in_chunks() -> None:
    connection, exchange = made()
    exchange.start(200, b"")
    exchange.write(b"0123456789abcdef")
    exchange.end(b"x")
    assert b"transfer-encoding: chunked\r\n" in connection.sent[0]
    assert connection.sent[0].endswith(b"\r\n\r\n10\r\n0123456789abcdef\r\n")  # one write for both
    assert connection.sent[1:] == [b"1\r\nx\r\n0\r\n\r\n"]
    assert connection.finished == [exchange]


def test_a_stream_that_ends_without_a_last_piece() -> None:
    connection, exchange = made()
    exchange.start(200, b"")
    exchange.end(b"")
    (sent,) = connection.sent
    assert sent.endswith(b"\r\n\r\n0\r\n\r\n")


def test_a_stream_to_an_old_client_ends_with_the_connection() -> None:
    connection, exchange = made(version="1.0")
    exchange.start(200, b"")
    exchange.write(b"a")
    exchange.end(b"b")
    assert b"transfer-encoding" not in connection.sent[0]
    assert b"connection: close\r\n" in connection.sent[0]
    assert connection.sent[0].endswith(b"\r\n\r\na")
    assert connection.sent[1:] == [b"b"]
    assert not exchange.keep_alive


def test_where_it_comes_from() -> None:
    assert made()[1].client == "192.0.2.1"

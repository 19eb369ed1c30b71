"""What the parser lets pass of a head, and what becomes of it."""

from __future__ import annotations

import pytest

from polymux.errors import Failure
from polymux.http.head import MAX_HEAD, check_framing, check_size, not_http, origin_form


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"http://h/x", b"/x"),
        (b"https://user@h:1/x/y?z=http://w/", b"/x/y?z=http://w/"),
        (b"http://h", b"/"),
        (b"http://h?x=/", b"/?x=/"),
        (b"http://h/?x", b"/?x"),
        (b"*", b"*"),
    ],
)
def test_the_path_of_a_target(target: bytes, path: bytes) -> None:
    assert origin_form(target) == path


@pytest.mark.parametrize(("version", "fields"), [("1.1", {b"host": b""}), ("1.0", {})])
def test_a_framing_without_doubt(version: str, fields: dict[bytes, bytes]) -> None:
    check_framing(version, fields)


@pytest.mark.parametrize(
    ("version", "fields", "word"),
    [
        ("2.0", {b"host": b"g"}, "HTTP/2.0"),
        ("1.1", {}, "host"),
        ("1.0", {b"transfer-encoding": b"chunked"}, "HTTP/1.0"),
        ("1.1", {b"host": b"g", b"transfer-encoding": b"gzip"}, "chunked"),
    ],
)
def test_a_framing_in_doubt(version: str, fields: dict[bytes, bytes], word: str) -> None:
    with pytest.raises(Failure, match=word):
        check_framing(version, fields)


def test_a_head_has_a_size() -> None:
    head = b"GET /x HTTP/1.1\r\nhost: g\r\nx: y\r\n\r\n"
    assert abs(check_size(b"/x", {b"host": b"g", b"x": b"y"}) - len(head)) < 10
    with pytest.raises(Failure, match="64 KiB"):
        check_size(b"/x", {b"x": b"y" * MAX_HEAD})


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"\x16\x03\x01\x02", "http://"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2"),
        (b"hello", "told by the parser"),
    ],
)
def test_what_is_said_of_bytes_that_are_not_http(data: bytes, word: str) -> None:
    assert word in not_http(data, ValueError("told by the parser")).message

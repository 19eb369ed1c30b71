"""What may stand between two readers of the same bytes: each probe has one answer, and no body is read as a request.

Every probe is followed by a request for `/smuggled`, and comes whole, and byte by byte. Refused means: 400, the
connection is closed, and nothing was served. RFC 9112; the probes are those of the request smuggling literature.
"""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from support.edge import MAX_BODY, App, connected
from support.peer import looped

WHOLE: Final = 1 << 20
AFTER: Final = b"GET /smuggled HTTP/1.1\r\nhost: g\r\n\r\n"
LENGTH: Final = b"POST /x HTTP/1.1\r\nhost: g\r\ncontent-length: %b\r\n\r\nabcde"
CODING: Final = b"POST /x HTTP/1.1\r\nhost: g\r\n%b\r\n\r\n5\r\nabcde\r\n0\r\n\r\n"
CHUNKS: Final = b"POST /x HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n%b"
FIELD: Final = b"POST /x HTTP/1.1\r\nhost: g\r\n%b\r\ncontent-length: 5\r\n\r\nabcde"
LINE: Final = b"%b\r\nhost: g\r\ncontent-length: 5\r\n\r\nabcde"
HOST: Final = b"POST /x HTTP/1.1\r\n%bcontent-length: 5\r\n\r\nabcde"

# What is sent, and a word of the message.
REFUSED: Final = {
    "length twice": (FIELD % b"content-length: 5", "Duplicate Content-Length"),
    "lengths that differ": (FIELD % b"Content-Length: 6", "Duplicate Content-Length"),
    "length list": (LENGTH % b"5, 5", "Content-Length"),
    "length and comma": (LENGTH % b"5,", "Content-Length"),
    "length with plus": (LENGTH % b"+5", "Content-Length"),
    "length negative": (LENGTH % b"-5", "Content-Length"),
    "length hexadecimal": (LENGTH % b"0x5", "Content-Length"),
    "length with underscore": (LENGTH % b"1_0", "Content-Length"),
    "length with a blank inside": (LENGTH % b"5 5", "Content-Length"),
    "length with vertical tab": (LENGTH % b"5\x0b", "Content-Length"),
    "length empty": (LENGTH % b"", "Content-Length"),
    "length superscript": (LENGTH % b"\xb2", "Content-Length"),
    "length over 64 bits": (LENGTH % b"18446744073709551621", "Content-Length"),
    "length, then coding": (CODING % b"content-length: 5\r\ntransfer-encoding: chunked", "Transfer-Encoding"),
    "coding, then length": (CODING % b"transfer-encoding: chunked\r\ncontent-length: 5", "Content-Length"),
    "coding identity and length": (CODING % b"content-length: 5\r\ntransfer-encoding: identity", "Transfer-Encoding"),
    "chunked, identity": (CODING % b"transfer-encoding: chunked, identity", "Transfer-Encoding"),
    "identity, chunked": (CODING % b"transfer-encoding: identity, chunked", "transfer-encoding"),
    "gzip, chunked": (CODING % b"transfer-encoding: gzip, chunked", "transfer-encoding"),
    "chunked, chunked": (CODING % b"transfer-encoding: chunked, chunked", "Transfer-Encoding"),
    "comma, chunked": (CODING % b"transfer-encoding: ,chunked", "transfer-encoding"),
    "chunked, comma": (CODING % b"transfer-encoding: chunked,", "Transfer-Encoding"),
    "xchunked": (CODING % b"transfer-encoding: xchunked", "transfer-encoding"),
    "identity": (CODING % b"transfer-encoding: identity", "transfer-encoding"),
    "chunked in quotes": (CODING % b'transfer-encoding: "chunked"', "transfer-encoding"),
    "chunked with a parameter": (CODING % b"transfer-encoding: chunked;q=1", "transfer-encoding"),
    "chunked and vertical tab": (CODING % b"transfer-encoding: chunked\x0b", "Invalid header value"),
    "vertical tab and chunked": (CODING % b"transfer-encoding: \x0bchunked", "Invalid header value"),
    "coding empty": (CODING % b"transfer-encoding: ", "Transfer-Encoding"),
    "coding with a blank before the colon": (CODING % b"transfer-encoding : chunked", "header"),
    "coding twice": (CODING % b"transfer-encoding: chunked\r\ntransfer-encoding: chunked", "Transfer-Encoding"),
    "codings that differ": (CODING % b"transfer-encoding: identity\r\nTransfer-Encoding: chunked", "transfer-encoding"),
    "coding in HTTP/1.0": (CODING.replace(b"1.1", b"1.0") % b"transfer-encoding: chunked", "HTTP/1.0"),
    "chunk size over 64 bits": (CHUNKS % b"10000000000000005\r\nabcde\r\n0\r\n\r\n", "Chunk size overflow"),
    "chunk size with 0x": (CHUNKS % b"0x5\r\nabcde\r\n0\r\n\r\n", "chunk size"),
    "chunk size with plus": (CHUNKS % b"+5\r\nabcde\r\n0\r\n\r\n", "chunk size"),
    "chunk size negative": (CHUNKS % b"-5\r\nabcde\r\n0\r\n\r\n", "chunk size"),
    "chunk size empty": (CHUNKS % b"\r\nabcde\r\n0\r\n\r\n", "chunk size"),
    "chunk size after a blank": (CHUNKS % b" 5\r\nabcde\r\n0\r\n\r\n", "chunk size"),
    "chunk size before a blank": (CHUNKS % b"5 \r\nabcde\r\n0\r\n\r\n", "chunk size"),
    "chunk size and bare LF": (CHUNKS % b"5\nabcde\r\n0\r\n\r\n", "chunk size"),
    "chunk size and bare CR": (CHUNKS % b"5\r\rabcde\r\n0\r\n\r\n", "chunk size"),
    "chunk without its CRLF": (CHUNKS % b"5\r\nabcde0\r\n\r\n", "chunk data"),
    "chunk longer than it says": (CHUNKS % b"5\r\nabcdeXX0\r\n\r\n", "chunk data"),
    "chunk and bare LF": (CHUNKS % b"5\r\nabcde\n0\r\n\r\n", "chunk data"),
    "chunk extension and bare LF": (CHUNKS % b"5;a\nb\r\nabcde\r\n0\r\n\r\n", "chunk extension"),
    "chunk extension and bare CR": (CHUNKS % b"5;a\rb\r\nabcde\r\n0\r\n\r\n", "chunk"),
    "chunk extension with CRLF in quotes": (CHUNKS % b'5;a="b\r\nc"\r\nabcde\r\n0\r\n\r\n', "chunk extension"),
    "chunk extension with NUL": (CHUNKS % b"5;a\0\r\nabcde\r\n0\r\n\r\n", "chunk extension"),
    "last chunk and bare LF": (CHUNKS % b"0\r\n\n", "header"),
    "trailer that is a length": (CHUNKS % b"0\r\ncontent-length: 5\r\n\r\n", "Content-Length"),
    "trailer that is a coding": (CHUNKS % b"0\r\ntransfer-encoding: chunked\r\n\r\n", "Transfer-Encoding"),
    "trailer that is none": (CHUNKS % b"0\r\nGET /smuggled HTTP/1.1\r\n\r\n", "header"),
    "folded line": (FIELD % b"x: a\r\n b", "whitespace"),
    "folded line with a tab": (FIELD % b"x: a\r\n\tb", "whitespace"),
    "folded first line": (FIELD % b" x: a", "whitespace"),
    "header and bare LF": (FIELD % b"x: a\ny: b", "CR"),
    "header and bare CR": (FIELD % b"x: a\ry: b", "LF"),
    "header and CR CR LF": (FIELD % b"x: a\r", "LF"),
    "NUL in a value": (FIELD % b"x: a\0b", "header value"),
    "NUL in a name": (FIELD % b"x\0: a", "header"),
    "control in a value": (FIELD % b"x: a\x01", "header value"),
    "blank before the colon": (FIELD % b"x : a", "header"),
    "tab before the colon": (FIELD % b"x\t: a", "header"),
    "no name": (FIELD % b": a", "header"),
    "no colon": (FIELD % b"x", "header"),
    "name with a bracket": (FIELD % b"x(: a", "header"),
    "name beyond ASCII": (FIELD % b"\xe4: a", "header"),
    "host missing": (HOST % b"", "needs a host"),
    "host twice": (HOST % b"host: g\r\nHost: g\r\n", "host came twice"),
    "hosts that differ": (HOST % b"host: g\r\nx: y\r\nhost: h\r\n", "host came twice"),
    "keys that differ": (FIELD % b"authorization: Bearer a\r\nauthorization: Bearer b", "authorization came twice"),
    "other keys that differ": (FIELD % b"x-api-key: a\r\nX-API-Key: b", "x-api-key came twice"),
    "bare LF alone": (b"GET /x HTTP/1.1\nhost: g\n\n", "CRLF"),
    "bare LF at the end": (b"GET /x HTTP/1.1\r\nhost: g\r\n\n", "header"),
    "bare CR alone": (b"GET /x HTTP/1.1\rhost: g\r\r", "CRLF"),
    "method in lower case": (LINE % b"get /x HTTP/1.1", "method"),
    "method unknown": (LINE % b"FOO /x HTTP/1.1", "method"),
    "method after a blank": (LINE % b" GET /x HTTP/1.1", "method"),
    "tabs in the request line": (LINE % b"GET\t/x\tHTTP/1.1", "method"),
    "blank after the version": (LINE % b"GET /x HTTP/1.1 ", "CRLF"),
    "blank in the target": (LINE % b"GET /a b HTTP/1.1", "HTTP/"),
    "target without slash": (LINE % b"GET x HTTP/1.1", "url"),
    "target without path": (LINE % b"GET ?x HTTP/1.1", "url"),
    "target missing": (LINE % b"GET  HTTP/1.1", "url"),
    "NUL in the target": (LINE % b"GET /\0 HTTP/1.1", "url"),
    "bytes beyond ASCII in the target": (LINE % b"GET /\xc3\xa4 HTTP/1.1", "url"),
    "proxy": (b"CONNECT g:443 HTTP/1.1\r\nhost: g\r\n\r\n", "not a proxy"),
    "no version": (b"GET /x\r\n\r\n", "not HTTP/0.9"),
    "HTTP/0.9": (LINE % b"GET /x HTTP/0.9", "not HTTP/0.9"),
    "HTTP/1.2": (LINE % b"GET /x HTTP/1.2", "version"),
    "HTTP/1": (LINE % b"GET /x HTTP/1", "dot"),
    "HTTP/1.10": (LINE % b"GET /x HTTP/1.10", "CRLF"),
    "HTTP/2.0": (LINE % b"GET /x HTTP/2.0", "not HTTP/2.0"),
    "HTTP/3.7": (LINE % b"GET /x HTTP/3.7", "version"),
    "http/1.1": (LINE % b"GET /x http/1.1", "HTTP/"),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", ""),
    "garbage": (b"GARBAGE\r\n\r\n", "method"),
    "binary": (bytes(range(256)), "method"),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", ""),
}

# What is sent, the body that is read from it, and whether the connection goes on.
TAKEN: Final = {
    "length": (LENGTH % b"5", b"abcde", True),
    "length and blanks": (LENGTH % b" \t5 ", b"abcde", True),
    "length with zeros": (LENGTH % b"0000005", b"abcde", True),
    "chunked": (CODING % b"transfer-encoding: chunked", b"abcde", True),
    "Chunked": (CODING % b"Transfer-Encoding: Chunked", b"abcde", True),
    "chunked and a blank": (CODING % b"transfer-encoding: chunked ", b"abcde", True),
    "chunk size with zeros": (CHUNKS % b"00000000000000000005\r\nabcde\r\n000\r\n\r\n", b"abcde", True),
    "chunk size in capitals": (CHUNKS % b"A\r\nabcdefghij\r\n0\r\n\r\n", b"abcdefghij", True),
    "chunk extensions": (CHUNKS % b'5;a;b=c;d="e"\r\nabcde\r\n0;f\r\n\r\n', b"abcde", True),
    "trailers": (CHUNKS % b"5\r\nabcde\r\n0\r\nhost: h\r\nauthorization: Bearer b\r\nx: y\r\n\r\n", b"abcde", True),
    "chunk in a chunk": (CHUNKS % b"7\r\n0\r\n\r\nab\r\n0\r\n\r\n", b"0\r\n\r\nab", True),
    "request in a body": (
        b"POST /x HTTP/1.1\r\nhost: g\r\ncontent-length: %d\r\n\r\n%b" % (len(AFTER), AFTER),
        AFTER,
        True,
    ),
    "GET with a body": ((LENGTH % b"5").replace(b"POST", b"GET"), b"abcde", True),
    "two blanks before the target": (LINE % b"GET  /x HTTP/1.1", b"abcde", True),
    "two blanks after the target": (LINE % b"GET /x  HTTP/1.1", b"abcde", True),
    "empty lines first": (b"\r\n\r\n\n" + LENGTH % b"5", b"abcde", True),
    "empty value": (FIELD % b"x:", b"abcde", True),
    "bytes beyond ASCII in a value": (FIELD % b"x: \xc3\xa4\xff", b"abcde", True),
    "key twice": (FIELD % b"authorization: Bearer a\r\nAuthorization: Bearer a", b"abcde", True),
    "host empty": (HOST % b"host:\r\n", b"abcde", True),
    "absolute target": (LINE % b"POST http://other/x HTTP/1.1", b"abcde", True),
    "HTTP/1.0": (LINE % b"POST /x HTTP/1.0", b"abcde", False),
    "HTTP/1.0 without host": (b"POST /x HTTP/1.0\r\ncontent-length: 5\r\n\r\nabcde", b"abcde", False),
    "HTTP/1.0 keep-alive": (
        b"POST /x HTTP/1.0\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nabcde",
        b"abcde",
        False,
    ),
    "close": (FIELD % b"connection: close", b"abcde", False),
    "close among others": (FIELD % b"connection: x, Close", b"abcde", False),
}


async def probe(app: App, data: bytes, size: int = WHOLE) -> bytes:
    """All that is answered to a probe and the request behind it. `size`: of the pieces in which the probe comes."""
    async with connected(app) as client:
        for at in range(0, len(data) if size < WHOLE else 0, size):
            await client.send(data[at : at + size])
            await asyncio.sleep(0)
        client.writer.write(data + AFTER if size == WHOLE else AFTER)
        read = b""
        while b"x-target: /smuggled" not in read:
            more = await client.reader.read(65536)
            if not more:
                break
            read += more
        return read


@looped
@pytest.mark.parametrize("size", [1, WHOLE])
@pytest.mark.parametrize(("data", "word"), REFUSED.values(), ids=REFUSED)
async def test_a_probe_that_is_refused(data: bytes, word: str, size: int) -> None:
    app = App()
    read = await probe(app, data, size)
    assert read.startswith(b"HTTP/1.1 400 ")
    assert read.count(b"HTTP/1.1 ") == 1
    assert b"connection: close\r\n" in read
    (failure,) = app.failures
    assert (failure.kind, app.exchanges) == ("bad_request", [])
    assert word in failure.message


@looped
@pytest.mark.parametrize("size", [1, WHOLE])
@pytest.mark.parametrize(("data", "body", "goes_on"), TAKEN.values(), ids=TAKEN)
async def test_a_probe_that_has_one_meaning(data: bytes, body: bytes, goes_on: bool, size: int) -> None:
    app = App()
    if not goes_on:
        size = WHOLE  # sent later, the second request resets the connection: its sender may not get to read
    read = await probe(app, data, size)
    assert [failure.message for failure in app.failures] == []
    assert [exchange.target for exchange in app.exchanges] == [b"/x", b"/smuggled"][: 1 + goes_on]
    assert app.exchanges[0].body == body
    assert read.count(b"HTTP/1.1 200 ") == 1 + goes_on
    assert (b"connection: close" in read) != goes_on


@looped
@pytest.mark.parametrize(
    ("data", "word"),
    [
        (REFUSED["TLS"][0], "this port speaks plain http"),
        (REFUSED["HTTP/2 preface"][0], "not HTTP/2"),
    ],
)
async def test_who_speaks_something_else_is_told_what_is_spoken_here(data: bytes, word: str) -> None:
    app = App()
    await probe(app, data)
    assert word in app.failures[0].message


@looped
@pytest.mark.parametrize("length", [MAX_BODY + 1, 9_999_999_999_999_999_999, 18_446_744_073_709_551_615])
async def test_a_huge_length_is_too_large(length: int) -> None:
    app = App()
    read = await probe(app, LENGTH % b"%d" % length)
    assert read.startswith(b"HTTP/1.1 413 ")
    assert app.exchanges == []


@looped
async def test_a_huge_chunk_is_too_large_when_it_has_come() -> None:
    app = App()
    app.max_body = 9
    read = await probe(app, CHUNKS % b"FFFFFFFFFFFFFFFF\r\n0123456789")
    assert read.startswith(b"HTTP/1.1 413 ")
    assert app.exchanges == []


@looped
async def test_trailers_are_not_headers() -> None:
    app = App()
    data = CHUNKS % b"0\r\nhost: h\r\nauthorization: Bearer b\r\nx-polymux: y\r\n\r\n"
    await probe(app, data)
    assert app.exchanges[0].headers == {b"host": b"g", b"transfer-encoding": b"chunked"}
    assert app.exchanges[1].headers == {b"host": b"g"}


@looped
async def test_a_header_that_comes_in_several_lines() -> None:
    app = App()
    data = FIELD % b"X-Beta: a\r\ny: 1\r\nx-beta: b\r\nx-beta: c"
    await probe(app, data)
    assert app.exchanges[0].headers[b"x-beta"] == b"a, b, c"

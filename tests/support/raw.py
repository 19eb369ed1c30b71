"""A raw HTTP/1.1 client: what goes out and what comes in, byte for byte, on one connection.

For what no SDK does: half requests, two at once, a body read event by event, leaving at a chosen moment.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

PATIENCE: Final = 20.0


def build(method: str, path: str, headers: Mapping[str, str], body: bytes | None = None) -> bytes:
    """A request's bytes; `host` and, with a body, `content-length` are added."""
    lines = [f"{method} {path} HTTP/1.1", "host: gateway"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def post(key: str, body: object, path: str = "/v1/chat/completions", **headers: str) -> bytes:
    """A JSON request with a bearer key."""
    base = {"authorization": f"Bearer {key}", "content-type": "application/json", **headers}
    return build("POST", path, base, json.dumps(body).encode())


@dataclass(frozen=True)
class Head:
    """Status line and headers; names are lower case."""

    status: int
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def error(self) -> Any:
        """The members of the error envelope; fails when the body is not one."""
        value = json.loads(self.body)
        assert set(value) == {"error"}, value
        assert {"message", "type", "param", "code"} <= set(value["error"]), value
        return value["error"]

    def events(self) -> list[bytes]:
        """The payloads of a whole event stream."""
        return payloads(self.body)


def payloads(body: bytes) -> list[bytes]:
    """The `data` of each event of a stream; comments are skipped, anything else in it fails."""
    found = []
    for block in body.split(b"\n\n"):
        lines = [line for line in block.split(b"\n") if line and not line.startswith(b":")]
        if not lines:
            continue
        data = [line for line in lines if line.startswith(b"data: ")]
        named = [line for line in lines if line.startswith(b"event: ")]
        assert len(data) == 1, block
        assert len(data) + len(named) == len(lines), block
        found.append(data[0].removeprefix(b"data: "))
    return found


class Wire:
    """One connection. `with Wire(url) as wire:` `trust`: what to believe of a server that speaks TLS."""

    def __init__(self, url: str, receive_buffer: int = 0, trust: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(PATIENCE)
        self.socket.connect((parts.hostname or "", parts.port or 80))
        if trust is not None:
            self.socket = trust.wrap_socket(self.socket, server_hostname=parts.hostname)
        self.buffer = bytearray()
        self._events = bytearray()
        self._head: Head | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def leave(self, reset: bool = False) -> None:
        """Close at once; with `reset` by a TCP reset."""
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _fill(self) -> bool:
        data = self.socket.recv(65536)
        self.buffer += data
        return bool(data)

    def _take(self, count: int) -> bytes:
        while len(self.buffer) < count:
            assert self._fill(), f"the connection ended after {bytes(self.buffer)!r}"
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def _line(self, end: bytes = b"\r\n") -> bytes:
        while end not in self.buffer:
            assert self._fill(), f"the connection ended after {bytes(self.buffer)!r}"
        return self._take(self.buffer.index(end) + len(end))[: -len(end)]

    def head(self) -> Head:
        """The next status line and headers."""
        lines = self._line(b"\r\n\r\n").decode("latin-1").split("\r\n")
        match = re.fullmatch(r"HTTP/1\.1 (\d{3}) ?.*", lines[0])
        assert match, lines[0]
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            assert name.lower() not in headers, f"{name} twice"
            headers[name.lower()] = value.strip()
        self._head = Head(int(match[1]), headers)
        return self._head

    def pieces(self) -> Iterator[bytes]:
        """The body of the answer whose head was read, as it comes; ends with the body."""
        assert self._head is not None
        headers = self._head.headers
        if "chunked" in headers.get("transfer-encoding", ""):
            while size := int(self._line(), 16):
                yield self._take(size)
                self._take(2)
            self._line()
        elif "content-length" in headers:
            yield self._take(int(headers["content-length"]))
        else:
            while self.buffer or self._fill():
                yield self._take(len(self.buffer))

    def answer(self, head_only: bool = False) -> Answer:
        """The next whole answer; `head_only` for an answer to HEAD."""
        head = self.head()
        empty = head_only or head.status in (204, 304)
        return Answer(head.status, head.headers, b"" if empty else b"".join(self.pieces()))

    def events(self) -> Iterator[bytes]:
        """The payloads of a stream, each as soon as it is whole."""
        pending = b""
        for piece in self.pieces():
            pending += piece
            while b"\n\n" in pending:
                block, _, pending = pending.partition(b"\n\n")
                yield from payloads(block + b"\n\n")
        assert not pending, pending

    def ended(self) -> bool:
        """True when the peer has closed and nothing is left to read; waits for one or the other."""
        return not self.buffer and not self._fill()


def ask(url: str, request: bytes, head_only: bool = False) -> Answer:
    """One request on a connection of its own."""
    with Wire(url) as wire:
        wire.send(request)
        return wire.answer(head_only)

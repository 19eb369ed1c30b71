"""A listener on the wire."""

from __future__ import annotations

import gzip

import pytest

from polymux.transport import Tap
from polymux.types import Deployment, WireRequest
from support.peer import looped, until
from transport.lab import OK, Server, deployment


class Notes:
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def sent(self, to: Deployment, request: WireRequest) -> None:
        self.heard.append((to.id, request.method, request.body))

    def answered(self, to: Deployment, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.heard.append((to.id, status, [name for name, _ in headers]))

    def received(self, to: Deployment, data: bytes) -> None:
        self.heard.append((to.id, data))


class Tapped(Server):
    def __init__(self) -> None:
        super().__init__()
        self.notes = Notes()
        self.tap: Tap = self.notes


@looped
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("packed", [True, False])
async def test_it_hears_what_passes(whole: bool, packed: bool) -> None:
    body = gzip.compress(b"ok") if packed else b"ok"
    coding = b"Content-Encoding: gzip\r\n" if packed else b""
    async with Tapped() as server:
        sending = server.send()
        peer = await server.accept()
        await peer.answer(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (coding, len(body), body))
        reply = await sending
        assert (await reply.whole() if whole else b"".join([block async for block in reply])) == b"ok"
        server.transport.release(reply)
        names = [b"Content-Encoding", b"Content-Length"][0 if packed else 1 :]
        assert server.notes.heard == [("corp/m", "POST", b"{}"), ("corp/m", 200, names), ("corp/m", b"ok")]


@looped
async def test_it_hears_what_is_sent_twice() -> None:
    async with Tapped() as server:
        peer = await server.round_trip()
        server.notes.heard.clear()
        sending = server.send(deployment(id="other/m"))
        await peer.request()
        peer.close()
        await (await server.accept()).answer(OK)
        await sending
        request = ("other/m", "POST", b"{}")
        assert server.notes.heard == [request, request, ("other/m", 200, [b"content-length"])]
        await until(lambda: server.transport.stats().idle == 1)

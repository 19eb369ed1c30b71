"""What the tests of the transport share: raw upstreams, certificates."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pytest
import trustme

from polymux.errors import Failure
from polymux.transport import Reply, Stats, Tap, Transport
from polymux.types import Deployment, WireRequest
from support.peer import Listener, Peer, until

OK: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
NOTHING: Final = Stats(0, 0, 0, 0)
HEADERS: Final = (("authorization", "Bearer k"),)


class Server(Listener):
    """A raw upstream with a transport to it."""

    tap: Tap | None = None

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.transport = Transport(self.tap)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.transport.close()
        await super().__aexit__(kind, exc, at)
        if kind is None:  # whatever the test has done: nothing is left
            await until(lambda: self.transport.stats() == NOTHING)

    async def stats(self, *expected: int) -> None:
        """Wait until so many connections are open, idle, being made, and so many requests wait."""
        await until(lambda: self.transport.stats() == expected)

    def send(
        self, to: Deployment | None = None, *, path: str = "/v1/x", stream: bool = False, body: bytes = b"{}"
    ) -> asyncio.Task[Reply]:
        request = WireRequest("POST", self.url + path, HEADERS, body)
        final = asyncio.get_running_loop().time() + 1000.0
        return asyncio.create_task(self.transport.send(request, to or deployment(), final, stream=stream))

    async def round_trip(self, peer: Peer | None = None, to: Deployment | None = None) -> Peer:
        """One good request, whole; on a new connection, unless a peer is given."""
        sending = self.send(to)
        peer = peer or await self.accept()
        await peer.answer(OK)
        reply = await sending
        assert await reply.whole() == b"ok"
        self.transport.release(reply)
        return peer


def deployment(**members: Any) -> Deployment:
    return Deployment(**{"id": "corp/m", "provider": "corp", "model": "m", "dialect": "openai", **members})


async def failing(work: Awaitable[Any]) -> Failure:
    with pytest.raises(Failure) as caught:
        await work
    return caught.value


class Certificates:
    """Two authorities; `ours` has signed the server and a client."""

    def __init__(self, directory: Path) -> None:
        self.ours, other = trustme.CA(), trustme.CA()
        self.leaf = self.ours.issue_cert("127.0.0.1", "localhost")
        client = self.ours.issue_cert("client@example.org")
        self.ca, self.other = str(directory / "ca.pem"), str(directory / "other.pem")
        self.client_cert, self.client_key = str(directory / "client.pem"), str(directory / "client.key")
        self.ours.cert_pem.write_to_path(self.ca)
        other.cert_pem.write_to_path(self.other)
        client.cert_chain_pems[0].write_to_path(self.client_cert)
        client.private_key_pem.write_to_path(self.client_key)

    def server(self, *, mutual: bool = False, names: tuple[str, ...] = ()) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        (self.ours.issue_cert(*names) if names else self.leaf).configure_cert(context)
        if mutual:
            self.ours.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

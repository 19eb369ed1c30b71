"""Connecting: names, proxies, TLS."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from polymux.errors import Failure
from polymux.transport import Transport
from polymux.transport.addresses import Address, Addresses
from polymux.transport.dial import Dialer, Target, dialer
from polymux.types import Link, Timeouts, WireRequest
from support.peer import looped
from transport import proxy as small
from transport.lab import NOTHING, OK, Certificates, Server, deployment, failing


@looped
async def test_a_refused_connection_is_told_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    request = WireRequest("POST", f"http://127.0.0.1:{port}/", (), b"")
    final = asyncio.get_running_loop().time() + 1000.0
    failure = await failing(Transport().send(request, deployment(), final, stream=False))
    assert failure.kind == "upstream_unavailable"
    assert failure.message == f"cannot connect to 127.0.0.1:{port}: connection refused"


@looped
async def test_a_name_that_does_not_resolve_is_told_in_words() -> None:
    request = WireRequest("POST", "http://no-such-host.invalid/", (), b"")
    final = asyncio.get_running_loop().time() + 1000.0
    failure = await failing(Transport().send(request, deployment(), final, stream=False))
    assert failure.kind == "upstream_unavailable"
    assert failure.message.startswith("cannot connect to no-such-host.invalid:80: ")
    assert "errno" not in failure.message.lower()


@looped
@pytest.mark.parametrize("timeouts", [Timeouts(connect=0.0), Timeouts()])
async def test_a_connection_that_takes_too_long_is_told_in_words(timeouts: Timeouts) -> None:
    async with Server() as server:
        request = WireRequest("POST", server.url, (), b"")
        final = asyncio.get_running_loop().time() + (1000.0 if timeouts.connect == 0.0 else 0.0)
        failure = await failing(server.transport.send(request, deployment(timeouts=timeouts), final, stream=False))
        assert failure.kind == "upstream_timeout"
        assert f"no connection to 127.0.0.1:{server.port} within" in failure.message
        assert "-" not in failure.message.rpartition("within")[2], "a time is not negative"


@looped
@pytest.mark.parametrize("url", ["", "llm.example/v1", "ftp://llm.example", "http://", "http://x:y/", "http://a..b/"])
async def test_what_is_no_url_is_told_in_words(url: str) -> None:
    final = asyncio.get_running_loop().time() + 1000.0
    failure = await failing(Transport().send(WireRequest("POST", url, (), b""), deployment(), final, stream=False))
    assert failure.kind == "upstream_unavailable"
    assert failure.message == "the upstream's address is no URL; is its base_url right?"


class Connected(asyncio.Protocol):
    """Notes its transport."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


@looped
async def test_sockets_send_at_once_and_notice_the_dead(certificates: Certificates) -> None:
    for trust in (None, certificates.server()):
        async with Server(trust) as server:
            conn = Connected()
            scheme = "https" if trust else "http"
            target = Target(scheme, "127.0.0.1", server.port, Link(certificates.ca))
            await dialer(asyncio.get_running_loop()).dial(target, conn, 5.0)
            sock = conn.transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            conn.transport.abort()  # type: ignore[attr-defined]  # a Transport


@looped
async def test_one_address_of_several_is_enough() -> None:
    """The name has a dead address, one that refuses, and a good one; the next connection goes to the good one first."""
    async with Server() as server:
        loop = asyncio.get_running_loop()
        good = Address(socket.AF_INET, ("127.0.0.1", server.port))
        found = (Address(socket.AF_INET6, ("::1", 1, 0, 0)), Address(socket.AF_INET, ("127.0.0.1", 1)), good)

        async def resolve(host: str, port: int) -> Sequence[Address]:
            assert (host, port) == ("llm.example", server.port)
            return found

        addresses = Addresses(resolve, loop.time)
        conn = Connected()
        await Dialer(loop, addresses).dial(Target("http", "llm.example", server.port, Link()), conn, 5.0)
        assert conn.transport.get_extra_info("peername") == good.at
        assert (await addresses.find("llm.example", server.port))[0] == good
        conn.transport.abort()  # type: ignore[attr-defined]  # a Transport


@looped
async def test_an_address_that_stays_silent_goes_last() -> None:
    """It is given up when another was quicker, or when the time is over; the next connection need not wait for it."""
    asked = asyncio.Event()

    async def silence(*_: object) -> None:
        asked.set()
        await asyncio.Event().wait()

    silent, good = (Address(socket.AF_INET, (f"192.0.2.{number}", 443)) for number in (1, 2))

    async def resolve(host: str, port: int) -> Sequence[Address]:
        return (silent, good)

    addresses = Addresses(resolve, asyncio.get_running_loop().time)
    assert (await addresses.find("llm.example", 443))[0] == silent
    loop = cast(asyncio.AbstractEventLoop, SimpleNamespace(sock_connect=silence))
    attempt = asyncio.create_task(Dialer(loop, addresses)._attempt(silent))
    await asked.wait()
    attempt.cancel()
    await asyncio.wait({attempt})
    assert (await addresses.find("llm.example", 443))[0] == good


@looped
async def test_localhost_is_found_whatever_it_means_here() -> None:
    """Often ::1 comes first, and nobody listens there."""
    async with Server() as server:
        server.url = f"http://localhost:{server.port}"
        await server.round_trip()


@looped
async def test_names_beyond_ascii() -> None:
    """The host header and the look-up take the name as DNS has it (IDNA)."""
    async with Server() as server, small.Proxy() as proxy:
        server.url = f"http://bücher.example:{server.port}"
        sending = server.send(deployment(link=Link(proxy=proxy.url)))
        peer = await server.accept()
        assert b"\r\nhost: xn--bcher-kva.example:%d\r\n" % server.port in await peer.request()
        await peer.send(OK)
        await sending


# ---- TLS


@looped
async def test_a_private_authority(certificates: Certificates) -> None:
    async with Server(certificates.server()) as server:
        to = deployment(link=Link(ca_file=certificates.ca))
        peer = await server.round_trip(to=to)
        await server.round_trip(peer, to)
        assert server.accepted == 1


@looped
async def test_verification_can_be_switched_off(certificates: Certificates) -> None:
    async with Server(certificates.server(names=("elsewhere.example",))) as server:
        await server.round_trip(to=deployment(link=Link(verify=False)))


@looped
async def test_a_client_certificate(certificates: Certificates) -> None:
    async with Server(certificates.server(mutual=True)) as server:
        link = Link(certificates.ca, certificates.client_cert, certificates.client_key)
        await server.round_trip(to=deployment(link=link))


@looped
@pytest.mark.parametrize(
    ("trust", "names", "words"),
    [
        ("", (), "unable to get local issuer certificate|self-signed certificate"),
        ("other", (), "unable to get local issuer certificate|self-signed certificate|certificate signature failure"),
        ("ca", ("elsewhere.example",), "IP address mismatch"),
    ],
)
async def test_a_certificate_that_is_not_trusted_is_told_in_words(
    certificates: Certificates, trust: str, names: tuple[str, ...], words: str
) -> None:
    async with Server(certificates.server(names=names)) as server:
        sending = server.send(deployment(link=Link(ca_file=getattr(certificates, trust, ""))))
        with pytest.raises(Failure, match=words) as caught:
            await sending
        assert caught.value.kind == "upstream_unavailable"
        assert caught.value.message.startswith(f"TLS with 127.0.0.1:{server.port} failed: ")
        assert "_ssl.c" not in caught.value.message


@looped
async def test_tls_to_a_server_without_it_is_told_in_words() -> None:
    async with Server() as server:
        server.url = server.url.replace("http:", "https:")
        sending = server.send()
        peer = await server.accept()
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(Failure, match=f"^TLS with 127.0.0.1:{server.port} failed: ") as caught:
            await sending
        assert caught.value.kind == "upstream_unavailable"


@looped
@pytest.mark.parametrize("field", ["ca_file", "client_cert"])
async def test_a_file_that_is_no_certificate_is_not_blamed_on_the_network(tmp_path: Path, field: str) -> None:
    (tmp_path / "note.pem").write_text("not a certificate")
    async with Server() as server:
        server.url = server.url.replace("http:", "https:")
        for path in (tmp_path / "note.pem", tmp_path / "absent.pem"):
            failure = await failing(server.send(deployment(link=Link(**{field: str(path)}))))
            assert failure.kind == "upstream_unavailable"
            assert "cannot connect" not in failure.message


@looped
@pytest.mark.parametrize("through", [False, True])
async def test_a_handshake_that_does_not_end_is_given_up(through: bool) -> None:
    async with Server() as server, small.Proxy() as proxy:
        server.url = f"https://127.0.0.1:{server.port}"
        link = Link(proxy=proxy.url if through else "")
        sending = server.send(deployment(link=link, timeouts=Timeouts(connect=0.1)))
        peer = await server.accept()
        assert (await failing(sending)).kind == "upstream_timeout"
        await peer.gone()
        await server.stats(*NOTHING)


@looped
async def test_an_upstream_that_hangs_up_in_the_handshake() -> None:
    async with Server() as server:
        server.url = f"https://127.0.0.1:{server.port}"
        sending = server.send()
        peer = await server.accept()
        await peer.reader.readexactly(5)
        peer.reset()
        failure = await failing(sending)
        assert failure.message == f"TLS with 127.0.0.1:{server.port} failed: connection reset by peer"


@looped
async def test_the_name_is_told_to_the_server(certificates: Certificates) -> None:
    """SNI: one address serves many names."""
    asked: list[str | None] = []
    context = certificates.server()
    context.sni_callback = lambda _, name, __: asked.append(name)
    async with Server(context) as server:
        server.url = f"https://localhost:{server.port}"
        await server.round_trip(to=deployment(link=Link(certificates.ca)))
        assert asked == ["localhost"]

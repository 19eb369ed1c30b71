"""Proxies: a small one that works, and raw ones that do not."""

from __future__ import annotations

import asyncio
import re
from typing import Final

import pytest

from polymux.transport.tunnel import MAX_ANSWER, Proxy
from polymux.types import Link, Timeouts
from support.peer import Listener, looped, until
from transport import proxy as small
from transport.lab import NOTHING, OK, Certificates, Server, deployment, failing

NAME: Final = "upstream.example"  # known to the proxy alone


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://proxy.example:3128", Proxy("http", "proxy.example", 3128, "")),
        ("http://proxy.example/", Proxy("http", "proxy.example", 80, "")),
        ("https://Proxy.Example", Proxy("https", "proxy.example", 443, "")),
        ("http://user:pass@[::1]:8080", Proxy("http", "::1", 8080, "Basic dXNlcjpwYXNz")),
        ("http://user@p", Proxy("http", "p", 80, "Basic dXNlcjo=")),
        ("http://us%3Aer:p%40%E4%B8%96:x@p", Proxy("http", "p", 80, "Basic dXM6ZXI6cEDkuJY6eA==")),
        ("http://user:p@ss@p:1", Proxy("http", "p", 1, "Basic dXNlcjpwQHNz")),
    ],
)
def test_where_it_is_and_what_it_wants(url: str, expected: Proxy) -> None:
    assert Proxy.of(url) == expected


def test_no_proxy() -> None:
    assert Proxy.of("") is None


# ---- the way through -------------------------------------------------------------------------------------------


@looped
@pytest.mark.parametrize("closed", [False, True])
async def test_an_https_upstream_is_reached_by_a_tunnel(certificates: Certificates, closed: bool) -> None:
    """The upstream's name is looked up by the proxy, and its certificate is checked through the tunnel."""
    async with Server(certificates.server(names=(NAME,))) as server, small.Proxy(closed=closed) as proxy:
        server.url = f"https://{NAME}:{server.port}"
        to = deployment(link=Link(certificates.ca, proxy=proxy.url))
        peer = await server.round_trip(to=to)
        assert peer.writer.get_extra_info("ssl_object") is not None
        await server.round_trip(peer, to)
        (head,) = proxy.seen
        expected = b"CONNECT %b:%d HTTP/1.1\r\nhost: %b:%d\r\n" % (
            NAME.encode(),
            server.port,
            NAME.encode(),
            server.port,
        )
        credentials = b"proxy-authorization: Basic dXNlcjpwQHNzIHdvcmQ6\r\n" if closed else b""
        assert head == expected + credentials + b"\r\n"
        assert server.accepted == 1


@looped
async def test_an_http_upstream_is_reached_by_its_whole_url() -> None:
    async with Server() as server, small.Proxy(closed=True) as proxy:
        server.url = f"http://{NAME}:{server.port}"
        to = deployment(link=Link(proxy=proxy.url))
        sending = server.send(to, path="/v1/x?y=1")
        peer = await server.accept()
        request = await peer.request()
        assert request.startswith(b"POST /v1/x?y=1 HTTP/1.1\r\nhost: %b:%d\r\n" % (NAME.encode(), server.port))
        await peer.send(OK)
        reply = await sending
        assert await reply.whole() == b"ok"
        assert proxy.seen[0].startswith(b"POST http://%b:%d/v1/x?y=1 HTTP/1.1\r\n" % (NAME.encode(), server.port))


@looped
async def test_the_proxy_itself_may_want_tls(certificates: Certificates) -> None:
    async with (
        Server(certificates.server(names=(NAME,), mutual=True)) as server,
        small.Proxy(certificates.server(), closed=True) as proxy,
    ):
        server.url = f"https://{NAME}:{server.port}"
        link = Link(certificates.ca, certificates.client_cert, certificates.client_key, proxy=proxy.url)
        peer = await server.round_trip(to=deployment(link=link))
        await server.round_trip(peer, deployment(link=link))
        assert len(proxy.seen) == 1


@looped
async def test_an_http_upstream_behind_a_proxy_with_tls(certificates: Certificates) -> None:
    async with Server() as server, small.Proxy(certificates.server()) as proxy:
        server.url = f"http://{NAME}:{server.port}"
        await server.round_trip(to=deployment(link=Link(certificates.ca, proxy=proxy.url)))


@looped
@pytest.mark.parametrize(
    ("trust", "names", "words"),
    [
        ("other", (NAME,), "self-signed certificate|certificate signature failure|unable to get"),
        ("ca", ("elsewhere.example",), f"Hostname mismatch, certificate is not valid for '{NAME}'"),
    ],
)
async def test_a_tunnel_is_no_way_around_trust(
    certificates: Certificates, trust: str, names: tuple[str, ...], words: str
) -> None:
    async with Server(certificates.server(names=names)) as server, small.Proxy() as proxy:
        server.url = f"https://{NAME}:{server.port}"
        failure = await failing(server.send(deployment(link=Link(getattr(certificates, trust), proxy=proxy.url))))
        beginning = f"TLS with {NAME}:{server.port} through the proxy 127.0.0.1:{proxy.port} failed: "
        assert failure.message.startswith(beginning)
        assert re.search(words, failure.message)
        await server.stats(*NOTHING)


@looped
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(("user", "word"), [("", "credentials"), ("someone:else@", "other credentials")])
async def test_a_proxy_that_wants_credentials(scheme: str, user: str, word: str) -> None:
    async with Server() as server, small.Proxy(closed=True) as proxy:
        server.url = f"{scheme}://{NAME}:{server.port}"
        url = f"http://{user}127.0.0.1:{proxy.port}"
        failure = await failing(server.send(deployment(link=Link(proxy=url))))
        assert failure.kind == "upstream_unavailable"
        assert failure.message == f"the proxy 127.0.0.1:{proxy.port} wants {word} (status 407)"


@looped
async def test_a_407_without_a_proxy_is_the_upstreams_own() -> None:
    async with Server() as server:
        sending = server.send()
        await (await server.accept()).answer(b"HTTP/1.1 407 Odd\r\ncontent-length: 0\r\n\r\n")
        assert (await sending).status == 407


# ---- proxies that misbehave --------------------------------------------------------------------------------------

REFUSALS: Final = {
    "forbidden": (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 5\r\n\r\nno-no", r"refuses to connect .* \(status 403\)"),
    "bad gateway": (b"HTTP/1.0 502 user:secret\r\n\r\n", r"refuses to connect .* \(status 502\)"),
    "redirect": (b"HTTP/1.1 302 Found\r\nlocation: http://x/\r\n\r\n", r"refuses to connect .* \(status 302\)"),
    "early hints": (b"HTTP/1.1 103 Early Hints\r\n\r\n", r"refuses to connect .* \(status 103\)"),
    "garbage": (b"SSH-2.0-OpenSSH_9.9\r\n\r\n", "no valid answer"),
    "no status": (b"HTTP/1.1 2xx OK\r\n\r\n", "no valid answer"),
    "http/2": (b"HTTP/2 200 OK\r\n\r\n", "no valid answer"),
    "surplus": (b"HTTP/1.1 200 OK\r\n\r\nmore", "no valid answer"),
    "huge": (b"HTTP/1.1 200 OK\r\nx: " + b"x" * MAX_ANSWER, "no valid answer"),
    "cut": (b"HTTP/1.1 200 OK\r\n", "no valid answer"),
    "nothing": (b"", "closed the connection"),
}


@looped
@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize("size", [7, 100_000])
async def test_a_refusal_is_told_in_words(name: str, size: int) -> None:
    wire, words = REFUSALS[name]
    async with Server() as server, Listener() as proxy:
        server.url = "https://upstream.example"
        sending = server.send(deployment(link=Link(proxy=f"http://user:secret@127.0.0.1:{proxy.port}")))
        peer = await proxy.accept()
        await peer.reader.readuntil(b"\r\n\r\n")
        for at in range(0, len(wire), size):
            peer.writer.write(wire[at : at + size])
        if name in ("cut", "nothing"):
            peer.close()
        failure = await failing(sending)
        assert failure.kind == "upstream_unavailable"
        assert re.fullmatch(f"the proxy 127.0.0.1:{proxy.port} .*{words}.*", failure.message)
        assert "upstream.example:443" in failure.message
        assert "secret" not in str(failure.args)
        await peer.gone()
        await server.stats(*NOTHING)


@looped
@pytest.mark.parametrize("answered", [False, True])
async def test_a_silent_proxy(answered: bool) -> None:
    """Before its answer to CONNECT, or behind it in the midst of TLS."""
    async with Server() as server, Listener() as proxy:
        server.url = "https://upstream.example"
        link = Link(proxy=f"http://user:secret@127.0.0.1:{proxy.port}")
        sending = server.send(deployment(link=link, timeouts=Timeouts(connect=0.1)))
        peer = await proxy.accept()
        if answered:
            peer.writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        failure = await failing(sending)
        assert (failure.kind, failure.message) == (
            "upstream_timeout",
            f"no connection to upstream.example:443 through the proxy 127.0.0.1:{proxy.port} within 0.1 s",
        )
        await peer.gone()
        await server.stats(*NOTHING)


@looped
@pytest.mark.parametrize("answered", [False, True])
async def test_who_leaves_while_the_way_is_made_takes_it_along(answered: bool) -> None:
    async with Server() as server, Listener() as proxy:
        server.url = "https://upstream.example"
        sending = server.send(deployment(link=Link(proxy=f"http://127.0.0.1:{proxy.port}")))
        peer = await proxy.accept()
        await peer.reader.readuntil(b"\r\n\r\n")
        if answered:
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
            await peer.reader.readexactly(5)  # TLS begins
        sending.cancel()
        await peer.gone()
        await server.stats(*NOTHING)
        await asyncio.wait({sending})


@looped
async def test_a_407_of_the_upstream_is_not_blamed_on_the_proxy(certificates: Certificates) -> None:
    async with Server(certificates.server(names=(NAME,))) as server, small.Proxy() as proxy:
        server.url = f"https://{NAME}:{server.port}"
        sending = server.send(deployment(link=Link(certificates.ca, proxy=proxy.url)))
        peer = await server.accept()
        await peer.answer(b"HTTP/1.1 407 Odd\r\ncontent-length: 0\r\n\r\n")
        reply = await sending
        assert reply.status == 407
        server.transport.release(reply)


@looped
async def test_a_proxy_that_is_not_there() -> None:
    async with Server() as server:
        server.url = "https://upstream.example"
        failure = await failing(server.send(deployment(link=Link(proxy="http://user:secret@127.0.0.1:1"))))
        assert failure.message == "cannot connect to the proxy 127.0.0.1:1: connection refused"
        await until(lambda: server.transport.stats() == NOTHING)

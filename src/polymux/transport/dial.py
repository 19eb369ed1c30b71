"""Opening connections: the addresses of a name, a socket, the proxy, TLS."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from polymux.errors import Failure
from polymux.transport.addresses import Address, Addresses, listed, race
from polymux.transport.trust import Trust
from polymux.transport.tunnel import Proxy, Tunnel
from polymux.types import Link

# A peer that died without a word is noticed within two minutes, and a NAT in between does not forget a long silence.
# Not every system has the finer ones.
_TCP = (("TCP_NODELAY", 1), ("TCP_KEEPIDLE", 45), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))


class Target(NamedTuple):
    """Who is to be reached, and how: the key of a pool."""

    scheme: str
    host: str
    port: int
    link: Link

    @property
    def name(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def forwarder(self) -> Proxy | None:
        """The proxy that the requests themselves go to. One with a tunnel to an https upstream sees CONNECT alone."""
        return Proxy.of(self.link.proxy) if self.scheme == "http" else None


def dialer(loop: asyncio.AbstractEventLoop) -> Dialer:
    """A dialer that asks the system for addresses."""

    async def resolve(host: str, port: int) -> Sequence[Address]:
        return listed(await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))

    return Dialer(loop, Addresses(resolve, loop.time))


class Dialer:
    def __init__(self, loop: asyncio.AbstractEventLoop, addresses: Addresses) -> None:
        self._loop = loop
        self._addresses = addresses
        self._trust = Trust()

    async def dial(self, target: Target, conn: asyncio.Protocol, seconds: float) -> None:
        """Connect `conn` to the target within so many seconds. Raises `Failure`, which names what failed."""
        proxy = Proxy.of(target.link.proxy)
        try:
            async with asyncio.timeout(seconds):
                if proxy is None:
                    await self._open(target, target.link, lambda: conn)
                elif target.scheme == "http":
                    await self._open(proxy, proxy.trusting(target.link), lambda: conn)
                else:
                    await self._tunnel(target, proxy, conn)
        except TimeoutError:
            way = f" through {proxy.name}" if proxy else ""
            text = f"no connection to {target.name}{way} within {max(0.0, round(seconds, 2)):g} s"
            raise Failure("upstream_timeout", text) from None

    def close(self) -> None:
        self._addresses.close()

    async def _open(
        self, to: Target | Proxy, link: Link, protocol: Callable[[], asyncio.Protocol]
    ) -> asyncio.Transport:
        secure = to.scheme == "https"
        trust = self._trust.context(link) if secure else None
        with _told(f"cannot connect to {to.name}"):
            sock = await self._socket(to.host, to.port)
        with _told(f"TLS with {to.name} failed"):
            transport, _ = await self._loop.create_connection(
                protocol, sock=sock, ssl=trust, server_hostname=to.host if secure else None
            )
        return transport

    async def _tunnel(self, target: Target, proxy: Proxy, conn: asyncio.Protocol) -> None:
        trust = self._trust.context(target.link)
        tunnel = Tunnel(self._loop)
        outer = await self._open(proxy, proxy.trusting(target.link), lambda: tunnel)
        try:
            await tunnel.ask(outer, proxy, target.name)
            with _told(f"TLS with {target.name} through {proxy.name} failed"):
                inner = await self._loop.start_tls(outer, conn, trust, server_hostname=target.host)
            if inner is None:
                raise Failure("upstream_unavailable", f"{target.name} closed the connection at once")
        except BaseException:
            outer.abort()
            raise
        conn.connection_made(inner)  # which start_tls leaves to us

    async def _socket(self, host: str, port: int) -> socket.socket:
        return await race(await self._addresses.find(host, port), self._attempt, socket.socket.close)

    async def _attempt(self, address: Address) -> socket.socket:
        sock = socket.socket(address.family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _TCP:
                if option := getattr(socket, name, None):
                    sock.setsockopt(socket.IPPROTO_TCP, option, value)
            await self._loop.sock_connect(sock, address.at)
        except BaseException:  # also when it is cancelled: another address was quicker, or it took too long
            self._addresses.failed(address)
            sock.close()
            raise
        self._addresses.worked(address)
        return sock


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Make a `Failure` in words of what the system or OpenSSL says."""
    try:
        yield
    except ssl.SSLError as error:
        reason = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else error.reason
        raise Failure("upstream_unavailable", f"{what}: {reason or error}") from None
    except OSError as error:
        known = 0 if isinstance(error, socket.gaierror) else error.errno
        reason = (os.strerror(known) if known else error.strerror or str(error) or "connection lost").lower()
        raise Failure("upstream_unavailable", f"{what}: {reason}") from None

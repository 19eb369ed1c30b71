"""HTTP proxies: CONNECT (RFC 9110 §9.3.6) for https upstreams, absolute-form requests (RFC 9112 §3.2.2) for http."""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from typing import NamedTuple, Self
from urllib.parse import unquote_to_bytes, urlsplit

from polymux.errors import Failure
from polymux.types import Link

MAX_ANSWER = 16 * 1024  # bytes of the head of an answer to CONNECT

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r]")


class Proxy(NamedTuple):
    scheme: str
    host: str
    port: int
    authorization: str  # Basic (RFC 7617), "" = none

    @classmethod
    def of(cls, url: str) -> Self | None:
        """The proxy at a URL that `providers.proxies` has checked; None when there is none."""
        if not url:
            return None
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        pair = b":".join(unquote_to_bytes(half) for half in [*user.split(":", 1), ""][:2])
        credentials = f"Basic {b64encode(pair).decode('ascii')}" if at else ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return cls(parts.scheme, parts.hostname or "", port, credentials)

    @property
    def name(self) -> str:
        """As it may be told: without credentials."""
        return f"the proxy {self.host}:{self.port}"

    def trusting(self, link: Link) -> Link:
        """The proxy is trusted as the upstream is, and does not get the certificate that is for the upstream."""
        return Link(ca_file=link.ca_file, verify=link.verify)

    def asks_for_credentials(self, status: int) -> Failure:
        other = "other credentials" if self.authorization else "credentials"
        return Failure("upstream_unavailable", f"{self.name} wants {other} (status {status})")


class Tunnel(asyncio.Protocol):
    """A connection to a proxy, up to the answer to CONNECT; what comes then is somebody else's."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._received = b""
        self._answer: asyncio.Future[None] = loop.create_future()

    async def ask(self, transport: asyncio.WriteTransport, proxy: Proxy, target: str) -> None:
        """Have a way made to `target` (host:port). Raises `Failure`."""
        credentials = f"proxy-authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
        transport.write(f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{credentials}\r\n".encode("ascii"))
        await self._answer
        head, end, more = self._received.partition(b"\r\n\r\n")
        found = _STATUS.match(head + b"\r\n")
        status = int(found[1]) if found else 0
        if status in (401, 407):  # some say 401 to wrong ones
            raise proxy.asks_for_credentials(status)
        if not self._received:
            words = f"closed the connection when it was asked for {target}"
        elif not end or not found or (status < 300 and more):
            words = f"gave no valid answer when it was asked for {target}"
        elif status >= 300 or status < 200:
            words = f"refuses to connect to {target} (status {status})"
        else:
            return
        raise Failure("upstream_unavailable", f"{proxy.name} {words}")

    def data_received(self, data: bytes) -> None:
        self._received += data
        if b"\r\n\r\n" in self._received or len(self._received) > MAX_ANSWER:
            self._end()

    def connection_lost(self, error: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        if not self._answer.done():
            self._answer.set_result(None)

"""What is seen of requests that are no calls, and of the gateway at this moment; and `GET /metrics`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Any, Final

from polymux.admin.api import administrator
from polymux.errors import Failure
from polymux.hooks.base import Hook
from polymux.hooks.metrics import Levels, Metrics
from polymux.types import Key, Record
from polymux.wire.mask import mask

if TYPE_CHECKING:
    from polymux.engine import Engine
    from polymux.http.protocol import Exchange
    from polymux.http.serve import Front
    from polymux.store.journal import Journal
    from polymux.store.shipper import Shipper

LONGEST: Final = 120  # characters of a path in the log
_FORWARDED: Final = (b"x-forwarded-for", b"forwarded", b"x-real-ip")


class Watch:
    """metrics: of this worker. hooks: get the records of what is refused."""

    def __init__(
        self, metrics: Metrics, hooks: tuple[Hook, ...], journal: Journal | None = None, shipper: Shipper | None = None
    ) -> None:
        self.metrics = metrics
        self._journal, self._shipper = journal, shipper
        self._hooks = (metrics, *hooks)
        self._clients = 0

    def refused(self, exchange: Exchange, failure: Failure) -> None:
        """A stranger's request: in the log and the metrics, not in the ledger, for nobody is to fill the disk."""
        record = refusal(exchange, failure)
        for hook in self._hooks:
            hook.ended((record,))

    def sample(self, engine: Engine, clients: int | None = None) -> None:
        """Note what is so at this moment, for whoever asks at another worker. clients: open connections, if known."""
        self._clients = self._clients if clients is None else clients
        stats = engine.transport.stats()
        self.metrics.observe(
            Levels(
                engine.under_way,
                self._clients,
                stats.open - stats.idle,
                stats.idle,
                stats.dialing,
                stats.waiting,
                self._journal is not None and self._journal.failing,
                self._journal.lost if self._journal else 0,
                self._shipper.bad if self._shipper else 0,
            )
        )


def refusal(exchange: Exchange, failure: Failure, caller: Key | None = None, surface: str = "") -> Record:
    """The record of a request that never became a call. surface: that it was for, if any."""
    path = mask(exchange.target.partition(b"?")[0].decode("latin-1"))[:LONGEST]
    return Record(
        id=exchange.id,
        at=time.time(),
        key_id=caller.id if caller else "",
        key_name=caller.name if caller else "",
        tenant=caller.tenant if caller else "",
        surface=surface or f"{exchange.method} {path}".strip(),
        model="",
        provider="",
        upstream_model="",
        status=failure.status,
        error_code=failure.code or failure.kind,
        stream=False,
        input_tokens=0,
        output_tokens=0,
        cached_tokens=0,
        cache_write_tokens=0,
        reasoning_tokens=0,
        usage_source="none",
        cost_usd="0",
        attempts=0,
        cache="off",
        duration_ms=0.0,
        first_token_ms=None,
        overhead_ms=0.0,
        client_request_id=exchange.headers.get(b"x-request-id", b"")[:200].decode("latin-1"),
    )


def metrics(front: Front, exchange: Exchange, rest: str) -> Coroutine[Any, Any, None]:
    """The exposition for Prometheus. From elsewhere than this machine it wants the admin key. Raises `Failure`."""
    if not local(exchange):
        administrator(front, exchange)
    return _metrics(front, exchange)


async def _metrics(front: Front, exchange: Exchange) -> None:
    front.watch.sample(front.engine)
    accept = exchange.headers.get(b"accept", b"").decode("latin-1")
    kind, text = await asyncio.to_thread(front.watch.metrics.expose, accept)  # with many series it takes its time
    exchange.respond(200, b"content-type: %b\r\ncache-control: no-store\r\n" % kind.encode(), text)


def local(exchange: Exchange) -> bool:
    """Whether a request comes from this machine. One that a proxy passes on does not."""
    if any(name in exchange.headers for name in _FORWARDED):
        return False
    try:
        client = ip_address(exchange.client or "127.0.0.1")  # a Unix socket has no address
    except ValueError:
        return False
    mapped = client.ipv4_mapped if isinstance(client, IPv6Address) else None
    return (mapped or client).is_loopback

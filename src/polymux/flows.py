"""What is said to an upstream beside the main request: what a dialect asks for before it, and the word to stop."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from polymux.errors import Failure, Truncated
from polymux.providers.base import Adapter, Asked, Flow, Recall, Stopping
from polymux.store.base import LARGEST, Memory, Unusable
from polymux.transport import Transport
from polymux.types import Deployment, WireReply, WireRequest

STOPPING: Final = 5.0  # seconds for an upstream to take notice that its client has left
MONTH: Final = 30 * 86400.0  # seconds that is kept what later requests may recall

log = logging.getLogger("polymux")


class Flows:
    """Drives the flows of dialects, and keeps for tenants what they want remembered."""

    def __init__(self, transport: Transport, memory: Memory) -> None:
        self._transport, self._memory = transport, memory
        self._telling: set[asyncio.Task[None]] = set()

    async def drive(self, flow: Flow, asked: Asked, tenant: str, final: float) -> WireRequest:
        """The main request at the end of a flow, reached by `final` (the loop's clock). Raises `Failure`."""
        try:
            wanted = next(flow)
            while True:
                if isinstance(wanted, Recall):
                    wanted = flow.send(await self._recall(tenant, wanted))
                else:
                    wanted = flow.send(await self._exchange(wanted, asked.to, final))
        except StopIteration as stop:
            main: WireRequest = stop.value
        return main

    def remember(self, asked: Asked, tenant: str) -> None:
        for name, value in asked.remembered.items():
            if len(value) <= LARGEST:
                self._memory.put(tenant, name, value, MONTH)

    def stop(self, adapter: Adapter, asked: Asked) -> None:
        """The client has left, or we have given up: tell those upstreams that do not notice it by their connection."""
        request = adapter.stop(asked) if isinstance(adapter, Stopping) else None
        if request is not None:
            task = self._transport.loop.create_task(self._tell(request, asked.to))
            self._telling.add(task)
            task.add_done_callback(self._telling.discard)

    async def close(self) -> None:
        """Wait for what is still to be told."""
        if self._telling:
            await asyncio.wait(self._telling)
        self._memory.close()

    async def _recall(self, tenant: str, wanted: Recall) -> dict[str, bytes]:
        recall = self._memory.take if wanted.once else self._memory.load
        try:
            found = await asyncio.gather(*[recall(tenant, name) for name in wanted.names])
        except Unusable as error:  # the request can do without
            log.warning("what was remembered of earlier requests cannot be read: %s", error)
            return {}
        return {name: value for name, value in zip(wanted.names, found, strict=True) if value is not None}

    async def _exchange(self, request: WireRequest, to: Deployment, final: float) -> WireReply:
        reply = await self._transport.send(request, to, final, stream=False)
        try:
            return WireReply(reply.status, reply.header_map(), await reply.whole())
        finally:
            self._transport.release(reply)

    async def _tell(self, request: WireRequest, to: Deployment) -> None:
        try:
            await self._exchange(request, to, self._transport.loop.time() + STOPPING)
        except (Failure, Truncated) as error:
            log.warning("%s could not be told to stop: %s", to.provider, error)

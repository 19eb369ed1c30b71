"""Asks providers for their models, in the background: never at start-up's cost, never on a request's path."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from polymux.engine import Snapshot
from polymux.errors import Failure, Truncated
from polymux.providers.base import Adapter
from polymux.providers.table import Source
from polymux.transport import Transport

FRESH = 3600.0  # seconds a list is good for
FIRST_PAUSE = 5.0  # seconds after a failure, doubled up to LAST_PAUSE
LAST_PAUSE = 600.0

log = logging.getLogger("polymux")


class Holder(Protocol):
    """Who holds the snapshot, which is replaced when a list has changed."""

    snapshot: Snapshot


class Caller(Protocol):
    @property
    def adapters(self) -> Mapping[str, Adapter]: ...

    @property
    def transport(self) -> Transport: ...


async def keep_models(holder: Holder, caller: Caller) -> None:
    """Keep the lists of all providers that have one fresh, until cancelled."""
    sources = [source for source in holder.snapshot.registry.sources.values() if source.discover]
    await asyncio.gather(*(_keep(holder, caller, source) for source in sources))


async def _keep(holder: Holder, caller: Caller, source: Source) -> None:
    pause = 0.0
    while True:
        try:
            names = await ask(caller, source)
        except (Failure, Truncated) as error:
            if not pause:
                log.warning("%s: its models cannot be listed yet: %s", source.name, error)
            pause = min(pause * 2 or FIRST_PAUSE, LAST_PAUSE)
            await asyncio.sleep(pause)
            continue
        pause = 0.0
        registry = holder.snapshot.registry
        if list(registry.sources[source.name].models) != list(names):
            known = registry.with_models(source.name, names)
            holder.snapshot = msgspec.structs.replace(holder.snapshot, registry=known)
        await asyncio.sleep(FRESH)


async def ask(caller: Caller, source: Source) -> Sequence[str]:
    """The provider's models. Raises `Failure` or `Truncated`."""
    template = source.templates[0]
    adapter = caller.adapters[template.dialect]
    final = asyncio.get_running_loop().time() + 30.0
    reply = await caller.transport.send(adapter.models(template), template, final, stream=False)
    try:
        body = await reply.whole()
        if reply.status != 200:
            raise adapter.failure(reply.status, reply.header_map(), body)
        return adapter.read_models(body)
    except msgspec.MsgspecError as error:
        raise Failure("upstream_unavailable", f"the answer is not a list of models: {error}") from None
    finally:
        caller.transport.release(reply)

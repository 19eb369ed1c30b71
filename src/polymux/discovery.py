"""Asks providers for their models, in the background: never at start-up's cost, never on a request's path."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from polymux.errors import Failure, Truncated
from polymux.providers.base import Adapter
from polymux.providers.credentials import hide
from polymux.providers.replies import UNREADABLE
from polymux.providers.table import Source
from polymux.routing.registry import Registry
from polymux.run import Snapshot
from polymux.tokens import Tokens
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

    @property
    def tokens(self) -> Tokens: ...


class Discovery:
    """Keeps the lists of all providers that have one fresh. Needs a running loop."""

    def __init__(self, holder: Holder, caller: Caller) -> None:
        self._holder = holder
        self._caller = caller
        self._asked: dict[str, tuple[Source, asyncio.Task[None]]] = {}

    def follow(self) -> None:
        """Ask the providers of the holder's snapshot, and no others; who is asked already goes on as it is."""
        wanted = {name: source for name, source in self._holder.snapshot.registry.sources.items() if source.discover}
        for name, (source, task) in list(self._asked.items()):
            if name not in wanted or not same(source, wanted[name]):
                task.cancel()
                del self._asked[name]
        for name in wanted.keys() - self._asked.keys():
            task = asyncio.ensure_future(_keep(self._holder, self._caller, wanted[name]))
            self._asked[name] = (wanted[name], task)

    def close(self) -> None:
        for _, task in self._asked.values():
            task.cancel()
        self._asked.clear()


def same(one: Source, other: Source) -> bool:
    """Whether two sources differ in nothing but the models that were found."""
    return msgspec.structs.replace(one, models=other.models) == other


def carried(old: Registry, new: Registry) -> Registry:
    """The new names with the lists that were found for the old ones, where a source is the same: while it is reloaded
    no model is missing for a moment."""
    for name, source in new.sources.items():
        known = old.sources.get(name)
        if source.discover and known is not None and known.models and same(known, source):
            new = new.with_models(name, known.models)
    return new


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
    template = await caller.tokens.signed(source.templates[0])
    adapter = caller.adapters[template.dialect]
    final = asyncio.get_running_loop().time() + 30.0
    reply = await caller.transport.send(adapter.models(template), template, final, stream=False)
    try:
        body = await reply.whole()
        if reply.status != 200:
            raise hide(adapter.failure(reply.status, reply.header_map(), body), template)
        return adapter.read_models(body)
    except UNREADABLE as error:
        raise Failure("upstream_unavailable", f"the answer is not a list of models: {error}") from None
    finally:
        caller.transport.release(reply)

"""The addresses of names: looked up, remembered for a while, tried in a sensible order (RFC 8305)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from itertools import chain, zip_longest
from typing import Any, NamedTuple, TypeVar

FRESH = 30.0  # seconds a look-up is good for
STALE = 300.0  # seconds more it serves while a new one is made in the background
SULK = 60.0  # seconds an address that failed goes last
MOST = 1024  # names remembered
STAGGER = 0.25  # seconds until the next address is tried as well: RFC 8305 §5

T = TypeVar("T")


class Address(NamedTuple):
    family: int
    at: tuple[Any, ...]  # what `connect` takes


Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]


class _Entry(NamedTuple):
    addresses: Sequence[Address]
    since: float


class Addresses:
    """resolve: looks a name up, or raises OSError. clock: seconds."""

    def __init__(self, resolve: Resolve, clock: Callable[[], float]) -> None:
        self._resolve = resolve
        self._clock = clock
        self._known: dict[tuple[str, int], _Entry] = {}
        self._asking: dict[tuple[str, int], asyncio.Task[OSError | None]] = {}
        self._failed: dict[Address, float] = {}

    async def find(self, host: str, port: int) -> Sequence[Address]:
        """At least one address, in the order to try. Raises OSError when the name cannot be looked up and never
        could."""
        if literal := numeric(host, port):
            return literal
        key, now = (host, port), self._clock()
        entry = self._known.get(key)
        if entry is None or now - entry.since >= FRESH:
            asking = self._ask(key)
            if entry is None or now - entry.since >= FRESH + STALE:
                error = await asyncio.shield(asking)  # others may wait for it too
                entry = self._known.get(key)
                if entry is None:
                    raise error or OSError(f"{host} has no address")
        return self._order(entry.addresses)

    def failed(self, address: Address) -> None:
        """Nothing answers there: it goes last for a while."""
        now = self._clock()
        self._failed = {known: at for known, at in self._failed.items() if now - at < SULK}
        self._failed[address] = now

    def worked(self, address: Address) -> None:
        self._failed.pop(address, None)

    def close(self) -> None:
        for task in self._asking.values():
            task.cancel()

    def _order(self, addresses: Sequence[Address]) -> Sequence[Address]:
        if not self._failed:
            return addresses
        now = self._clock()
        return sorted(addresses, key=lambda address: now - self._failed.get(address, -SULK) < SULK)

    def _ask(self, key: tuple[str, int]) -> asyncio.Task[OSError | None]:
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = asyncio.ensure_future(self._look_up(key))
        return task

    async def _look_up(self, key: tuple[str, int]) -> OSError | None:
        try:
            found = interleave(await self._resolve(*key))
            if not found:
                return OSError(f"{key[0]} has no address")
            if len(self._known) >= MOST and key not in self._known:
                self._known.pop(next(iter(self._known)))
            self._known[key] = _Entry(found, self._clock())
        except (OSError, UnicodeError) as error:  # UnicodeError: no name that could be asked for
            if entry := self._known.get(key):  # what was known serves on; the next look-up is not at once
                self._known[key] = _Entry(entry.addresses, self._clock())
            return error if isinstance(error, OSError) else OSError("no valid host name")
        finally:
            del self._asking[key]
        return None


def numeric(host: str, port: int) -> Sequence[Address]:
    """The address that is written as one; nothing is looked up."""
    try:
        return listed(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST))
    except (OSError, UnicodeError):
        return ()


def listed(found: Sequence[tuple[Any, ...]]) -> Sequence[Address]:
    """What `getaddrinfo` says, each address once."""
    return tuple(dict.fromkeys(Address(family, at) for family, _, _, _, at in found))


def interleave(addresses: Sequence[Address]) -> Sequence[Address]:
    """One family and the other in turn, the resolver's favourite first (RFC 8305 §4)."""
    first = [address for address in addresses if address.family == addresses[0].family]
    other = [address for address in addresses if address.family != addresses[0].family]
    return tuple(address for address in chain(*zip_longest(first, other)) if address is not None)


async def race(
    addresses: Sequence[Address],
    attempt: Callable[[Address], Coroutine[Any, Any, T]],
    discard: Callable[[T], object],
    delay: float = STAGGER,
) -> T:
    """The first attempt that succeeds. The next begins when one has failed, or after a delay. `discard` gets what
    comes too late. Raises the last OSError when all fail."""
    if len(addresses) == 1:
        return await attempt(addresses[0])
    running: set[asyncio.Task[T]] = set()
    coming = list(reversed(addresses))
    error: BaseException = OSError("no address")
    try:
        while coming or running:
            if coming:
                running.add(asyncio.ensure_future(attempt(coming.pop())))
            done, running = await asyncio.wait(
                running, timeout=delay if coming else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in list(done):
                if (failure := task.exception()) is None:
                    done.discard(task)
                    running |= done
                    return task.result()
                error = failure
        raise error
    finally:
        for task in running:
            task.cancel()
            task.add_done_callback(lambda late: _late(late, discard))


def _late(task: asyncio.Task[T], discard: Callable[[T], object]) -> None:
    if not task.cancelled() and task.exception() is None:
        discard(task.result())

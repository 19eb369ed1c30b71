"""The seams of `store.base` held in this process."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from polymux.routing.limits import Verdict, Window
from polymux.types import Key


def digest(secret: str) -> bytes:
    """What is kept of a key: SHA-256. Keys are long and random, so a fast hash is the right one."""
    return hashlib.sha256(secret.encode()).digest()


class StaticKeys:
    """Keys from the configuration. Only digests stay in memory; a look-up by digest tells nothing by its time."""

    def __init__(self, keys: Iterable[tuple[str, Key]]) -> None:
        self._by_digest = {digest(secret): key for secret, key in keys}

    def find(self, secret: str) -> Key | None:
        return self._by_digest.get(digest(secret))


class LocalCounters:
    """Windows of this process; the oldest are dropped when there are too many."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, most: int = 100_000) -> None:
        self._clock = clock
        self._most = most
        self._windows: dict[str, Window] = {}

    def admit(self, name: str, limit: int) -> Verdict:
        window = self._windows.get(name)
        if window is None:
            if len(self._windows) >= self._most:
                del self._windows[next(iter(self._windows))]
            window = self._windows[name] = Window()
        return window.admit(self._clock(), limit)


class LocalMemory:
    """A bounded dictionary with expiry; the oldest entries go first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, most: int = 10_000) -> None:
        self._clock = clock
        self._most = most
        self._values: OrderedDict[tuple[str, str], tuple[float, bytes]] = OrderedDict()

    def get(self, tenant: str, name: str) -> bytes | None:
        expires, value = self._values.get((tenant, name), (0.0, b""))
        return value if expires > self._clock() else None

    def put(self, tenant: str, name: str, value: bytes, ttl: float) -> None:
        self._values[(tenant, name)] = (self._clock() + ttl, value)
        self._values.move_to_end((tenant, name))
        while len(self._values) > self._most:
            self._values.popitem(last=False)

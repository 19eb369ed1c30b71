"""The seams of `store.base` held in this process."""

from __future__ import annotations

import hashlib
import secrets
import string
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from polymux.routing.limits import Verdict, Window
from polymux.types import Key


def digest(secret: str) -> bytes:
    """What is kept of a key: SHA-256. Keys are long and random, so a fast hash is the right one."""
    return hashlib.sha256(secret.encode()).digest()


def new_secret() -> str:
    """A client key that nobody can guess: `sk-pmx-` and 32 letters and digits, 190 bits."""
    letters = string.ascii_letters + string.digits
    return "sk-pmx-" + "".join(secrets.choice(letters) for _ in range(32))


class StaticKeys:
    """Keys from the configuration. Only digests stay in memory; a look-up by digest tells nothing by its time."""

    def __init__(self, keys: Iterable[tuple[str, Key]]) -> None:
        self.by_digest = {digest(secret): key for secret, key in keys}

    def find(self, secret: str) -> Key | None:
        return self.by_digest.get(digest(secret))

    def reason(self, secret: str) -> str:
        return ""


class LocalCounters:
    """Windows of this process; the oldest are dropped when there are too many. And who is here at the same time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, most: int = 100_000) -> None:
        self._clock = clock
        self._most = most
        self._windows: dict[str, Window] = {}
        self._here: dict[str, int] = {}

    def admit(self, name: str, limit: int, amount: int = 1) -> Verdict:
        window = self._windows.get(name)
        if window is None:
            if len(self._windows) >= self._most:
                del self._windows[next(iter(self._windows))]
            window = self._windows[name] = Window()
        return window.admit(self._clock(), limit, amount)

    def correct(self, name: str, second: int, amount: int) -> None:
        if (window := self._windows.get(name)) is not None:
            window.correct(self._clock(), second, amount)

    def enter(self, name: str, limit: int) -> bool:
        count = self._here.get(name, 0)
        if count >= limit:
            return False
        self._here[name] = count + 1
        return True

    def leave(self, name: str) -> None:
        count = self._here.pop(name, 0) - 1
        if count > 0:
            self._here[name] = count


class LocalMemory:
    """A bounded dictionary with expiry; the oldest entries go first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, most: int = 10_000) -> None:
        self._clock = clock
        self._most = most
        self._values: OrderedDict[tuple[str, str], tuple[float, bytes]] = OrderedDict()

    def get(self, tenant: str, name: str) -> bytes | None:
        expires, value = self._values.get((tenant, name), (0.0, b""))
        return value if expires > self._clock() else None

    async def load(self, tenant: str, name: str) -> bytes | None:
        return self.get(tenant, name)

    async def take(self, tenant: str, name: str) -> bytes | None:
        value = self.get(tenant, name)
        self.delete(tenant, name)
        return value

    def delete(self, tenant: str, name: str) -> None:
        self._values.pop((tenant, name), None)

    def put(self, tenant: str, name: str, value: bytes, ttl: float) -> None:
        self._values[(tenant, name)] = (self._clock() + ttl, value)
        self._values.move_to_end((tenant, name))
        while len(self._values) > self._most:
            self._values.popitem(last=False)

    def close(self) -> None: ...

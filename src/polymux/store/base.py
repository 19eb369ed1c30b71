"""The seams behind which state lives: in memory or in files here, in databases later. All calls are cheap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from polymux.routing.limits import Verdict
from polymux.types import Key, Record

LARGEST: Final = 64 * 1024  # bytes of a value that is remembered


class Unusable(Exception):
    """What is stored cannot be read or written; says in words why, and what to do."""


class Keys(Protocol):
    """Client keys, found by digest."""

    def find(self, secret: str) -> Key | None:
        """The key that may be used now. Called for every request."""
        ...

    def reason(self, secret: str) -> str:
        """Why a key that is known was not found, to follow "the key ..."; "" for one that is not known."""
        ...


class Counters(Protocol):
    """What is used of a key's limits, across all workers. Names are ours ("rpm:key-id")."""

    def admit(self, name: str, limit: int, amount: int = 1) -> Verdict:
        """Count `amount` (requests, or tokens) against `limit` per minute, if it fits."""
        ...

    def correct(self, name: str, second: int, amount: int) -> None:
        """What was admitted in `second` (of its verdict) was `amount` more, which counts now, or less."""
        ...

    def enter(self, name: str, limit: int) -> bool:
        """One more at the same time, if fewer than `limit` are. Whoever is admitted leaves, or dies."""
        ...

    def leave(self, name: str) -> None: ...


class Ledger(Protocol):
    """Usage records. They are safe from the death of this process when `append` returns."""

    def append(self, records: Sequence[Record]) -> None:
        """Raises OSError when they cannot be kept."""
        ...

    def close(self) -> None: ...


class Memory(Protocol):
    """Small values that outlive a request (conversation ids, signatures), kept apart by tenant."""

    def get(self, tenant: str, name: str) -> bytes | None:
        """What is at hand; never waits. What another process has put may be missing: `load` looks for it."""
        ...

    async def load(self, tenant: str, name: str) -> bytes | None:
        """What is kept, wherever it was put."""
        ...

    def put(self, tenant: str, name: str, value: bytes, ttl: float) -> None:
        """Keep for `ttl` seconds. Raises ValueError for a value that is too large."""
        ...

    def delete(self, tenant: str, name: str) -> None: ...

    def close(self) -> None: ...

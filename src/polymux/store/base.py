"""The seams behind which state lives: in memory or in files here, in databases later. All calls are cheap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from polymux.routing.limits import Verdict
from polymux.types import Key, Record


class Keys(Protocol):
    """Client keys, found by digest."""

    def find(self, secret: str) -> Key | None: ...


class Counters(Protocol):
    """What is used of a limit. Names are ours ("rpm:key-id")."""

    def admit(self, name: str, limit: int) -> Verdict:
        """Count one request against `limit` per minute, if it fits."""
        ...


class Ledger(Protocol):
    """Usage records. They are safe from the death of this process when `append` returns."""

    def append(self, records: Sequence[Record]) -> None:
        """Raises OSError when they cannot be kept."""
        ...

    def close(self) -> None: ...


class Memory(Protocol):
    """Small values that outlive a request (conversation ids, signatures), kept apart by tenant."""

    def get(self, tenant: str, name: str) -> bytes | None: ...

    def put(self, tenant: str, name: str, value: bytes, ttl: float) -> None:
        """Keep for `ttl` seconds."""
        ...

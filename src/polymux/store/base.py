"""The seams behind which state lives: in memory or in files here, in databases later. All calls are cheap."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec

from polymux.routing.limits import Verdict
from polymux.types import Key, Record
from polymux.wire.redact import Redactor

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

    async def take(self, tenant: str, name: str) -> bytes | None:
        """The same, and it is gone: of all who take it, in whatever process, one gets it."""
        ...

    def put(self, tenant: str, name: str, value: bytes, ttl: float) -> None:
        """Keep for `ttl` seconds. Raises ValueError for a value that is too large."""
        ...

    def delete(self, tenant: str, name: str) -> None: ...

    def close(self) -> None: ...


class Keeping(msgspec.Struct, frozen=True):
    """What is kept of conversations, and where: those of keys that have it on, and of the `models` (public names).

    max_size: bytes of one.
    """

    log: Conversations
    models: re.Pattern[str] | None = None
    redactor: Redactor = Redactor()
    max_size: int = 256 * 1024


class Spoken(msgspec.Struct, frozen=True):
    """A conversation that has ended, as it passed.

    answer: what the client got, or would have got, in pieces; streamed: as events. cut: there was more of it. notes: of
    the function model. size: bytes that were taken of the room for it.
    """

    record: Record
    request: bytes
    answer: list[bytes]
    streamed: bool
    cut: bool
    notes: Sequence[str]
    size: int
    keeping: Keeping


class Conversations(Protocol):
    """Where conversations go. Called on requests' paths: nothing here waits, or fails."""

    def take(self, size: int) -> bool:
        """Bytes of the room that conversations have while they are under way and until they are written; False: there
        is none left."""
        ...

    def put(self, spoken: Spoken) -> None:
        """Keep it, within a moment; its size is given back."""
        ...

"""How many calls of one model run at the same time: places, and a bounded queue before them. One event loop's."""

from __future__ import annotations

import asyncio
from types import TracebackType

from polymux.errors import Failure


class Place:
    """The right to run. Given back at the end of the `with` block, or later by `leave` once it was `keep`-ed."""

    def __init__(self, gate: asyncio.Semaphore | None) -> None:
        self._gate = gate
        self._kept = False

    def keep(self) -> None:
        """A thread has it now, and outlives the caller."""
        self._kept = True

    def leave(self) -> None:
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.release()

    def __enter__(self) -> Place:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        if not self._kept:
            self.leave()


class Gate:
    """The places of one model: first come, first served."""

    def __init__(self, name: str, places: int, queue: int) -> None:
        """`places` 0: no bound."""
        self.places = places
        self._name, self._queue = name, queue
        self._gate = asyncio.Semaphore(places) if places else None
        self._waiting = 0

    async def enter(self, final: float) -> Place:
        """Wait for a place, at most until `final` (the loop's clock). Raises `Failure`: 503 `overloaded`."""
        gate = self._gate
        if gate is None:
            return Place(None)
        if gate.locked() and self._waiting >= self._queue:
            raise self._busy(f"{self._waiting} more wait")
        self._waiting += 1
        try:
            async with asyncio.timeout_at(final):
                await gate.acquire()
        except TimeoutError:
            raise self._busy("a place did not come free in time") from None
        finally:
            self._waiting -= 1
        return Place(gate)

    def _busy(self, why: str) -> Failure:
        text = f"the model {self._name!r} is busy: {self.places} calls of it run, and {why}; try again later"
        return Failure("overloaded", text, retry_after=1.0)

"""`ledger.journal_full = "stop"`: no call is served whose usage cannot be recorded."""

from __future__ import annotations

from typing import Protocol

from polymux.errors import Failure
from polymux.hooks.base import Hook
from polymux.types import Call

_TEXT = "the gateway cannot record usage, because its disk is full or fails; it serves again when that is over"


class Recording(Protocol):
    """failing: records cannot be written at the moment."""

    @property
    def failing(self) -> bool: ...


class Halt(Hook):
    """Refuses calls while the journal fails. Each refusal is tried to be recorded, so it ends by itself."""

    def __init__(self, journal: Recording) -> None:
        self._journal = journal

    async def admit(self, call: Call) -> None:
        if self._journal.failing:
            raise Failure("overloaded", _TEXT)

"""Calls are refused while the journal fails, and not a moment longer."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from polymux.errors import Failure
from polymux.hooks.base import overriding
from polymux.hooks.halt import Halt


def test_calls_are_refused_while_the_journal_fails() -> None:
    journal, call = SimpleNamespace(failing=False), Any
    halt = Halt(journal)
    assert overriding((halt,), "admit") == (halt,)
    asyncio.run(halt.admit(call))  # type: ignore[arg-type]  # it does not look at the call
    journal.failing = True
    with pytest.raises(Failure) as caught:
        asyncio.run(halt.admit(call))  # type: ignore[arg-type]  # likewise
    assert (caught.value.status, caught.value.kind) == (503, "overloaded")
    journal.failing = False
    asyncio.run(halt.admit(call))  # type: ignore[arg-type]  # likewise

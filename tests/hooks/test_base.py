"""The contract of hooks: what is left alone is never called."""

from __future__ import annotations

import asyncio
from typing import Any

from polymux.hooks.base import Hook, overriding
from polymux.schema.chat import Chunk
from polymux.types import Call, Key

CALL = Call("req_1", "chat", Key("k", "k"), "echo", False, {}, b"")


class Admits(Hook):
    async def admit(self, call: Call) -> None:
        call.user = "seen"


class Alters(Hook):
    def chunk(self, call: Call, chunk: Chunk) -> Chunk | None:
        return None


class Inherits(Alters):
    pass


def test_only_hooks_that_do_something_are_called() -> None:
    idle, admits, alters, inherits = Hook(), Admits(), Alters(), Inherits()
    hooks = (idle, admits, alters, inherits)
    assert overriding(hooks, "admit") == (admits,)
    assert overriding(hooks, "chunk") == (alters, inherits)
    assert overriding(hooks, "settled") == ()
    assert overriding((), "admit") == ()


def test_a_hook_that_overrides_nothing_changes_nothing() -> None:
    record: Any = object()
    chunk = Chunk("id", 1, "echo", [])

    async def run() -> None:
        await Hook().admit(CALL)
        await Hook().settled(CALL, record)

    asyncio.run(run())
    assert Hook().chunk(CALL, chunk) is chunk

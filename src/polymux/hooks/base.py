"""What may look at, refuse or change a request on its way. Override what you need; the rest costs nothing."""

from __future__ import annotations

from collections.abc import Sequence

from polymux.errors import Failure
from polymux.schema.chat import Chunk
from polymux.types import Call, Deployment, Record


class Hook:
    """Guards, redaction, traces, logs and metrics are hooks. Methods left alone are never called."""

    async def admit(self, call: Call) -> None:
        """Before anything is spent. Raise `errors.Failure` to refuse."""

    def chunk(self, call: Call, chunk: Chunk) -> Chunk | None:
        """Each chunk on its way to the client; None drops it. Sends the call through the translated lane."""
        return chunk

    def failed(self, call: Call, to: Deployment, failure: Failure) -> None:
        """An attempt has failed, whether another follows or not. Quick, and without I/O that can wait."""

    def ended(self, records: Sequence[Record]) -> None:
        """The records of what ended in one turn of the loop, before the last bytes go out. Likewise quick."""

    async def settled(self, call: Call, record: Record) -> None:
        """After the last byte, never in its way."""


def overriding(hooks: tuple[Hook, ...], method: str) -> tuple[Hook, ...]:
    """The hooks that do something in `method`."""
    return tuple(hook for hook in hooks if getattr(type(hook), method) is not getattr(Hook, method))

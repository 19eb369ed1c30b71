"""The sink of a call whose conversation is kept: all that passes is copied on its way, within bounds."""

from __future__ import annotations

from typing import Final

from polymux.run import Sink
from polymux.store.base import Keeping, Spoken
from polymux.types import Call, Record

FRAMING: Final = 32  # times as large may a stream be as the text in it


class Recorder:
    """Implements `run.Sink` over the sink of the client, which may change: `to`. What it takes of the log's room is
    given back by `keep`, and so every recorder ends."""

    __slots__ = ("_answer", "_call", "_cut", "_keeping", "_left", "_request", "_size", "_streamed", "to")

    def __init__(self, call: Call, keeping: Keeping, to: Sink) -> None:
        self.to = to
        self._call = call
        self._keeping = keeping
        self._answer: list[bytes] = []
        self._streamed = False
        self._left = keeping.max_size * FRAMING  # bytes of a stream
        self._size = 0
        self._cut = False
        self._request = call.body if self._takes(len(call.body)) else b""
        call.notes = []

    @property
    def started(self) -> bool:
        return self.to.started

    @property
    def full(self) -> bool:
        return self.to.full

    def respond(self, status: int, head: bytes, body: bytes) -> None:
        if self._takes(len(body)):  # it need not be smaller to be put together
            self._answer.append(body)
        self.to.respond(status, head, body)

    def start(self, status: int, head: bytes) -> None:
        self._streamed = True
        self.to.start(status, head)

    def write(self, data: bytes) -> None:
        self._copy(data)
        self.to.write(data)

    def end(self, data: bytes) -> None:
        self._copy(data)
        self.to.end(data)

    async def drain(self) -> None:
        await self.to.drain()

    def keep(self, record: Record) -> None:
        """The call has ended."""
        notes, keeping = self._call.notes or (), self._keeping
        keeping.log.put(
            Spoken(record, self._request, self._answer, self._streamed, self._cut, notes, self._size, keeping)
        )

    def _copy(self, data: bytes) -> None:
        if self._left <= 0:
            self._cut = True
        elif self._takes(len(data)):
            self._left -= len(data)
            self._answer.append(data)

    def _takes(self, size: int) -> bool:
        if self._cut or not self._keeping.log.take(size):
            self._cut = True
            return False
        self._size += size
        return True

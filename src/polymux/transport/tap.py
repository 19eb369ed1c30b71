"""A listener on the wire, for debugging."""

from __future__ import annotations

from typing import Protocol

from polymux.transport.reply import MAX_BODY, Reply, Source
from polymux.types import Deployment, WireRequest


class Tap(Protocol):
    """Sees what passes between us and the upstreams. It must not raise, and must not keep the loop waiting."""

    def sent(self, to: Deployment, request: WireRequest) -> None:
        """A request goes out; once for each time it is sent."""

    def answered(self, to: Deployment, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """The head of an answer; names as the upstream wrote them."""

    def received(self, to: Deployment, data: bytes) -> None:
        """A part of its body, decoded, as the reader gets it."""


class Tapped(Reply):
    """A reply with a listener."""

    __slots__ = ("_tap", "_to")

    def __init__(self, conn: Source, deadline: float, final: float, tap: Tap, to: Deployment) -> None:
        super().__init__(conn, deadline, final)
        self._tap, self._to = tap, to

    async def block(self) -> bytes:
        if data := await super().block():
            self._tap.received(self._to, data)
        return data

    async def whole(self, limit: int = MAX_BODY) -> bytes:
        data = await super().whole(limit)
        self._tap.received(self._to, data)
        return data

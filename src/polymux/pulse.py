"""Comments that keep a silent stream alive: load balancers and clients give up on connections that say nothing."""

from __future__ import annotations

import asyncio
from typing import Protocol

SILENCE = 15.0  # seconds without a byte before the first comment, and between two


class Beating(Protocol):
    """A stream under way."""

    beat: float  # when it last said something, the loop's clock

    def comment(self) -> None:
        """Say something without content."""
        ...


class Pulse:
    """Watches the streams of one event loop, once a second."""

    def __init__(self) -> None:
        self._streams: set[Beating] = set()
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, stream: Beating, loop: asyncio.AbstractEventLoop) -> None:
        stream.beat = loop.time()
        self._streams.add(stream)
        if self._timer is None:
            self._timer = loop.call_later(1.0, self._tick, loop)

    def forget(self, stream: Beating) -> None:
        self._streams.discard(stream)

    def check(self, now: float) -> None:
        """Let those that were silent for too long say something."""
        for stream in self._streams:
            if now - stream.beat >= SILENCE:
                stream.beat = now
                stream.comment()

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self.check(loop.time())
        self._timer = loop.call_later(1.0, self._tick, loop) if self._streams else None

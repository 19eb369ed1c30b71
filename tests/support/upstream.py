"""A scripted provider on a real socket: records every request whole, answers by script, misbehaves on demand.

Nothing here is timed. A test waits for events (`wait`, `Seen.gone`, `Seen.done`) and releases what is held back
(`Seen.release`). The deadline on every wait only turns a hang into a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections import deque
from types import TracebackType
from typing import Final, Self

from polymux.mock.provider import Options, Provider
from polymux.mock.scripts import Headers, Script
from polymux.mock.server import Exchange, Server
from support.scripts import MODELS, choose

PATIENCE: Final = 20.0
KEY: Final = "upstream-key"


class Seen(Exchange):
    """One request as it arrived, and what became of its answer.

    gone: the peer left before the answer was whole. done: the script was played to its end. blocked: the peer stopped
    reading.
    """

    def __init__(self, method: str, path: str, headers: Headers, body: bytes, connection: int) -> None:
        super().__init__(method, path, headers, body, connection)
        self.gone = threading.Event()
        self.done = threading.Event()
        self.blocked = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._permits = asyncio.Semaphore(0)

    async def permit(self) -> None:
        await self._permits.acquire()

    def when_blocked(self) -> None:
        self.blocked.set()

    def when_ended(self, whole: bool) -> None:
        (self.done if whole else self.gone).set()

    def release(self, count: int = 1) -> None:
        """Let `count` held frames out (or end a stall)."""
        for _ in range(count):
            self._loop.call_soon_threadsafe(self._permits.release)

    def wait_gone(self) -> None:
        assert self.gone.wait(PATIENCE), f"the upstream connection of {self.model!r} is still open"

    def wait_done(self) -> None:
        assert self.done.wait(PATIENCE), f"the answer to {self.model!r} was not taken"


class Upstream:
    """The provider. `with Upstream() as upstream:` serves both dialects on `upstream.url`."""

    def __init__(self) -> None:
        self.requests: list[Seen] = []
        self._arrived = threading.Condition()
        self._overrides: dict[str, deque[Script]] = {}
        self._provider = Provider(Options(key=KEY), MODELS, choose)
        self._loop = asyncio.new_event_loop()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="upstream", daemon=True)
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    # ---- the test's side ----

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE)

    def clear(self) -> None:
        """Forget what was recorded and scripted (connections stay)."""
        with self._arrived:
            self.requests.clear()
            self._overrides.clear()

    def script(self, model: str, *scripts: Script) -> None:
        """Answer the next requests for `model` with these, in order; the last one stays."""
        with self._arrived:
            self._overrides[model] = deque(scripts)

    def seen(self, model: str) -> list[Seen]:
        with self._arrived:
            return [request for request in self.requests if request.model == model]

    def wait(self, model: str, count: int = 1) -> Seen:
        """The `count`-th request for a model, as soon as it has arrived."""
        with self._arrived:
            arrived = self._arrived.wait_for(lambda: len(self._for(model)) >= count, PATIENCE)
            assert arrived, f"no request {count} for {model!r}; arrived: {[r.model for r in self.requests]}"
            return self._for(model)[count - 1]

    def _for(self, model: str) -> list[Seen]:
        return [request for request in self.requests if request.model == model]

    # ---- the wire's side ----

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        with contextlib.closing(self._loop):
            self._loop.run_until_complete(Server(self._script, Seen).run(self._socket, self._end))

    def _script(self, seen: Seen) -> Script:
        script = self._provider.refusal(seen) or self._override(seen.model) or self._provider.script(seen)
        with self._arrived:
            self.requests.append(seen)
            self._arrived.notify_all()
        return script

    def _override(self, model: str) -> Script | None:
        with self._arrived:
            scripted = self._overrides.get(model)
            if not scripted:
                return None
            return scripted.popleft() if len(scripted) > 1 else scripted[0]

"""One engine with real parts around it: a client and a ledger that remember, the scripted provider, functions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import structs

from polymux.engine import Engine
from polymux.functions import Functions
from polymux.hooks.base import Hook
from polymux.providers.base import Adapter
from polymux.providers.dialects import DIALECTS
from polymux.routing.registry import Registry
from polymux.run import Snapshot
from polymux.store.memory import LocalCounters, LocalMemory
from polymux.surfaces.chat import Chat
from polymux.transport import Transport
from polymux.types import Deployment, Key, Record, Route
from support.raw import payloads
from support.upstream import KEY, Upstream


class Client:
    """Implements `Sink`. Everything, the ledger's records too, is in `log`, in the order it happened."""

    def __init__(self, log: list[tuple[str, Any]]) -> None:
        self.log = log
        self.status = 0
        self.head: dict[str, str] = {}
        self.body = b""
        self.wrote = asyncio.Event()
        self.ended = False
        self.full = False
        self.draining = asyncio.Event()
        self.drained = asyncio.Event()

    @property
    def started(self) -> bool:
        return bool(self.status)

    def respond(self, status: int, head: bytes, body: bytes) -> None:
        self.start(status, head)
        self.end(body)

    def start(self, status: int, head: bytes) -> None:
        assert not self.status, "answered twice"
        assert head.endswith(b"\r\n")
        self.status = status
        lines = head.decode("ascii").split("\r\n")[:-1]
        self.head = {name: value for name, _, value in (line.partition(": ") for line in lines)}
        assert len(self.head) == len(lines), "a header twice"
        self.log.append(("start", status))

    def write(self, data: bytes) -> None:
        assert self.status
        assert not self.ended
        assert data
        self.body += data
        self.log.append(("write", data))
        self.wrote.set()

    def end(self, data: bytes) -> None:
        assert self.status
        assert not self.ended
        self.ended = True
        self.body += data
        self.log.append(("end", data))

    async def drain(self) -> None:
        self.draining.set()
        await self.drained.wait()
        self.full = False

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[bytes]:
        return payloads(self.body)

    def text(self) -> str:
        """The content of a streamed or whole answer."""
        if not self.head["content-type"].startswith("text/event-stream"):
            return str(self.json()["choices"][0]["message"]["content"])
        chunks = [json.loads(event) for event in self.events() if event != b"[DONE]"]
        return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk.get("choices", ()))


class Ledger:
    """Implements `store.Ledger`; broken on demand."""

    def __init__(self, log: list[tuple[str, Any]]) -> None:
        self.log = log
        self.records: list[Record] = []
        self.broken = False
        self.closed = False

    def append(self, records: Sequence[Record]) -> None:
        if self.broken:
            raise OSError(28, "No space left on device")
        self.records += records
        self.log += [("record", record.id) for record in records]

    def close(self) -> None:
        self.closed = True


class House:
    """One engine and what is around it. Used inside a running loop."""

    adapters: Mapping[str, Adapter] = DIALECTS

    def __init__(self, upstream: Upstream, hooks: tuple[Hook, ...] = (), **functions: Callable[..., Any]) -> None:
        self.upstream = upstream
        self.log: list[tuple[str, Any]] = []
        self.ledger = Ledger(self.log)
        self.transport = Transport()
        self.key = Key("static-1", "ada", "acme")
        self.functions = Functions(functions)
        self.snapshot = Snapshot(Registry((), (), Route("", ()), 0), self.functions)  # its other members count
        self.counters = LocalCounters(lambda: 0.0)
        self.memory = LocalMemory()
        self.engine = Engine(self.adapters, self.transport, self.counters, self.ledger, self.memory, hooks)
        self._keeper = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        """Ends with the test, as all tasks do, and closes what is open."""
        try:
            await asyncio.Event().wait()
        finally:
            await self.engine.close()

    def openai(self, model: str) -> Deployment:
        headers = (("authorization", f"Bearer {KEY}"),)
        return Deployment(f"corp/{model}", "corp", model, "openai", f"{self.upstream.url}/v1", headers)

    def anthropic(self, model: str) -> Deployment:
        headers = (("x-api-key", KEY), ("anthropic-version", "2023-06-01"))
        return Deployment(f"claude/{model}", "claude", model, "anthropic", f"{self.upstream.url}/v1", headers)

    def function(self, name: str) -> Deployment:
        return Deployment(f"functions/{name}", "functions", name, "function")

    def start(self, *routes: Route, **members: Any) -> tuple[Client, asyncio.Task[None]]:
        body = {"model": routes[0].name, "messages": [{"role": "user", "content": "Hi"}], **members}
        surface, client = Chat(), Client(self.log)
        call = surface.decode(json.dumps(body).encode(), f"req_{len(self.ledger.records)}", self.key)
        first = structs.replace(routes[0], fallbacks=tuple(route.name for route in routes[1:]))
        registry = Registry((first, *routes[1:]), (), first, 0)
        snapshot = structs.replace(self.snapshot, registry=registry, functions=self.functions)
        return client, asyncio.create_task(self.engine.run(call, surface, snapshot, client))

    async def ask(self, *to: Deployment, strict: bool = False, **members: Any) -> Client:
        client, running = self.start(route(*to, strict=strict), **members)
        await running
        assert client.ended
        return client

    @property
    def record(self) -> Record:
        """The record of the only request."""
        (record,) = self.ledger.records
        return record


def route(*to: Deployment, **members: Any) -> Route:
    return Route("public", to, "ordered", **members)


def error(client: Client) -> Any:
    assert client.head["content-type"] == "application/json"
    return client.json()["error"]

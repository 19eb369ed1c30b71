"""The admin API's handlers without a network: a real database behind, a recording exchange before."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from polymux.config import Limits
from polymux.errors import Failure
from polymux.functions import Functions
from polymux.http.serve import Settings
from polymux.routing.registry import Registry
from polymux.run import Snapshot
from polymux.store.database import Database
from polymux.store.keys import KeyStore
from polymux.store.live import LiveKeys
from polymux.store.memory import StaticKeys, digest
from polymux.types import Deployment, Key, Route

ADMIN: Final = "admin-secret"
STATIC: Final = "sk-static"


def registry() -> Registry:
    def to(provider: str, model: str, weight: int = 1) -> Deployment:
        return Deployment(f"{provider}/{model}", provider, model, "openai", "https://u:secret@h", weight=weight)

    smart = Route("smart", (to("corp", "large", 3), to("other", "big")), "ordered", ("quick",))
    return Registry([smart, Route("quick", (to("corp", "large"),))], [], Route("", ()), 0)


class Exchange:
    """One request, and what was answered."""

    def __init__(self, target: str = "/", body: object = None, key: str = ADMIN) -> None:
        self.headers = {b"authorization": f"Bearer {key}".encode()}
        self.target = target.encode()
        self.body = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.status = 0
        self.told: Any = None

    def respond(self, status: int, head: bytes, body: bytes) -> None:
        assert not self.status, "answered twice"
        self.status = status
        self.told = json.loads(body) if body else None


class Office:
    """Implements `admin.api.Front`."""

    def __init__(self, directory: Path) -> None:
        self.database = Database("sqlite", directory)
        self.store = KeyStore(self.database)
        self.live = LiveKeys(self.store, StaticKeys([(STATIC, Key("static-1", "key 1", rpm=9))]))
        self.snapshot = Snapshot(registry(), Functions({}))
        self.settings = Settings(self.snapshot, self.live, admin=digest(ADMIN), limits=Limits(rpm=42))
        self.reload: Any = None

    def refuse(self, exchange: Any, failure: Failure, more: bytes = b"") -> None:
        error = {"message": failure.message, "param": failure.param, "code": failure.code}
        exchange.respond(failure.status, b"", json.dumps({"error": error}).encode())

    def ask(self, handler: Callable[..., Any], rest: str = "", query: str = "", body: object = None) -> Exchange:
        """The administrator asks."""
        exchange = Exchange(f"/admin/api{query}", body)
        self.give(handler, exchange, rest)
        return exchange

    def give(self, handler: Callable[..., Any], exchange: Exchange, rest: str = "") -> None:
        try:
            work = handler(self, exchange, rest)
        except Failure as failure:
            self.refuse(exchange, failure)
        else:
            if work is not None:
                asyncio.run(work)

"""The admin API's reload: who may, and what is answered. That it reloads is tested end to end."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from polymux.errors import Failure
from polymux.http.admin import Faulty, Reloaded, administrator, reload
from polymux.store.memory import digest

ADMIN = "admin-secret"


class Exchange:
    def __init__(self, authorization: str | None = f"Bearer {ADMIN}") -> None:
        self.headers = {} if authorization is None else {b"authorization": authorization.encode()}
        self.answer: tuple[int, Any] | None = None

    def respond(self, status: int, head: bytes, body: bytes) -> None:
        assert head == b"content-type: application/json\r\n"
        self.answer = status, json.loads(body)


def front(outcome: Reloaded | Faulty, admin: bytes = digest(ADMIN)) -> Any:
    async def reload() -> Reloaded:
        if isinstance(outcome, Faulty):
            raise outcome
        return outcome

    return SimpleNamespace(reload=reload, settings=SimpleNamespace(admin=admin))


def answer(outcome: Reloaded | Faulty) -> tuple[int, Any]:
    exchange: Any = Exchange()
    asyncio.run(reload(front(outcome), exchange, ""))
    assert exchange.answer is not None
    return exchange.answer


def test_what_was_reloaded_is_told() -> None:
    told = {"reloaded": True, "models": 3, "workers": 2, "needs_restart": ["server.port"]}
    assert answer(Reloaded(3, 2, ("server.port",))) == (200, {"data": told})


@pytest.mark.parametrize(
    ("faults", "words"),
    [(("a: b",), "the configuration has 1 fault: a: b"), (("a: b", "c: d"), "has 2 faults: a: b; c: d; the gateway")],
)
def test_faults_are_listed(faults: tuple[str, ...], words: str) -> None:
    status, body = answer(Faulty(faults))
    assert status == 400
    assert body["error"]["faults"] == list(faults)
    assert words in body["error"]["message"]
    assert (body["error"]["type"], body["error"]["code"]) == ("invalid_request_error", "invalid_configuration")
    assert body["error"]["param"] is None


@pytest.mark.parametrize("authorization", [f"Bearer {ADMIN}", f"bearer {ADMIN}", f" Bearer   {ADMIN} "])
def test_the_administrator_is_known(authorization: str) -> None:
    exchange: Any = Exchange(authorization)
    administrator(front(Reloaded(1, 1)), exchange)


@pytest.mark.parametrize("authorization", [None, "", "Bearer", ADMIN, f"Basic {ADMIN}", f"Bearer {ADMIN}x", "Bearer ÿ"])
def test_all_others_are_refused(authorization: str | None) -> None:
    exchange: Any = Exchange(authorization)
    with pytest.raises(Failure) as caught:
        administrator(front(Reloaded(1, 1)), exchange)
    assert caught.value.kind == "invalid_api_key"
    assert ADMIN not in caught.value.message


def test_without_an_admin_key_nobody_may() -> None:
    for authorization in ("Bearer ", None, f"Bearer {ADMIN}"):
        exchange: Any = Exchange(authorization)
        with pytest.raises(Failure) as caught:
            administrator(front(Reloaded(1, 1), b""), exchange)
        assert (caught.value.kind, caught.value.status) == ("admin_key_not_set", 403)
        assert "POLYMUX_ADMIN_KEY" in caught.value.message


def test_a_reload_goes_on_when_its_client_leaves() -> None:
    async def run() -> None:
        going, done = asyncio.Event(), asyncio.Event()

        async def slow() -> Reloaded:
            going.set()
            await asyncio.sleep(0)
            done.set()
            return Reloaded(1, 1)

        exchange: Any = Exchange()
        held = front(Reloaded(1, 1))
        held.reload = slow
        waiting = asyncio.ensure_future(reload(held, exchange, ""))
        await going.wait()
        waiting.cancel()
        await asyncio.wait({waiting})
        await asyncio.wait_for(done.wait(), 10)
        assert exchange.answer is None

    asyncio.run(run())

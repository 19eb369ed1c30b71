"""What the admin API's routes share: who may, what is asked, how it is answered; and the reload, tested end to end."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.admin.office import Exchange as Told
from tests.admin.office import Office

from polymux.admin.api import LIMIT, Faulty, Reloaded, administrator, asked, members, reload, rows
from polymux.admin.api import answer as api_answer
from polymux.errors import Failure
from polymux.store.base import Unusable
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


# ---- what is asked -----------------------------------------------------------------------------------------------


def asking(target: str = "/", body: bytes = b"") -> Any:
    return SimpleNamespace(target=target.encode("latin-1"), body=body)


def test_a_query_is_strict() -> None:
    assert asked(asking("/x?limit=5&after=a%20b&after=c~1"), ("limit", "after")) == {"limit": "5", "after": "c~1"}
    assert asked(asking("/x?"), ()) == {}
    with pytest.raises(Failure, match="unknown member 'limt'; did you mean 'limit'") as caught:
        asked(asking("/x?limt=5"), ("limit", "after"))
    assert (caught.value.status, caught.value.param) == (400, "limt")


@pytest.mark.parametrize(("query", "count"), [({}, LIMIT), ({"limit": "1"}, 1), ({"limit": "1000"}, 1000)])
def test_rows(query: dict[str, str], count: int) -> None:
    assert rows(query) == count


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "", "x", "1.5", "١", "9" * 5000])
def test_bad_numbers_of_rows(limit: str) -> None:
    with pytest.raises(Failure) as caught:
        rows({"limit": limit})
    assert (caught.value.kind, caught.value.param) == ("invalid_value", "limit")


def test_bodies_are_objects() -> None:
    assert members(asking(body=b'{"a": [1, null], "b": "x"}')) == {"a": [1, None], "b": "x"}
    assert members(asking(body=b" "), optional=True) == {}


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"5", b'{"a": 1, "a": 2}', b'{"a": "\xff"}', b'{"a": "\\ud800"}'])
def test_other_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(Failure) as caught:
        members(asking(body=body))
    assert (caught.value.kind, caught.value.status) == ("invalid_json", 400)


# ---- how it is answered ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (Failure("not_found", "there is none"), 404, "there is none"),
        (Unusable("the disk is full"), 503, "the disk is full"),
        (ValueError("the secret detail"), 500, "an internal error"),
    ],
)
def test_what_goes_wrong_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], error: Exception, status: int, words: str
) -> None:
    def work() -> object:
        raise error

    office, exchange = Office(tmp_path), Told()
    asyncio.run(api_answer(office, exchange, work))
    assert (exchange.status, words in exchange.told["error"]["message"]) == (status, True)
    assert "secret detail" not in str(exchange.told)
    assert ("the secret detail" in capsys.readouterr().err) is (status == 500)
    office.database.close()


def test_the_work_is_not_done_by_the_loop(tmp_path: Path) -> None:
    office, exchange = Office(tmp_path), Told()
    asyncio.run(api_answer(office, exchange, lambda: {"thread": threading.get_ident()}, 201))
    assert exchange.status == 201
    assert exchange.told["thread"] != threading.get_ident()
    office.database.close()

"""What each row of the route table answers, without a network: function models behind, a recording exchange before."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Sequence
from typing import Any, Final

import pytest
from msgspec import structs

from polymux import __version__
from polymux.engine import Engine
from polymux.errors import Failure
from polymux.functions import Functions
from polymux.hooks.metrics import Metrics
from polymux.http import handlers
from polymux.http.serve import Front, Settings
from polymux.http.watch import Watch
from polymux.providers.table import Source
from polymux.routing.registry import Registry
from polymux.run import Snapshot
from polymux.store.cells import Cells
from polymux.store.memory import LocalCounters, LocalMemory, StaticKeys
from polymux.transport import Transport
from polymux.types import Deployment, Key, Record, Route

SECRET: Final = "sk-ours-0123456789"
LIMITED: Final = "sk-limited-0123456789"
BEARER: Final = {b"authorization": b"Bearer " + SECRET.encode()}


class Exchange:
    """A request as the protocol hands it over, and what was answered."""

    def __init__(self, method: str = "GET", target: bytes = b"/", body: bytes = b"", **headers: str) -> None:
        self.method, self.target, self.body = method, target, body
        self.headers = {**BEARER, **{name.replace("_", "-").encode(): text.encode() for name, text in headers.items()}}
        self.id, self.extra = "req_1", b""
        self.full = False
        self.status = 0
        self.head = b""
        self.sent = b""

    started = False

    def respond(self, status: int, head: bytes, body: bytes) -> None:
        assert not self.status, "answered twice"
        self.status, self.head, self.sent = status, head, body


class Ledger:
    def __init__(self) -> None:
        self.records: list[Record] = []

    def append(self, records: Sequence[Record]) -> None:
        self.records += records

    def close(self) -> None:
        pass


def front(**more: Any) -> Front:
    template = Deployment("functions/", "functions", "", "function")
    source = Source("functions", (template,), {"meow": "meow", "a/b c": "meow"})
    routes = [Route("smart", source.deployments("meow")), Route("dumb", source.deployments("meow"))]
    registry = Registry(routes, [source], Route("", ()), 1000)
    keys = StaticKeys([(SECRET, Key("static-1", "ada")), (LIMITED, Key("static-2", "bob", models=("sm*",)))])
    functions = Functions({"meow": lambda messages: "meow"})
    engine = Engine({}, Transport(), LocalCounters(), Ledger(), LocalMemory())
    settings = Settings(Snapshot(registry, functions), keys, {"sk-ant-": "anthropic"})
    return Front(engine, settings, Watch(Metrics(Cells()), ()))


def body(**members: Any) -> bytes:
    return json.dumps({"model": "meow", "messages": [{"role": "user", "content": "x"}], **members}).encode()


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def test_chat_runs_the_call() -> None:
    house, exchange = front(), Exchange("POST", body=body(), x_request_id="mine" * 100)
    run(handlers.chat(house, exchange, ""))
    answer = json.loads(exchange.sent)
    assert (exchange.status, answer["choices"][0]["message"]["content"]) == (200, "meow")
    (record,) = house.engine._ledger.records
    assert (record.id, record.client_request_id) == ("req_1", ("mine" * 100)[:200])


@pytest.mark.parametrize(
    ("sent", "headers", "kind"),
    [
        (body(), {"authorization": "Bearer x"}, "invalid_api_key"),
        (b"{", {"authorization": "Bearer x"}, "invalid_api_key"),  # no word about the body to strangers
        (b"{", {}, "invalid_json"),
    ],
)
def test_chat_refuses_before_anything_runs(sent: bytes, headers: dict[str, str], kind: str) -> None:
    with pytest.raises(Failure) as caught:
        handlers.chat(front(), Exchange("POST", body=sent, **headers), "")
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("model", "key", "kind"), [("nothing", SECRET, "model_not_found"), ("meow", LIMITED, "model_not_allowed")]
)
def test_a_name_that_cannot_be_used_leaves_a_record(model: str, key: str, kind: str) -> None:
    exchange = Exchange("POST", body=body(model=model), authorization=f"Bearer {key}")
    house = front()
    run(handlers.chat(house, exchange, ""))
    assert (json.loads(exchange.sent)["error"]["code"], house.engine._ledger.records[0].error_code) == (kind, kind)


@pytest.mark.parametrize(("secret", "names"), [(SECRET, {"smart", "dumb", "meow", "a/b c"}), (LIMITED, {"smart"})])
def test_models_lists_what_the_key_may_use(secret: str, names: set[str]) -> None:
    exchange = Exchange(authorization=f"Bearer {secret}")
    handlers.models(front(), exchange, "")
    answer = json.loads(exchange.sent)
    assert answer["object"] == "list"
    assert {one["id"] for one in answer["data"]} == names
    assert {(one["object"], one["created"]) for one in answer["data"]} == {("model", 1000)}
    owners = {one["id"]: one["owned_by"] for one in answer["data"]}
    assert owners["smart"] == "polymux"
    assert owners.get("meow", "functions") == "functions"


@pytest.mark.parametrize(("name", "owner"), [("smart", "polymux"), ("meow", "functions"), ("a/b c", "functions")])
def test_one_model(name: str, owner: str) -> None:
    exchange = Exchange()
    handlers.model(front(), exchange, name)
    shown = {"id": name, "object": "model", "created": 1000, "owned_by": owner}
    assert json.loads(exchange.sent) == {**shown, "serves": ["chat", "completions"]}


@pytest.mark.parametrize(
    ("name", "secret", "kind"), [("nothing", SECRET, "model_not_found"), ("dumb", LIMITED, "model_not_allowed")]
)
def test_one_model_that_may_not_be_seen(name: str, secret: str, kind: str) -> None:
    with pytest.raises(Failure) as caught:
        handlers.model(front(), Exchange(authorization=f"Bearer {secret}"), name)
    assert caught.value.kind == kind


def test_an_unknown_name_suggests_only_what_the_key_may_use() -> None:
    with pytest.raises(Failure) as caught:
        handlers.model(front(), Exchange(authorization=f"Bearer {LIMITED}"), "dumber")
    assert "dumb'" not in caught.value.message.replace("'dumber'", "")


def test_health_needs_nothing() -> None:
    exchange = Exchange(authorization="")
    handlers.health(front(), exchange, "")
    assert (exchange.status, exchange.sent) == (200, b'{"status":"healthy"}')


def test_ready_until_the_end_begins() -> None:
    house, exchange = front(), Exchange(authorization="")
    handlers.ready(house, exchange, "")
    assert exchange.status == 200
    house.draining = True
    with pytest.raises(Failure, match="shutting down") as caught:
        handlers.ready(house, Exchange(), "")
    assert caught.value.status == 503


@pytest.mark.parametrize("host", ["gw.example:8000", '"><script>alert(1)</script>', "{version}"])
def test_the_page_shows_the_address_and_escapes_it(host: str) -> None:
    exchange = Exchange(host=host)
    house = front()
    house.swap(structs.replace(house.settings, scheme="https"))
    handlers.page(house, exchange, "")
    text = exchange.sent.decode()
    assert "<script" not in text
    assert __version__ in text
    assert "https://" in text
    if "example" in host:
        assert "https://gw.example:8000/v1" in text
    assert b"default-src 'none'" in exchange.head
    assert 'lang="zh"' in text


def test_the_page_without_a_host() -> None:
    exchange = Exchange()
    handlers.page(front(), exchange, "")
    assert b"http://127.0.0.1/v1" in exchange.sent

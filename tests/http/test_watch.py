"""`GET /metrics`: open to this machine, to others with the admin key; and what is seen of refused requests."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from polymux.engine import Engine
from polymux.errors import Failure
from polymux.functions import Functions
from polymux.hooks.base import Hook
from polymux.hooks.metrics import Metrics
from polymux.http.serve import Front, Settings
from polymux.http.watch import Watch, local
from polymux.routing.registry import Registry
from polymux.run import Snapshot
from polymux.store.cells import Cells
from polymux.store.memory import LocalCounters, LocalMemory, StaticKeys, digest
from polymux.transport import Transport
from polymux.types import Key, Record, Route

ADMIN, SECRET = "admin-secret-1", "sk-ada-0123456789"
ADA = Key("static-1", "ada", "acme")


class Exchange:
    """A request and its answer."""

    def __init__(self, method: str, target: str, client: str = "127.0.0.1", **headers: str) -> None:
        self.method, self.target, self.client = method, target.encode(), client
        self.headers = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
        self.body, self.id, self.extra, self.started = b"", "", b"", False
        self.status, self.head, self.sent = 0, b"", b""

    def respond(self, status: int, head: bytes, body: bytes) -> None:
        self.status, self.head, self.sent = status, head, body


class Seen(Hook):
    def __init__(self) -> None:
        self.records: list[Record] = []

    def ended(self, records: Sequence[Record]) -> None:
        self.records += records


class Kept:
    """Implements `store.Ledger`."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def append(self, records: Sequence[Record]) -> None:
        self.records += records

    def close(self) -> None: ...


def front(admin: bytes = b"", seen: Seen | None = None, kept: Kept | None = None) -> Front:
    engine = Engine({}, Transport(), LocalCounters(), kept or Kept(), LocalMemory())
    snapshot = Snapshot(Registry([], [], Route("", ()), 0), Functions({}))
    watch = Watch(Metrics(Cells()), (seen,) if seen else ())
    return Front(engine, Settings(snapshot, StaticKeys([(SECRET, ADA)]), admin=admin), watch)


def serve(front: Front, exchange: Exchange) -> Exchange:
    served: Any = exchange
    work: Coroutine[Any, Any, None] | None = front.serve(served)
    if work is not None:
        asyncio.run(work)  # type: ignore[arg-type]  # a coroutine
    assert exchange.status, "no answer"
    return exchange


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", ""])
def test_this_machine_needs_no_key(client: str) -> None:
    answer = serve(front(), Exchange("GET", "/metrics", client))
    assert answer.status == 200
    assert b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n" in answer.head
    assert b"\npolymux_workers 1.0\n" in answer.sent


@pytest.mark.parametrize("client", ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "fe80::1%eth0", "nonsense"])
def test_others_need_the_admin_key(client: str) -> None:
    gateway = front(digest(ADMIN))
    assert serve(gateway, Exchange("GET", "/metrics", client, authorization=f"Bearer {ADMIN}")).status == 200
    for header in ("", ADMIN, "Bearer", "Bearer wrong", f"Basic {ADMIN}"):
        answer = serve(gateway, Exchange("GET", "/metrics", client, authorization=header))
        assert answer.status == 401
        assert b"polymux_workers" not in answer.sent


def test_without_an_admin_key_others_get_words() -> None:
    answer = serve(front(), Exchange("GET", "/metrics", "192.0.2.1", authorization="Bearer "))
    assert answer.status == 403
    assert b"admin key" in answer.sent


@pytest.mark.parametrize("header", ["x_forwarded_for", "forwarded", "x_real_ip"])
def test_what_a_proxy_passes_on_is_not_of_this_machine(header: str) -> None:
    exchange: Any = Exchange("GET", "/metrics", "127.0.0.1", **{header: "127.0.0.1"})
    assert not local(exchange)


def test_openmetrics_is_there_for_who_accepts_it() -> None:
    answer = serve(front(), Exchange("GET", "/metrics", accept="application/openmetrics-text; version=1.0.0"))
    assert answer.head.startswith(b"content-type: application/openmetrics-text; version=1.0.0")
    assert answer.sent.endswith(b"# EOF\n")


REFUSED = [
    (Exchange("GET", "/nowhere?key=secret"), 404, "not_found", "GET /nowhere"),
    (Exchange("GET", "/v1/models"), 401, "invalid_api_key", "GET /v1/models"),
    (Exchange("DELETE", "/v1/models"), 405, "method_not_allowed", "DELETE /v1/models"),
    (Exchange("GET", "/x/sk-1234567890abcdef"), 404, "not_found", "GET /x/sk-1…"),
    (Exchange("GET", "/" + "x" * 500), 404, "not_found", "GET /" + "x" * 119),
]


@pytest.mark.parametrize(("exchange", "status", "code", "surface"), REFUSED)
def test_what_is_refused_is_counted_and_logged(exchange: Exchange, status: int, code: str, surface: str) -> None:
    seen = Seen()
    gateway = front(seen=seen)
    assert serve(gateway, exchange).status == status
    (record,) = seen.records
    assert (record.id, record.status, record.error_code, record.surface) == (exchange.id, status, code, surface)
    text = serve(gateway, Exchange("GET", "/metrics")).sent.decode()
    counted = (
        f'polymux_requests_total{{error_type="{code}",gen_ai_operation_name="",http_response_status_code="{status}"}}'
    )
    assert f"{counted} 1.0\n" in text


def call(body: bytes, secret: str = SECRET, path: str = "/v1/chat/completions") -> Exchange:
    exchange = Exchange("POST", path, authorization=f"Bearer {secret}", x_request_id="mine")
    exchange.body = body
    return exchange


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [(b"{", 400, "invalid_json"), (b"{}", 400, "missing_required_parameter"), (b'{"model":7}', 400, "invalid_type")],
)
def test_a_call_with_a_key_has_a_record_even_if_it_never_began(body: bytes, status: int, code: str) -> None:
    seen, kept = Seen(), Kept()
    exchange = call(body)
    assert serve(front(seen=seen, kept=kept), exchange).status == status
    (record,) = kept.records
    assert (record.id, record.status, record.error_code) == (exchange.id, status, code)
    assert (record.key_id, record.key_name, record.tenant, record.surface) == ("static-1", "ada", "acme", "chat")
    assert (record.usage_source, record.cost_usd, record.client_request_id) == ("none", "0", "mine")
    assert seen.records == [], "the ledger tells the log itself"


def test_one_that_is_too_large_too() -> None:
    kept = Kept()
    exchange: Any = call(b"")
    front(kept=kept).refuse(exchange, Failure("request_too_large", "x"))
    assert [record.status for record in kept.records] == [413]


@pytest.mark.parametrize(
    "exchange",
    [
        call(b"{", "sk-unknown"),
        call(b"{", path="/v1/nowhere"),
        call(b"{", path="/admin/api/reload"),
        Exchange("GET", "/v1/models/nobody", authorization=f"Bearer {SECRET}"),
    ],
)
def test_strangers_and_what_is_no_call_leave_none(exchange: Exchange) -> None:
    seen, kept = Seen(), Kept()
    assert serve(front(seen=seen, kept=kept), exchange).status >= 400
    assert kept.records == []
    assert len(seen.records) == 1


def test_what_the_end_of_the_gateway_breaks_off_is_not_recorded_twice() -> None:
    kept = Kept()
    exchange: Any = call(b"{}")
    front(kept=kept).refuse(exchange, Failure("overloaded", "the gateway is shutting down"))
    assert kept.records == []


def test_what_the_protocol_refuses_is_seen_too() -> None:
    seen = Seen()
    exchange: Any = Exchange("GET", "")
    front(seen=seen).refuse(exchange, Failure("headers_too_large", "x"))
    (record,) = seen.records
    assert (record.status, record.surface) == (431, "GET")
    assert record.id.startswith("req_")


def test_levels_are_those_of_the_moment() -> None:
    gateway = front()
    gateway.engine.under_way = 3
    gateway.watch.sample(gateway.engine, 7)
    text = serve(gateway, Exchange("GET", "/metrics")).sent
    assert b"\npolymux_in_flight 3.0\n" in text
    assert b"\npolymux_client_connections 7.0\n" in text

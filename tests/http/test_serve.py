"""The one handler: whatever happens, one answer in an envelope, with an id of ours and headers a page may read."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from polymux.errors import Failure
from polymux.functions import Functions
from polymux.hooks.metrics import Metrics
from polymux.http import routes
from polymux.http.routes import Row
from polymux.http.serve import Front, Settings
from polymux.http.watch import Watch
from polymux.routing.registry import Registry
from polymux.run import Snapshot
from polymux.store.cells import Cells
from polymux.types import Route

ORIGIN: Final = "https://app.example"


class Exchange:
    def __init__(self, method: str, target: str, **headers: str) -> None:
        self.method, self.target, self.body = method, target.encode("latin-1"), b""
        self.headers = {name.replace("_", "-").encode(): text.encode() for name, text in headers.items()}
        self.id, self.extra, self.started = "", b"", False
        self.status = 0
        self.sent = b""
        self._head = b""

    def respond(self, status: int, head: bytes, body: bytes) -> None:
        assert not self.status, "answered twice"
        self.status, self._head, self.sent = status, head, body

    @property
    def head(self) -> dict[str, str]:
        lines = (self.extra + self._head).decode("latin-1").split("\r\n")[:-1]
        found = {name: value for name, _, value in (line.partition(": ") for line in lines)}
        assert len(found) == len(lines), f"a header twice: {lines}"
        return found

    def error(self) -> Any:
        assert self.head["content-type"] == "application/json"
        return json.loads(self.sent)["error"]


class Keys:
    def find(self, secret: str) -> None:
        return None


def front(origins: tuple[str, ...] = ("*",)) -> Front:
    unused: Any = None
    snapshot = Snapshot(Registry([], [], Route("", ()), 0), Functions({}))
    return Front(unused, Settings(snapshot, Keys(), origins=origins), Watch(Metrics(Cells()), ()))


def serve(method: str, target: str, origins: tuple[str, ...] = ("*",), **headers: str) -> Exchange:
    exchange = Exchange(method, target, **headers)
    unused: Any = exchange
    assert front(origins).serve(unused) is None
    assert exchange.status, "no answer"
    return exchange


def test_every_answer_has_an_id_of_ours() -> None:
    one, two = serve("GET", "/health", x_request_id="mine"), serve("GET", "/nowhere")
    for exchange in (one, two):
        assert exchange.head["x-request-id"] == exchange.id
        assert exchange.id.startswith("req_")
        assert len(exchange.id) == 28
    assert one.id != two.id


@pytest.mark.parametrize("path", ["/nowhere", "/v1/chat", "/v1/nowhere?key=secret"])
def test_an_unknown_address_names_what_there_is(path: str) -> None:
    exchange = serve("GET", path)
    assert (exchange.status, exchange.error()["code"]) == (404, "not_found")
    assert "POST /v1/chat/completions" in exchange.error()["message"]
    assert "secret" not in exchange.sent.decode()


def test_a_long_address_is_not_repeated_whole() -> None:
    assert len(serve("GET", "/" + "x" * 9999).sent) < 1000


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("GET", "/v1/chat/completions", "POST"), ("HEAD", "/chat/completions", "POST"), ("PUT", "/v1/models/x/y", "GET")],
)
def test_a_wrong_method(method: str, path: str, allow: str) -> None:
    exchange = serve(method, path)
    assert (exchange.status, exchange.error()["code"]) == (405, "method_not_allowed")
    assert exchange.head["allow"] == allow


def test_head_is_served_by_get() -> None:
    assert serve("HEAD", "/health").status == 200


@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions"])
def test_401_says_how_to_authenticate(path: str) -> None:
    exchange = serve("POST" if "chat" in path else "GET", path)
    assert exchange.status == 401
    assert exchange.head["www-authenticate"] == "Bearer"
    assert exchange.error()["type"] == "authentication_error"


def test_a_fault_of_ours_is_500_and_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(front: Front, exchange: Any, rest: str) -> None:
        raise ValueError("the secret detail")

    monkeypatch.setattr(routes, "TABLE", (Row("GET", "/broken", broken),))
    exchange = serve("GET", "/broken", origin=ORIGIN)
    assert (exchange.status, exchange.error()["code"]) == (500, "internal_error")
    assert b"secret" not in exchange.sent
    assert exchange.head["access-control-allow-origin"] == "*"
    assert "the secret detail" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "retry"), [("overloaded", "1"), ("rate_limit_exceeded", "1")])
def test_refusals_say_when_to_come_back(kind: str, retry: str) -> None:
    exchange: Any = Exchange("GET", "/")
    front().refuse(exchange, Failure(kind, "later"))
    assert exchange.head["retry-after"] == retry


# ---- CORS ------------------------------------------------------------------------------------------------------


def test_a_preflight_needs_no_key_and_echoes_the_headers() -> None:
    exchange = serve("OPTIONS", "/v1/chat/completions", origin=ORIGIN, access_control_request_headers="x-a, x-b")
    assert (exchange.status, exchange.sent) == (204, b"")
    assert exchange.head["access-control-allow-origin"] == "*"
    assert exchange.head["access-control-allow-methods"] == "POST"
    assert exchange.head["access-control-allow-headers"] == "x-a, x-b"
    assert int(exchange.head["access-control-max-age"]) > 0


def test_options_without_an_origin_is_no_preflight() -> None:
    exchange = serve("OPTIONS", "/v1/models")
    assert (exchange.status, exchange.head["allow"]) == (204, "GET, OPTIONS")
    assert "access-control-allow-origin" not in exchange.head


@pytest.mark.parametrize(
    ("origins", "allowed"),
    [
        (("*",), "*"),
        ((ORIGIN,), ORIGIN),
        (("https://b.example", ORIGIN), ORIGIN),
        (("https://b.example",), None),
        ((), None),
    ],
)
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_origins_are_those_of_the_configuration(origins: tuple[str, ...], allowed: str | None, method: str) -> None:
    exchange = serve(method, "/v1/models", origins, origin=ORIGIN)
    assert exchange.head.get("access-control-allow-origin") == allowed
    assert exchange.head["vary"] == "origin"
    if method == "GET":
        assert exchange.status == 401  # its envelope can be read by the page all the same
        assert exchange.head.get("access-control-expose-headers") == ("*" if allowed else None)


@pytest.mark.parametrize("path", ["/health", "/ready", "/"])
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_what_is_no_surface_is_not_for_other_origins(path: str, method: str) -> None:
    unused = serve(method, path, origin=ORIGIN)
    assert "access-control-allow-origin" not in unused.head


def test_a_page_may_read_that_a_method_is_wrong() -> None:
    """A browser shows a page nothing of an answer without the header, and its author wonders."""
    assert serve("PUT", "/v1/models", origin=ORIGIN).head["access-control-allow-origin"] == "*"

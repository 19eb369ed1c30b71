"""What HTTP clients of every sort do: addresses, methods, CORS, connections, odd requests."""

from __future__ import annotations

import json

import pytest

from support.gateway import KEY, Gateway
from support.raw import Answer, Wire, ask, build, post
from support.upstream import Upstream

BODY = {"model": "corp/text", "messages": [{"role": "user", "content": "Hi"}]}
TEXT = "Hello, 世界!"
BEARER = {"authorization": f"Bearer {KEY}"}


def check_text(answer: Answer) -> None:
    assert answer.status == 200
    assert answer.json()["choices"][0]["message"]["content"] == TEXT


# ---- addresses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/chat/completions",
        "/v1/v1/chat/completions",
        "/v1/chat/completions/",
        "//v1//chat/completions",
        "/chat/completions/",
        "/v1/chat/completions?api-version=2024-10-21",
    ],
)
def test_an_address_may_be_written_in_many_ways(gateway: Gateway, upstream: Upstream, path: str) -> None:
    check_text(gateway.post(BODY, path))


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/v1/v1/models", "/v1/models/", "/models/"])
def test_the_models_are_listed_under_every_prefix(gateway: Gateway, path: str) -> None:
    answer = gateway.get(path)
    ids = {model["id"] for model in answer.json()["data"]}
    assert answer.status == 200
    assert {"echo", "meow"} <= ids


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/corp/meta/llama%203:8b",
        "/v1/models/corp%2Fmeta%2Fllama%203:8b",
        "/models/corp%2fmeta/llama%203%3A8b",
        "/v1/v1/models/corp/meta/llama%203:8b/",
    ],
)
def test_a_model_id_with_slashes_is_found(gateway: Gateway, path: str) -> None:
    answer = gateway.get(path)
    assert answer.status == 200
    assert answer.json()["id"] == "corp/meta/llama 3:8b"
    assert answer.json()["object"] == "model"


@pytest.mark.parametrize("model", ["corp/meta/llama 3:8b", "claude/meta/llama 3:8b"])
def test_a_model_id_with_slashes_is_called_by_its_own_name(gateway: Gateway, upstream: Upstream, model: str) -> None:
    check_text(gateway.chat(model))
    assert len(upstream.seen("meta/llama 3:8b")) == 1


@pytest.mark.parametrize(("asked", "meant"), [("meoww", "meow"), ("ehco", "echo")])
def test_an_unknown_model_names_the_closest(gateway: Gateway, asked: str, meant: str) -> None:
    for answer in (gateway.get(f"/v1/models/{asked}"), gateway.chat(asked)):
        error = answer.error()
        assert (answer.status, error["type"], error["code"]) == (404, "invalid_request_error", "model_not_found")
        assert asked in error["message"]
        assert meant in error["message"]


def test_model_names_are_case_sensitive(gateway: Gateway) -> None:
    assert gateway.chat("MEOW").status == 404


@pytest.mark.parametrize("path", ["/nowhere", "/v1/nowhere", "/v1/chat", "/v1/chat/completions/more"])
def test_an_unknown_address_is_told_in_the_error_envelope(gateway: Gateway, path: str) -> None:
    answer = gateway.get(path)
    assert answer.status == 404
    assert answer.error()["type"] == "invalid_request_error"
    assert answer.headers["content-type"].startswith("application/json")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET"),
    ],
)
def test_a_wrong_method_names_the_right_one(gateway: Gateway, method: str, path: str, allowed: str) -> None:
    answer = gateway.get(path, method)
    assert answer.status == 405
    assert answer.error()["code"] == "method_not_allowed"
    assert allowed in answer.headers["allow"]


# ---- the open pages --------------------------------------------------------------------------------------------


def test_the_front_page_is_in_two_languages_and_keeps_secrets(gateway: Gateway, upstream: Upstream) -> None:
    answer = ask(gateway.url, build("GET", "/", {}))
    page = answer.body.decode()
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "Polymux" in page
    assert any("一" <= character <= "鿿" for character in page)
    assert "upstream-key" not in page
    assert KEY not in page


@pytest.mark.parametrize(("path", "body"), [("/health", {"status": "healthy"})])
def test_health_needs_no_key(gateway: Gateway, path: str, body: object) -> None:
    answer = ask(gateway.url, build("GET", path, {}))
    assert (answer.status, answer.json()) == (200, body)


def test_ready_needs_no_key(gateway: Gateway) -> None:
    assert ask(gateway.url, build("GET", "/ready", {})).status == 200


@pytest.mark.parametrize("path", ["/", "/health", "/v1/models"])
def test_head_is_get_without_a_body(gateway: Gateway, path: str) -> None:
    with Wire(gateway.url) as wire:
        wire.send(build("HEAD", path, BEARER))
        assert wire.answer(head_only=True).status == 200
        wire.send(build("GET", "/health", {}))  # nothing is left over from the first answer
        assert wire.answer().json() == {"status": "healthy"}


# ---- CORS ------------------------------------------------------------------------------------------------------


def test_a_preflight_needs_no_key_and_echoes_what_was_asked(gateway: Gateway) -> None:
    asked = {
        "origin": "https://app.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-os",
    }
    answer = ask(gateway.url, build("OPTIONS", "/v1/chat/completions", asked))
    assert answer.status in (200, 204)
    assert answer.headers["access-control-allow-origin"] in ("*", "https://app.example")
    assert "POST" in answer.headers["access-control-allow-methods"]
    allowed = {name.strip().lower() for name in answer.headers["access-control-allow-headers"].split(",")}
    assert {"authorization", "content-type", "x-stainless-os"} <= allowed


@pytest.mark.parametrize("members", [{}, {"stream": True}, {"model": "nothing-like-it"}, {"messages": 1}])
def test_every_answer_may_be_read_by_a_page(gateway: Gateway, upstream: Upstream, members: dict[str, object]) -> None:
    answer = gateway.post({**BODY, **members}, origin="https://app.example")
    assert answer.headers["access-control-allow-origin"] in ("*", "https://app.example")
    exposed = answer.headers.get("access-control-expose-headers", "").lower()
    assert exposed == "*" or "x-request-id" in exposed


# ---- connections -----------------------------------------------------------------------------------------------


def test_pipelined_requests_are_answered_in_order(gateway: Gateway, upstream: Upstream) -> None:
    texts = ["one", "two", "three"]
    with Wire(gateway.url) as wire:
        wire.send(
            b"".join(
                post(KEY, {**BODY, "model": "corp/told", "messages": [{"role": "user", "content": text}]})
                for text in texts
            )
        )
        answers = [wire.answer() for _ in texts]
    assert [answer.json()["choices"][0]["message"]["content"] for answer in answers] == texts


def test_connections_are_used_again_on_both_sides(gateway: Gateway, upstream: Upstream) -> None:
    with Wire(gateway.url) as wire:
        for _ in range(5):
            wire.send(post(KEY, BODY))
            check_text(wire.answer())
    seen = upstream.seen("text")
    assert len(seen) == 5
    assert len({request.connection for request in seen}) == 1


@pytest.mark.parametrize("streamed", [True, False])
def test_a_stale_connection_to_the_provider_costs_the_client_nothing(
    gateway: Gateway, upstream: Upstream, streamed: bool
) -> None:
    """The provider closes each connection after its answer, when the gateway has put it back to use it again."""
    for _ in range(5):
        answer = gateway.chat("corp/stale", stream=streamed)
        assert answer.status == 200
        assert TEXT in answer.body.decode() or b"[DONE]" in answer.body
    assert len({request.connection for request in upstream.seen("stale")}) == 5


def test_connection_close_is_obeyed(gateway: Gateway, upstream: Upstream) -> None:
    with Wire(gateway.url) as wire:
        wire.send(post(KEY, BODY, connection="close"))
        check_text(wire.answer())
        assert wire.ended()


def test_a_body_held_back_until_100_continue(gateway: Gateway, upstream: Upstream) -> None:
    body = json.dumps(BODY).encode()
    request = post(KEY, BODY, expect="100-continue")
    with Wire(gateway.url) as wire:
        wire.send(request[: -len(body)])
        assert wire.head().status == 100
        wire.send(body)
        check_text(wire.answer())


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_a_chunked_request_body(gateway: Gateway, upstream: Upstream, size: int) -> None:
    body = json.dumps(BODY).encode()
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    request = build("POST", "/v1/chat/completions", {**BEARER, "transfer-encoding": "chunked"})
    request += b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    check_text(ask(gateway.url, request))


def test_a_request_that_comes_byte_by_byte(gateway: Gateway, upstream: Upstream) -> None:
    with Wire(gateway.url) as wire:
        for byte in post(KEY, BODY):
            wire.send(bytes([byte]))
        check_text(wire.answer())


@pytest.mark.parametrize(
    "line", [b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n"]
)
def test_what_is_not_http_is_told_in_the_error_envelope(gateway: Gateway, line: bytes) -> None:
    with Wire(gateway.url) as wire:
        wire.send(line)
        answer = wire.answer()
        assert answer.status == 400
        assert answer.error()["type"] == "invalid_request_error"
        assert wire.ended()


def test_headers_of_64_kib_are_too_large(gateway: Gateway) -> None:
    with Wire(gateway.url) as wire:
        wire.send(b"GET /health HTTP/1.1\r\nhost: gateway\r\nx-filler: " + b"x" * (70 << 10))
        answer = wire.answer()
    assert answer.status == 431
    assert answer.error()["code"] == "headers_too_large"


# ---- bodies ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_json", None),
        (b"{", "invalid_json", None),
        (b"\xff\xfe{}", "invalid_json", None),
        (b"[]", "invalid_json", None),
        (b"null", "invalid_json", None),
        (b"{}", "missing_required_parameter", "model"),
        (b'{"model":"echo"}', "missing_required_parameter", "messages"),
        (b'{"model":7,"messages":[]}', "invalid_type", "model"),
        (b'{"model":"echo","messages":"hi"}', "invalid_type", "messages"),
        (b'{"model":"echo","messages":[{"role":"user","content":"x"}],"stream":"yes"}', "invalid_type", "stream"),
        (b'{"model":"echo","model":"meow","messages":[{"role":"user","content":"x"}]}', "invalid_json", None),
    ],
)
def test_a_senseless_body_is_told_what_is_wrong(gateway: Gateway, body: bytes, code: str, param: str | None) -> None:
    answer = ask(gateway.url, build("POST", "/v1/chat/completions", BEARER, body))
    error = answer.error()
    assert answer.status == 400
    assert error["type"] == "invalid_request_error"
    assert error["code"] == code
    if param:
        assert param in error["param"]


def test_a_byte_order_mark_or_odd_content_type_does_no_harm(gateway: Gateway, upstream: Upstream) -> None:
    body = json.dumps(BODY).encode()
    for kind in ("text/plain", "application/json; charset=utf-8", "application/x-www-form-urlencoded"):
        check_text(ask(gateway.url, build("POST", "/v1/chat/completions", {**BEARER, "content-type": kind}, body)))


# ---- headers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("provider", ["corp", "claude"])
def test_the_response_headers(gateway: Gateway, upstream: Upstream, provider: str, streamed: bool) -> None:
    answer = gateway.post({**BODY, "model": f"{provider}/text", "stream": streamed}, **{"x-request-id": "mine"})
    headers = answer.headers
    assert headers["x-request-id"] not in ("", "mine")
    assert headers["x-polymux-provider"] == provider
    assert headers["x-polymux-model"] == "text"
    assert headers["x-polymux-attempts"] == "1"
    assert headers["x-polymux-cache"] in ("off", "miss")
    assert "x-vendor-secret" not in headers
    assert int(headers["x-ratelimit-limit-requests"]) == 1_000_000
    assert int(headers["x-ratelimit-remaining-requests"]) < 1_000_000
    assert headers["x-ratelimit-reset-requests"]


def test_request_ids_differ(gateway: Gateway) -> None:
    ids = {gateway.chat("echo").headers["x-request-id"] for _ in range(5)}
    assert len(ids) == 5


def test_the_providers_own_headers_are_sent_and_the_clients_are_not(gateway: Gateway, upstream: Upstream) -> None:
    gateway.post(BODY, cookie="secret=1", **{"x-api-key": "sk-other", "openai-organization": "org-1"})
    seen = upstream.wait("text")
    assert seen.header("x-team") == "search"
    assert seen.header("authorization") == "Bearer upstream-key"
    for name in ("cookie", "x-api-key", "openai-organization"):
        assert seen.header(name) is None
    assert KEY not in str(seen.headers)
    assert KEY.encode() not in seen.body


def test_a_dropped_parameter_is_named(gateway: Gateway, upstream: Upstream) -> None:
    answer = gateway.chat("claude/text", seed=7, logit_bias={"50256": -100})
    assert answer.status == 200
    dropped = {name.strip() for name in answer.headers["x-polymux-dropped"].split(",")}
    assert {"seed", "logit_bias"} <= dropped
    assert "seed" not in upstream.wait("text").json

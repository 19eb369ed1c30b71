"""What each request is answered: keys, paths, complaints, and whose turn it is for a fault."""

from __future__ import annotations

import json
from typing import Any

import pytest

from polymux.mock.provider import HEADER, MODELS, Options, Provider
from polymux.mock.scripts import Script
from polymux.mock.server import Exchange

CLAUDE = (("anthropic-version", "2023-06-01"),)
BODY: dict[str, Any] = {"model": "m", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]}
PATHS = [("/v1/chat/completions", ()), ("/v1/messages", CLAUDE)]


def exchange(
    body: object = BODY, path: str = PATHS[0][0], headers: tuple[tuple[str, str], ...] = (), method: str = "POST"
) -> Exchange:
    return Exchange(method, path, headers, b"" if body is None else json.dumps(body).encode(), 1)


def statuses(provider: Provider, count: int, body: object = BODY) -> list[int]:
    return [provider.script(exchange(body)).status for _ in range(count)]


def error(script: Script) -> Any:
    return json.loads(script.frames[0])["error"]


@pytest.mark.parametrize(("path", "headers"), PATHS)
def test_an_echo_in_the_dialect_of_the_path(path: str, headers: tuple[tuple[str, str], ...]) -> None:
    script = Provider(Options()).script(exchange(path=path, headers=headers))
    assert script.status == 200
    assert b"You said: Hi" in script.frames[0]
    assert (b'"choices"' in script.frames[0]) == (path == PATHS[0][0])


def test_latency_pace_and_chunks() -> None:
    provider = Provider(Options(latency=1.0, pace=2.0, chunks=2))
    whole, stream = provider.script(exchange()), provider.script(exchange({**BODY, "stream": True}))
    assert (whole.before, whole.between) == (1.0, 0.0)
    assert (stream.before, stream.between) == (1.0, 2.0)
    assert sum(b'"content":"' in frame and b'"role"' not in frame for frame in stream.frames) == 2


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ((), 401),
        ((("Authorization", "Bearer k2"),), 401),
        ((("Authorization", "Bearer k1"),), 200),
        ((("x-api-key", "k1"),), 200),
    ],
)
def test_the_key(headers: tuple[tuple[str, str], ...], status: int) -> None:
    assert Provider(Options(key="k1")).script(exchange(headers=headers)).status == status
    assert Provider(Options()).script(exchange(headers=headers)).status == 200


@pytest.mark.parametrize(("headers", "first"), [((), "object"), (CLAUDE, "data")])
def test_the_models(headers: tuple[tuple[str, str], ...], first: str) -> None:
    listed = json.loads(Provider(Options()).script(exchange(None, "/v1/models", headers, "GET")).frames[0])
    assert next(iter(listed)) == first
    assert [model["id"] for model in listed["data"]] == list(MODELS)


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [("GET", "/v1/chat/completions", ()), ("POST", "/v1/moderations", ()), ("POST", "/v1/chat/completions", CLAUDE)],
)
def test_unknown_paths(method: str, path: str, headers: tuple[tuple[str, str], ...]) -> None:
    assert Provider(Options()).script(exchange(BODY, path, headers, method)).status == 404


def test_one_dialect_alone() -> None:
    provider = Provider(Options(dialects=("anthropic",)))
    assert provider.script(exchange()).status == 404
    assert provider.script(exchange(path="/v1/messages")).status == 200


@pytest.mark.parametrize("body", [None, [], {"model": "m"}, {**BODY, "messages": ["Hi"]}, {**BODY, "n": "two"}])
@pytest.mark.parametrize(("path", "headers"), PATHS)
def test_what_is_no_request_is_complained_about(path: str, headers: tuple[tuple[str, str], ...], body: object) -> None:
    script = Provider(Options(fault="stall")).script(exchange(body, path, headers))
    assert script.status == 400
    assert error(script)["message"]


def test_a_request_chooses_its_fault() -> None:
    provider = Provider(Options())
    by_name, by_header = exchange({**BODY, "model": "fault:503"}), exchange(headers=((HEADER, "529"),))
    assert [provider.script(by_name).status, provider.script(by_header).status] == [503, 529]
    assert [by_name.fault, by_header.fault] == ["503", "529"]
    listing = exchange(None, "/v1/models", ((HEADER, "500"),), "GET")
    assert provider.script(listing).status == 500


def test_an_unknown_fault_is_complained_about() -> None:
    script = Provider(Options()).script(exchange({**BODY, "model": "fault:stal"}))
    assert script.status == 400
    assert "did you mean 'stall'" in error(script)["message"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (Options(fault="503"), [503, 503, 503, 503]),
        (Options(fault="503", every=3), [200, 200, 503, 200]),
        (Options(fault="503", first=2), [503, 503, 200, 200]),
        (Options(fault="500-once"), [500, 200, 200, 200]),
        (Options(fault="flapping"), [200, 503, 200, 503]),
        (Options(fault="flapping", every=1, first=3), [503, 503, 503, 200]),
    ],
)
def test_whose_turn_it_is(options: Options, expected: list[int]) -> None:
    provider = Provider(options)
    assert statuses(provider, 4) == expected
    assert provider.script(exchange(None, "/v1/models", (), "GET")).status == 200


def test_requests_that_choose_are_counted_apart() -> None:
    provider = Provider(Options())
    once, flapping = ({**BODY, "model": f"fault:{name}"} for name in ("500-once", "flapping"))
    assert statuses(provider, 2, once) == [500, 200]
    assert statuses(provider, 3, flapping) == [200, 503, 200]
    assert statuses(provider, 1, once) == [200]

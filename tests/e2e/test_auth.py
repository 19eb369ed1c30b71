"""Keys: each way of getting one wrong has its own explanation, and no answer repeats a key."""

from __future__ import annotations

import pytest

from support.gateway import KEY, Gateway
from support.raw import ask, build
from support.upstream import Upstream

WRONG = "sk-wrong-0123456789abcdef"
GOOD = [
    {"authorization": f"Bearer {KEY}"},
    {"authorization": f"bearer {KEY}"},
    {"x-api-key": KEY},
    {"api-key": KEY},
]
BAD = [
    ({}, "no API key"),
    ({"authorization": ""}, ""),
    ({"authorization": "Bearer "}, "empty"),
    ({"authorization": "Basic dXNlcjpwYXNz"}, "Bearer"),
    ({"authorization": f"Bearer {WRONG}"}, ""),
    ({"authorization": f'Bearer "{KEY}"'}, "quot"),
    ({"authorization": f"Bearer Bearer {KEY}"}, "twice"),
    ({"authorization": "Bearer sk-ant-api03-0123456789"}, "provider"),
    ({"x-api-key": WRONG}, ""),
]


@pytest.mark.parametrize("headers", GOOD)
def test_a_key_is_taken_as_any_sdk_sends_it(gateway: Gateway, headers: dict[str, str]) -> None:
    assert ask(gateway.url, build("GET", "/v1/models", headers)).status == 200


@pytest.mark.parametrize(("headers", "said"), BAD)
def test_a_bad_key_is_told_why(gateway: Gateway, upstream: Upstream, headers: dict[str, str], said: str) -> None:
    body = b'{"model":"corp/text","messages":[{"role":"user","content":"x"}]}'
    answer = ask(gateway.url, build("POST", "/v1/chat/completions", headers, body))
    error = answer.error()
    assert (answer.status, error["type"], error["code"]) == (401, "authentication_error", "invalid_api_key")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert said.lower() in error["message"].lower()
    for secret in (KEY, WRONG, "sk-ant-api03-0123456789"):
        assert secret not in answer.body.decode()
    assert upstream.requests == []


def test_the_explanations_differ(gateway: Gateway) -> None:
    told = set()
    for headers, _ in BAD[:5]:
        told.add(ask(gateway.url, build("GET", "/v1/models", headers)).error()["message"])
    assert len(told) >= 4


def test_keys_do_not_reach_the_log(gateway: Gateway) -> None:
    ask(gateway.url, build("GET", "/v1/models", {"authorization": f"Bearer {WRONG}"}))
    gateway.chat("echo")
    assert KEY not in gateway.log()
    assert WRONG not in gateway.log()
    assert "upstream-key" not in gateway.log()

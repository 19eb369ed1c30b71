"""Access tokens: what is asked, and what is made of the answers."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

import pytest

from polymux.errors import Failure
from polymux.providers.oauth import Token, read_token, token_request
from polymux.types import Grant, WireReply


def reply(status: int, body: Any, **headers: str) -> WireReply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return WireReply(status, {"content-type": "application/json", **headers}, data)


def test_a_token_is_asked_for_in_a_form() -> None:
    request = token_request(Grant("https://login.example/t/token", "app", "s&cret =1", "https://llm.example/.default"))
    assert (request.method, request.url) == ("POST", "https://login.example/t/token")
    assert dict(request.headers)["content-type"] == "application/x-www-form-urlencoded"
    assert parse_qs(request.body.decode()) == {
        "grant_type": ["client_credentials"],
        "client_id": ["app"],
        "client_secret": ["s&cret =1"],
        "scope": ["https://llm.example/.default"],
    }
    assert b"scope" not in token_request(Grant("https://login.example", "a", "b")).body


@pytest.mark.parametrize(
    ("body", "token"),
    [
        ({"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": "t"}, Token("t", 3599)),
        ({"access_token": "t", "expires_in": "3599"}, Token("t", 3599)),
        ({"access_token": "t"}, Token("t", 300)),
        ({"access_token": "t", "expires_in": -1}, Token("t", 0)),
    ],
)
def test_a_token_and_how_long_it_lives(body: Any, token: Token) -> None:
    assert read_token(reply(200, body)) == token


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (
            401,
            {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret provided."},
            "upstream_auth_failed",
            "invalid_client",
        ),
        (400, {"error": "invalid_scope"}, "upstream_auth_failed", "invalid_scope"),
        (429, {"error": "temporarily_unavailable"}, "upstream_rate_limited", "temporarily_unavailable"),
        (503, b"<html>", "upstream_overloaded", "503"),
        (500, b"", "upstream_unavailable", "500"),
        (302, b"", "upstream_unavailable", "302"),
        (200, b"<html>", "upstream_unavailable", "holds no access token"),
        (200, {"token": "t"}, "upstream_unavailable", "holds no access token"),
        (200, {"access_token": "t", "expires_in": "soon"}, "upstream_unavailable", "holds no access token"),
    ],
)
def test_no_token(status: int, body: Any, kind: str, said: str) -> None:
    with pytest.raises(Failure) as caught:
        read_token(reply(status, body, **{"retry-after": "7"}))
    assert caught.value.kind == kind
    assert said in caught.value.message
    assert caught.value.retry_after == (7 if status != 200 else None)

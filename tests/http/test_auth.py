"""The client's key: any of three headers, and in words what is wrong with it."""

from __future__ import annotations

import pytest

from polymux.errors import Failure
from polymux.http.auth import authenticate
from polymux.store.memory import StaticKeys
from polymux.types import Key

SECRET = "sk-ours-0123456789"
ADA = Key("static-1", "ada")
KEYS = StaticKeys([(SECRET, ADA)])
FOREIGN = {"sk-ant-": "anthropic", "sk-proj-": "openai"}


def check(**headers: str) -> Key:
    return authenticate(
        {name.replace("_", "-").encode(): text.encode() for name, text in headers.items()}, KEYS, FOREIGN
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {SECRET}"},
        {"authorization": f"bearer {SECRET}"},
        {"authorization": f"BEARER   {SECRET}  "},
        {"x_api_key": SECRET},
        {"x_api_key": f" {SECRET} "},
        {"api_key": SECRET},
        {"authorization": "Bearer sk-other", "x_api_key": SECRET},
        {"authorization": "Basic dXNlcjpwYXNz", "api_key": SECRET},
        {"authorization": f"Bearer {SECRET}", "x_api_key": "dummy"},
    ],
)
def test_the_key_may_stand_in_any_of_three_headers(headers: dict[str, str]) -> None:
    assert check(**headers) is ADA


COMPLAINTS = [
    ({}, "No API key: the request has none of the headers Authorization, x-api-key and api-key"),
    ({"cookie": "x"}, "No API key"),
    ({"authorization": ""}, "Empty API key: the Authorization header"),
    ({"authorization": "  "}, "Empty API key: the Authorization header"),
    ({"authorization": "Bearer"}, "Empty API key: the Authorization header"),
    ({"authorization": "Bearer   "}, "Empty API key: the Authorization header"),
    ({"x_api_key": ""}, "Empty API key: the x-api-key header"),
    ({"api_key": " "}, "Empty API key: the api-key header"),
    ({"authorization": "sk-zzz-secret"}, "lacks the word 'Bearer'"),
    ({"authorization": "Basic sk-zzz-secret"}, "uses the scheme 'Basic' instead of 'Bearer'"),
    ({"authorization": "Token sk-zzz-secret"}, "uses the scheme 'Token'"),
    ({"authorization": "Bearer Bearer sk-zzz-secret"}, "the word 'Bearer' twice"),
    ({"x_api_key": "Bearer sk-zzz-secret"}, "the x-api-key header has the word 'Bearer'"),
    ({"authorization": 'Bearer "sk-zzz-secret"'}, "stands in quotes"),
    ({"authorization": "Bearer 'sk-zzz-secret'"}, "stands in quotes"),
    ({"x_api_key": "`sk-zzz-secret"}, "stands in quotes"),
    ({"authorization": "Bearer “sk-zzz-secret”"}, "stands in quotes"),
    ({"authorization": "Bearer $OPENAI_API_KEY"}, "placeholder"),
    ({"authorization": "Bearer ${OPENAI_API_KEY}"}, "placeholder"),
    ({"authorization": "Bearer <your key>"}, "placeholder"),
    ({"authorization": "Bearer {{api_key}}"}, "placeholder"),
    ({"authorization": "Bearer undefined"}, "placeholder"),
    ({"x_api_key": "YOUR_API_KEY"}, "placeholder"),
    ({"authorization": "Bearer sk-zzz secret"}, "blanks inside"),
    ({"authorization": "Bearer sk-ant-zzz-secret"}, "looks like a key of anthropic"),
    ({"api_key": "sk-proj-zzz-secret"}, "looks like a key of openai"),
    ({"authorization": "Bearer sk-zzz-secret"}, "Unknown API key: the key in the Authorization header is well-formed"),
    ({"api_key": "sk-zzz-secret"}, "Unknown API key: the key in the api-key header"),
    ({"authorization": "Bearer sk-zzz-secret", "x_api_key": ""}, "Unknown API key: the key in the Authorization"),
]


@pytest.mark.parametrize(("headers", "words"), COMPLAINTS)
def test_a_complaint_says_what_is_wrong_and_what_to_send(headers: dict[str, str], words: str) -> None:
    with pytest.raises(Failure) as caught:
        check(**headers)
    failure = caught.value
    assert (failure.status, failure.kind, failure.code) == (401, "invalid_api_key", "invalid_api_key")
    assert words in failure.message
    assert "Authorization: Bearer YOUR_KEY" in failure.message
    for secret in ("zzz", "secret", SECRET, "OPENAI_API_KEY"):
        assert secret not in failure.message


def test_bytes_that_are_no_text_are_merely_unknown() -> None:
    with pytest.raises(Failure, match="Unknown API key"):
        authenticate({b"authorization": b"Bearer " + bytes(range(0xA1, 0x100))}, KEYS, FOREIGN)


def test_a_key_pasted_without_its_scheme_and_cut_in_two_is_not_repeated() -> None:
    """What stands where the scheme should be may be the key itself."""
    with pytest.raises(Failure) as caught:
        check(authorization="sk-zzz-secret comment")
    assert "zzz" not in caught.value.message


def test_an_empty_secret_never_matches() -> None:
    with pytest.raises(Failure):
        authenticate({b"x-api-key": b""}, StaticKeys([(SECRET, ADA)]), FOREIGN)


class Ended(StaticKeys):
    """A key that is known, and no longer good."""

    def find(self, secret: str) -> Key | None:
        return None

    def reason(self, secret: str) -> str:
        return "expired on 2026-01-02 03:04 UTC" if secret == SECRET else ""


@pytest.mark.parametrize(
    ("header", "value", "where"),
    [
        (b"authorization", f"Bearer {SECRET}", "the Authorization header"),
        (b"x-api-key", SECRET, "the x-api-key header"),
        (b"api-key", SECRET, "the api-key header"),
    ],
)
def test_a_key_that_is_no_longer_good_says_why(header: bytes, value: str, where: str) -> None:
    with pytest.raises(Failure) as caught:
        authenticate({header: value.encode()}, Ended([]), FOREIGN)
    words = f"API key no longer good: the key in {where} expired on 2026-01-02 03:04 UTC"
    assert caught.value.message.startswith(words)
    assert (caught.value.status, caught.value.kind) == (401, "invalid_api_key")
    assert SECRET not in caught.value.message

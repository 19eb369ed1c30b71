"""What of a deployment is secret, and that failures do not tell it."""

from __future__ import annotations

import base64

import pytest

from polymux.errors import Failure
from polymux.providers.credentials import harmless, hide, secrets_in, secrets_to
from polymux.transport.tunnel import Proxy
from polymux.types import Deployment, Link

TO = Deployment(
    "corp/gpt",
    "corp",
    "gpt",
    "openai",
    "https://ada:s%2Fcret-1@llm.example/v1?token=token-token",
    headers=(("authorization", "Bearer key/12345678"), ("user-agent", "polymux/1.0"), ("X-Team", "the-team-1")),
    link=Link(proxy="http://grace:hopper-1906@proxy.example:3128"),
)


def test_every_secret_of_a_deployment_is_found() -> None:
    assert set(secrets_to(TO, "https://llm.example/?key=another-one")) >= {
        *("Bearer key/12345678", "key/12345678", "the-team-1", "token-token", "another-one"),
        *("ada:s%2Fcret-1", "ada:s/cret-1", "s%2Fcret-1", "s/cret-1", base64.b64encode(b"ada:s/cret-1").decode()),
        *("hopper-1906", base64.b64encode(b"grace:hopper-1906").decode()),
    }
    assert "polymux/1.0" not in set(secrets_to(TO))


def test_a_user_without_a_password_is_sent_with_an_empty_one() -> None:
    """Proxies take tokens so; what goes out is what `transport.tunnel` makes of the URL."""
    url = "http://token%2F1906@proxy.example:3128"
    proxy = Proxy.of(url)
    assert proxy is not None
    assert proxy.authorization.removeprefix("Basic ") in set(secrets_in(url))


def test_a_url_without_secrets_has_none() -> None:
    assert not any(secrets_in("https://llm.example/v1"))
    assert not any(secrets_in(""))


@pytest.mark.parametrize("name", ["Content-Type", "user-agent", "x-ratelimit-limit-requests", "api-version"])
def test_some_headers_may_be_seen(name: str) -> None:
    assert harmless(name)


@pytest.mark.parametrize("name", ["authorization", "X-Api-Key", "cookie", "x-team", "proxy-authorization"])
def test_others_may_not(name: str) -> None:
    assert not harmless(name)


def test_a_failure_keeps_everything_but_the_secret() -> None:
    said = "no such key: key\\/12345678 (the-team-1)"
    failure = hide(Failure("upstream_rejected", said, param="key/12345678", sent=(422, "t the-team-1", said)), TO)
    assert (failure.kind, failure.status) == ("upstream_rejected", 422)
    assert (failure.message, failure.code, failure.type) == ("no such key: … (…)", "no such key: … (…)", "t …")
    assert failure.param == "…"
    assert str(failure) == failure.message


def test_a_failure_without_code_and_param_stays_so() -> None:
    failure = hide(Failure("upstream_rejected", "plain"), TO)
    assert (failure.message, failure.code, failure.param) == ("plain", None, None)

"""What a provider may be given beyond an address and a key."""

from __future__ import annotations

import pytest

from polymux.config import ConfigError, OAuth, load


def provider(text: str) -> object:
    return load(f"[providers.p]\n{text}\n", {"SECRET": "s3cret-0123456789"}, "f").providers["p"]


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        provider(text)
    return [str(fault) for fault in caught.value.faults]


def test_members_of_every_body() -> None:
    text = 'extra_body = { num_ctx = 16384, temp = 0.5, on = true, words = ["a", 1, [2]], in = { keep_alive = "1h" } }'
    assert provider(text).extra_body == {
        "num_ctx": 16384,
        "temp": 0.5,
        "on": True,
        "words": ["a", 1, [2]],
        "in": {"keep_alive": "1h"},
    }
    assert isinstance(provider(text).extra_body["temp"], float)
    assert provider('extra_body = { a = "${SECRET}" }').extra_body == {"a": "s3cret-0123456789"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("extra_body = 7", "f:2: providers.p.extra_body: expected a table, got 7"),
        (
            "extra_body = { a = 2026-01-01 }",
            "f:2: providers.p.extra_body.a: expected a string, number, boolean, list or table, got 2026-01-01",
        ),
        ("extra_body = { a = [nan] }", "f:2: providers.p.extra_body.a[0]: expected a finite number, got nan"),
        ("extra_body = { a = { b = inf } }", "f:2: providers.p.extra_body.a.b: expected a finite number, got infinity"),
    ],
)
def test_members_that_json_does_not_have(text: str, said: str) -> None:
    assert [fault.lower() for fault in faults(text)] == [said.lower()]


def test_an_app() -> None:
    text = 'oauth = { client_id = "app", client_secret = "${SECRET}", tenant_id = "my-tenant.example" }'
    found = provider(text)
    assert found.oauth == OAuth("app", "s3cret-0123456789", "my-tenant.example")
    assert "s3cret" not in repr(found)
    assert provider("").oauth is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('oauth = { client_id = "a" }', "providers.p.oauth.client_secret: missing, a value is required"),
        ('oauth = { client_id = "a", client_secret = "s", secret = "x" }', "providers.p.oauth.secret: unknown key"),
        (
            'oauth = { client_id = "a", client_secret = "s", tenant_id = "a/b" }',
            "providers.p.oauth.tenant_id: expected",
        ),
        ('oauth = { client_id = "a", client_secret = "s", token_url = "x" }', "providers.p.oauth.token_url: expected"),
        ('oauth = "s3cret"', "providers.p.oauth: expected a table"),
        ('api_version = "latest"', 'providers.p.api_version: expected a date such as "2024-10-21"'),
        ('api_version = "2024-10-21&x=1"', "providers.p.api_version: expected a date"),
    ],
)
def test_what_is_wrong_with_an_app_or_a_version(text: str, said: str) -> None:
    (fault,) = faults(text)
    assert said in fault
    assert "s3cret" not in fault


@pytest.mark.parametrize("version", ["2024-10-21", "2025-04-01-preview"])
def test_versions(version: str) -> None:
    assert provider(f'api_version = "{version}"').api_version == version

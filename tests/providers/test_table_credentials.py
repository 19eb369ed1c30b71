"""Providers of a configuration with more than a key: access tokens, versions of their API, members of their own."""

from __future__ import annotations

from typing import Any

import pytest

from polymux.config import Config, ConfigError, OAuth, Provider
from polymux.providers.dialects import DIALECTS
from polymux.providers.table import Source, rows, sources
from polymux.types import Grant

ROWS = rows(
    """
[cloud]
dialect = "azure"
path = "/openai"
auth = "api-key"
token_url = "https://login.example/{tenant_id}/token"
scope = "https://llm.example/.default"
dated = true
env = ["CLOUD_KEY"]
group = "international"
quirks = { set = { keep = 1, shift = false } }
verified = "none"

[plain]
dialect = "openai"
base_url = "https://plain.example/v1"
env = ["PLAIN_KEY"]
group = "international"
verified = "none"
""",
    DIALECTS,
)
APP = OAuth(client_id="app", client_secret="secret-0123456789", tenant_id="my-tenant")


def built(env: dict[str, str] | None = None, **members: Any) -> Source:
    provider = Provider(**{"name": "p", "preset": "cloud", "base_url": "https://my.example", **members})
    (source,) = sources(Config(providers={"p": provider}, file="f"), ROWS, env or {})
    return source


def faults(**members: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        built(**members)
    return str(caught.value)


def test_a_key_and_a_token() -> None:
    (template,) = built(api_key=("k",)).templates
    assert dict(template.headers)["api-key"] == "k"
    assert (template.grant, template.api_version, template.base_url) == (None, "", "https://my.example/openai")
    (template,) = built({"CLOUD_KEY": "eyJhbGciOi.J9.x"}).templates
    assert dict(template.headers)["authorization"] == "Bearer eyJhbGciOi.J9.x"


def test_an_app_of_the_presets_own_endpoint() -> None:
    (template,) = built({"CLOUD_KEY": "unused"}, oauth=APP).templates
    assert template.grant == Grant(
        "https://login.example/my-tenant/token", "app", "secret-0123456789", "https://llm.example/.default"
    )
    assert set(dict(template.headers)) == {"user-agent"}, "no credential but the token, which is put in later"


def test_an_app_anywhere() -> None:
    oauth = OAuth(client_id="a", client_secret="s", token_url="https://id.example/token", scope="llm")
    (template,) = built(preset="plain", base_url="", oauth=oauth).templates
    assert template.grant == Grant("https://id.example/token", "a", "s", "llm")


def test_what_does_not_go_together() -> None:
    assert "providers.p.oauth: stands beside api_key" in faults(oauth=APP, api_key=("k",))
    assert "providers.p.oauth.tenant_id: is missing" in faults(oauth=OAuth(client_id="a", client_secret="s"))
    assert "providers.p.oauth.token_url: is missing" in faults(preset="plain", oauth=APP)
    assert "providers.p.api_version: is of no use to the preset 'plain'" in faults(
        preset="plain", api_key=("k",), api_version="2024-10-21"
    )
    assert "providers.p.api_key: is missing; give one, or set CLOUD_KEY" in faults()


def test_a_version_and_members_of_every_body() -> None:
    (template,) = built(api_key=("k",), api_version="2024-10-21", extra_body={"keep": 2, "more": [1]}).templates
    assert template.api_version == "2024-10-21"
    assert template.quirks.set == {"keep": 2, "shift": False, "more": [1]}

"""The table of providers: its own rows, and what a configuration makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import polymux.providers
from polymux.config import Config, ConfigError, Provider
from polymux.providers.dialects import DIALECTS
from polymux.providers.table import Source, prefixes, rows, sources, with_path
from polymux.types import Deployment, Link, Quirks, Timeouts

TEXT = (Path(polymux.providers.__file__).parent / "providers.toml").read_text("utf-8")
TABLE = rows(TEXT, DIALECTS)
SMALL = rows(
    """
[one]
dialect = "openai"
base_url = "https://one.example/v1"
env = ["ONE_KEY", "ONE_OLD_KEY"]
base_env = "ONE_URL"
headers = { x-version = "1" }
quirks = { repair = true }
verified = "none"

[open]
dialect = "openai"
auth = "optional"
path = "/api"
verified = "none"

[keyed]
dialect = "anthropic"
base_url = "https://keyed.example/v1"
auth = "x-api-key"
discover = false
verified = "none"
""",
    DIALECTS,
)


# ---- rows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLE)
def test_every_row_of_the_table_is_sound(name: str) -> None:
    row = TABLE[name]
    assert not row.base_url.endswith("/")
    assert row.base_url == "" or row.base_url.startswith(("https://", "http://127.0.0.1:"))
    assert row.env or name.endswith("-compatible"), "nothing switches it on"
    assert all(low <= high for low, high in row.quirks.clamp.values())
    assert not set(row.quirks.drop) & set(row.quirks.rename)


def test_keys_and_variables_tell_providers_apart() -> None:
    given = [variable for row in TABLE.values() for variable in row.env]
    assert len(given) == len(set(given))
    beginnings = prefixes(TABLE)
    assert len(beginnings) == sum(len(row.prefix) for row in TABLE.values())
    assert beginnings["sk-ant-"] == "anthropic"


@pytest.mark.parametrize("name", [name for name, row in TABLE.items() if row.verified.startswith("transcript:")])
def test_what_a_row_says_is_verified_by_a_transcript_that_exists(name: str) -> None:
    data = Path(__file__).parents[1] / "transcripts" / "data"
    assert (data / TABLE[name].verified.removeprefix("transcript:") / "case.json").is_file()


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ('dialect = "klingon"\nverified = "none"', "bad.dialect: 'klingon'"),
        ('dialect = "openai"\nverified = "none"\nauth = "magic"', "bad.auth: 'magic'"),
        ('dialect = "openai"\nverified = "surely"', "bad.verified"),
        ('dialect = "openai"', "bad: .*verified"),
        ('dialect = "openai"\nverified = "none"\ncolour = "red"', "bad: .*colour"),
        ('dialect = "openai"\nverified = "none"\nenv = "KEY"', "bad: .*env"),
        ('dialect = "openai"\nverified = "none"\nquirks = { drop = 5 }', "bad: .*quirks.drop"),
    ],
)
def test_a_bad_row_is_named_by_file_row_and_field(row: str, named: str) -> None:
    with pytest.raises(ValueError, match=f"providers.toml: {named}"):
        rows(f"[bad]\n{row}\n", DIALECTS)


# ---- providers ---------------------------------------------------------------------------------------------------


def built(env: dict[str, str] | None = None, **members: Any) -> Source:
    provider = Provider(**{"name": "p", "preset": "one", "api_key": ("k",)} | members)
    (source,) = sources(Config(providers={"p": provider}, file="f"), SMALL, env or {})
    return source


def test_a_provider_of_the_file() -> None:
    source = built(models={"public": "up"})
    (template,) = source.templates
    assert (template.id, template.provider, template.model, template.dialect) == ("p/", "p", "", "openai")
    assert template.base_url == "https://one.example/v1"
    headers = dict(template.headers)
    assert len(headers) == len(template.headers)
    assert (headers["authorization"], headers["x-version"]) == ("Bearer k", "1")
    assert template.quirks == Quirks(repair=True)
    assert (source.models, source.discover) == ({"public": "up"}, False)


def test_without_models_the_provider_is_asked_for_them() -> None:
    assert built().discover
    assert not built(preset="keyed").discover


def test_what_the_file_says_goes_before_the_row() -> None:
    timeouts = Timeouts(connect=1.0)
    template = built(
        headers={"X-Version": "2"}, timeouts=timeouts, ca_file="ca.pem", client_cert="c", client_key="k", verify=False
    ).templates[0]
    assert dict(template.headers)["x-version"] == "2"
    assert template.timeouts == timeouts
    assert template.link == Link("ca.pem", "c", "k", False)


@pytest.mark.parametrize(
    ("given", "env", "expected"),
    [
        ("https://given.example/v9", {"ONE_URL": "https://env.example/v2"}, "https://given.example/v9"),
        ("", {"ONE_URL": " https://env.example/v2/ "}, "https://env.example/v2"),
        ("", {"ONE_URL": " "}, "https://one.example/v1"),
        ("https://given.example", {}, "https://given.example/v1"),
    ],
)
def test_which_address(given: str, env: dict[str, str], expected: str) -> None:
    assert built(env, base_url=given).templates[0].base_url == expected


@pytest.mark.parametrize(
    ("given", "env", "expected"),
    [
        (("a",), {"ONE_KEY": "e"}, ["Bearer a"]),
        (("a", "b"), {}, ["Bearer a", "Bearer b"]),
        ((), {"ONE_KEY": " e "}, ["Bearer e"]),
        ((), {"ONE_OLD_KEY": "o"}, ["Bearer o"]),
        ((), {"ONE_KEY": "e", "ONE_OLD_KEY": "o"}, ["Bearer e"]),
        ((), {"ONE_KEY": " ", "ONE_OLD_KEY": "o"}, ["Bearer o"]),
    ],
)
def test_which_credentials(given: tuple[str, ...], env: dict[str, str], expected: list[str]) -> None:
    templates = built(env, api_key=given).templates
    assert [dict(template.headers)["authorization"] for template in templates] == expected


def test_a_provider_that_needs_no_key() -> None:
    (template,) = built(preset="open", api_key=(), base_url="http://127.0.0.1:1").templates
    assert template.base_url == "http://127.0.0.1:1/api"
    assert "authorization" not in dict(template.headers)


def test_all_faults_come_at_once_with_their_place() -> None:
    providers = {
        "a": Provider(name="a", preset="onne", line=3),
        "b": Provider(name="b", preset="open", line=5),
        "c": Provider(name="c", preset="one", line=7),
        "d": Provider(name="d", preset="keyed", line=9),
        "e": Provider(name="e", preset="klingon", line=11),
    }
    with pytest.raises(ConfigError) as found:
        sources(Config(providers=providers, file="f.toml"), SMALL, {})
    told = [(fault.file, fault.line, fault.field) for fault in found.value.faults]
    fields = ["a.preset", "b.base_url", "c.api_key", "d.api_key", "e.preset"]
    assert told == [("f.toml", line, f"providers.{field}") for line, field in zip(range(3, 12, 2), fields, strict=True)]
    messages = [fault.message for fault in found.value.faults]
    assert "did you mean 'one'?" in messages[0]
    assert "ONE_KEY" in messages[2]
    assert "expected one of one, open, keyed" in messages[4]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ONE_KEY", "sk-1\r\nx-evil: 1"),
        ("ONE_KEY", "sk-1\nsk-2"),
        ("ONE_KEY", "sk-\u201cquoted\u201d"),
        ("ONE_URL", "one.example/v1"),
        ("ONE_URL", "https://[one.example/v1"),
        ("ONE_URL", "https://one.example/v 1"),
    ],
)
def test_variables_are_judged_as_the_file_is(variable: str, value: str) -> None:
    """What would end or forge a header line is told at the start, once, and never shown."""
    names = {"a": Provider(name="a", preset="one"), "b": Provider(name="b", preset="one")}
    with pytest.raises(ConfigError) as found:
        sources(Config(providers=names, file="f.toml"), SMALL, {"ONE_KEY": "k", variable: value})
    (fault,) = found.value.faults
    assert (fault.file, fault.line, fault.field) == ("environment", 0, variable)
    assert "sk-" not in fault.message


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"base_url": "https://one.example/v1?key=secret"}, "base_url"),
        ({"headers": {"Host": "other.example"}}, "headers.Host"),
        ({"headers": {"content-length": "5"}}, "headers.content-length"),
    ],
)
def test_what_would_not_reach_the_provider_as_written_is_a_fault(members: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError) as found:
        built(**members)
    (fault,) = found.value.faults
    assert fault.field == f"providers.p.{field}"
    assert "secret" not in fault.message


def test_a_credential_in_the_headers_goes_before_the_key() -> None:
    (template,) = built(headers={"Authorization": "Basic own"}).templates
    assert [value for name, value in template.headers if name == "authorization"] == ["Basic own"]


def test_without_a_file_the_environment_switches_providers_on() -> None:
    found = sources(Config(), SMALL, {"ONE_OLD_KEY": "k", "OTHER": "x"})
    assert [source.name for source in found] == ["one"]
    assert sources(Config(), SMALL, {"ONE_KEY": " "}) == []


# ---- models ------------------------------------------------------------------------------------------------------


def test_a_deployment_for_each_credential() -> None:
    one = built(api_key=("a",)).deployments("m", 3)
    assert [(d.id, d.model, d.weight) for d in one] == [("p/m", "m", 3)]
    two = built(api_key=("a", "b")).deployments("org/m")
    assert [(d.id, d.model, d.weight) for d in two] == [("p/org/m#1", "org/m", 1), ("p/org/m#2", "org/m", 1)]
    assert isinstance(two[0], Deployment)


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("https://x", "https://x/v1"),
        ("https://x/", "https://x/v1"),
        ("https://x//", "https://x/v1"),
        ("https://x/v1", "https://x/v1"),
        ("https://x/v1/", "https://x/v1"),
        ("https://x/api/v2/", "https://x/api/v2"),
        ("http://x:8000", "http://x:8000/v1"),
    ],
)
def test_an_address_without_a_path_gets_the_usual_one(base: str, expected: str) -> None:
    assert with_path(base, "/v1") == expected

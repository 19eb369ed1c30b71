"""The table of providers: its own rows, and what a configuration makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import polymux.providers
from polymux.config import Config, ConfigError, Provider
from polymux.providers.dialects import DIALECTS
from polymux.providers.table import Source, prefixes, rows, sources, with_path
from polymux.types import App, Deployment, Link, Quirks, Timeouts

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
    assert row.env or row.group == "generic" or row.note, "nothing switches it on, and nobody is told why"
    assert row.base_url or row.group == "generic" or row.note, "nobody is told where it is"
    assert set(row.note) in (set(), {"en", "zh"})
    assert not any(text.endswith((".", "。")) or text[0].isspace() for text in row.note.values())
    assert all(low <= high for low, high in row.quirks.clamp.values())
    touched = [*row.quirks.drop, *row.quirks.rename, *row.quirks.only, *row.quirks.set]
    assert len(touched) == len(set(touched)), "one member, two fates"


def test_the_promised_vendors_are_there() -> None:
    assert len(TABLE) >= 45
    assert [row.group for row in TABLE.values()].count("china") >= 20
    regions = ("dashscope", "moonshot", "minimax", "siliconflow")
    assert {f"{name}{region}" for name in regions for region in ("", "-cn")} <= set(TABLE)
    assert {"zai", "zhipu", "byteplus", "volcengine", "fastgpt", "anyscale", "openai-compatible"} <= set(TABLE)


def test_keys_and_variables_tell_providers_apart() -> None:
    given = [variable for row in TABLE.values() if row.switch for variable in row.env]
    assert len(given) == len(set(given))
    addresses = [row.base_env for row in TABLE.values() if row.base_env]
    assert len(addresses) == len(set(addresses))
    assert not set(addresses) & set(given)
    assert prefixes(TABLE)["sk-ant-"] == "anthropic"
    told = [prefix for row in TABLE.values() for prefix in row.prefix]
    assert not any(one != other and other.startswith(one) for one in told for other in told)


def test_a_second_way_to_a_vendor_has_the_key_of_the_first() -> None:
    """But it is not switched on by it: a model would be there twice."""
    one = {"MINIMAX_API_KEY": "k", "GITHUB_TOKEN": "t"}
    assert [source.name for source in sources(Config(), TABLE, one)] == ["minimax"]
    second = Config(providers={"m": Provider(name="m", preset="minimax-anthropic")}, file="f")
    (source,) = sources(second, TABLE, one)
    assert dict(source.templates[0].headers)["x-api-key"] == "k"


def test_a_vendor_without_a_public_endpoint_says_so() -> None:
    lacking = Config(providers={"a": Provider(name="a", preset="anyscale", api_key=("k",))}, file="f")
    with pytest.raises(ConfigError, match="closed its public endpoint on 2024-08-01; give the base_url") as found:
        sources(lacking, TABLE, {})
    assert found.value.faults[0].field == "providers.a.base_url"
    given = {"ANYSCALE_API_KEY": "k", "ANYSCALE_BASE_URL": "https://a.example"}
    (source,) = sources(lacking, TABLE, given)
    assert source.templates[0].base_url == "https://a.example/v1"
    assert [source.name for source in sources(Config(), TABLE, given)] == ["anyscale"]
    assert sources(Config(), TABLE, {"ANYSCALE_API_KEY": "k"}) == []  # a key for nowhere stops no gateway


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
        ('dialect = "openai"\nverified = "doc:https://x.example"', "bad.verified"),
        ('dialect = "openai"\nverified = "doc:x.example,2026-11-21"', "bad.verified"),
        ('dialect = "openai"\nverified = "none"\ngroup = "lunar"', "bad: .*lunar.*group"),
        ('dialect = "openai"\nverified = "none"\nnote = { fr = "oui" }', "bad: .*note"),
        ('dialect = "openai"\nverified = "none"\nquirks = { tags = true }', "bad.quirks: fault and tags .* repair"),
        ('dialect = "openai"\nverified = "none"\nquirks = { fault = "code" }', "bad.quirks: fault and tags .* repair"),
        ('dialect = "openai"\nverified = "none"\nserves = ["songs"]', "bad: .*songs.*serves"),
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
    found = built()
    assert (found.discover, found.open) == (True, True)
    found = built(preset="keyed")  # which has no list: every name may be one
    assert (found.discover, found.open) == (False, True)
    found = built(models={"a": "a"})
    assert (found.discover, found.open) == (False, False)


def test_a_dialect_of_ones_own() -> None:
    (template,) = built(preset="p", adapter="corp:Corp", base_url="https://corp.example/api/").templates
    assert (template.dialect, template.base_url) == ("corp:Corp", "https://corp.example/api")
    assert dict(template.headers)["authorization"] == "Bearer k"
    assert (
        built(preset="p", adapter="corp:Corp", base_url="https://corp.example").templates[0].base_url[-8:] == ".example"
    )
    (template,) = built(adapter="corp:Corp").templates  # with the address, the headers and the quirks of a row
    assert (template.dialect, template.base_url) == ("corp:Corp", "https://one.example/v1")
    with pytest.raises(ConfigError, match="base_url: is missing"):
        built(preset="p", adapter="corp:Corp")
    with pytest.raises(ConfigError, match="unknown preset 'ome'"):
        built(preset="ome", adapter="corp:Corp")


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
        "corp": Provider(name="corp", preset="corp", line=13),
        "keyd": Provider(name="keyd", preset="keyd", line=15),
    }
    with pytest.raises(ConfigError) as found:
        sources(Config(providers=providers, file="f.toml"), SMALL, {})
    told = [(fault.file, fault.line, fault.field) for fault in found.value.faults]
    fields = ["a.preset", "b.base_url", "c.api_key", "d.api_key", "e.preset", "corp.preset", "keyd.preset"]
    assert told == [("f.toml", line, f"providers.{field}") for line, field in zip(range(3, 16, 2), fields, strict=True)]
    messages = [fault.message for fault in found.value.faults]
    assert "did you mean 'one'?" in messages[0]
    assert "ONE_KEY" in messages[2]
    assert "expected one of one, open, keyed" in messages[4]
    own = 'name of your own needs a preset beside it, such as preset = "openai-compatible"'
    assert messages[5] == f"unknown preset 'corp', a {own}"
    assert messages[6] == f"unknown preset 'keyd', did you mean 'keyed'? A {own}"


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


def test_a_server_on_ones_own_machine_is_switched_on_by_its_address() -> None:
    (source,) = sources(Config(), TABLE, {"VLLM_BASE_URL": "http://gpu.example:8000"})
    assert (source.name, source.templates[0].base_url) == ("vllm", "http://gpu.example:8000/v1")
    assert sources(Config(), TABLE, {"DEEPSEEK_BASE_URL": "https://x.example"}) == []


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


def test_what_a_provider_serves_is_what_its_row_says_unless_the_file_does() -> None:
    (found,) = built().templates
    assert found.serves == ("chat",)
    (told,) = built(serves=("chat", "embeddings")).templates
    assert told.serves == ("chat", "embeddings")
    assert TABLE["openai"].serves == ("chat", "completions", "embeddings")
    assert TABLE["anthropic"].serves == ("chat",)


# ---- applications ------------------------------------------------------------------------------------------------


def app(preset: str = "dify", **members: Any) -> Source:
    given = {"base_url": "https://dify.example", "api_key": ("app-1",), "models": {"mine": "chatflow"}} | members
    (source,) = sources(Config(providers={"p": Provider(name="p", preset=preset, **given)}, file="f.toml"), TABLE, {})
    return source


def test_an_app_is_a_provider() -> None:
    (deployment,) = app(inputs={"topic": "{query}"}, output="text").deployments("chatflow")
    assert deployment.base_url == "https://dify.example/v1"
    assert deployment.app == App({"topic": "{query}"}, "text")
    assert not app().discover
    assert app("dify-cloud", base_url="").templates[0].base_url == "https://api.dify.ai/v1"


@pytest.mark.parametrize(
    ("preset", "members", "field", "says"),
    [
        ("dify", {"models": None}, "models", 'name the app and say what kind it is: models = { "my-app" = "chat" }'),
        ("dify", {"models": {"mine": "gpt"}}, "models.mine", "unknown kind of app 'gpt', expected one of chat, agent"),
        ("dify", {"base_url": ""}, "base_url", "give the base_url of your Dify"),
        ("openai", {"inputs": {"a": "b"}}, "inputs", "is for applications"),
        ("openai", {"output": "a"}, "output", "is for applications"),
    ],
)
def test_what_is_wrong_with_an_app_is_a_fault(preset: str, members: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(ConfigError) as found:
        app(preset, **members)
    (fault,) = found.value.faults
    assert fault.field == f"providers.p.{field}"
    assert says in fault.message

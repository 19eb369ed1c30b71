"""Which proxy an upstream is reached through."""

from __future__ import annotations

import pytest

from polymux.config import Config, ConfigError, Provider
from polymux.providers.dialects import DIALECTS
from polymux.providers.proxies import Unusable, proxy
from polymux.providers.table import rows, sources

HTTPS, HTTP = "https://llm.example/v1", "http://llm.example/v1"
SECRET = "s3cret-pass"  # a password, which no message may show


@pytest.mark.parametrize(
    ("base", "env", "expected"),
    [
        (HTTPS, {}, ""),
        (HTTPS, {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        (HTTPS, {"https_proxy": "http://p:1"}, "http://p:1"),
        (HTTPS, {"https_proxy": "http://p:1", "HTTPS_PROXY": "http://q:2"}, "http://p:1"),
        (HTTPS, {"https_proxy": " ", "HTTPS_PROXY": " http://q:2 "}, "http://q:2"),
        (HTTPS, {"HTTP_PROXY": "http://p:1"}, ""),
        (HTTP, {"HTTP_PROXY": "http://p:1", "HTTPS_PROXY": "http://q:2"}, "http://p:1"),
        (HTTP, {"HTTPS_PROXY": "http://q:2"}, ""),
        (HTTPS, {"ALL_PROXY": "http://p:1"}, "http://p:1"),
        (HTTP, {"all_proxy": "http://p:1", "HTTP_PROXY": "http://q:2"}, "http://q:2"),
        (HTTPS, {"ALL_PROXY": "socks5://s:1", "HTTPS_PROXY": "http://q:2"}, "http://q:2"),
        (HTTPS, {"HTTPS_PROXY": "p:3128"}, "http://p:3128"),
        (HTTPS, {"HTTPS_PROXY": "u:w@p:3128"}, "http://u:w@p:3128"),
        (HTTPS, {"HTTPS_PROXY": "https://u:w@[::1]/"}, "https://u:w@[::1]/"),
    ],
)
def test_what_the_environment_says(base: str, env: dict[str, str], expected: str) -> None:
    assert proxy(base, "", env) == expected


@pytest.mark.parametrize(
    "base",
    [
        *("http://localhost:11434", "http://LocalHost./v1", "https://app.localhost"),
        *("http://127.0.0.1", "http://127.8.8.8:1", "http://[::1]:8000/v1", "http://[::ffff:127.0.0.1]"),
    ],
)
def test_this_machine_is_reached_directly(base: str) -> None:
    env = {"ALL_PROXY": "http://p:1", "HTTP_PROXY": "socks5://p", "HTTPS_PROXY": "socks5://p"}
    assert proxy(base, "", env) == ""
    assert proxy(base, "http://own:1", env) == "http://own:1"


@pytest.mark.parametrize(
    ("rules", "base", "excepted"),
    [
        ("*", HTTPS, True),
        ("llm.example", HTTPS, True),
        ("LLM.Example", HTTPS, True),
        ("other, llm.example", HTTPS, True),
        ("other llm.example", HTTPS, True),
        ("example", HTTPS, True),
        (".example", HTTPS, True),
        ("*.example", HTTPS, True),
        (".llm.example", HTTPS, True),
        ("lm.example", HTTPS, False),
        ("llm.example.org", HTTPS, False),
        ("llm.example", "https://llm.example./v1", True),
        ("llm.example:443", HTTPS, True),
        ("llm.example:80", HTTPS, False),
        ("llm.example:80", HTTP, True),
        ("llm.example:8443", "https://llm.example:8443", True),
        ("llm.example:port", HTTPS, False),
        ("10.1.2.3", "http://10.1.2.3:8000", True),
        ("10.1.2.3:8000", "http://10.1.2.3:8000", True),
        ("10.1.2.3:80", "http://10.1.2.3:8000", False),
        ("10.1.2.4", "http://10.1.2.3", False),
        ("10.0.0.0/8", "http://10.1.2.3", True),
        ("10.1.2.9/24", "http://10.1.2.3", True),
        ("10.0.0.0/8", "http://11.1.2.3", False),
        ("10.0.0.0/8", HTTPS, False),
        ("10.0.0.0/99, llm.example", HTTPS, True),
        ("fd00::/8", "http://[fd00::1]:80", True),
        ("fd00::1", "http://[fd00::1]:80", True),
        ("[fd00::1]", "http://[fd00::1]", True),
        ("[fd00::1]:80", "http://[fd00::1]", True),
        ("[fd00::1]:81", "http://[fd00::1]", False),
        ("fd00:0::1", "http://[fd00::1]", True),
        ("10.0.0.0/8", "http://[::ffff:10.1.2.3]", True),
        ("1.2.3", "http://0.1.2.3", False),
        (", . *. :80", HTTPS, False),
        ("", HTTPS, False),
    ],
)
def test_what_is_excepted(rules: str, base: str, excepted: bool) -> None:
    for variable in ("NO_PROXY", "no_proxy"):
        assert proxy(base, "", {"ALL_PROXY": "http://p:1", variable: rules}) == ("" if excepted else "http://p:1")


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ("direct", ""),
        (" direct ", ""),
        ("http://own:1", "http://own:1"),
        ("own:1", "http://own:1"),
        ("  ", "http://p:1"),
    ],
)
def test_the_providers_own_setting_goes_first(own: str, expected: str) -> None:
    assert proxy(HTTPS, own, {"HTTPS_PROXY": "http://p:1"}) == expected
    if own.strip():
        assert proxy(HTTPS, own, {"HTTPS_PROXY": "socks5://p", "NO_PROXY": "*"}) == expected


BAD = [
    (f"socks5://u:{SECRET}@p:1080", "socks5 proxies are not supported"),
    (f"SOCKS5h://u:{SECRET}@p", "socks5h proxies are not supported"),
    (f"ftp://u:{SECRET}@p", "expected a URL such as http://"),
    (f"http://u:{SECRET}@", "expected"),
    (f"http://u:{SECRET}@p:port", "expected"),
    (f"http://u:{SECRET}@p:0", "expected"),
    (f"http://u:{SECRET}@p:99999", "expected"),
    (f"http://u:{SECRET}#@p:1", "expected"),
    (f"http://u:{SECRET}/@p:1", "expected"),
    (f"http://u:{SECRET}?@p:1", "expected"),
    (f"http://u:{SECRET} @p:1", "expected"),
    (f"http://u:{SECRET}@[::1", "expected"),
    ("http://p:1/path", "expected"),
    ("://", "expected"),
]


@pytest.mark.parametrize(("value", "words"), BAD)
def test_what_cannot_be_used_is_told_without_its_secrets(value: str, words: str) -> None:
    for own, env, variable in ((value, {}, ""), ("", {"https_proxy": value}, "https_proxy")):
        with pytest.raises(Unusable, match=words) as caught:
            proxy(HTTPS, own, env)
        assert caught.value.variable == variable
        assert SECRET not in str(caught.value)


def test_what_is_no_url_is_left_to_others() -> None:
    assert proxy("https://x:port/", "", {"ALL_PROXY": "http://p:1"}) == ""


# ---- in the table of providers -----------------------------------------------------------------------------------

TABLE = rows('[one]\ndialect = "openai"\nbase_url = "https://one.example/v1"\nverified = "none"', DIALECTS)


def given(**proxies: str) -> Config:
    providers = {
        name: Provider(name=name, preset="one", api_key=("k",), proxy=text, line=number)
        for number, (name, text) in enumerate(proxies.items(), 3)
    }
    return Config(providers=providers, file="f.toml")


def test_each_provider_has_its_link() -> None:
    found = sources(given(a="", b="direct", c="http://own:1"), TABLE, {"HTTPS_PROXY": "p:1"})
    assert [source.templates[0].link.proxy for source in found] == ["http://p:1", "", "http://own:1"]


def test_faults_name_the_field_or_the_variable() -> None:
    with pytest.raises(ConfigError) as caught:
        sources(given(a="", b="ftp://p", c=""), TABLE, {"HTTPS_PROXY": f"socks5://u:{SECRET}@p"})
    faults = [(fault.file, fault.line, fault.field) for fault in caught.value.faults]
    assert faults == [("environment", 0, "HTTPS_PROXY"), ("f.toml", 4, "providers.b.proxy")]
    assert SECRET not in str(caught.value)

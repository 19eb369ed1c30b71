"""`load`: what a config means, and tables of TOML text -> the exact faults."""

from collections.abc import Mapping
from decimal import Decimal

import msgspec
import pytest

from polymux.config import (
    Auth,
    Config,
    ConfigError,
    DeploymentRef,
    Fault,
    Limits,
    Model,
    Price,
    Provider,
    RouteDefaults,
    Server,
    Timeouts,
    load,
)

SAMPLE = """\
functions = ["rules.faq:answer"]

[server]
host = "127.0.0.1"
port = 8000
workers = 1
cors_origins = ["*"]
data_dir = "~/.polymux"                  # SQLite database, journal, caches
database_url = "sqlite"                  # or "postgresql://..."
redis_url = ""                           # optional: shared counters and cache
max_body = "32MiB"
models_dir = "./models"
functions_dir = ""
tls_cert = ""
tls_key = ""

[auth]
admin_key = "${POLYMUX_ADMIN_KEY:-}"      # ${NOT_READ_IN_A_COMMENT}
keys = ["${API_KEYS:-}"]

[limits]
rpm = 100
tpm = 0
concurrency = 0

[defaults]
strict = false

[providers.openai]
api_key = "${OPENAI_API_KEY}"

[providers.claude]
preset = "anthropic"
api_key = "${ANTHROPIC_API_KEY}"

[providers.corp]
preset = "openai-compatible"
base_url = "https://llm.corp.example/v1"
api_key = "${CORP_KEY}"
ca_file = "corp-ca.pem"
headers = { "x-team" = "search" }
models = ["company-llm-v2"]

[providers.helpdesk]
preset = "dify"
base_url = "https://dify.corp.example/v1"
api_key = "${DIFY_APP_KEY}"
models = { "o1-helpdesk" = "chatflow" }

[models.smart]
deployments = [
  { provider = "openai", model = "gpt-4o", weight = 3 },
  { provider = "claude", model = "claude-sonnet-4-5" },
]
strategy = "weighted"
fallbacks = ["company-llm-v2"]
retries = 2
max_attempts = 6
on_midstream_failure = "error"
timeouts = { connect = "5s", first_token = "30s", idle = "60s", total = "10m" }
price = { input = "2.50", output = "10.00", cache_read = "1.25" }

[cache]
enabled = false
ttl = "1h"

[ledger]
on_cancel = "cancel"
unknown_price = "flag"
store_down = "open"
fsync = "second"
"""
ENV = {
    "OPENAI_API_KEY": "sk-o",
    "ANTHROPIC_API_KEY": "sk-a",
    "CORP_KEY": "ck",
    "DIFY_APP_KEY": "app-d",
    "API_KEYS": "a, b,,a",
}
OPENAI = '[providers.openai]\napi_key = "k"\n'  # two lines, in front of routes


def faults(text: str | None, env: Mapping[str, str] | None = None) -> list[str]:
    """`line: field: message` of every fault, or `VARIABLE: message` for the environment; empty when it loads."""
    try:
        load(text, env or {}, file="f")
    except ConfigError as error:
        return [str(fault).removeprefix("f:").removeprefix("environment: ").strip() for fault in error.faults]
    return []


def route(rest: str) -> str:
    return f'{OPENAI}[models.r]\ndeployments = [{{ provider = "openai", model = "m" }}]\n{rest}'


# --- what a config means


def test_the_sample_of_the_interface() -> None:
    config = load(SAMPLE, ENV, file="my.toml")
    assert config.file == "my.toml"
    assert config.server == Server()
    assert config.auth == Auth(keys=("a", "b"))
    assert config.limits == Limits()
    assert config.functions == ("rules.faq:answer",)
    assert config.providers == {
        "openai": Provider("openai", preset="openai", api_key=("sk-o",), line=29),
        "claude": Provider("claude", preset="anthropic", api_key=("sk-a",), line=32),
        "corp": Provider(
            "corp",
            preset="openai-compatible",
            base_url="https://llm.corp.example/v1",
            api_key=("ck",),
            ca_file="corp-ca.pem",
            headers={"x-team": "search"},
            models={"company-llm-v2": "company-llm-v2"},
            line=36,
        ),
        "helpdesk": Provider(
            "helpdesk",
            preset="dify",
            base_url="https://dify.corp.example/v1",
            api_key=("app-d",),
            models={"o1-helpdesk": "chatflow"},
            line=44,
        ),
    }
    assert config.models == {
        "smart": Model(
            "smart",
            (DeploymentRef("openai", "gpt-4o", 3, line=52), DeploymentRef("claude", "claude-sonnet-4-5", line=53)),
            fallbacks=("company-llm-v2",),
            timeouts=Timeouts(connect=5.0, first_token=30.0, idle=60.0, total=600.0),
            price=Price(input=Decimal("2.50"), output=Decimal("10.00"), cache_read=Decimal("1.25")),
            line=50,
        )
    }


def test_without_text_the_environment_alone() -> None:
    assert load(None, {}) == Config()
    assert load(None, {"API_KEYS": "k1,k2"}).auth.keys == ("k1", "k2")
    assert load(None, {"OPENAI_API_KEY": "sk"}).providers == {}, "presets are resolved one floor up"


def test_an_empty_text_is_the_default_with_a_file_name() -> None:
    assert load("", {}) == msgspec.structs.replace(Config(), file="polymux.toml")
    assert load("\ufeff[server]\r\nport = 81\r\n", {}).server.port == 81, "as Windows editors write it"


PRECEDENCE = [
    ("", {}, "server.host", "127.0.0.1"),
    ("", {"HOST": "0.0.0.0"}, "server.host", "0.0.0.0"),
    ('server.host = "::1"', {"HOST": "0.0.0.0"}, "server.host", "::1"),
    ("server.workers = 1", {"HOST": "0.0.0.0"}, "server.host", "0.0.0.0"),
    ("", {"PORT": "81"}, "server.port", 81),
    ("server.port = 82", {"PORT": "81"}, "server.port", 82),
    ("", {"PORT": ""}, "server.port", 8000),
    ("", {"LOCAL_MODELS_DIR": "/m"}, "server.models_dir", "/m"),
    ('server.models_dir = "/f"', {"LOCAL_MODELS_DIR": "/m"}, "server.models_dir", "/f"),
    ("", {"RATE_LIMIT_REQUESTS": "7"}, "limits.rpm", 7),
    ("limits.rpm = 8", {"RATE_LIMIT_REQUESTS": "7"}, "limits.rpm", 8),
    ("", {"RATE_LIMIT_ENABLED": "true"}, "limits.rpm", 100),
    ("", {"RATE_LIMIT_ENABLED": "False", "RATE_LIMIT_REQUESTS": "7"}, "limits.rpm", 0),
    ("limits.rpm = 8", {"RATE_LIMIT_ENABLED": "false"}, "limits.rpm", 8),
    ('auth.admin_key = "file"', {}, "auth.admin_key", "file"),
    ('auth.admin_key = "file"', {"POLYMUX_ADMIN_KEY": "env"}, "auth.admin_key", "env"),
    ('auth.admin_key = "file"', {"POLYMUX_ADMIN_KEY": ""}, "auth.admin_key", "file"),
    ('server.data_dir = "/f"', {"POLYMUX_DATA_DIR": "/e"}, "server.data_dir", "/e"),
    ("", {"POLYMUX_DATABASE_URL": "sqlite"}, "server.database_url", "sqlite"),
    ('auth.keys = ["a,b", "c"]', {"API_KEYS": "c, d"}, "auth.keys", ("a", "b", "c", "d")),
]


@pytest.mark.parametrize(("text", "env", "field", "value"), PRECEDENCE)
def test_precedence(text: str, env: dict[str, str], field: str, value: object) -> None:
    section, name = field.split(".")
    assert getattr(getattr(load(text, env), section), name) == value


VALUES = [
    ('server.max_body = "1KB"', "server.max_body", 1000),
    ("server.max_body = 10", "server.max_body", 10),
    ("server.port = 0", "server.port", 0),
    ('cache.ttl = "500ms"', "cache.ttl", 0.5),
    ("cache.ttl = 1.5", "cache.ttl", 1.5),
    ('cache.ttl = "2d"', "cache.ttl", 172800.0),
    ('defaults.timeouts.total = "1h"', "defaults.timeouts.total", 3600.0),
    ("", "conversations.models", ()),
    ("", "conversations.retention", 30 * 86400.0),
    ('conversations.max_size = "1MiB"', "conversations.max_size", 1 << 20),
    ("conversations.redact = ['email', '/ACME-[0-9]+/']", "conversations.redact", ("email", "/ACME-[0-9]+/")),
    ('auth.keys = "a,b"', "auth.keys", ("a", "b")),
    ('auth.keys = ["a", " ", "a"]', "auth.keys", ("a",)),
    ('server.host = "$${HOST}"', "server.host", "${HOST}"),
    ('server.host = "$HOST"', "server.host", "$HOST"),
    ('server.host = "${NAME}-${OTHER:-b}.${EMPTY:-c}"', "server.host", "a-b.c"),
    ('server.host = "${NAME}$${NAME}"', "server.host", "a${NAME}"),
    ('server.functions_dir = "${EMPTY}"', "server.functions_dir", ""),
]


@pytest.mark.parametrize(("text", "field", "value"), VALUES)
def test_values(text: str, field: str, value: object) -> None:
    found: object = load(text, {"NAME": "a", "EMPTY": ""})
    for name in field.split("."):
        found = getattr(found, name)
    assert found == value


def test_api_key_is_a_string_or_a_list() -> None:
    text = '[providers.a]\napi_key = ["x", "", "y"]\n[providers.b]\napi_key = ""\n[providers.c]\n'
    assert [provider.api_key for provider in load(text, {}).providers.values()] == [("x", "y"), (), ()]


def test_a_route_takes_what_it_does_not_say_from_defaults() -> None:
    text = """
[models.plain]
deployments = [{ provider = "functions", model = "meow" }]
[models.own]
deployments = [{ provider = "functions", model = "meow" }]
retries = 0
strict = false
timeouts = { idle = "1s" }
[defaults]
retries = 1
max_attempts = 3
strict = true
timeouts = { connect = 1, idle = 9 }
[providers.a]
timeouts = { total = 5 }
"""
    config = load(text, {})
    plain, own = config.models["plain"], config.models["own"]
    assert config.defaults == RouteDefaults(Timeouts(connect=1.0, idle=9.0), retries=1, max_attempts=3, strict=True)
    assert (plain.retries, plain.max_attempts, plain.strict, plain.timeouts) == (1, 3, True, config.defaults.timeouts)
    assert (own.retries, own.max_attempts, own.strict) == (0, 3, False)
    assert own.timeouts == Timeouts(connect=1.0, idle=1.0)
    assert config.providers["a"].timeouts == Timeouts(connect=1.0, idle=9.0, total=5.0)


def test_prices_are_exact_decimals() -> None:
    text = '[providers.a.price."m/1"]\ninput = 0.1\noutput = 3\ncache_write = "0.30"\n'
    price = load(text, {}).providers["a"].price["m/1"]
    assert price == Price(input=Decimal("0.1"), output=Decimal(3), cache_write=Decimal("0.30"))
    assert all(type(value) in (Decimal, type(None)) for value in msgspec.structs.astuple(price))


def test_secrets_are_not_in_the_repr() -> None:
    text = '[auth]\nadmin_key = "S1"\nkeys = ["S2"]\n[providers.a]\napi_key = "S3"\nheaders = { x = "S4" }\n'
    config = load(text, {})
    assert (config.auth.admin_key, config.providers["a"].api_key) == ("S1", ("S3",))
    assert "S" not in repr(config).replace("Server(", "")
    assert "admin_key=..." in repr(config)


# --- faults: text -> lines

SECONDS = 'expected a duration such as "5s", "500ms", "10m", "1h" or a number of seconds, more than 0, got '
PORT = "expected a port from 1 to 65535 (0 lets the system choose), got "
NATURAL = "expected a whole number, 0 or more, got "
WORD = "expected a string that is not blank, got "
URL = "expected a URL starting with http:// or https://, got "
MONEY = 'expected US dollars per million tokens such as "2.50", got '
NAME = 'expected a provider name of letters, digits, ".", "_" and "-" other than "functions", got '
KEY = "expected a string of visible ASCII characters, got "
HIDDEN = "a value that is not shown"
LATER = "not available in this version yet, expected "
REDACT = (
    'expected "email", "iban", "cn-id", "card", "us-ssn", "ip" or "phone", or a regular expression as \'/.../\', got '
)
NO_MODELS = "expected a list of models or a table of public name to upstream name, got "
KEYS = "expected a string or a list of strings, got "
STRATEGIES = '"weighted", "round-robin", "least-busy", "latency", "cost" or "ordered"'

FAULTS = [
    # providers
    ('[providers.corp]\nbase_url = "llm.corp"\n', [f'2: providers.corp.base_url: {URL}"llm.corp"']),
    ('[providers.corp]\nbase_url = "https://"\n', [f'2: providers.corp.base_url: {URL}"https://"']),
    ('[providers.corp]\nbase_url = "http://h:x/v1"\n', [f'2: providers.corp.base_url: {URL}"http://h:x/v1"']),
    ('[providers.corp]\nbase_url = "http://h/a b"\n', [f'2: providers.corp.base_url: {URL}"http://h/a b"']),
    ('[providers."a/b"]\n', [f'1: providers."a/b": {NAME}"a/b"']),
    ("[providers.functions]\n", [f'1: providers.functions: {NAME}"functions"']),
    ("[providers.a]\nmodels = 1\n", [f"2: providers.a.models: {NO_MODELS}1"]),
    (
        '[providers.a]\nmodels = [\n"x",\n"x",\n""]\n',
        ['4: providers.a.models[1]: duplicate entry "x"', f'5: providers.a.models[2]: {WORD}""'],
    ),
    (
        '[providers.a.models]\nx = 1\n"" = "y"\n',
        [f"2: providers.a.models.x: {WORD}1", f'3: providers.a.models."": {WORD}""'],
    ),
    (
        '[providers.a.headers]\n"x y" = "v"\nX-A = "1"\nx-a = "2"\n',
        [
            '2: providers.a.headers."x y": expected a header name, got "x y"',
            "4: providers.a.headers.x-a: duplicate header, upper and lower case are the same",
        ],
    ),
    (
        '[providers.a]\nclient_cert = "c"\n[providers.b]\nclient_key = "k"\n',
        [
            "2: providers.a.client_cert: needs client_key beside it",
            "4: providers.b.client_key: needs client_cert beside it",
        ],
    ),
    ('[server]\ntls_cert = "c"\n', ["2: server.tls_cert: needs tls_key beside it"]),
    ('[server]\ntls_key = "k"\n', ["2: server.tls_key: needs tls_cert beside it"]),
    (
        '[providers.a]\nprice = { m = { input = "-1", output = "free", cache_read = true } }\n',
        [
            f'2: providers.a.price.m.input: {MONEY}"-1"',
            f'2: providers.a.price.m.output: {MONEY}"free"',
            f"2: providers.a.price.m.cache_read: {MONEY}true",
        ],
    ),
    # routes
    ("[models.r]\n", ["1: models.r.deployments: missing, a value is required"]),
    ("[models.r]\ndeployments = []\n", ["2: models.r.deployments: expected at least one entry"]),
    (
        OPENAI + '[models.r]\ndeployments = [\n  { provider = "opnai", model = "m" },\n]\n',
        [
            '5: models.r.deployments[0].provider: unknown provider "opnai", did you mean "openai"?',
        ],
    ),
    (
        '[models.r]\ndeployments = [{ provider = "x", model = "m" }]\n',
        [
            '2: models.r.deployments[0].provider: unknown provider "x", none is defined',
        ],
    ),
    (
        OPENAI + '[[models.r.deployments]]\nprovider = "openai"\nmodel = "a"\n\n[[models.r.deployments]]\nmodel = ""\n',
        [
            "7: models.r.deployments[1].provider: missing, a value is required",
            f'8: models.r.deployments[1].model: {WORD}""',
        ],
    ),
    (
        OPENAI
        + '[models.r]\ndeployments = [\n{ provider = "openai", model = "a", weight = -1 },\n'
        + '{ provider = "openai", model = "a" },\n]\n',
        [
            f"5: models.r.deployments[0].weight: {NATURAL}-1",
            "6: models.r.deployments: duplicate deployment, a larger weight does the same",
        ],
    ),
    (
        OPENAI + '[models.r]\ndeployments = [{ provider = "openai", model = "a", weight = 0 }]\n',
        [
            "4: models.r.deployments: all weights are 0, expected one that is more",
        ],
    ),
    (OPENAI + '[models.""]\ndeployments = [{ provider = "openai", model = "m" }]\n', [f'3: models."": {WORD}""']),
    (
        route('fallbacks = ["a", "", "a"]'),
        [f'5: models.r.fallbacks[1]: {WORD}""', '5: models.r.fallbacks[2]: duplicate entry "a"'],
    ),
    (route('fallbacks = ["r"]'), ["5: models.r.fallbacks: a route cannot be its own fallback"]),
    (
        route('strategy = "random"'),
        [
            f'5: models.r.strategy: expected {STRATEGIES}, got "random"',
        ],
    ),
    (
        route('timeouts = { conect = "1s", total = "x" }'),
        [
            '5: models.r.timeouts.conect: unknown key, did you mean "connect"?',
            f'5: models.r.timeouts.total: {SECONDS}"x"',
        ],
    ),
    (route("[models.r.price]\ninput = [1]\n"), [f"6: models.r.price.input: {MONEY}a list"]),
    (
        '[models."gpt-4.1"]\ndeployments = [{ provider = "functions", model = "m" }]\nretries = "x"\n',
        [f'3: models."gpt-4.1".retries: {NATURAL}"x"'],
    ),
    # conversations
    (
        """[conversations]\nredact = [\n'e-mail',\n'/(/',\n'/x?/',\n'//',\n'email',\n'email',\n5]\n""",
        [
            f'3: conversations.redact[0]: {REDACT}"e-mail"',
            "4: conversations.redact[1]: not a regular expression: missing ), unterminated subpattern at position 0",
            "5: conversations.redact[2]: the expression matches the empty text, and so everything",
            f'6: conversations.redact[3]: {REDACT}"//"',
            '8: conversations.redact[5]: duplicate entry "email"',
            f"9: conversations.redact[6]: {WORD}5",
        ],
    ),
    ("[conversations]\nmodel = []\n", ['2: conversations.model: unknown key, did you mean "models"?']),
    # not built yet: these rows go when the rows of the table go
    ('[server]\ndatabase_url = "postgresql://u:p@h/d"\n', [f'2: server.database_url: {LATER}"sqlite"']),
    ('[server]\nredis_url = "redis://h"\n', [f'2: server.redis_url: {LATER}""']),
    ('[providers.a]\nadapter = "m.C"\n', ['2: providers.a.adapter: expected "module:object", got "m.C"']),
    (route('strategy = "least-busy"'), [f'5: models.r.strategy: {LATER}"weighted", "round-robin" or "ordered"']),
    (route('strategy = "latency"'), [f'5: models.r.strategy: {LATER}"weighted", "round-robin" or "ordered"']),
    (route('strategy = "cost"'), [f'5: models.r.strategy: {LATER}"weighted", "round-robin" or "ordered"']),
    (route('on_midstream_failure = "restart"'), [f'5: models.r.on_midstream_failure: {LATER}"error"']),
    (route('on_midstream_failure = "continue"'), [f'5: models.r.on_midstream_failure: {LATER}"error"']),
    ("[cache]\nenabled = true\n", [f"2: cache.enabled: {LATER}false"]),
]


@pytest.mark.parametrize(("text", "lines"), FAULTS)
def test_faults(text: str, lines: list[str]) -> None:
    assert faults(text) == lines


ENVIRONMENT_FAULTS = [
    ({"PORT": "80a"}, [f'PORT: {PORT}"80a"']),
    ({"PORT": "70000"}, [f"PORT: {PORT}70000"]),
    ({"RATE_LIMIT_REQUESTS": "-1"}, [f"RATE_LIMIT_REQUESTS: {NATURAL}-1"]),
    ({"RATE_LIMIT_ENABLED": "maybe"}, ['RATE_LIMIT_ENABLED: expected true or false, got "maybe"']),
    ({"API_KEYS": "a,\x01secret"}, [f"API_KEYS: {KEY}{HIDDEN}"]),
    ({"POLYMUX_ADMIN_KEY": "geheim\u00e9"}, [f"POLYMUX_ADMIN_KEY: {KEY}{HIDDEN}"]),
    (
        {"POLYMUX_ADMIN_KEY": "x", "API_KEYS": "x"},
        ["POLYMUX_ADMIN_KEY: is a client key too, expected a key of its own"],
    ),
    ({"POLYMUX_DATABASE_URL": "postgresql://u:p@h"}, [f'POLYMUX_DATABASE_URL: {LATER}"sqlite"']),
    ({"POLYMUX_REDIS_URL": "redis://h"}, [f'POLYMUX_REDIS_URL: {LATER}""']),
    ({"POLYMUX_DATA_DIR": "a\udcffb"}, [f'POLYMUX_DATA_DIR: {WORD}"a\\udcffb"']),
]


@pytest.mark.parametrize(("env", "lines"), ENVIRONMENT_FAULTS)
def test_faults_of_the_environment(env: dict[str, str], lines: list[str]) -> None:
    assert faults(None, env) == lines


SECRETS = [
    ('[auth]\nadmin_key = ["hunter2"]\n', f"2: auth.admin_key: {KEY}a list"),
    ('[auth]\nadmin_key = "hunter2\\n"\n', f"2: auth.admin_key: {KEY}{HIDDEN}"),
    ('[auth]\nkeys = { a = "hunter2" }\n', f"2: auth.keys: {KEYS}a table"),
    (
        '[auth]\nadmin_key = "hunter2"\nkeys = ["hunter2"]\n',
        "2: auth.admin_key: is a client key too, expected a key of its own",
    ),
    ("[providers.a]\napi_key = 72177\n", f"2: providers.a.api_key: {KEYS}a value that is no string"),
    ('[providers.a]\napi_key = ["ok", "hunter2\\t"]\n', f"2: providers.a.api_key[1]: {KEY}{HIDDEN}"),
    (
        '[providers.a]\nheaders = { x = "hunter2\\r\\nx: y" }\n',
        f"2: providers.a.headers.x: expected visible ASCII characters, got {HIDDEN}",
    ),
    ('[providers.a]\nheaders = "hunter2"\n', f"2: providers.a.headers: expected a table, got {HIDDEN}"),
    ('[providers.a]\nbase_url = "htp://u:hunter2@p"\n', f"2: providers.a.base_url: {URL}{HIDDEN}"),
    ('[providers.a]\nbase_url = "h/?key=hunter2"\n', f"2: providers.a.base_url: {URL}{HIDDEN}"),
    ('[providers.a]\nbase_url = "sk-hunter2hunter2hunter2"\n', f"2: providers.a.base_url: {URL}{HIDDEN}"),
    ('[providers.a]\nbase_url = "${VALUE}"\n', f"2: providers.a.base_url: {URL}{HIDDEN}"),
    (
        '[models.r]\ndeployments = [{ provider = "${VALUE}", model = "m" }]\n',
        f"2: models.r.deployments[0].provider: unknown provider {HIDDEN}, none is defined",
    ),
]


@pytest.mark.parametrize(("text", "line"), SECRETS)
def test_secrets_are_never_shown(text: str, line: str) -> None:
    assert faults(text, {"VALUE": "hunter2"}) == [line]
    assert "hunter2" not in line


def test_all_faults_at_once_in_line_order() -> None:
    text = """\
[ledger]
fsync = "x"
[models.r]
deployments = [
  { provider = "open", model = "m" },
  { provider = "openai", model = "" },
]
retries = -1
[server]
port = "x"
tls_cert = "c"
host = "${GONE}"
[providers.openai]
base_url = "x"
nope = 1
[defaults]
retries = true
"""
    with pytest.raises(ConfigError) as caught:
        load(text, {"PORT": "x", "API_KEYS": "\x00"}, file="a.toml")
    error = caught.value
    assert [fault.line for fault in error.faults] == [2, 5, 6, 8, 10, 11, 12, 14, 15, 17, 0, 0]
    assert [fault.file for fault in error.faults] == ["a.toml"] * 10 + ["environment"] * 2
    assert error.faults[0] == Fault("a.toml", 2, "ledger.fsync", 'expected "second" or "always", got "x"')
    assert str(error) == "\n".join(str(fault) for fault in error.faults)


def test_the_environment_is_checked_even_when_the_text_is_not_toml() -> None:
    assert faults("x", {"PORT": "x"}) == [
        "1: not valid TOML: Expected '=' after a key in a key/value pair",
        f'PORT: {PORT}"x"',
    ]


def test_a_fault_names_file_line_and_field() -> None:
    message = 'expected a URL starting with http:// or https://, got "llm.corp"'
    fault = Fault("polymux.toml", 12, "providers.corp.base_url", message)
    assert str(fault) == f"polymux.toml:12: providers.corp.base_url: {message}"
    assert str(Fault("environment", 0, "PORT", "bad")) == "environment: PORT: bad"


def test_the_config_is_frozen() -> None:
    with pytest.raises(AttributeError):
        load("", {}).cache.enabled = True

"""The walk along the Structs: syntax, names, types and variables, as tables of TOML text -> the exact faults."""

from collections.abc import Mapping

import pytest

from polymux.config import ConfigError, load
from polymux.config.walk import Walk, dotted, suggestion

NATURAL = "expected a whole number, 0 or more, got "
POSITIVE = "expected a whole number, 1 or more, got "
TEXT = "expected a string without control characters, got "
WORD = "expected a string that is not blank, got "
REFERENCE = "expected ${VARIABLE} or ${VARIABLE:-default}; $${ stands for ${ itself"
UNSET = "the environment variable {0} is not set; ${{{0}:-}} would allow that".format
SECTIONS = "auth, cache, conversations, defaults, functions, ledger, limits, models, providers, server"
OPENAI = '[providers.openai]\napi_key = "k"\n'


def faults(text: str | None, env: Mapping[str, str] | None = None) -> list[str]:
    """`line: field: message` of every fault, or `VARIABLE: message` for the environment; empty when it loads."""
    try:
        load(text, env or {}, file="f")
    except ConfigError as error:
        return [str(fault).removeprefix("f:").removeprefix("environment: ").strip() for fault in error.faults]
    return []


def route(rest: str) -> str:
    return f'{OPENAI}[models.r]\ndeployments = [{{ provider = "openai", model = "m" }}]\n{rest}'


FAULTS = [
    # syntax
    ("a = ", ["1: not valid TOML: Invalid value"]),
    ("[server]\nport = 1\nport = 2\n", ["3: not valid TOML: Cannot overwrite a value"]),
    ("[server]\n\nhost", ["3: not valid TOML: Expected '=' after a key in a key/value pair"]),
    ("n = " + "9" * 5000, ["not valid TOML: a number of too many digits, or brackets nested too deeply"]),
    # names
    ("[servr]\n", ['1: servr: unknown key, did you mean "server"?']),
    ("\nzzzz = 1\n", [f"2: zzzz: unknown key, expected one of: {SECTIONS}"]),
    ("[server]\nPorts = 1\n", ['2: server.Ports: unknown key, did you mean "port"?']),
    ("[server]\nmax-body = 1\n", ['2: server.max-body: unknown key, did you mean "max_body"?']),
    ('file = "x"\n', [f"1: file: unknown key, expected one of: {SECTIONS}"]),
    (
        '[providers.a]\nbase-url = ""\n',
        [
            '2: providers.a.base-url: unknown key, did you mean "base_url"?',
        ],
    ),
    (
        route("lines = 1"),
        [
            "5: models.r.lines: unknown key, expected one of: deployments, fallbacks, max_attempts, "
            "on_midstream_failure, price, retries, strategy, strict, timeouts"
        ],
    ),
    # types
    ("server = 1\n", ["1: server: expected a table, got 1"]),
    ("[[server]]\n", ["1: server: expected a table, got a list"]),
    ("providers = []\n", ["1: providers: expected a table, got a list"]),
    ("[providers]\nopenai = true\n", ["2: providers.openai: expected a table, got true"]),
    ("[server]\nhost = 1\n", [f"2: server.host: {WORD}1"]),
    ("[server]\nworkers = true\n", [f"2: server.workers: {POSITIVE}true"]),
    ("[limits]\nrpm = 1.0\n", [f"2: limits.rpm: {NATURAL}1.0"]),
    ('[limits]\nrpm = "5"\n', [f'2: limits.rpm: {NATURAL}"5"']),
    ("[limits]\nrpm = -1\n", [f"2: limits.rpm: {NATURAL}-1"]),
    ("[defaults]\nstrict = 1\n", ["2: defaults.strict: expected true or false, got 1"]),
    (
        "[defaults]\nretries = -2\nmax_attempts = 0\n",
        [f"2: defaults.retries: {NATURAL}-2", f"3: defaults.max_attempts: {POSITIVE}0"],
    ),
    ('[server]\ncors_origins = "*"\n', ['2: server.cors_origins: expected a list, got "*"']),
    (
        '[server]\ncors_origins = ["a",\n"",\n2,\n"a"]\n',
        [
            f'3: server.cors_origins[1]: {WORD}""',
            f"4: server.cors_origins[2]: {WORD}2",
            '5: server.cors_origins[3]: duplicate entry "a"',
        ],
    ),
    ('[server]\nmodels_dir = "a\\u0000b"\n', [f'2: server.models_dir: {TEXT}"a\\u0000b"']),
    ("[server]\ndata_dir = 2020-01-01\n", [f"2: server.data_dir: {WORD}2020-01-01"]),
    # variables
    ('[server]\nhost = "${NO_HOST}"\n', [f"2: server.host: {UNSET('NO_HOST')}"]),
    (
        '[auth]\nkeys = [\n"a",\n"${A}${B}",\n]\n',
        [
            f"4: auth.keys[1]: {UNSET('A')}",
            f"4: auth.keys[1]: {UNSET('B')}",
        ],
    ),
    ('[server]\nhost = "${HOST"\n', [f"2: server.host: {REFERENCE}"]),
    (
        '[server]\nhost = "${1A}"\ndata_dir = "${}"\n',
        [f"2: server.host: {REFERENCE}", f"3: server.data_dir: {REFERENCE}"],
    ),
]


@pytest.mark.parametrize(("text", "lines"), FAULTS)
def test_faults(text: str, lines: list[str]) -> None:
    assert faults(text) == lines


def test_a_line_is_that_of_the_nearest_known_path() -> None:
    walk = Walk("f", {})
    assert walk.line(("a", "b")) == 0
    walk.lines = {("a",): 3, ("a", "b"): 4}
    assert [walk.line(path) for path in [("a",), ("a", "b"), ("a", "b", 0, "c"), ("a", "z"), ("z",)]] == [3, 4, 4, 3, 0]


def test_dotted() -> None:
    assert dotted(("models", "gpt-4.1", "deployments", 0, "weight")) == 'models."gpt-4.1".deployments[0].weight'
    assert dotted(("a b", "", "c\n")) == '"a b"."".' + '"c' + "\\u000a" + '"'


def test_suggestion() -> None:
    assert suggestion("Base-URL", ["base_url", "preset"]) == 'did you mean "base_url"?'
    assert suggestion("my-corp2", ["my-corp", "other"]) == 'did you mean "my-corp"?'
    assert suggestion("zzz", ["b", "a"]) == "expected one of: a, b"
    assert suggestion("zzz", []) == "none is defined"


def test_every_fault_of_a_value_is_kept_and_the_rest_goes_on() -> None:
    walk = Walk("f", {})
    assert walk.value(dict[str, int], {"a": 1, "b": "x", "c": 3}, ("t",)) == {"a": 1, "c": 3}
    assert walk.value(tuple[bool, ...], [True, 0, False], ("l",)) == (True, False)
    assert [fault.field for fault in walk.faults] == ["t.b", "l[1]"]

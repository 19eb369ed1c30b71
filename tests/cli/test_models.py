"""`polymux models`: names and the deployments behind them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from support import terminal

Run = Callable[..., Result]

CONFIG = """
[providers.corp]
preset = "openai-compatible"
base_url = "http://127.0.0.1:9"
api_key = ["k1", "k2"]
models = { small = "m-1" }

[providers.openai]
api_key = "k"

[models.smart]
deployments = [{ provider = "openai", model = "gpt" }, { provider = "corp", model = "m-2" }]
"""


def test_the_demo_is_what_there_is_without_a_configuration(run: Run) -> None:
    result = run("models")
    assert (result.exit_code, result.output) == (0, "echo  functions/echo\nmeow  functions/meow\n")


def test_routes_providers_models_and_what_is_discovered(run: Run) -> None:
    Path("my.toml").write_text(CONFIG)
    result = run("models", "--config", "my.toml", "--json")
    assert result.exit_code == 0
    assert json.loads(result.output) == [
        {"id": "smart", "deployments": ["openai/gpt", "corp/m-2#1", "corp/m-2#2"]},
        {"id": "small", "deployments": ["corp/m-1#1", "corp/m-1#2"]},
        {"id": "openai/*", "deployments": ["listed by the provider when the gateway runs"]},
    ]


def test_a_provider_without_a_list_serves_any_name(run: Run) -> None:
    Path("polymux.toml").write_text('[providers.perplexity]\napi_key = "k"\n')
    assert run("models").output == "perplexity/*  any name: the provider has no list\n"


def test_the_columns_line_up(run: Run) -> None:
    Path("polymux.toml").write_text(CONFIG)
    lines = run("models").output.splitlines()
    assert [line[:8] for line in lines] == ["smart   ", "small   ", "openai/*"]
    assert {line[8:10] for line in lines} == {"  "}


def test_nothing_at_all(run: Run) -> None:
    Path("polymux.toml").write_text("")
    assert json.loads(run("models", "--json").output) == []
    assert run("models").exit_code == 0


def test_a_fault_is_told(run: Run) -> None:
    result = run("models", "--config", "nothing.toml")
    assert result.exit_code == 1
    assert "nothing.toml" in result.stderr


def test_a_broken_file_of_functions_is_told_and_the_rest_listed(home: Path) -> None:
    (home / "many").mkdir(mode=0o755)
    for name, text in {
        "cats": "import polymux\ncat = polymux.model('meow')(lambda messages: '')",
        "broken": "1 / 0",
    }.items():
        (home / "many" / f"{name}.py").write_text(text)
    (home / "polymux.toml").write_text('[server]\nfunctions_dir = "many"\n')
    done = terminal.run(home, "models", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, [{"id": "meow", "deployments": ["functions/meow"]}])
    assert done.stderr == "not served: many/broken.py: ZeroDivisionError: division by zero (line 1 of broken.py)\n"

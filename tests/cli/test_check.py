"""`polymux check`, and what all commands have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from polymux import __version__
from polymux.cli import COMMANDS

Run = Callable[..., Result]


def test_a_good_file(run: Run) -> None:
    Path("my.toml").write_text('[providers.openai]\napi_key = "k"\n[providers.anthropic]\napi_key = "k"\n')
    result = run("check", "--config", "my.toml")
    assert (result.exit_code, result.output) == (0, "my.toml: good, 2 providers, 0 routes\n")


def test_without_a_file_the_environment_is_checked(run: Run) -> None:
    result = run("check")
    assert result.exit_code == 0
    assert result.output.startswith("the environment (there is no configuration file): good")


def test_every_fault_at_once_with_its_line(run: Run) -> None:
    Path("polymux.toml").write_text('[server]\nport = "x"\nprot = 1\n\n[providers.openai]\n')
    result = run("check")
    assert result.exit_code == 1
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert [line.split(":")[1] for line in lines[:2]] == ["2", "3"]
    assert all(line.startswith("polymux.toml:") for line in lines[:-1])
    assert lines[-1] == f"{len(lines) - 1} faults"


def test_what_is_no_toml_is_a_fault(run: Run) -> None:
    Path("polymux.toml").write_text("[server\n")
    result = run("check")
    assert result.exit_code == 1
    assert "polymux.toml:1" in result.stderr
    assert result.stderr.endswith("1 fault\n")


def test_secrets_are_not_repeated(run: Run) -> None:
    Path("polymux.toml").write_text('[providers.openai]\napi_key = "sk-secret"\nheaders = 7\n[providers.openai.x]\n')
    result = run("check")
    assert result.exit_code == 1
    assert "sk-secret" not in result.output


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_has_an_example(run: Run, command: str, flag: str) -> None:
    result = run(command, flag)
    assert result.exit_code == 0
    assert "Example" in result.output
    assert f"polymux {command}" in result.output.partition("Example")[2]


def test_the_command_line_lists_its_commands(run: Run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert f"  {command} " in result.output
    assert __version__ in run("--version").output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nothing",), "No such command 'nothing'"),
        (("check", "--nothing"), "No such option"),
        (("check", "extra"), "unexpected extra argument"),
        (("serve", "--port", "70000"), "70000 is not in the range"),
        (("serve", "--port", "x"), "not a valid integer"),
    ],
)
def test_a_mistyped_command_is_told_with_status_2(run: Run, arguments: tuple[str, ...], words: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in result.output

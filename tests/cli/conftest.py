"""A home of its own for each command, and the command line as a user types it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from polymux.cli import main

Run = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home and working directory, empty, in an environment without any setting."""
    for name in list(os.environ):
        if name not in ("PATH", "LANG", "PYTHONPATH"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(home: Path) -> Run:
    """`run("check", "--config", "x.toml")`: what it printed, and its exit status. No command may end in a traceback."""

    def invoke(*arguments: str) -> Result:
        result = CliRunner().invoke(main, arguments, prog_name="polymux")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in result.output
        return result

    return invoke

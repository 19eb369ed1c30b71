"""How faults of a configuration are told."""

from __future__ import annotations

import pytest

from polymux.cli.faults import told
from polymux.config import ConfigError, Fault

ONE = Fault("a.toml", 3, "server.port", "expected a number")
TWO = Fault("a.toml", 0, "", "cannot be read")


@pytest.mark.parametrize(("faults", "last"), [([ONE], "1 fault"), ([ONE, TWO], "2 faults")])
def test_faults_are_printed_and_end_with_status_1(
    faults: list[Fault], last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @told
    def command() -> None:
        raise ConfigError(faults)

    with pytest.raises(SystemExit) as caught:
        command()
    assert caught.value.code == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [*map(str, faults), last]


def test_what_is_no_fault_of_the_user_is_not_hidden() -> None:
    @told
    def command() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        command()


def test_a_good_command_is_left_alone() -> None:
    @told
    def command(number: int) -> int:
        """What it does."""
        return number + 1

    assert command(1) == 2
    assert (command.__name__, command.__doc__) == ("command", "What it does.")

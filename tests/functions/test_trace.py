"""Tracebacks begin where the author's code begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from polymux.functions.load import LoadError, from_file
from polymux.functions.trace import trace


def test_an_authors_frames_alone(tmp_path: Path) -> None:
    path = tmp_path / "cats.py"
    path.write_text("def deeper():\n    1 / 0\n\n\ndeeper()\n")
    path.chmod(0o644)
    with pytest.raises(LoadError) as caught:
        from_file(path)
    lines = caught.value.trace.splitlines()
    assert [line for line in lines if "  File" in line] == [
        f'      File "{path}", line 5, in <module>',
        f'      File "{path}", line 2, in deeper',
    ]
    assert lines[-1] == "    ZeroDivisionError: division by zero"


def test_an_error_that_was_never_raised_has_no_frames() -> None:
    assert trace(ValueError("x")) == "    ValueError: x"


def test_the_text_of_an_error_cannot_pass_for_a_line_of_the_log() -> None:
    text = trace(ValueError("what the client said:\nINFO forged\x1b[31m\r!"))
    assert text == "    ValueError: what the client said:\n    INFO forged\\x1b[31m\\r!"

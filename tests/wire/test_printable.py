from __future__ import annotations

import pytest

from polymux.wire.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("two words, 世界", "two words, 世界"),
        ("a\nERROR forged\r\n", "a\\nERROR forged\\r\\n"),
        ("\x1b]0;title\x07\x9b31m", "\\x1b]0;title\\x07\\x9b31m"),
        ("\u2028\u202e\ud800", "\\u2028\\u202e\\ud800"),
    ],
)
def test_one_line_that_steers_no_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown

"""Scripts: heads, frames, and answers that break off."""

from __future__ import annotations

import json

import pytest

from polymux.mock.replies import Reply
from polymux.mock.scripts import Ask, Script, broken_off, error_inside, invalid, refused, render

OPENAI, CLAUDE = Ask("openai", "m", {}), Ask("anthropic", "m", {})
STREAM = Ask("openai", "m", {"stream": True})


@pytest.mark.parametrize(
    ("script", "line"),
    [
        (Script(frames=(b"ab", b"c")), b"content-length: 3"),
        (Script(frames=(b"abc",), end="close"), b"content-length: 4"),
        (Script(framing="chunked"), b"transfer-encoding: chunked"),
        (Script(framing="close"), b"connection: close"),
    ],
)
def test_the_head_tells_the_framing(script: Script, line: bytes) -> None:
    lines = script.head().split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert line in lines
    assert lines[-2:] == [b"", b""]


def test_raw_frames_have_no_head_and_no_frame() -> None:
    script = Script(framing="raw")
    assert (script.head(), script.framed(b"x")) == (b"", b"x")
    assert Script(framing="chunked").framed(b"0123456789abcdef") == b"10\r\n0123456789abcdef\r\n"


def test_silences() -> None:
    assert [Script(pause=(1, 5.0), between=2.0).wait(number) for number in range(3)] == [2.0, 5.0, 2.0]
    assert Script().wait(0) == 0.0


def test_breaking_off() -> None:
    stream, whole = render(Reply(), STREAM), render(Reply(), OPENAI)
    assert broken_off(stream, 2, "").frames == stream.frames[:2]
    assert broken_off(stream, 2, "reset").end == "reset"
    half = broken_off(whole, 9, "")
    assert half.end == "close"
    assert whole.frames[0].startswith(half.frames[0])
    assert len(half.frames[0]) == len(whole.frames[0]) // 2


def test_errors_in_both_dialects() -> None:
    limited = refused(OPENAI, 429, 7)
    assert (limited.status, dict(limited.headers)["retry-after"]) == (429, "7")
    assert json.loads(limited.frames[0])["error"]["code"] == "rate_limit_exceeded"
    overloaded = json.loads(refused(CLAUDE, 529).frames[0])
    assert (overloaded["type"], overloaded["error"]["type"]) == ("error", "overloaded_error")
    assert json.loads(invalid(OPENAI, "No.", "c", "p").frames[0])["error"]["param"] == "p"


def test_an_error_where_a_success_was_announced() -> None:
    assert error_inside(OPENAI).status == 200
    assert error_inside(STREAM).frames[0].startswith(b'data: {"error"')
    assert error_inside(Ask("anthropic", "m", {"stream": True})).frames[0].startswith(b"event: error\ndata: {")

"""What an answer looks like: bare in a pipe, safe at a terminal. (That it is dim where it should be: `test_chat`.)"""

from __future__ import annotations

from pathlib import Path

import pytest

from polymux.cli.screen import Screen, colored, note
from polymux.mock.replies import Reply
from polymux.mock.scripts import Ask, render
from polymux.schema.chat import Chunk, ChunkChoice, Delta, FunctionCall, ToolCall
from support.gateway import KEY, Gateway
from support.terminal import Terminal, plain
from support.upstream import Upstream


def chunk(index: int = 0, **members: str) -> Chunk:
    return Chunk("id", 0, "m", [ChunkChoice(index, Delta(**members))])


def test_a_pipe_gets_the_first_choice_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    for one in (chunk(reasoning_content="hm"), chunk(content="Hel"), chunk(1, content="other"), chunk(content="lo")):
        screen.chunk(one)
    screen.line()
    screen.line()
    screen.usage(1, 2)
    assert tuple(capsys.readouterr()) == ("Hello\n", "")


def test_escape_codes_of_an_answer_reach_a_pipe_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    Screen().chunk(chunk(refusal="\x1b[1mNo\x07"))
    assert capsys.readouterr().out == "\x1b[1mNo\x07"


def test_calls_stand_on_lines_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    screen.chunk(chunk(content="Let me see"))
    screen.calls([ToolCall(function=FunctionCall("f", "{}")), ToolCall(function=FunctionCall("g", '{"a":1}'))])
    assert capsys.readouterr().out == 'Let me see\nf({})\ng({"a":1})\n'


def test_a_note_is_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    note("by the way")
    assert tuple(capsys.readouterr()) == ("", "by the way\n")


@pytest.mark.parametrize(
    ("terminal", "variables", "expected"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_when_there_is_color(
    home: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool, variables: dict[str, str], expected: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert colored(terminal) is expected


def test_an_answer_does_not_steer_the_terminal(home: Path, gateway: Gateway, upstream: Upstream) -> None:
    evil = Reply(text=("\x1b]0;owned\x07a\rb\x9b31m", "\tc"))
    upstream.script("evil", render(evil, Ask("openai", "evil", {"stream": True})))
    with Terminal(home, "chat", "corp/evil", "Hi", "--url", gateway.url, "--key", KEY) as terminal:
        assert terminal.status() == 0
        assert "]0;owneda" + "b31m" in plain(terminal.shown)
        assert "\x07" not in terminal.shown
        assert "\x9b" not in terminal.shown

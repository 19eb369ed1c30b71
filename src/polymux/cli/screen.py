"""What `polymux chat` shows: dim and complete for a reader at a terminal, the bare answer for a pipe."""

from __future__ import annotations

import os
import re
import sys
from typing import Final

import click

from polymux.schema.chat import Chunk, ToolCall

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # an answer must not steer the terminal


def colored(terminal: bool) -> bool:
    """Whether escape codes may go to a stream (no-color.org)."""
    return terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def note(text: str) -> None:
    """A line beside the answer, on stderr."""
    click.echo(click.style(text, dim=True) if colored(sys.stderr.isatty()) else text, err=True)


class Screen:
    """Shows one answer as it comes."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._colored = colored(self._terminal)
        self._thinking = False
        self._column = 0  # 0 = at the start of a line

    def chunk(self, chunk: Chunk) -> None:
        """The next piece of the first choice. Reasoning is for terminals alone."""
        for choice in chunk.choices:
            if choice.index:
                continue
            delta = choice.delta
            if delta.reasoning_content and self._terminal:
                self._thinking = True
                self._write(delta.reasoning_content, dim=True)
            if text := (delta.content or "") + (delta.refusal or ""):
                self._break()
                self._write(text)

    def calls(self, calls: list[ToolCall]) -> None:
        """Tool calls, whole: a line each."""
        self._break()
        for call in calls:
            self.line()
            if call.function:
                self._write(f"{call.function.name}({call.function.arguments})\n", dim=True)

    def usage(self, spent: int, answered: int) -> None:
        """Tokens, for terminals alone."""
        if self._terminal:
            note(f"{spent} tokens in, {answered} out")

    def line(self) -> None:
        """End the line that has been begun."""
        if self._column:
            self._write("\n")

    def _break(self) -> None:
        """The answer begins under the reasoning."""
        if self._thinking:
            self._thinking = False
            self.line()
            self._write("\n")

    def _write(self, text: str, dim: bool = False) -> None:
        if self._terminal:
            text = _CONTROL.sub("", text)
        self._column = 0 if text.endswith("\n") else 1 if text else self._column
        dimmed = click.style(text, dim=True) if dim and self._colored else text
        click.echo(dimmed, nl=False, color=True)  # as it is: whether there is color is decided here

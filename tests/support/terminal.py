"""The command line as a process: with pipes, or at a real pseudo-terminal whose Ctrl-C reaches it."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from support.gateway import SOURCES

PATIENCE: Final = 20.0
CTRL_C: Final = "\x03"
CTRL_D: Final = "\x04"
# Makes the terminal the controlling one of its new session, then becomes the command.
_ATTACH: Final = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-W", "error", "-m", "polymux", *sys.argv[1:]])
"""


def environment(home: Path, more: Mapping[str, str]) -> dict[str, str]:
    """A clean environment with a home of its own."""
    clean = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "PYTHONPATH": str(SOURCES)}
    return {**clean, "TERM": "xterm", **more}


def run(home: Path, *arguments: str, piped: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """`polymux ARGUMENTS` in a directory, with what is piped in; `more` is added to its environment."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "polymux", *arguments],
        cwd=home,
        env=environment(home, more),
        input=piped,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


class Terminal:
    """`with Terminal(home, "chat", "meow") as terminal:` types and reads."""

    def __init__(self, home: Path, *arguments: str, **more: str) -> None:
        self._command = [sys.executable, "-c", _ATTACH, *arguments]
        self._home = home
        self._environment = environment(home, more)
        self.shown = ""  # everything that has come to the screen
        self._read = 0  # how much of it a test has asked for

    def __enter__(self) -> Self:
        self._screen, keyboard = pty.openpty()
        self.process = subprocess.Popen(
            self._command,
            cwd=self._home,
            env=self._environment,
            stdin=keyboard,
            stdout=keyboard,
            stderr=keyboard,
            start_new_session=True,
        )
        os.close(keyboard)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        os.close(self._screen)

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    def enter(self, text: str) -> None:
        """A line, once there is a prompt for it."""
        self.until("> ")
        self.type(text + "\r")

    def until(self, text: str) -> str:
        """What has come to the screen since the last call, up to and with a text."""
        while (at := self.shown.find(text, self._read)) < 0:
            assert self._more(), f"{text!r} did not come: {self.shown[self._read :]!r}"
        start, self._read = self._read, at + len(text)
        return self.shown[start : self._read]

    def status(self) -> int:
        """The exit status, once the command has ended."""
        while self._more():
            pass
        assert "Traceback" not in self.shown, self.shown
        return self.process.wait(PATIENCE)

    def _more(self) -> bool:
        """Read what comes next; False at the end."""
        ready, _, _ = select.select([self._screen], [], [], PATIENCE)
        assert ready, f"nothing comes any more: {self.shown!r}"
        try:
            data = os.read(self._screen, 65536)
        except OSError:  # Linux's way of telling that the other end is closed
            return False
        self.shown += data.decode("utf-8", "replace")
        return bool(data)


def plain(text: str) -> str:
    """Without escape codes, and with the line ends of a file."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).replace("\r\n", "\n")

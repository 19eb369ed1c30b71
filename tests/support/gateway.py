"""The real gateway as a process of its own, with a config text, in a directory of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from support.raw import Answer, Wire, ask, build, post
from support.waiting import until

PATIENCE: Final = 20.0
KEY: Final = "sk-test-0123456789abcdef"
SOURCES: Final = Path(__file__).resolve().parents[2] / "src"
_BANNER: Final = re.compile(r"https?://127\.0\.0\.1:\d+")


class Gateway:
    """`with Gateway(config) as gateway:` starts `polymux serve` and waits for its banner.

    config: the config file's text (None = no file, the environment alone). environment: added to a clean one.
    arguments: more of the command line, run in the config's directory. files: written there.
    data: a data directory kept by the caller, else a fresh one.
    """

    def __init__(
        self,
        config: str | None,
        *,
        environment: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        files: Mapping[str, str] | None = None,
        data: Path | None = None,
        key: str = KEY,
    ) -> None:
        self.key = key
        self.url = ""
        self._directory = tempfile.TemporaryDirectory(prefix="polymux-test-")
        self.home = Path(self._directory.name)
        self.data = data or self.home / "data"
        for name, text in (files or {}).items():
            (self.home / name).write_text(text, encoding="utf-8")
        self._command = [sys.executable, "-W", "error", "-m", "polymux", "serve", "--host", "127.0.0.1", "--port", "0"]
        self._command += ["--data-dir", str(self.data)]
        self._command += arguments
        if config is not None:
            (self.home / "polymux.toml").write_text(config, encoding="utf-8")
            self._command += ["--config", str(self.home / "polymux.toml")]
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(SOURCES),
            **(environment or {}),
        }
        self._lines: list[str] = []
        self._ready = threading.Event()
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command,
            cwd=self.home,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(PATIENCE) or not self.url:
            self.kill()
            self._directory.cleanup()
            raise AssertionError(f"the gateway did not start:\n{self.log()}")
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        self._directory.cleanup()

    def _read(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            for line in stdout:
                self._lines.append(line)
                found = _BANNER.search(line)
                if found and not self.url:
                    self.url = found[0]
                    self._ready.set()
        self._ready.set()

    # ---- the process ----

    def log(self) -> str:
        """Everything the gateway has printed so far."""
        return "".join(self._lines)

    def said(self, text: str) -> bool:
        """Whether it has printed this, or does so soon: what it prints comes by a thread of its own."""
        with suppress(AssertionError):
            until(lambda: text in self.log())
        return text in self.log()

    def stop(self) -> int:
        """Ask it to end and wait; its exit status."""
        assert self.process is not None
        self.process.terminate()
        return self._wait()

    def kill(self) -> int:
        assert self.process is not None
        self.process.kill()
        return self._wait()

    def _wait(self) -> int:
        assert self.process is not None
        try:
            status = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(PATIENCE)
            raise AssertionError(f"the gateway did not end when asked to:\n{self.log()}") from None
        self._reader.join(PATIENCE)
        return status

    def rss(self) -> int:
        """Resident memory of the process in bytes (Linux)."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found, status
        return int(found[1]) * 1024

    # ---- requests ----

    @property
    def base_url(self) -> str:
        """What a client is configured with."""
        return f"{self.url}/v1"

    def post(self, body: object, path: str = "/v1/chat/completions", **headers: str) -> Answer:
        return ask(self.url, post(self.key, body, path, **headers))

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        given = {"authorization": f"Bearer {self.key}", **headers}
        return ask(self.url, build(method, path, given), method == "HEAD")

    def chat(self, model: str, text: str = "Hi", **members: Any) -> Answer:
        """A chat request of one user message."""
        return self.post({"model": model, "messages": [{"role": "user", "content": text}], **members})

    def wire(self, receive_buffer: int = 0) -> Wire:
        return Wire(self.url, receive_buffer)

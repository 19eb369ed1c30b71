"""`polymux mock`: a process that serves both dialects, reached with the configuration it prints."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import Result

from polymux.mock.faults import FAULTS
from support.gateway import KEY, Gateway
from support.raw import Answer, ask, post
from support.terminal import environment

Run = Callable[..., Result]
PATIENCE = 20.0
BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


class Mock:
    """The process, once its banner has come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process, self.stdout = process, process.stdout
        self.banner = ""
        while "names the" not in self.banner:
            line = self.stdout.readline()
            assert line, self.banner
            self.banner += line
        found = re.search(r"http://127\.0\.0\.1:\d+", self.banner)
        assert found, self.banner
        self.url = found[0]
        assert self.stdout.readline() == "\n"

    @property
    def config(self) -> str:
        """What is to be pasted."""
        return "\n".join(line[4:] for line in self.banner.splitlines() if line.startswith("    "))

    def ask(self, model: str = "m", path: str = "/v1/chat/completions", **headers: str) -> Answer:
        return ask(self.url, post("any", {**BODY, "model": model, "max_tokens": 99}, path, **headers))


@contextmanager
def mock(home: Path, *arguments: str) -> Iterator[Mock]:
    command = [sys.executable, "-W", "error", "-m", "polymux", "mock", "--port", "0", *arguments]
    with subprocess.Popen(command, cwd=home, env=environment(home, {}), stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Mock(process)
        finally:
            process.kill()


def test_the_faults_are_listed_and_in_the_help(run: Run) -> None:
    listed, helped = run("mock", "--fault", "list"), run("mock", "--help")
    assert (listed.exit_code, helped.exit_code) == (0, 0)
    assert [line.split()[0] for line in listed.output.splitlines()] == list(FAULTS)
    assert all(fault.sentence in helped.output for fault in FAULTS.values())
    assert "polymux mock --fault 503 --every 2" in helped.output


@pytest.mark.parametrize(
    "arguments", [("--fault", "stal"), ("--dialect", "latin"), ("--chunks", "0"), ("--slow", "-1"), ("--port", "70000")]
)
def test_a_wrong_command_line_is_told(run: Run, arguments: tuple[str, str]) -> None:
    result = run("mock", *arguments)
    assert result.exit_code == 2
    assert f"'{arguments[0]}'" in result.stderr


def test_a_port_in_use_is_told(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("mock", "--port", str(port))
    assert result.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{port}: " in result.stderr


def test_a_gateway_with_the_pasted_configuration(home: Path) -> None:
    with mock(home, "--key", "k1") as running:
        with Gateway(f'[auth]\nkeys = ["{KEY}"]\n[defaults]\nretries = 0\n{running.config}') as gateway:
            for provider in ("mock-openai", "mock-anthropic"):
                answer = gateway.chat(f"{provider}/any-name", "Hello there")
                assert answer.status == 200
                assert answer.json()["choices"][0]["message"]["content"].endswith("You said: Hello there")
                assert answer.json()["usage"]["prompt_tokens"] == 4
                assert gateway.chat(f"{provider}/any-name", stream=True).events()[-1] == b"[DONE]"
                assert gateway.chat(f"{provider}/fault:cut").status == 502
        assert running.ask().status == 401


def test_requests_are_told_in_a_line_each(home: Path) -> None:
    with mock(home, "--fault", "503", "--every", "2") as running:
        assert [running.ask().status for _ in range(2)] == [200, 503]
        assert running.ask("fault:html", "/v1/messages", **{"anthropic-version": "x"}).status == 200
        assert [running.stdout.readline() for _ in range(3)] == [
            "POST /v1/chat/completions  'm'  200\n",
            "POST /v1/chat/completions  'm'  503  fault 503\n",
            "POST /v1/messages  'fault:html'  200  fault html\n",
        ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(home: Path, number: signal.Signals) -> None:
    with mock(home) as running:
        running.process.send_signal(number)
        assert running.process.wait(PATIENCE) == 0


def test_any_address_is_shown_as_one_that_can_be_reached(home: Path) -> None:
    with mock(home, "--host", "0.0.0.0") as running:
        assert running.ask().status == 200

"""One worker on its channel, as the supervisor talks to it."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polymux.http.supervisor import python
from polymux.store.shared import shared_file
from support.gateway import PATIENCE


class Channel:
    """A worker and the supervisor's end of its channel."""

    def __init__(self, home: Path, **more: Any) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        ours, theirs = socket.socketpair()
        fds = [self.listening.fileno(), counters := shared_file(), theirs.fileno()]
        self.process = subprocess.Popen(
            [*python("polymux.cli.worker"), str(theirs.fileno())], pass_fds=fds, cwd=home, stderr=subprocess.PIPE
        )
        theirs.close()
        ours.settimeout(PATIENCE)
        self.socket = ours
        self.file = ours.makefile("rwb")
        order = {"config": None, "functions": [], "server": {"data_dir": str(home / "data")}}
        self.send(order=order, slot=1, listening=fds[:1], counters=counters, run=str(home), **more)

    def send(self, **message: Any) -> None:
        self.file.write(json.dumps(message).encode() + b"\n")
        self.file.flush()

    def hear(self) -> Any:
        return json.loads(self.file.readline())

    def ask(self, what: str, number: int = 1) -> Any:
        self.send(do=what, n=number)
        return self.hear()

    def close(self) -> int:
        self.file.close()
        self.socket.close()
        self.listening.close()
        self.process.communicate(timeout=PATIENCE)
        return self.process.returncode


@pytest.fixture
def channel(home: Path) -> Iterator[Channel]:
    made = Channel(home)
    yield made
    made.close()


def get(channel: Channel, path: str) -> bytes:
    with socket.create_connection(channel.listening.getsockname()) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: client.recv(65536), b""))


def test_it_is_ready_when_it_serves(channel: Channel) -> None:
    assert channel.hear() == {"ready": True}
    assert get(channel, "/ready").startswith(b"HTTP/1.1 200")
    assert channel.ask("ping", 7) == {"n": 7}


def test_it_prepares_and_swaps(channel: Channel, home: Path) -> None:
    channel.hear()
    (home / "polymux.toml").write_text('functions = ["polymux.demo:echo"]\n')
    assert channel.ask("prepare", 3) == {"n": 3}
    assert channel.ask("swap", 4) == {"n": 4, "models": 1, "workers": 1, "needs_restart": [], "reloaded": True}


def test_it_tells_faults_and_drops_what_it_prepared(channel: Channel, home: Path) -> None:
    channel.hear()
    (home / "polymux.toml").write_text("nonsense = 1\n")
    answer = channel.ask("prepare")
    assert answer["n"] == 1
    assert "polymux.toml:1: nonsense" in answer["faults"][0]
    (home / "polymux.toml").write_text("")
    assert channel.ask("prepare") == {"n": 1}
    assert channel.ask("drop") == {"n": 1}


def test_it_ends_when_it_is_told_to(channel: Channel) -> None:
    channel.hear()
    channel.send(do="stop")
    assert channel.process.wait(PATIENCE) == 0


def test_it_ends_with_its_supervisor(channel: Channel) -> None:
    channel.hear()
    assert channel.close() == 0


def test_what_keeps_it_from_starting_goes_to_the_supervisor(home: Path) -> None:
    (home / "polymux.toml").write_text("nonsense = 1\n")
    channel = Channel(home)
    assert "polymux.toml:1: nonsense" in channel.hear()["failed"]
    assert channel.close() == 1

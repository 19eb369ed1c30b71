"""One process that serves: its settings against those of a reload, and its end. Reloads are tested end to end."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from polymux.admin.api import Faulty
from polymux.cli.process import FIXED, Order, Process, needs_restart, raise_file_limit
from polymux.config import Config, Ledger, Server
from support.gateway import KEY, PATIENCE, SOURCES, Gateway
from support.raw import post
from support.settings import FUNCTIONS, providers
from support.upstream import Upstream

FIRST = Config()
CONFIG = f'[auth]\nkeys = ["{KEY}"]\n'


def test_what_holds_at_once_needs_no_restart() -> None:
    server = replace(FIRST.server, cors_origins=(), max_body=1, functions_dir="f", max_connections=1)
    assert needs_restart(FIRST, replace(FIRST, server=server)) == ()


@pytest.mark.parametrize("name", FIXED)
def test_what_is_fixed_is_named(name: str) -> None:
    value = getattr(FIRST.server, name)
    other = value + 1 if isinstance(value, int) else f"{value}x"
    changed = replace(FIRST, server=replace(FIRST.server, **{name: other}))
    assert needs_restart(FIRST, changed) == (f"server.{name}",)


def test_tls_can_be_renewed_but_not_switched() -> None:
    with_tls = replace(FIRST, server=Server(tls_cert="a", tls_key="a"))
    assert needs_restart(with_tls, replace(FIRST, server=Server(tls_cert="b", tls_key="b"))) == ()
    assert needs_restart(FIRST, with_tls) == ("server.tls_cert",)
    assert needs_restart(with_tls, FIRST) == ("server.tls_cert",)


def test_the_journal_is_opened_once() -> None:
    assert needs_restart(FIRST, replace(FIRST, ledger=Ledger(fsync="always"))) == ("ledger.fsync",)


def test_every_field_of_the_server_is_either_fixed_or_can_change() -> None:
    known = {*FIXED, "cors_origins", "max_body", "functions_dir", "max_connections", "tls_cert", "tls_key"}
    assert known == set(Server.__struct_fields__)


def test_the_command_line_holds_through_every_reload(home: Path) -> None:
    order = Order("p.toml", ("polymux.demo:echo",), {"port": 7})
    Path("p.toml").write_text("[server]\nport = 1\n")
    for _ in range(2):
        setup = order.prepare(strict=True)
        assert setup.config.server.port == 7
        assert setup.functions.names == ("echo",)


def test_files_may_be_as_many_as_can_be() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
        raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


# ---- its end ---------------------------------------------------------------------------------------------------


def start(text: str = CONFIG) -> Gateway:
    return Gateway(text, arguments=("--functions", "models.py"), files={"models.py": FUNCTIONS})


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_clean_end_has_a_clean_status(number: signal.Signals) -> None:
    with start() as gateway:
        assert gateway.process is not None
        gateway.process.send_signal(number)
        assert gateway.process.wait(20) == 0
        assert "Traceback" not in gateway.log()
        assert "Aborted" not in gateway.log()


def test_a_second_signal_breaks_off_what_is_under_way_and_records_it(scripted: Upstream, upstream: Upstream) -> None:
    with start(CONFIG + providers(scripted)) as gateway, gateway.wire() as wire:
        assert gateway.process is not None
        wire.send(post(KEY, {"model": "corp/gate", "messages": [{"role": "user", "content": "Hi"}], "stream": True}))
        seen = upstream.wait("gate")
        with gateway.wire() as idle:
            gateway.process.send_signal(signal.SIGTERM)
            assert idle.socket.recv(1) == b""  # it drains
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(20) == 0
        seen.wait_gone()
        (journal,) = (gateway.data / "journal").iterdir()
        (record,) = map(json.loads, journal.read_text().splitlines())
        assert (record["status"], record["error_code"]) == (499, "client_disconnected")


def test_a_request_on_a_connection_just_made_is_served_before_the_end() -> None:
    with start() as gateway, gateway.wire() as wire:
        assert gateway.process is not None
        gateway.process.send_signal(signal.SIGTERM)
        wire.send(post(KEY, {"model": "echo", "messages": [{"role": "user", "content": "Hi"}]}))
        assert wire.answer().status == 200
        assert gateway.process.wait(20) == 0


def test_a_lone_process_says_what_a_rolling_restart_needs() -> None:
    with start() as gateway:
        assert gateway.process is not None
        gateway.process.send_signal(signal.SIGUSR2)
        while "needs --workers 2 or more" not in gateway.log():
            assert gateway.process.poll() is None
        assert gateway.get("/health").status == 200


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_ends_with_the_terminal_it_was_started_from(tmp_path: Path, workers: str) -> None:
    """SIGHUP reloads while the terminal is there; when it is gone it means what it says."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "polymux", "serve", "--port", "0", "--data-dir", str(tmp_path / "d")]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(SOURCES)}
    process = subprocess.Popen(
        [*command, "--workers", workers],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    os.close(theirs)
    assert process.stdout is not None
    with process.stdout:
        assert "is running at" in process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        while "polymux: reloaded" not in (line := process.stdout.readline()):
            assert line, "it has ended"
        os.close(ours)
        process.send_signal(signal.SIGHUP)
        assert process.wait(PATIENCE) == 0


def test_what_nobody_foresaw_is_a_fault_and_no_death(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    order = Order(server={"data_dir": str(home)})

    async def run() -> None:
        process = Process(order, order.prepare(strict=True))
        process.begin()
        monkeypatch.setattr("polymux.cli.process.prepare", lambda *_, **__: 1 / 0)
        with pytest.raises(Faulty) as caught:
            await process.reload()
        assert caught.value.faults == ("an internal error; the gateway's log has the details",)
        await process.close()

    asyncio.run(run())
    assert "ZeroDivisionError" in caplog.text

"""`polymux serve`: what keeps it from starting is told in words. That it serves is tested end to end."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import Result

from polymux.cli.serve import _listen, _listen_unix
from support.gateway import KEY, Gateway

Run = Callable[..., Result]


def test_a_port_in_use_is_told_with_the_way_out(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("serve", "--port", str(port), "--data-dir", "data")
    assert result.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{port}: " in result.output
    assert "in use" in result.output
    assert "choose another with --port" in result.output


@pytest.mark.parametrize("host", ["no-such-host.invalid", "203.0.113.1"])
def test_an_address_that_is_not_ours_is_told(run: Run, host: str) -> None:
    result = run("serve", "--host", host, "--port", "0", "--data-dir", "data")
    assert result.exit_code == 1
    assert f"cannot listen on {host}:0: " in result.output
    assert "errno" not in result.output.lower()


def test_a_data_directory_that_cannot_be_written_is_told(run: Run) -> None:
    Path("file").write_text("in the way")
    result = run("serve", "--port", "0", "--data-dir", "file/data")
    assert result.exit_code == 1
    assert "cannot write to the data directory file/data: " in result.output


def test_faults_of_the_configuration_are_told(run: Run) -> None:
    Path("polymux.toml").write_text("[providers.openai]\n")
    result = run("serve", "--functions", "missing.py")
    assert result.exit_code == 1
    assert "OPENAI_API_KEY" in result.stderr
    assert "missing.py: no such file" in result.stderr
    assert not Path("data").exists()


def test_a_certificate_that_is_none_is_told(run: Run) -> None:
    Path("cert.pem").write_text("not a certificate")
    Path("polymux.toml").write_text('[server]\ntls_cert = "cert.pem"\ntls_key = "cert.pem"\n')
    result = run("serve", "--port", "0", "--data-dir", "data")
    assert result.exit_code == 1
    assert "cert.pem" in result.output


def test_any_free_port_on_either_family() -> None:
    with _listen("127.0.0.1", 0) as four:
        assert four.family == socket.AF_INET
        assert four.getsockname()[1] > 0
    if socket.has_dualstack_ipv6():
        with _listen("::1", 0) as six:
            assert six.family == socket.AF_INET6


def test_the_help_names_what_there_is(run: Run) -> None:
    text = run("serve", "--help").output
    for option in ("--workers N", "--unix-socket PATH", "--models-dir DIR", "--debug ", "SIGHUP"):
        assert option in text


@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_a_number_of_workers_is_checked(run: Run, number: str) -> None:
    result = run("serve", "--workers", number)
    assert result.exit_code == 2
    assert "--workers" in result.output


# ---- unix sockets ----------------------------------------------------------------------------------------------


def test_a_socket_that_a_dead_gateway_has_left_is_replaced(home: Path) -> None:
    for _ in range(2):
        with _listen_unix("g.sock") as made:
            assert made.getsockname() == "g.sock"
            assert os.stat("g.sock").st_mode & 0o777 == 0o660
        assert Path("g.sock").exists()


def test_a_socket_in_use_is_left_alone(home: Path) -> None:
    with _listen_unix("g.sock"):
        with pytest.raises(click.ClickException, match=r"cannot listen on g\.sock: address already in use"):
            _listen_unix("g.sock")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect("g.sock")


def test_what_is_no_socket_is_left_alone(home: Path) -> None:
    Path("g.sock").write_text("mine")
    with pytest.raises(click.ClickException, match="address already in use"):
        _listen_unix("g.sock")
    assert Path("g.sock").read_text() == "mine"


@pytest.mark.parametrize(("path", "words"), [("no/g.sock", "no such file"), ("x" * 200, "path too long")])
def test_a_path_that_cannot_be_is_told(home: Path, path: str, words: str) -> None:
    with pytest.raises(click.ClickException, match=words):
        _listen_unix(path)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_unix_socket_serves_and_is_removed_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    monkeypatch.setattr("support.gateway._BANNER", re.compile(r"http://localhost/v(1) on the Unix socket"))
    path = tmp_path / "g.sock"
    arguments = ("--unix-socket", str(path), "--workers", workers)
    with Gateway(f'[auth]\nkeys = ["{KEY}"]\n', arguments=arguments) as gateway:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert b"".join(iter(lambda: client.recv(4096), b"")).endswith(b'{"status":"healthy"}')
        assert gateway.stop() == 0
    assert not path.exists()

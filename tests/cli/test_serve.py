"""`polymux serve`: what keeps it from starting is told in words. That it serves is tested end to end."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from polymux.cli.serve import _listen

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

"""What an operator sees of a running gateway: lines, metrics, the debug log; and that none of it stands in the way."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.gateway import KEY, PATIENCE, Gateway
from support.raw import ask, build, post
from support.settings import FUNCTIONS, providers
from support.upstream import Upstream

CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


def config(upstream: Upstream, server: str = "") -> str:
    return f"""
[server]
{server}
[auth]
keys = ["{KEY}"]
admin_key = "the-admin-key"
[limits]
rpm = 1000000
[defaults]
retries = 1
{providers(upstream)}
"""


@pytest.fixture
def json_gateway(upstream: Upstream) -> Iterator[Gateway]:
    files = {"models.py": FUNCTIONS}
    with Gateway(config(upstream), arguments=("--functions", "models.py"), files=files) as running:
        yield running


def metrics(gateway: Gateway) -> dict[str, float]:
    """Sums over the labels."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(gateway.get("/metrics").body.decode()):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def lines(gateway: Gateway) -> list[dict[str, object]]:
    """The JSON lines of a gateway that has ended."""
    assert gateway.stop() == 0
    return [json.loads(line) for line in gateway.log().splitlines() if line.startswith("{")]


def test_each_request_has_its_line(json_gateway: Gateway) -> None:
    gateway = json_gateway
    answers = [
        gateway.chat("corp/text"),
        gateway.chat("claude/text", stream=True),
        gateway.chat("echo"),
        gateway.chat("corp/status-404"),
        gateway.chat("nowhere"),
        gateway.get("/v1/nowhere"),
        ask(gateway.url, post("wrong", {"model": "echo", **CHAT})),
        gateway.post({}),
        ask(gateway.url, b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 70_000 + b"\r\n\r\n"),
    ]
    found = {str(line["id"]): line for line in lines(gateway)}
    assert [found[answer.headers["x-request-id"]]["status"] for answer in answers] == [a.status for a in answers]
    assert len(found) == len(answers)
    (journal,) = (gateway.data / "journal").iterdir()
    kept = [json.loads(line) for line in journal.read_text().splitlines()]
    assert kept == [line for line in found.values() if line["key_id"]]


def test_text_lines_are_short_and_cannot_be_forged(upstream: Upstream) -> None:
    with Gateway(config(upstream, 'log = "text"')) as gateway:
        gateway.chat("corp/text")
        gateway.chat("nope\n12:00:00 200 forged\x1b[2J")
        assert gateway.stop() == 0
        served, refused = [line for line in gateway.log().splitlines() if " req_" in line]
    assert " 200 corp/text \u2192 corp/text 11+7 tokens " in served
    assert " 404 nope\\n12:00:00 200 forged\\x1b[2J " in refused


def test_a_log_that_is_off_is_silent(upstream: Upstream) -> None:
    with Gateway(config(upstream, 'log = "off"')) as gateway:
        gateway.chat("corp/text")
        gateway.stop()
        assert "req_" not in gateway.log()


def test_metrics_tell_what_happened(json_gateway: Gateway) -> None:
    gateway = json_gateway
    gateway.chat("corp/text")
    gateway.chat("corp/text", stream=True)
    gateway.chat("corp/status-500")
    gateway.get("/v1/nowhere")
    found = metrics(gateway)
    assert found["polymux_requests_total"] == 4
    assert found["polymux_upstream_failures_total"] == 2
    assert found["gen_ai_server_request_duration_seconds_count"] == 3
    assert found["gen_ai_server_time_to_first_token_seconds_count"] == 1
    assert found["gen_ai_client_token_usage_sum"] == 2 * (11 + 7)
    assert found["polymux_overhead_seconds_count"] == 2
    assert found["polymux_attempts_sum"] == 4
    assert found["polymux_upstream_connections"] >= 1
    assert found["polymux_in_flight"] == 0
    assert found["polymux_workers"] == 1


def test_a_call_under_way_is_in_flight(json_gateway: Gateway, upstream: Upstream) -> None:
    gateway = json_gateway
    with gateway.wire() as wire:
        wire.send(post(KEY, {"model": "corp/gate", "stream": True, **CHAT}))
        seen = upstream.wait("gate")
        assert metrics(gateway)["polymux_in_flight"] == 1
    seen.wait_gone()
    found = {}
    while found.get("polymux_in_flight", 1):  # the client's leaving is told by the network
        found = metrics(gateway)
    assert found["polymux_requests_total"] == 1


def test_a_proxied_scrape_needs_the_admin_key(json_gateway: Gateway) -> None:
    forwarded = {"x-forwarded-for": "192.0.2.1"}
    assert json_gateway.get("/metrics", **forwarded).status == 401
    admin = {"authorization": "Bearer the-admin-key", **forwarded}
    assert ask(json_gateway.url, build("GET", "/metrics", admin)).status == 200


def test_metrics_are_summed_over_the_workers(upstream: Upstream) -> None:
    with Gateway(config(upstream), arguments=("--workers", "2")) as gateway:
        for _ in range(20):
            assert gateway.chat("corp/text").status == 200
        for _ in range(4):  # whichever answers
            found = metrics(gateway)
            assert found["gen_ai_server_request_duration_seconds_count"] == 20
            assert found["polymux_workers"] == 2


def test_a_stuck_reader_of_the_logs_stops_nothing(upstream: Upstream) -> None:
    """The pipe is full soon, and nobody reads it."""
    gateway = Gateway(config(upstream, "debug = true"))  # not started: only its command
    source, sink = os.pipe()
    with subprocess.Popen(
        gateway._command, env=gateway._environment, cwd=gateway.home, stdout=sink, stderr=sink
    ) as process:
        os.close(sink)
        banner = b""
        while b"/v1 " not in banner:
            banner += os.read(source, 4096)
        url = banner.decode().split(" at ")[1].split("/v1")[0]
        body = {"model": "corp/told", "messages": [{"role": "user", "content": "word " * 2000}]}
        for _ in range(60):  # each leaves more than 20 KB in the debug log; a pipe takes 64
            assert ask(url, post(KEY, body)).status == 200
        process.terminate()
        assert process.wait(PATIENCE) == 0
    os.close(source)
    gateway._directory.cleanup()

"""The ledger of a real gateway: whatever happens to it, what a client saw is in there, once, and the sums are right."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from polymux.store.lines import HOUR
from store.test_journal import record
from support.gateway import KEY, SOURCES, Gateway
from support.ledger import ADMIN, PRICE, Clients, check, held, journalled, kill, ship
from support.raw import Answer, ask, build
from support.settings import FUNCTIONS, providers
from support.upstream import Upstream

MODELS = ("smart", "echo")


def start(upstream: Upstream, data: Path, *arguments: str, ledger: str = "") -> Gateway:
    config = f"""
[auth]
keys = ["{KEY}"]
admin_key = "{ADMIN}"
[limits]
rpm = 0
[ledger]
{ledger}
[defaults]
retries = 0
[models.smart]
deployments = [{{ provider = "corp", model = "text" }}]
price = {PRICE}
{providers(upstream)}
"""
    given = ("--functions", "models.py", *arguments)
    return Gateway(config, arguments=given, files={"models.py": FUNCTIONS + CHAIN}, data=data)


CHAIN = """
@model("chain")
def chain(messages, call):
    return call.chat("smart", messages)
"""


def get(gateway: Gateway, path: str) -> Answer:
    return ask(gateway.url, build("GET", f"/admin/api/{path}", {"authorization": f"Bearer {ADMIN}"}))


def told(gateway: Gateway, path: str) -> Any:
    answer = get(gateway, path)
    assert answer.status == 200, answer
    return answer.json()


@pytest.fixture
def running(upstream: Upstream, tmp_path: Path) -> Iterator[Gateway]:
    with start(upstream, tmp_path / "data") as gateway:
        yield gateway
        gateway.stop()
        assert "Traceback" not in gateway.log(), gateway.log()


@pytest.fixture(scope="module")
def idle(scripted: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with start(scripted, tmp_path_factory.mktemp("idle")) as gateway:
        yield gateway


# ---- answers -----------------------------------------------------------------------------------------------------


def test_usage_is_told_as_soon_as_the_answer_is_there(running: Gateway) -> None:
    for number in range(1, 4):
        running.chat("smart")
        (sums,) = told(running, "usage")["data"]
        assert sums["requests"] == number
    rows = told(running, "usage/records")["data"]
    assert Decimal(sums["cost_usd"]) == sum(Decimal(row["cost_usd"]) for row in rows) > 0
    for by in ("key", "model", "provider", "tenant", "day", "hour"):
        answer = told(running, f"usage?by={by}&since=1h")
        assert [one["requests"] for one in answer["data"]] == [3]
        assert by in answer["data"][0] or by == "key"
        assert answer["total"] == sums
    assert told(running, "usage?by=key")["data"][0]["key_name"] == "key 1"
    assert told(running, "usage?by=model&until=1h")["data"] == []


def test_records_come_in_pages(running: Gateway) -> None:
    ids = [running.chat("echo").headers["x-request-id"] for _ in range(5)]
    seen, cursor = [], ""
    while cursor is not None:
        page = told(running, f"usage/records?limit=2&after={cursor}")
        seen += [row["id"] for row in page["data"]]
        cursor = page["next"]
    assert seen == ids


def test_a_call_in_full_with_the_calls_of_its_function(running: Gateway) -> None:
    answer = running.chat("chain")
    assert answer.status == 200, answer
    found = told(running, f"calls/{answer.headers['x-request-id']}")
    assert [(one["provider"], one["outcome"]) for one in found["attempts"]] == [("functions", "ok")]
    (child,) = found["children"]
    assert (child["model"], child["parent_id"], child["attempts"]) == ("smart", found["id"], 1)
    assert "tries" not in child


@pytest.mark.parametrize(
    ("path", "status", "code", "param"),
    [
        ("usage?by=weather", 400, "invalid_value", "by"),
        ("usage?since=yesterday", 400, "invalid_value", "since"),
        ("usage?until=-5", 400, "invalid_value", "until"),
        ("usage?bye=key", 400, "unsupported_parameter", "bye"),
        ("usage/records?limit=0", 400, "invalid_value", "limit"),
        ("usage/records?after=nobody", 400, "invalid_value", "after"),
        ("calls/nobody", 404, "not_found", None),
    ],
)
def test_mistakes_are_told(idle: Gateway, path: str, status: int, code: str, param: str | None) -> None:
    answer = get(idle, path)
    assert (answer.status, answer.error()["code"], answer.error()["param"]) == (status, code, param)


@pytest.mark.parametrize("path", ["usage", "usage/records", "calls/req_1"])
def test_it_is_for_the_administrator(idle: Gateway, path: str) -> None:
    assert idle.get(f"/admin/api/{path}").error()["code"] == "invalid_api_key"


# ---- deaths ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_that_a_client_saw_is_lost_or_doubled(upstream: Upstream, tmp_path: Path, workers: int) -> None:
    """The short form of tests/torture/test_ledger.py."""
    data, seen = tmp_path / "data", []
    for count in (1, 40, 200):
        with start(upstream, data, "--workers", str(workers)) as gateway:
            clients = Clients(gateway, MODELS)
            clients.until(count)
            kill(gateway)
            seen += clients.join()
    with start(upstream, data, "--workers", str(workers)) as gateway:
        assert told(gateway, "usage")["data"][0]["requests"] >= len(seen)
        seen.append(gateway.chat("smart").headers["x-request-id"])
        assert gateway.stop() == 0
    check(data, seen)  # the gateway itself has moved everything, at its end


def test_a_clean_end_leaves_nothing_in_the_journal_alone(upstream: Upstream, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with start(upstream, data, "--workers", "2") as gateway:
        ids = [gateway.chat("echo").headers["x-request-id"] for _ in range(30)]
        assert gateway.stop() == 0
    assert set(held(data).ids) == set(ids)


def test_what_a_worker_had_that_died_is_moved_by_another(upstream: Upstream, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with start(upstream, data, "--workers", "2") as gateway:
        ids = [gateway.chat("echo").headers["x-request-id"] for _ in range(30)]
        worker = int(next((data / "journal").glob("*.jsonl")).name.split("-")[1])
        os.kill(worker, signal.SIGKILL)
        requests = 0
        for _ in range(50):  # until the lock of the dead is taken over
            requests = told(gateway, "usage")["data"][0]["requests"]
            if requests == len(ids):
                break
        assert requests == len(ids)
        gateway.stop()
    check(data, ids)


# ---- bad disks ---------------------------------------------------------------------------------------------------


def room(gateway: Gateway, size: int) -> None:
    """No file of the gateway may grow beyond `size` bytes (0: any size), as on a disk that is full."""
    assert gateway.process is not None
    limit = size or resource.RLIM_INFINITY
    resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))


def test_with_a_full_disk_requests_go_on_and_are_recorded_later(upstream: Upstream, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with start(upstream, data) as gateway:
        ids = [gateway.chat("echo").headers["x-request-id"]]
        room(gateway, 1000)
        ids += [gateway.chat("smart").headers["x-request-id"] for _ in range(10)]
        assert gateway.said("usage records cannot be written: File too large")
        assert gateway.log().count("usage records cannot be written: File too large") == 1
        assert len(journalled(data)) < 5
        room(gateway, 0)
        ids.append(gateway.chat("echo").headers["x-request-id"])
        assert told(gateway, "usage")["data"][0]["requests"] == len(ids)
        gateway.stop()
        assert gateway.said("usage records are written again; 0 were lost")
    check(data, ids)


def test_with_a_full_disk_requests_stop_if_they_shall(upstream: Upstream, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with start(upstream, data, ledger='journal_full = "stop"') as gateway:
        room(gateway, 100)
        ids = [gateway.chat("echo").headers["x-request-id"]]  # nobody knew
        answer = gateway.chat("echo")
        assert (answer.status, answer.error()["code"]) == (503, "overloaded")
        assert "cannot record usage" in answer.error()["message"]
        assert "retry-after" in answer.headers
        assert gateway.get("/v1/models").status == 200
        room(gateway, 0)
        statuses = [gateway.chat("echo").status for _ in range(2)]
        assert statuses[-1] == 200
        gateway.stop()
    check(data, ids)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_data_directory_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path, workers: str) -> None:
    place = tmp_path / "data"
    if os.geteuid():
        place.mkdir(mode=0o500)
    else:
        place = Path("/proc/polymux")  # where even root can make nothing
    command = [sys.executable, "-m", "polymux", "serve", "--port", "0", "--data-dir", str(place), "--workers", workers]
    clean = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(SOURCES)}
    done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"cannot write to the data directory {place}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_journal_is_moved_as_far_as_it_is_good(upstream: Upstream, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "journal").mkdir(parents=True)
    good = [record(f"req_{n}", at=time.time()) for n in range(3)]
    path = data / "journal" / "journal-1-20260101-0123456789ab.jsonl"
    lines = [msgspec.json.encode(one) for one in good]
    path.write_bytes(lines[0] + b"\n{}\n" + lines[1] + b"\n" + lines[2] + b"\n" + lines[0][:100])
    with start(upstream, data) as gateway:
        assert told(gateway, "usage")["data"][0]["requests"] == 3
        gateway.stop()
        assert gateway.said(f"{path}: what stands at byte {len(lines[0]) + 1} is no usage record")


# ---- clocks ------------------------------------------------------------------------------------------------------


def test_a_clock_that_jumps_upsets_no_query(upstream: Upstream, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "journal").mkdir(parents=True)
    now = time.time()
    times = [now - 5 * HOUR, now + 400 * 24 * HOUR, now - 3 * HOUR, 0.0, now - 4 * HOUR]
    lines = [record(f"req_{n}", at=at) for n, at in enumerate(times)]
    path = data / "journal" / "journal-1-20260101-0123456789ab.jsonl"
    path.write_bytes(msgspec.json.Encoder().encode_lines(lines))
    with start(upstream, data) as gateway:
        rows = told(gateway, "usage/records?limit=3")
        assert [row["id"] for row in rows["data"]] == ["req_0", "req_1", "req_2"]
        rows = told(gateway, f"usage/records?limit=3&after={rows['next']}")
        assert [row["id"] for row in rows["data"]] == ["req_3", "req_4"]
        assert told(gateway, "usage")["data"][0]["requests"] == 5
        assert told(gateway, "usage?since=1d&until=1h")["data"][0]["requests"] == 3
        days = [one["day"] for one in told(gateway, "usage?by=day")["data"]]
        assert days == sorted(days)
        assert days[0] == "1970-01-01"
        gateway.stop()
    assert ship(data).bad == 0

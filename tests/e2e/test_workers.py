"""Several workers: one gateway to whoever calls it, administers it, or ends it."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.gateway import KEY, Gateway
from support.raw import Answer, ask, build, post
from support.settings import FUNCTIONS, providers
from support.upstream import Upstream
from support.waiting import until

ADMIN = "admin-0123456789abcdef"
WORKERS = 3


def settings(*models: str, rpm: int = 1_000_000) -> str:
    routes = [f'[models.{name}]\ndeployments = [{{ provider = "functions", model = "echo" }}]\n' for name in models]
    head = f'[auth]\nkeys = ["{KEY}"]\nadmin_key = "${{THE_ADMIN_KEY}}"\n[limits]\nrpm = {rpm}\n'
    return head + "".join(routes)


def start(text: str, functions: str = FUNCTIONS) -> Gateway:
    return Gateway(
        text,
        arguments=("--workers", str(WORKERS), "--functions", "models.py"),
        files={"models.py": functions},
        environment={"PYTHONWARNINGS": "error", "THE_ADMIN_KEY": ADMIN},
    )


@pytest.fixture
def crew() -> Iterator[Gateway]:
    with start(settings("one")) as running:
        yield running
        assert running.process is not None
        if running.process.poll() is None:
            assert running.stop() == 0
        assert "Traceback" not in running.log(), running.log()
        assert "Warning" not in running.log(), running.log()


def pid(gateway: Gateway) -> int:
    assert gateway.process is not None
    return gateway.process.pid


def children(gateway: Gateway) -> set[int]:
    """The workers' process ids (Linux)."""
    return {int(path.name) for path in Path("/proc").glob("[0-9]*") if parent(path) == pid(gateway)}


def parent(path: Path) -> int:
    try:
        return int((path / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it has just ended


def reload(gateway: Gateway) -> Answer:
    return ask(gateway.url, build("POST", "/admin/api/reload", {"authorization": f"Bearer {ADMIN}"}, b""))


def write(gateway: Gateway, text: str) -> None:
    (gateway.home / "polymux.toml").write_text(text)


def wait(gateway: Gateway, condition: Callable[[], bool]) -> None:
    """Until other processes have made it so."""
    done = threading.Event()
    for _ in range(2000):
        if condition():
            return
        done.wait(0.01)
    raise AssertionError(gateway.log())


def crowd(gateway: Gateway, requests: int, model: str = "one") -> list[int]:
    """The statuses of requests on many connections at once, so that all workers get some."""

    def some(_: int) -> list[int]:
        return [gateway.chat(model).status for _ in range(requests // 10)]

    with ThreadPoolExecutor(10) as pool:
        return [status for statuses in pool.map(some, range(10)) for status in statuses]


def journals(gateway: Gateway) -> dict[str, list[str]]:
    """The records of each worker."""
    files = (gateway.data / "journal").glob("*.jsonl")
    return {path.stem: path.read_text().splitlines() for path in files}


def test_one_banner_and_all_of_them_serve(crew: Gateway) -> None:
    assert crew.log().count("is running at") == 1
    assert crew.said(f"  workers {WORKERS}\n")
    assert len(children(crew)) == WORKERS
    assert crowd(crew, 300) == [200] * 300
    served = {name: lines for name, lines in journals(crew).items() if lines}
    assert sum(map(len, served.values())) == 300
    assert len(served) > 1


def test_no_secret_is_on_a_command_line_and_the_parent_is_small(crew: Gateway) -> None:
    for number in (pid(crew), *children(crew)):
        command = Path(f"/proc/{number}/cmdline").read_bytes()
        assert b"polymux" in command
        assert KEY.encode() not in command
        assert ADMIN.encode() not in command
    assert crew.rss() < 30 << 20


def test_what_a_killed_worker_held_is_given_back(upstream: Upstream) -> None:
    text = f'[auth]\nkeys = ["{KEY}"]\n[limits]\nrpm = 0\nconcurrency = 2\n{providers(upstream)}'
    with start(text) as gateway, gateway.wire() as one, gateway.wire() as two:
        for wire in (one, two):
            wire.send(post(KEY, {"model": "corp/stall", "messages": [{"role": "user", "content": "Hi"}]}))
        upstream.wait("stall", 2)
        assert gateway.chat("echo").status == 429
        for number in children(gateway):
            os.kill(number, signal.SIGKILL)
        wait(gateway, lambda: served(gateway))


def served(gateway: Gateway) -> bool:
    try:
        return gateway.chat("echo").status == 200
    except OSError:
        return False  # that worker is dead


def test_a_reload_at_any_worker_reaches_all(crew: Gateway) -> None:
    for name in ("two", "three", "four"):
        write(crew, settings(name))
        answer = reload(crew)
        data = answer.json()["data"]
        assert data == {"reloaded": True, "models": 3, "workers": WORKERS, "needs_restart": []}
        assert set(crowd(crew, 60, name)) == {200}
        assert set(crowd(crew, 60, "one")) == {404}
    until(lambda: crew.log().count("polymux: reloaded: 3 models, 3 workers") == 3)


def test_a_fault_keeps_all_of_them_as_they_were_and_is_told_once(crew: Gateway) -> None:
    write(crew, settings("two") + "[nonsense]\n")
    answer = reload(crew)
    assert answer.status == 400
    (fault,) = answer.json()["error"]["faults"]
    assert re.search(r"polymux\.toml:\d+: nonsense", fault)
    assert crew.said(fault)
    assert crew.log().count(fault) == 1
    os.kill(pid(crew), signal.SIGHUP)
    wait(crew, lambda: crew.log().count(fault) == 2)
    assert set(crowd(crew, 60)) == {200}


def test_no_request_is_dropped_by_twenty_reloads(crew: Gateway) -> None:
    def twenty() -> None:
        for number in range(20):
            write(crew, settings("one" if number % 2 else "two"))
            assert reload(crew).status == 200

    statuses = under_load(crew, twenty, kept=True)
    assert set(statuses) == {200}
    assert len(statuses) > 100


def under_load(gateway: Gateway, work: Callable[[], None], *, kept: bool) -> list[int]:
    """The statuses of all requests meanwhile, on new connections and, if wanted, on kept ones."""
    ended = threading.Event()

    def new() -> list[int]:
        statuses = []
        while not ended.is_set():
            statuses.append(gateway.chat("echo").status)
        return statuses

    def same() -> list[int]:
        statuses = []
        with gateway.wire() as wire:
            while not ended.is_set():
                wire.send(post(KEY, {"model": "echo", "messages": [{"role": "user", "content": "Hi"}]}))
                statuses.append(wire.answer().status)
        return statuses

    with ThreadPoolExecutor(4) as pool:
        loads = [pool.submit(load) for load in ([new, new, same, same] if kept else [new] * 4)]
        try:
            work()
        finally:
            ended.set()
        return [status for load in loads for status in load.result()]


def test_a_limit_is_one_limit() -> None:
    with start(settings("one", rpm=50)) as gateway:
        statuses = crowd(gateway, 200)
        assert (statuses.count(200), statuses.count(429)) == (50, 150)
        assert len(journals(gateway)) == WORKERS
        assert reload(gateway).status == 200
        assert set(crowd(gateway, 20)) == {429}, "and outlives a reload"


def test_metrics_are_those_of_all(crew: Gateway) -> None:
    assert crowd(crew, 100) == [200] * 100
    text = crew.get("/metrics").body.decode()
    counted = re.findall(r"^polymux_requests_total\{[^}]*\} ([0-9.]+)$", text, re.MULTILINE)
    assert sum(map(float, counted)) == 100, text


# ---- its life --------------------------------------------------------------------------------------------------


def test_a_worker_that_dies_is_replaced(crew: Gateway) -> None:
    before = children(crew)
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    wait(crew, lambda: "another worker was started in its place" in crew.log())
    assert crew.said(f"(pid {victim}) was ended by SIGKILL")
    after = children(crew)
    assert len(after) == WORKERS
    assert before - after == {victim}
    assert set(crowd(crew, 60)) == {200}


def test_a_rolling_restart_lets_streams_finish(scripted: Upstream, upstream: Upstream) -> None:
    with start(settings("one") + providers(scripted)) as gateway, gateway.wire() as wire:
        before = children(gateway)
        wire.send(post(KEY, {"model": "corp/gate", "messages": [{"role": "user", "content": "Hi"}], "stream": True}))
        seen = upstream.wait("gate")
        os.kill(pid(gateway), signal.SIGUSR2)
        wait(gateway, lambda: f"polymux: {WORKERS} workers replaced" in gateway.log())
        wait(gateway, lambda: len(children(gateway)) == WORKERS + 1)  # the one with the stream is still there
        assert set(crowd(gateway, 60)) == {200}
        seen.release(1000)
        assert wire.answer().events()[-1] == b"[DONE]"
        wait(gateway, lambda: len(children(gateway)) == WORKERS)
        assert not before & children(gateway)


def test_no_request_on_a_new_connection_is_dropped_by_a_rolling_restart(crew: Gateway) -> None:
    def restart() -> None:
        before = children(crew)
        os.kill(pid(crew), signal.SIGUSR2)
        wait(crew, lambda: not before & children(crew))

    statuses = under_load(crew, restart, kept=False)
    assert set(statuses) == {200}
    assert len(statuses) > 100


def test_the_end_waits_for_streams_and_takes_nothing_new(scripted: Upstream, upstream: Upstream) -> None:
    with start(settings("one") + providers(scripted)) as gateway, gateway.wire() as wire:
        wire.send(post(KEY, {"model": "corp/gate", "messages": [{"role": "user", "content": "Hi"}], "stream": True}))
        seen = upstream.wait("gate")
        os.kill(pid(gateway), signal.SIGTERM)
        wait(gateway, lambda: len(children(gateway)) == 1)
        wait(gateway, lambda: refused(gateway))
        seen.release(1000)
        assert wire.answer().events()[-1] == b"[DONE]"
        assert gateway.process is not None
        assert gateway.process.wait(20) == 0
        assert list((gateway.data / "run").iterdir()) == []
        assert json.loads(*[line for lines in journals(gateway).values() for line in lines])["status"] == 200


def refused(gateway: Gateway) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(gateway.url.rpartition(":")[2]))) == errno.ECONNREFUSED


def test_a_second_signal_ends_it_at_once(scripted: Upstream, upstream: Upstream) -> None:
    with start(settings("one") + providers(scripted)) as gateway, gateway.wire() as wire:
        wire.send(post(KEY, {"model": "corp/gate", "messages": [{"role": "user", "content": "Hi"}], "stream": True}))
        upstream.wait("gate")
        os.kill(pid(gateway), signal.SIGINT)
        wait(gateway, lambda: len(children(gateway)) == 1)
        os.kill(pid(gateway), signal.SIGINT)
        assert gateway.process is not None
        assert gateway.process.wait(20) == 0


def test_workers_do_not_outlive_the_parent(crew: Gateway) -> None:
    workers = children(crew)
    crew.kill()
    wait(crew, lambda: not any(alive(worker) for worker in workers))


def alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_what_keeps_workers_from_starting_is_told_once() -> None:
    """The parent could read everything; its workers cannot."""
    broken = FUNCTIONS + "\nimport sys\nif 'worker' in sys.argv[0]:\n    raise ImportError('not here')\n"
    gateway = start(settings("one"), broken)
    with pytest.raises(AssertionError, match="did not start") as caught, gateway:
        pass
    assert str(caught.value).count("not here") == 1
    assert "polymux: a worker cannot start: " in str(caught.value)
    assert gateway.process is not None
    assert gateway.process.returncode == 1

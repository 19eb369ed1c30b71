"""The parent of several workers, with workers that follow a script: real processes and the real channel."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from polymux.http import supervisor
from polymux.http.supervisor import Plan, Supervisor, outcome, run_directory
from support.peer import until
from support.upstream import PATIENCE

# `mode` and `faults-SLOT` are files that a test writes; `events` is what happened, a line each.
WORKER = """
import json, os, signal, socket, sys

home = sys.argv[1]
channel = socket.socket(fileno=int(sys.argv[2])).makefile("rw")
order = json.loads(channel.readline())
slot = order["slot"]


def read(name):
    try:
        return open(f"{home}/{name}").read()
    except FileNotFoundError:
        return ""


def note(event):
    with open(f"{home}/events", "a") as file:
        file.write(f"{slot} {event}\\n")


def send(**message):
    channel.write(json.dumps(message) + "\\n")
    channel.flush()


mode = read("mode")
if mode == "die":
    sys.exit(3)
if mode == "fail":
    send(failed="polymux.toml:3: it is broken")
    sys.exit(1)
if mode == "babble":
    print("not json", file=channel, flush=True)
    signal.pause()
note("ready")
send(ready=True)
if mode == "ask":
    send(ask=7)
for line in channel:
    message = json.loads(line)
    if "told" in message:
        note("told " + json.dumps(message, sort_keys=True))
        continue
    note(message["do"])
    if message["do"] == "stop":
        if mode == "stay":
            continue
        break
    if message["do"] == "ping" and mode == "mute":
        continue
    answer = {"n": message["n"]}
    if message["do"] == "prepare" and read(f"faults-{slot}"):
        if read(f"faults-{slot}") == "die":
            sys.exit(4)
        answer["faults"] = read(f"faults-{slot}").split(";")
    if message["do"] == "swap":
        answer |= {"models": 5, "workers": 1, "needs_restart": ["server.port"]}
    send(**answer)
note("end")
"""


def looped(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a coroutine test on asyncio's own loop, the one the parent runs on; a hang is a failure."""

    @wraps(test)
    def run(**arguments: Any) -> None:
        asyncio.run(asyncio.wait_for(test(**arguments), PATIENCE))

    return run


@dataclass
class Troop:
    """A running parent and what its workers were told."""

    home: Path
    parent: Supervisor
    task: asyncio.Task[int]

    def mode(self, mode: str) -> None:
        (self.home / "mode").write_text(mode)

    def faults(self, slot: int, faults: str) -> None:
        (self.home / f"faults-{slot}").write_text(faults)

    def events(self) -> list[str]:
        file = self.home / "events"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line for line in lines if not line.endswith(" ping")]

    def pids(self) -> dict[int, int]:
        return {worker.slot: worker.process.pid for worker in self.parent._serving()}

    async def events_become(self, count: int) -> list[str]:
        await until(lambda: len(self.events()) >= count)
        return self.events()


@asynccontextmanager
async def troop(home: Path, workers: int = 2, mode: str = "") -> AsyncIterator[Troop]:
    (home / "worker.py").write_text(WORKER)
    (home / "mode").write_text(mode)
    (home / "run").mkdir()
    command = [sys.executable, str(home / "worker.py"), str(home)]
    parent = Supervisor(Plan(workers, command, {"order": 1}, [], 0, str(home / "run"), "the banner"))
    found = Troop(home, parent, asyncio.create_task(parent.run()))
    try:
        yield found
    finally:
        for _ in range(2):
            parent._stop()
        await found.task


async def serving(troop: Troop, workers: int = 2) -> None:
    await until(lambda: len(troop.pids()) == workers)


@looped
async def test_one_banner_when_all_are_ready(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with troop(tmp_path, 3) as running:
        await serving(running, 3)
        assert sorted(running.events()) == ["0 ready", "1 ready", "2 ready"]
        out: list[str] = []
        await until(lambda: bool(out.append(capfd.readouterr().out)) or "".join(out) == "the banner\n")


@looped
@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("fail", "a worker cannot start: polymux.toml:3: it is broken"),
        ("die", "a worker cannot start: it ended with status 3"),
        ("babble", "a worker cannot start: it makes no sense"),
    ],
)
async def test_a_first_start_that_fails_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], mode: str, words: str
) -> None:
    monkeypatch.setattr(supervisor, "BEAT", 0.3)
    async with troop(tmp_path, 3, mode) as running:
        assert await running.task == 1
        told = capfd.readouterr()
        assert words in told.err
        assert told.err.count("\n") == 1
        assert told.out == ""


@looped
async def test_a_signal_ends_all_and_the_status_is_good(tmp_path: Path) -> None:
    async with troop(tmp_path) as running:
        await serving(running)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await running.task == 0
        assert sorted(running.events()[2:]) == ["0 end", "0 stop", "1 end", "1 stop"]


@looped
async def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    async with troop(tmp_path, mode="stay") as running:
        await serving(running)
        workers = running.parent._serving()
        os.kill(os.getpid(), signal.SIGINT)
        assert sorted((await running.events_become(4))[2:]) == ["0 stop", "1 stop"]
        os.kill(os.getpid(), signal.SIGINT)
        assert await running.task == 0
        assert [worker.process.returncode for worker in workers] == [-signal.SIGKILL] * 2


@looped
async def test_a_worker_that_ends_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.01)
    async with troop(tmp_path) as running:
        await serving(running)
        before = running.pids()
        os.kill(before[0], signal.SIGKILL)
        await until(lambda: running.pids().get(0) not in (None, before[0]))
        assert running.pids()[1] == before[1]
        await until(lambda: running.parent._change.locked() is False)
        told = capfd.readouterr().err
        assert f"worker 1 (pid {before[0]}) was ended by SIGKILL" in told
        assert "another worker was started in its place" in told


@looped
async def test_the_pauses_between_starts_grow_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds != supervisor.BEAT:
            pauses.append(seconds)
        await (asyncio.Event().wait() if seconds == supervisor.BEAT or len(pauses) > 8 else real(0))

    async with troop(tmp_path) as running:
        await serving(running)
        with monkeypatch.context() as patch:
            patch.setattr(supervisor.asyncio, "sleep", sleep)
            running.mode("die")
            os.kill(running.pids()[1], signal.SIGKILL)
            while len(pauses) < 9:
                await real(0.001)
        assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0]


@looped
async def test_a_worker_that_does_not_answer_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(supervisor, "BEAT", 0.02)
    monkeypatch.setattr(supervisor, "MISSED", 3)
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.01)
    async with troop(tmp_path, 1, "mute") as running:
        await serving(running, 1)
        before = running.pids()[0]
        running.mode("")
        await until(lambda: running.pids().get(0) not in (None, before))
        assert "worker 1 has not answered for" in capfd.readouterr().err


# ---- reload ----------------------------------------------------------------------------------------------------


@looped
async def test_all_swap_when_all_have_prepared(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with troop(tmp_path, 3) as running:
        await serving(running, 3)
        done = await running.parent.reload()
        assert (done["models"], done["workers"], done["needs_restart"]) == (5, 3, ["server.port"])
        told = [event.split()[1] for event in running.events()[3:]]
        assert told == ["prepare"] * 3 + ["swap"] * 3
        words = "polymux: reloaded: 5 models, 3 workers; a change of server.port needs a restart\n"
        assert capfd.readouterr().err == words


@looped
async def test_after_a_fault_none_swaps_and_it_is_told_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with troop(tmp_path, 3) as running:
        await serving(running, 3)
        running.faults(1, "p.toml:1: a;p.toml:2: b")
        running.faults(2, "p.toml:2: b")
        assert await running.parent.reload() == {"faults": ["p.toml:1: a", "p.toml:2: b"]}
        told = [event.split()[1] for event in (await running.events_become(9))[3:]]
        assert told == ["prepare"] * 3 + ["drop"] * 3
        lines = ["polymux: not reloaded, the gateway goes on as it was; 2 faults:", "p.toml:1: a", "p.toml:2: b", ""]
        assert capfd.readouterr().err == "\n".join(lines)
        running.faults(1, "")
        running.faults(2, "")
        assert "faults" not in await running.parent.reload()


@looped
async def test_a_worker_that_dies_meanwhile_does_not_count(tmp_path: Path) -> None:
    async with troop(tmp_path, 3) as running:
        await serving(running, 3)
        running.faults(1, "die")
        assert (await running.parent.reload())["workers"] == 2


@looped
async def test_reloads_wait_for_each_other(tmp_path: Path) -> None:
    async with troop(tmp_path, 1) as running:
        await serving(running, 1)
        await asyncio.gather(*(running.parent.reload() for _ in range(3)))
        assert [event.split()[1] for event in running.events()[1:]] == ["prepare", "swap"] * 3


@looped
async def test_a_worker_may_ask_for_it(tmp_path: Path) -> None:
    async with troop(tmp_path, 1, "ask") as running:
        told = (await running.events_become(4))[3]
        assert json.loads(told.removeprefix("0 told ")) == {
            "told": 7,
            "n": 2,
            "models": 5,
            "workers": 1,
            "needs_restart": ["server.port"],
        }


@looped
async def test_sighup_reloads(tmp_path: Path) -> None:
    async with troop(tmp_path, 1) as running:
        await serving(running, 1)
        os.kill(os.getpid(), signal.SIGHUP)
        assert (await running.events_become(3))[1:] == ["0 prepare", "0 swap"]


# ---- rolling restart -------------------------------------------------------------------------------------------


@looped
async def test_each_new_worker_is_ready_before_an_old_one_leaves(tmp_path: Path) -> None:
    async with troop(tmp_path) as running:
        await serving(running)
        old = set(running.pids().values())
        os.kill(os.getpid(), signal.SIGUSR2)
        events = await running.events_become(8)
        await until(lambda: len(running.pids()) == 2 and not old & set(running.pids().values()))
        events = [event.split()[1] for event in running.events()]
        ready = [at for at, event in enumerate(events) if event == "ready"]
        stops = [at for at, event in enumerate(events) if event == "stop"]
        assert len(ready) == 4
        assert ready[2] < stops[0]
        assert ready[3] < stops[1]


@looped
async def test_the_old_ones_stay_when_a_new_one_cannot_start(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with troop(tmp_path) as running:
        await serving(running)
        old = running.pids()
        running.mode("fail")
        await running.parent.restart()
        assert running.pids() == old
        assert "the old ones go on: polymux.toml:3: it is broken" in capfd.readouterr().err


# ---- what is around it -----------------------------------------------------------------------------------------


def test_what_gateways_left_behind_is_removed(tmp_path: Path) -> None:
    code = "import sys, pathlib; from polymux.http.supervisor import run_directory as d\n"
    code += "print(d(pathlib.Path(sys.argv[1])), flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    theirs = Path(other.stdout.readline().strip())
    (theirs / "metrics-0").touch()
    ours = run_directory(tmp_path)
    assert ours != theirs
    assert ours.stat().st_mode & 0o777 == 0o700
    assert theirs.exists(), "it is in use"
    other.communicate()
    third = run_directory(tmp_path)
    assert sorted(tmp_path.glob("run/*")) == sorted([ours, third])


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"faults": ["a: b"]}, "not reloaded, the gateway goes on as it was; 1 fault:\na: b"),
        ({"models": 1, "workers": 1, "needs_restart": []}, "reloaded: 1 model, 1 worker"),
        ({"models": 2, "workers": 4, "needs_restart": ["a", "b"]}, "a change of a, b needs a restart"),
    ],
)
def test_what_became_of_a_reload_in_words(told: dict[str, object], words: str) -> None:
    assert words in outcome(told)

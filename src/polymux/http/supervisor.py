"""Several workers behind one listening socket: started, watched, replaced and ended by one small parent.

A worker is a process of its own (fork and exec: sound beside threads on every system, and a worker that is started
later runs the code that is installed by then). It inherits the listening socket, and one end of a socket pair over
which both sides write lines of JSON. What is secret goes over that pair, never on a command line.

    parent -> worker   the order, once; {"do": "prepare"|"swap"|"drop"|"ping", "n": 1}; {"do": "stop"}; {"told": 1, ...}
    worker -> parent   {"ready": true} or {"failed": "why"}, once; {"n": 1, ...}; {"ask": 1}: please reload

A reload has two steps, so that all workers change or none: each prepares what it reads, and when no one found a fault
all swap. A parent that dies closes its end, and its workers drain and end. This file needs the standard library alone
and is a program of its own, so that the parent stays small and runs nobody's code: see `take_over`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

BEAT: Final = 5.0  # seconds between two pings
MISSED: Final = 6  # pings without an answer, and a worker counts as stuck
STEADY: Final = 60.0  # seconds: for who lived longer, the pauses begin anew
FIRST_PAUSE: Final = 1.0  # seconds before a worker that ended is started again, doubled up to LONGEST_PAUSE
LONGEST_PAUSE: Final = 30.0
START: Final = 300.0  # seconds a worker may take to be ready, for function models may load a lot
PREPARE: Final = 120.0  # seconds for a worker to read a configuration
DRAIN: Final = 35.0  # seconds: workers end by themselves after 30
LINE: Final = 1 << 24  # bytes of a message

Message = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What the parent goes by. command: starts a worker; the descriptor of its control channel is appended.
    order: for the worker, which also gets `slot`. inherited: descriptors for all workers; the first `listening` of them
    are listening sockets. run: a directory that is removed at the end. socket: the path of a Unix socket, likewise."""

    workers: int
    command: list[str]
    order: Message
    inherited: list[int]
    listening: int
    run: str
    banner: str
    socket: str = ""


class CannotStart(Exception):
    """A worker did not come up, for this reason."""


class Worker:
    """One child. It serves from `ready` to its end, unless it is `leaving`: then it finishes what is under way."""

    def __init__(self, slot: int, process: subprocess.Popen[bytes], pause: float) -> None:
        self.slot = slot
        self.process = process
        self.pause = pause  # seconds that were waited before its start
        self.since = time.monotonic()
        self.ready = False
        self.leaving = False
        self.missed = 0
        self.first: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self.ended = asyncio.Event()
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Message]] = {}
        self._writer: asyncio.StreamWriter

    async def talk(self, channel: socket.socket, order: Message, asked: Callable[[int], object]) -> None:
        """Give the order and read what comes, up to the end of either side. `asked`: it wants a reload."""
        reader, self._writer = await asyncio.open_connection(sock=channel, limit=LINE)
        self.send(order)
        with contextlib.suppress(OSError, ValueError):  # it is gone, or not in its right mind; then it is killed soon
            while line := await reader.readline():
                message = json.loads(line)
                if "n" in message:
                    self._answers.pop(message["n"]).set_result(message)
                elif "ask" in message:
                    asked(message["ask"])
                elif not self.first.done():
                    self.first.set_result(message)
        self._writer.close()

    def send(self, message: Message) -> None:
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def ask(self, what: str, seconds: float = PREPARE) -> Message | None:
        """The answer; None when the worker ends or takes too long."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        self.send({"do": what, "n": number})
        ended = asyncio.ensure_future(self.ended.wait())
        await asyncio.wait({answer, ended}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        return answer.result() if answer.done() else None

    def leave(self) -> None:
        self.leaving = True
        self.send({"do": "stop"})

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()


class Supervisor:
    """The parent's work."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._workers: list[Worker] = []  # all that live, starting and leaving ones too
        self._change = asyncio.Lock()  # one start, reload or restart at a time
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self) -> int:
        """Until it is told to end; the exit status."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        on_signals(
            {
                signal.SIGTERM: self._stop,
                signal.SIGINT: self._stop,
                signal.SIGHUP: on_hangup(lambda: self._task(self.reload()), self._stop),
                signal.SIGUSR2: lambda: self._task(self.restart()),
            }
        )
        status = await self._begin()
        if not self._stopping.is_set():
            print(self._plan.banner, flush=True)  # noqa: T201 - what this program is for
            self._task(self._beat())
            await self._stopping.wait()
        for fd in self._plan.inherited[: self._plan.listening]:
            os.close(fd)  # with the workers' own, a client is refused at once and not left waiting
        for worker in self._workers:
            if worker.ready:
                worker.leave()
            else:
                worker.kill()
        await self._all_ended(DRAIN)
        for worker in self._workers:
            worker.kill()
        await self._all_ended(DRAIN)
        return status

    async def _begin(self) -> int:
        """Start all workers; the exit status if that cannot be."""
        async with self._change:
            starting = asyncio.gather(*(self._start(0.0) for _ in range(self._plan.workers)))
            stopping = self._task(self._stopping.wait())
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
            elif error := starting.exception():
                say(f"a worker cannot start: {error}")
                self._stopping.set()
                return 1
            return 0

    def _stop(self) -> None:
        """The first signal lets them finish what is under way, the second does not."""
        if self._stopping.is_set():
            for worker in self._workers:
                worker.kill()
        self._stopping.set()

    def _reap(self) -> None:
        for worker in list(self._workers):
            if worker.process.poll() is not None:
                self._workers.remove(worker)
                worker.ended.set()

    async def _all_ended(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for worker in list(self._workers):
                    await worker.ended.wait()

    def _task(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # ---- workers

    def _spawn(self, pause: float) -> tuple[Worker, socket.socket]:
        """A new process, and our end of its channel."""
        plan = self._plan
        taken = {worker.slot for worker in self._workers}
        slot = next(number for number in range(len(taken) + 1) if number not in taken)
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(  # noqa: S603 - this very program
                [*plan.command, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(*plan.inherited, theirs.fileno()),
                process_group=0,  # Ctrl-C is for the parent, which tells them
            )
        worker = Worker(slot, process, pause)
        self._workers.append(worker)
        return worker, ours

    async def _start(self, pause: float) -> None:
        """A new worker that serves. `pause`: seconds that were waited before. Raises `CannotStart`."""
        worker, channel = self._spawn(pause)
        order = {**self._plan.order, "slot": worker.slot}
        talk = self._task(worker.talk(channel, order, lambda number: self._task(self._asked(worker, number))))
        await asyncio.wait({worker.first, talk}, timeout=START, return_when=asyncio.FIRST_COMPLETED)
        if worker.first.done() and "failed" not in worker.first.result():
            worker.ready = True
            self._task(self._watch(worker))
            return
        reason = f"it was not ready after {START:g} s"
        if worker.first.done():
            reason = worker.first.result()["failed"]
        elif talk.done():
            await asyncio.wait({self._task(worker.ended.wait())}, timeout=BEAT)
            reason = f"it {_ending(worker.process.returncode)}" if worker.ended.is_set() else "it makes no sense"
        worker.kill()
        await worker.ended.wait()
        raise CannotStart(reason)

    async def _watch(self, worker: Worker) -> None:
        """Put another in the place of a worker that ends by itself."""
        await worker.ended.wait()
        if worker.leaving or self._stopping.is_set():
            return
        say(f"worker {worker.slot + 1} (pid {worker.process.pid}) {_ending(worker.process.returncode)}")
        pause = worker.pause if time.monotonic() - worker.since < STEADY else 0.0
        while not self._stopping.is_set():
            pause = min(LONGEST_PAUSE, pause * 2 or FIRST_PAUSE)
            await asyncio.sleep(pause)
            async with self._change:
                if self._stopping.is_set():
                    return
                try:
                    await self._start(pause)
                except CannotStart as error:
                    say(f"a worker cannot start, and is tried again: {error}")
                    continue
            say("another worker was started in its place")
            return

    async def _beat(self) -> None:
        """Kill workers whose loop does not turn any more; another follows."""
        while True:
            await asyncio.sleep(BEAT)
            for worker in self._serving():
                if worker.missed >= MISSED:
                    say(f"worker {worker.slot + 1} has not answered for {BEAT * MISSED:g} s and is killed")
                    worker.kill()
                    continue
                worker.missed += 1
                self._task(self._ping(worker))

    async def _ping(self, worker: Worker) -> None:
        if await worker.ask("ping", BEAT * MISSED) is not None:
            worker.missed = 0

    def _serving(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.ready and not worker.leaving]

    # ---- reload, restart

    async def _asked(self, worker: Worker, number: int) -> None:
        """A worker passes on what an administrator wants."""
        worker.send({"told": number, **await self.reload()})

    async def reload(self) -> Message:
        """All workers swap what they serve, or, after a fault, none. {"faults": [...]} or what a worker told."""
        async with self._change:
            workers = self._serving()
            answers = await asyncio.gather(*(worker.ask("prepare") for worker in workers))
            late = {"faults": ["a worker did not answer in time"]}
            found = [
                answer or late for worker, answer in zip(workers, answers, strict=True) if not worker.ended.is_set()
            ]
            faults = [*dict.fromkeys(fault for answer in found for fault in answer.get("faults", ()))]
            swapped = await asyncio.gather(*(worker.ask("drop" if faults else "swap") for worker in workers))
            done = [answer for answer in swapped if answer is not None]
        if not faults and not done:
            faults = ["no worker serves at the moment"]
        told = {"faults": faults} if faults else {**done[0], "workers": len(done)}
        say(outcome(told))
        return told

    async def restart(self) -> None:
        """One worker after the other is followed by a new process, which serves before the old one leaves."""
        async with self._change:
            old = self._serving()
            for worker in old:
                try:
                    await self._start(0.0)
                except CannotStart as error:
                    say(f"a new worker cannot start, the old ones go on: {error}")
                    return
                worker.leave()
        say(f"{_count(len(old), 'worker')} replaced")


def on_signals(actions: Mapping[int, Callable[[], object]]) -> None:
    """Do something on the running loop when a signal comes. The handlers stay when the loop has ended: a signal that
    comes then changes nothing about the exit status."""
    loop = asyncio.get_running_loop()

    def handle(number: int, _: object) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(actions[number])

    for number in actions:
        signal.signal(number, handle)


def on_hangup(reload: Callable[[], object], stop: Callable[[], object]) -> Callable[[], object]:
    """What SIGHUP means: reload. But when the terminal is gone that this was started from, it means what it says."""
    attached = os.isatty(0)
    return lambda: stop() if attached and not os.isatty(0) else reload()


def say(text: str) -> None:
    print(f"polymux: {text}", file=sys.stderr, flush=True)  # noqa: T201 - the log of a program without a logger


def outcome(told: Message) -> str:
    """A reload in words for the log."""
    if faults := told.get("faults"):
        return "\n".join([f"not reloaded, the gateway goes on as it was; {_count(len(faults), 'fault')}:", *faults])
    restart = told["needs_restart"]
    later = f"; a change of {', '.join(restart)} needs a restart" if restart else ""
    return f"reloaded: {_count(told['models'], 'model')}, {_count(told['workers'], 'worker')}{later}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _ending(status: int | None) -> str:
    if status is not None and status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def run_directory(data_dir: Path) -> Path:
    """A new directory for what the workers of this gateway share; what gateways that are no more have left is removed.

    It is known to be in use by a lock on it, which this process holds to its end. Raises OSError.
    """
    home = data_dir / "run"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    guard = os.open(home, os.O_RDONLY)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX)
        for old in home.iterdir():
            held = os.open(old, os.O_RDONLY)
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(old, ignore_errors=True)
            os.close(held)
        run = Path(tempfile.mkdtemp(dir=home))
        lock = os.open(run, os.O_RDONLY)
        os.set_inheritable(lock, True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    finally:
        os.close(guard)
    return run


def python(module: str) -> list[str]:
    """The command that runs a module: the same interpreter, and nothing from the working directory."""
    return [sys.executable, "-P", "-m", module]


def take_over(plan: Plan) -> NoReturn:
    """This process becomes the parent: its number and descriptors stay, its memory and all that it has read do not."""
    with tempfile.TemporaryFile() as file:
        file.write(json.dumps(asdict(plan)).encode())
        file.seek(0)
        for fd in (file.fileno(), *plan.inherited):
            os.set_inheritable(fd, True)
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, [*python(__name__), str(file.fileno())])  # noqa: S606 - this very program


def main() -> NoReturn:
    with os.fdopen(int(sys.argv[1]), "rb") as file:
        plan = Plan(**json.load(file))
    status = asyncio.run(Supervisor(plan).run())
    if plan.socket:
        Path(plan.socket).unlink(missing_ok=True)
    shutil.rmtree(plan.run, ignore_errors=True)
    raise SystemExit(status)


if __name__ == "__main__":
    main()

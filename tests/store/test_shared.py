"""Limits across processes: the window against the one of a single process, and processes that crowd one limit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymux.routing.limits import Window
from polymux.store import shared
from polymux.store.memory import LocalCounters
from polymux.store.shared import MOST, WAYS, SharedCounters, shared_file

STEADY = settings(derandomize=True, deadline=None, max_examples=400)
# Sixteenths of a second are exact in floats, so that a border is a border.
PAUSES = st.lists(
    st.sampled_from([0, 1, 3, 15, 16, 17, 160, 16 * 29, 16 * 59, 16 * 60, 16 * 61, 16 * 90, 16 * 700]), max_size=60
)


class Clock:
    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def table() -> int:
    """One table for all examples; each uses a name of its own."""
    return shared_file()


@STEADY
@given(
    st.integers(0, 16 * 200), PAUSES, st.lists(st.integers(1, 6), min_size=1, max_size=4), st.sampled_from([0, 1, 40])
)
def test_it_is_the_window_of_one_process(table, start, pauses, limits, back) -> None:
    clock, window = Clock(), Window()
    counters = [SharedCounters(table, clock) for _ in range(2)]
    name, now = os.urandom(16).hex(), 1000 + start / 16
    for turn, pause in enumerate([0, *pauses]):
        now += pause / 16
        clock.now = now - back / 16 * (turn % 2)  # a clock that steps back stays where it was
        limit = limits[turn % len(limits)]
        assert counters[turn % 2].admit(name, limit) == window.admit(clock.now, limit), (turn, now)


@STEADY
@given(
    st.integers(0, 16 * 200),
    st.lists(st.tuples(st.sampled_from([0, 1, 16, 160, 16 * 30, 16 * 61]), st.integers(-9, 9), st.booleans())),
)
def test_amounts_and_their_corrections_are_those_of_one_process(table, start, steps) -> None:
    clock = Clock(1000 + start / 16)
    local, counters = LocalCounters(clock), [SharedCounters(table, clock, worker) for worker in (1, 2)]
    name = os.urandom(16).hex()
    seconds = [one.admit(name, 10, 3).second for one in (local, counters[0])]
    for turn, (pause, amount, correct) in enumerate(steps):
        clock.now += pause / 16
        shared = counters[turn % 2]
        if correct:
            second = seconds[turn // 2 % len(seconds)]
            shared.correct(name, second, amount)
            local.correct(name, second, amount)
        else:
            verdict = local.admit(name, 10, abs(amount))
            assert shared.admit(name, 10, abs(amount)) == verdict
            seconds.append(verdict.second)
    assert counters[0].admit(name, 1000, 0) == local.admit(name, 1000, 0)


def test_counts_do_not_overflow() -> None:
    counters = SharedCounters(shared_file(), Clock())
    assert counters.admit("tpm:a", 10**12, MOST).remaining == 0
    counters.correct("tpm:a", 1000, MOST)
    counters.correct("tpm:a", 1000, 10**12)
    assert not counters.admit("tpm:a", 10**12, 1).admitted
    counters.correct("tpm:a", 1000, -(10**12))
    assert counters.admit("tpm:a", 10**12, MOST).admitted


@STEADY
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab"), st.booleans()), max_size=60), st.integers(1, 4))
def test_who_is_here_is_counted_over_all_workers(table, steps, limit) -> None:
    workers = [SharedCounters(table, Clock(), worker) for worker in (3, 4, 5)]
    local, salt, inside = LocalCounters(), os.urandom(8).hex(), []
    for worker, letter, leaves in steps:
        name = salt + letter
        if leaves and inside:
            who, where = inside.pop(worker % len(inside))
            workers[who].leave(where)
            local.leave(where)
        else:
            entered = workers[worker].enter(name, limit)
            assert entered == local.enter(name, limit)
            if entered:
                inside.append((worker, name))


def test_what_a_dead_worker_held_is_given_back_when_its_place_is_taken_again() -> None:
    fd = shared_file()
    dead, other = SharedCounters(fd, worker=0), SharedCounters(fd, worker=1)
    assert [dead.enter("a", 3) for _ in range(2)] == [True, True]
    assert [other.enter("a", 3) for _ in range(2)] == [True, False]
    again = SharedCounters(fd, worker=0)
    assert [again.enter("a", 3) for _ in range(3)] == [True, True, False]
    for _ in range(3):
        again.leave("a")  # once more than it has entered
    assert [again.enter("a", 3) for _ in range(3)] == [True, True, False], "the other one's is still counted"


def test_who_leaves_without_being_here_frees_nothing() -> None:
    counters = SharedCounters(shared_file())
    counters.leave("a")
    assert [counters.enter("a", 1) for _ in range(2)] == [True, False]


def test_names_are_counted_apart() -> None:
    counters = SharedCounters(shared_file(), Clock())
    for name in ("rpm:a", "rpm:b", "rpm:嗯", "x" * 10_000):
        assert [counters.admit(name, 2).admitted for _ in range(3)] == [True, True, False]


def test_a_full_set_lets_go_of_what_was_used_longest_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "SETS", 1)
    clock = Clock()
    here = SharedCounters(fd := shared_file(), clock)
    there = SharedCounters(fd, clock)
    names = [f"key-{number}" for number in range(WAYS + 1)]
    for name in names[:WAYS]:
        assert here.admit(name, 9).remaining == 8
        clock.now += 1
    assert there.admit(names[0], 9).remaining == 7  # used again: key-1 is now the oldest
    clock.now += 1
    assert there.admit(names[WAYS], 9).remaining == 8
    kept = [here.admit(name, 9).remaining for name in (names[0], names[2], names[WAYS], names[1])]
    assert kept == [6, 7, 7, 8]


def test_what_is_remembered_of_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "SETS", 1)
    counters = SharedCounters(shared_file(), Clock())
    for number in range(5 * WAYS):
        counters.admit(f"key-{number}", 1)
    assert len(counters._names) <= WAYS


def test_an_unused_table_takes_no_memory() -> None:
    assert os.fstat(shared_file()).st_blocks == 0


HAMMER = """
import sys
from polymux.store.shared import SharedCounters

counters = SharedCounters(int(sys.argv[1]))
print("up", flush=True)
sys.stdin.read()
print(sum(counters.admit(sys.argv[2], int(sys.argv[3])).admitted for _ in range(int(sys.argv[4]))))
"""


def crowd(fd: int, processes: int, name: str, limit: int, times: int) -> list[subprocess.Popen[str]]:
    """Processes that begin when their input ends."""
    command = [sys.executable, "-c", HAMMER, str(fd), name, str(limit), str(times)]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=[fd])
        for _ in range(processes)
    ]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
    return started


def test_several_processes_admit_exactly_the_limit() -> None:
    started = crowd(shared_file(), 4, "rpm:a", 5000, 4000)
    for process in started:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    admitted = [int(process.communicate()[0]) for process in started]
    assert sum(admitted) == 5000
    assert all(process.returncode == 0 for process in started)


def test_a_process_that_is_killed_leaves_no_lock_behind() -> None:
    fd = shared_file()
    for _ in range(5):
        (process,) = crowd(fd, 1, "rpm:a", 10**9, 10**9)
        assert process.stdin is not None
        process.stdin.close()
        counters = SharedCounters(fd)
        seen = [counters.admit("rpm:a", 10**9).remaining for _ in range(100)]
        assert all(later < earlier for earlier, later in pairwise(seen))  # whatever it did meanwhile, none was lost
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        before = counters.admit("rpm:a", 10**9).remaining
        assert counters.admit("rpm:a", 10**9).remaining == before - 1

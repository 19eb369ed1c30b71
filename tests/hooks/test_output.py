"""Lines go out soon, in order, and never keep the caller waiting."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymux.hooks import output as module
from polymux.hooks.output import Output, pieces


def note(count: int) -> bytes:
    return b"dropped %d\n" % count


def drain(fd: int) -> bytes:
    """Everything up to the end."""
    with os.fdopen(fd, "rb") as file:
        return file.read()


def test_lines_arrive_in_order() -> None:
    source, sink = os.pipe()
    output = Output(sink, note)
    for number in range(1000):
        output.put(b"line %d\n" % number)
    output.close()
    os.close(sink)
    assert drain(source) == b"".join(b"line %d\n" % number for number in range(1000))


def test_a_line_arrives_without_being_asked_for() -> None:
    source, sink = os.pipe()
    output = Output(sink, note)
    output.put(b"one\n")
    assert os.read(source, 100) == b"one\n"
    output.put(b"two\n")
    assert os.read(source, 100) == b"two\n"
    output.close()
    os.close(source)
    os.close(sink)


def test_who_does_not_read_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 200_000)
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    source, sink = os.pipe()
    output = Output(sink, note)
    line = b"x" * 99 + b"\n"
    for _ in range(10_000):  # a megabyte; a pipe takes 64 KiB
        output.put(line)
    output.close()  # comes back, too
    reader = threading.Thread(target=output._writer.join)
    reader.start()
    seen = b""
    while b"dropped" not in seen:
        seen += os.read(source, 65536)
    reader.join()
    lines = seen.splitlines()
    assert set(lines[:-1]) == {b"x" * 99}
    assert lines[-1] == b"dropped %d" % (10_000 - len(lines) + 1)
    os.close(source)
    os.close(sink)


def test_a_reader_that_leaves_is_no_fault() -> None:
    source, sink = os.pipe()
    os.close(source)
    output = Output(sink, note)
    for _ in range(100):
        output.put(b"line\n")
    output.close()
    assert not output._writer.is_alive()
    os.close(sink)


def test_a_descriptor_that_does_not_block_loses_nothing() -> None:
    """Some parents give their children such pipes."""
    source, sink = os.pipe()
    os.set_blocking(sink, False)
    output = Output(sink, note)
    for number in range(30_000):
        output.put(b"line %d\n" % number)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(drain(source)))
    reader.start()
    output._closing.set()
    output._writer.join()
    output.close()
    os.close(sink)
    reader.join()
    assert found[0].count(b"\n") == 30_000


def test_a_process_that_ends_writes_the_rest(tmp_path: Path) -> None:
    script = """
        from polymux.hooks.output import Output
        output = Output(1, lambda count: b"")
        output.put(b"the last words\\n")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, check=True)
    assert done.stdout == b"the last words\n"


def test_a_terminal_takes_lines() -> None:
    ours, theirs = pty.openpty()
    output = Output(theirs, note)
    output.put(b"hello\n")
    assert os.read(ours, 100) == b"hello\r\n"
    output.close()
    os.close(ours)
    os.close(theirs)


@given(st.lists(st.binary(max_size=30)), st.integers(1, 60))
def test_pieces_end_with_a_line(lines: list[bytes], size: int) -> None:
    lines = [line.replace(b"\n", b"") + b"\n" for line in lines]
    found = pieces(b"".join(lines), size)
    assert b"".join(found) == b"".join(lines)
    assert all(piece.endswith(b"\n") for piece in found)
    assert all(len(piece) <= size or piece.count(b"\n") == 1 for piece in found)

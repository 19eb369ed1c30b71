"""Cells: what workers count apart is found together, exactly, and outlives them."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from polymux.store import cells as module
from polymux.store.cells import Cells


def totals(cells: Cells) -> dict[tuple[str, ...], list[float]]:
    """Summed over all slots."""
    found: dict[tuple[str, ...], list[float]] = {}
    for slot in cells.slots():
        for series, values in slot.series:
            before = found.setdefault((series.name, *series.labels), [0.0] * series.width)
            found[series.name, *series.labels] = [a + b for a, b in zip(before, values, strict=True)]
    return found


def test_a_series_keeps_its_cells() -> None:
    cells = Cells()
    one, two = cells.series("requests", ("200", ""), 1), cells.series("seconds", ("200",), 3)
    assert cells.series("requests", ("200", ""), 1) == one
    assert cells.series("seconds", ("200",), 3) == two
    cells.values[one] += 1
    cells.values[two + 2] += 0.25
    assert totals(cells) == {("requests", "200", ""): [1.0], ("seconds", "200"): [0.0, 0.0, 0.25]}


def test_workers_count_apart_and_are_summed(tmp_path: Path) -> None:
    workers = [Cells(tmp_path, slot) for slot in range(3)]
    for number, cells in enumerate(workers, 1):
        cells.series(f"only {number}", (), 1)  # so that places differ
        cells.values[cells.series("requests", ("é",), 1)] += number
    assert [slot.name for slot in workers[0].slots()] == ["0", "1", "2"]
    assert all(totals(cells)["requests", "é"] == [6.0] for cells in workers)


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    Cells(tmp_path, 7)
    assert (tmp_path / "metrics-7").stat().st_mode & 0o777 == 0o600


def test_counts_outlive_a_killed_worker_and_its_successor_goes_on(tmp_path: Path) -> None:
    script = """
        import os, signal, sys
        from pathlib import Path
        from polymux.store.cells import Cells
        cells = Cells(Path(sys.argv[1]), 1)
        for label in ("a", "b"):
            at = cells.series("requests", (label,), 1)
            for _ in range(1000):
                cells.values[at] += 1
        os.kill(os.getpid(), signal.SIGKILL)
    """
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], check=False)
        assert done.returncode == -signal.SIGKILL
    mine = Cells(tmp_path, 0)
    assert totals(mine) == {("requests", "a"): [2000.0], ("requests", "b"): [2000.0]}


def test_an_entry_that_was_never_finished_is_not_seen(tmp_path: Path) -> None:
    """A worker may die between the text and the length of the list."""
    cells = Cells(tmp_path, 0)
    cells.values[cells.series("requests", ("whole",), 1)] += 1
    file = tmp_path / "metrics-0"
    used = struct.unpack_from("=Q", file.read_bytes(), 8)[0]
    with file.open("r+b") as raw:
        raw.seek(module._TEXT + used)
        raw.write(b"\x07\x00")
    assert totals(cells) == {("requests", "whole"): [1.0]}
    successor = Cells(tmp_path, 0)
    successor.values[successor.series("requests", ("next",), 1)] += 2
    assert totals(successor) == {("requests", "whole"): [1.0], ("requests", "next"): [2.0]}


def test_a_file_that_is_being_made_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "metrics-3").write_bytes(b"")
    cells = Cells(tmp_path, 0)
    cells.series("requests", (), 1)
    assert totals(cells) == {("requests",): [0.0]}


def test_too_many_series_of_a_name_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    cells = Cells()
    for number in range(10):
        cells.values[cells.series("requests", ("model", str(number)), 1)] += 1
    cells.values[cells.series("failures", ("first",), 1)] += 1
    assert totals(cells) == {
        **{("requests", "model", str(number)): [1.0] for number in range(3)},
        ("requests", "other", "other"): [7.0],
        ("failures", "first"): [1.0],
    }


@pytest.mark.parametrize(("name", "space"), [("CELLS", 40), ("LIST", 400)])
def test_a_full_file_goes_on_with_other(monkeypatch: pytest.MonkeyPatch, name: str, space: int) -> None:
    monkeypatch.setattr(module, name, module._SPARE + space)
    cells = Cells()
    for number in range(1000):
        cells.values[cells.series("requests", (f"label {number}",), 4) + 3] += 1
    found = totals(cells)
    assert 2 < len(found) < 20
    assert found["requests", "other"][3] > 900
    assert sum(values[3] for values in found.values()) == 1000


def test_a_long_label_is_not_kept() -> None:
    cells = Cells()
    cells.series("requests", ("x" * 201, "y" * 200), 1)
    assert list(totals(cells)) == [("requests", "other", "y" * 200)]


def test_a_directory_that_is_not_there_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        Cells(tmp_path / "nowhere", 0)


def test_a_reader_beside_a_writer_finds_whole_entries(tmp_path: Path) -> None:
    """In another process, so that both really run at once."""
    script = """
        import sys
        from pathlib import Path
        from polymux.store.cells import Cells
        cells = Cells(Path(sys.argv[1]), 1)
        print("ready", flush=True)
        for number in range(900):
            cells.values[cells.series("requests", (f"label {number} " + "x" * (number % 100),), 1)] += 1
    """
    cells = Cells(tmp_path, 0)
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        seen = 0
        while writer.poll() is None:
            found = totals(cells)
            assert len(found) >= seen
            assert all(name == "requests" and label.startswith("label ") for name, label in found)
            seen = len(found)
    assert writer.returncode == os.EX_OK
    assert totals(cells) == {("requests", f"label {n} " + "x" * (n % 100)): [1.0] for n in range(900)}

"""Numbers that the workers of one machine count together, exactly: one file of doubles for each of them.

A series is a name with the values of its labels and some cells in a row. A worker counts in its own file alone, which
is mapped into its memory, so an increment is a store; whoever wants the sums reads all files. What was counted survives
the worker's death: who takes its slot goes on in its file.

Layout: MAGIC, the bytes used of the list of series (u64), CELLS doubles, the list of series. An entry of the list is
the length of its text, its first cell, its number of cells (u32 each) and the text, a JSON array padded so that the
next entry begins at a multiple of eight. The length of the list is written last, so a reader finds whole entries only.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

MAGIC = b"pmxcell1"
CELLS = 1 << 17
LIST = 1 << 20  # bytes
MOST = 1000  # series of one name; further ones count as OTHER
LONGEST = 200  # characters of a label's value
OTHER = "other"

_USED = 1  # the word of the header that tells how long the list is
_HEADER = 16
_TEXT = _HEADER + CELLS * 8
_SIZE = _TEXT + LIST  # pages that nobody touches take no memory
_SPARE = 1 << 14  # bytes of the list, and cells, that are kept for OTHER
_ENTRY = struct.Struct("<III")
_PREFIX = "metrics-"


class Series(NamedTuple):
    name: str
    labels: tuple[str, ...]
    first: int  # cell
    width: int


class Slot(NamedTuple):
    """What one worker has counted. name: of the slot."""

    name: str
    series: tuple[tuple[Series, tuple[float, ...]], ...]


class Cells:
    """Counts in the file of `slot` in `directory`, or in memory when nobody shares it. Raises OSError."""

    def __init__(self, directory: Path | None = None, slot: int = 0) -> None:
        self._directory = directory
        self._map = mmap.mmap(-1, _SIZE) if directory is None else _opened(directory / f"{_PREFIX}{slot}")
        self._words = memoryview(self._map).cast("Q")
        self.values: memoryview[float] = memoryview(self._map)[_HEADER:_TEXT].cast("d")
        if self._map[: len(MAGIC)] != MAGIC:
            self._map[: len(MAGIC)] = MAGIC
        found = list(_listed(self._map))
        self._known = {(series.name, series.labels): series.first for series in found}
        self._next = found[-1].first + found[-1].width if found else 0

    def series(self, name: str, labels: tuple[str, ...], width: int) -> int:
        """The first of the `width` cells in `values` that are this series'. When there are too many series, that of
        the name with all labels OTHER."""
        labels = tuple(label if len(label) <= LONGEST else OTHER for label in labels)
        known = self._known.get((name, labels))
        if known is not None:
            return known
        text = msgspec.json.encode((name, *labels))
        text += b" " * (-(_ENTRY.size + len(text)) % 8)
        used = self._words[_USED]
        end = used + _ENTRY.size + len(text)
        rest = tuple(OTHER for _ in labels)
        if labels != rest and (
            sum(one == name for one, _ in self._known) >= MOST
            or end > LIST - _SPARE
            or self._next + width > CELLS - _SPARE
        ):
            return self.series(name, rest, width)
        self._map[_TEXT + used : _TEXT + end] = _ENTRY.pack(len(text), self._next, width) + text
        self._words[_USED] = end
        first = self._known[name, labels] = self._next
        self._next += width
        return first

    def slots(self) -> Iterator[Slot]:
        """What every worker has counted up to now."""
        if self._directory is None:
            yield _counted("0", self._map)
            return
        for path in sorted(self._directory.glob(f"{_PREFIX}*")):
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size == _SIZE:  # else it is being made
                    with mmap.mmap(file.fileno(), _SIZE, access=mmap.ACCESS_READ) as counted:
                        yield _counted(path.name.removeprefix(_PREFIX), counted)


def _opened(path: Path) -> mmap.mmap:
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.ftruncate(fd, _SIZE)
        return mmap.mmap(fd, _SIZE)
    finally:
        os.close(fd)


def _listed(counted: mmap.mmap) -> Iterator[Series]:
    """The series of a file."""
    at, (used,) = _TEXT, struct.unpack_from("=Q", counted, _USED * 8)
    while at < _TEXT + used:
        length, first, width = _ENTRY.unpack_from(counted, at)
        name, *labels = msgspec.json.decode(counted[at + _ENTRY.size : at + _ENTRY.size + length], type=list[str])
        yield Series(name, tuple(labels), first, width)
        at += _ENTRY.size + length


def _counted(name: str, counted: mmap.mmap) -> Slot:
    return Slot(
        name,
        tuple(
            (series, struct.unpack_from(f"={series.width}d", counted, _HEADER + series.first * 8))
            for series in _listed(counted)
        ),
    )

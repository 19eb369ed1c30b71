"""Makes JSON small enough to be kept, and still readable: the longest texts lose their ends, then long lists theirs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import msgspec

LEAST: Final = 16  # bytes that a text is left with
ENTRIES: Final = (512, 64, 8)  # of a list or object, one try after the other
MARK: Final = "… [{} characters cut]"
_MARK_SIZE: Final = 32  # bytes of it, at most

_END: Final = 128  # characters, at most, that are left out of a cut text's end: they may be half of something secret
_HALF: Final = re.compile(r"[\d\s().+-]{0,48}[!-~]{0,64}\Z")

_encode = msgspec.json.Encoder().encode


def trimmed(value: Any, most: int) -> tuple[Any, bool]:
    """The JSON in at most `most` bytes, and whether something was cut; None when it cannot be made so small.

    Of a list the last entries are left, of an object the first. Raises RecursionError for what is nested too deeply.
    """
    if len(_encode(value)) <= most:
        return value, False
    for entries in (None, *ENTRIES):
        fewer = value if entries is None else _fewer(value, entries)
        limit = _limit(fewer, most)
        if limit >= LEAST:
            return _cut(fewer, limit), True
    return None, True


def _limit(value: Any, most: int) -> int:
    """To how many bytes its texts must be cut; less than `LEAST`: that would not do."""
    sizes = sorted(map(_size, _texts(value)))
    room = most - (len(_encode(value)) - sum(sizes))
    for at, size in enumerate(sizes):  # the shorter ones stay; what is left of the room is the others' in equal parts
        share = room // (len(sizes) - at)
        if size > share:
            return share - _MARK_SIZE
        room -= size
    return max([LEAST, *sizes[-1:]]) if room >= 0 else 0


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one)


def _size(text: str) -> int:
    """Bytes in JSON, without the quotes."""
    return len(_encode(text)) - 2


def _cut(value: Any, limit: int) -> Any:
    if isinstance(value, str):
        return _shorter(value, limit)
    if isinstance(value, dict):
        return {name: _cut(one, limit) for name, one in value.items()}
    return [_cut(one, limit) for one in value] if isinstance(value, list) else value


def _shorter(text: str, limit: int) -> str:
    size = _size(text)
    if size <= limit + _MARK_SIZE:
        return text
    count = len(text) * limit // size
    while _size(text[:count]) > limit:  # escapes are not spread evenly
        count = count * 7 // 8
    start = max(0, count - _END)
    half = _HALF.search(text[start:count])
    kept = text[: start + half.start()] if half else text[:count]
    return kept + MARK.format(len(text) - len(kept))


def _fewer(value: Any, entries: int) -> Any:
    if isinstance(value, dict):
        return {name: _fewer(one, entries) for name, one in islice(value.items(), entries)}
    if not isinstance(value, list):
        return value
    return [_fewer(one, entries) for one in value[-entries:]]

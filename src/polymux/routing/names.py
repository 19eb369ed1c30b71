"""The names that somebody may have meant by one that does not exist: another spelling of it, or one like it.

What it costs does not grow with the number of names, but for the index, which is made once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Final

_SAME: Final = str.maketrans("_. ", "---")  # marks that are mistaken for each other
_NEWEST: Final = ":latest"  # what some servers append to names that have no tag
_NEAR: Final = 16  # names to each side in alphabetical order
_LIKE: Final = 0.6  # how alike two names must be, 0 to 1 (difflib)
_MOST: Final = 3  # names that are told
_MANY: Final = 50  # names of one model, by its providers and vendors, that are looked at


class Names:
    """An index of public names."""

    def __init__(self, names: Iterable[str]) -> None:
        self._called: dict[str, list[str]] = {}  # the last part of a name, folded -> the names
        for name in names:
            self._called.setdefault(_fold(name.rpartition("/")[2]), []).append(name)
        self._forward = sorted(self._called)
        self._backward = sorted([last[::-1] for last in self._forward])

    def spelled(self, name: str, fits: Callable[[str], bool]) -> list[str]:
        """Names that differ in nothing but upper and lower case, marks, the provider and vendor before the name, or a
        `:latest` after it. Those with the most of what is before the name come first."""
        given = _fold(name).split("/")
        found = [public for public in self._called.get(_last(name), ())[:_MANY] if fits(public)]
        return sorted(found, key=lambda public: -len(set(given).intersection(_fold(public).split("/"))))[:_MOST]

    def like(self, name: str, fits: Callable[[str], bool]) -> list[str]:
        """Names that look like it, the likest first. Only those are compared that begin or end like it."""
        last = _last(name)
        near = [*_around(self._forward, last), *(one[::-1] for one in _around(self._backward, last[::-1]))]
        fitting = [one for one in dict.fromkeys(near) if any(map(fits, self._called[one][:_MOST]))]
        close = get_close_matches(last, fitting, n=_MOST, cutoff=_LIKE)
        return [public for one in close for public in self._called[one][:_MOST] if fits(public)][:_MOST]


def _fold(name: str) -> str:
    return name.casefold().translate(_SAME).removesuffix(_NEWEST)


def _last(name: str) -> str:
    return _fold(name.rpartition("/")[2])


def _around(ordered: Sequence[str], wanted: str) -> Sequence[str]:
    at = bisect_left(ordered, wanted)
    return ordered[max(0, at - _NEAR) : at + _NEAR]

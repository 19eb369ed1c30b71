"""Arguments of a function call that come piece by piece, each at its path. Source: Vertex AI's guide to streaming
function call arguments, and recorded answers."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any, Final

import msgspec

from polymux.schema.gemini import PartialArg

_STEP: Final = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]|\[(['\"])(.*?)\3\]")
_GAP: Final = 1000  # items of a list that may be missing before one that comes
_DEEPEST: Final = 64  # steps of a path


class Arguments:
    """The object so far. Pieces whose path cannot be followed are left out."""

    def __init__(self) -> None:
        self.value: dict[str, Any] = {}

    def add(self, piece: PartialArg) -> None:
        """A string goes on at its path, another value stands there."""
        steps = _steps(piece.json_path)
        if not 0 < len(steps) <= _DEEPEST:
            return
        holder: Any = self.value
        for step, following in pairwise(steps):
            inner = _get(holder, step)
            if not isinstance(inner, list if isinstance(following, int) else dict):
                inner = [] if isinstance(following, int) else {}
                if not _set(holder, step, inner):
                    return
            holder = inner
        value: Any = piece.number_value if piece.number_value is not None else piece.bool_value
        if piece.string_value is not None:
            before = _get(holder, steps[-1])
            value = (before if isinstance(before, str) else "") + piece.string_value
        _set(holder, steps[-1], value)

    def json(self) -> str:
        return msgspec.json.encode(self.value).decode()


def _steps(path: str) -> list[str | int]:
    found = _STEP.finditer(path.removeprefix("$"))
    return [int(step[2]) if step[2] else step[1] or step[4] or "" for step in found]


def _get(holder: Any, step: str | int) -> Any:
    if isinstance(step, int):
        return holder[step] if isinstance(holder, list) and step < len(holder) else None
    return holder.get(step) if isinstance(holder, dict) else None


def _set(holder: Any, step: str | int, value: Any) -> bool:
    if isinstance(step, str):
        if isinstance(holder, dict):
            holder[step] = value
        return isinstance(holder, dict)
    if not isinstance(holder, list) or step > len(holder) + _GAP:
        return False
    holder.extend([None] * (step + 1 - len(holder)))
    holder[step] = value
    return True

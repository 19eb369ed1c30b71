"""Tracebacks for the authors of functions: from their own code on, and indented, so that no error's text passes for a
line of the log."""

from __future__ import annotations

import importlib
import traceback
from pathlib import Path
from typing import Final

from polymux.wire.printable import printable

OURS: Final = (str(Path(__file__).parent), "<frozen importlib", importlib.__file__)


def trace(error: BaseException) -> str:
    """The traceback without the frames of ours that led to the author's code."""
    at = error.__traceback__
    while at is not None and at.tb_frame.f_code.co_filename.startswith(OURS):
        at = at.tb_next
    lines = "".join(traceback.format_exception(type(error), error, at)).rstrip().split("\n")
    return "\n".join(f"    {printable(line)}" for line in lines)

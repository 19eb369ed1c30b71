"""Tracebacks for the authors of functions: from their own code on."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Final

_OURS: Final = (str(Path(__file__).parent), "<frozen importlib")


def trace(error: BaseException) -> str:
    """The traceback without the frames of ours that led to the author's code."""
    at = error.__traceback__
    while at is not None and at.tb_frame.f_code.co_filename.startswith(_OURS):
        at = at.tb_next
    return "".join(traceback.format_exception(type(error), error, at)).rstrip()

"""Hides secrets in text that others wrote, so that an upstream's error message can be shown."""

from __future__ import annotations

import re
from typing import Final

# A lead that makes a secret of what follows (a word, or the shape of a well-known key) and the secret itself.
# Every repeat before the secret is bounded, so the time is linear in the text.
_SECRET: Final = re.compile(
    r"""
    (
        bearer \s{1,4} (?=[A-Z_+/=.~-]{0,40}[0-9] | [\w+/=.~-]{20})
      | (?:key|token|secret|password) s? [^A-Z0-9\n]{1,4} (?:(?:provided|is) [^A-Z0-9\n]{1,3})?
        (?=[\w+/=-]{16}) (?=[A-Z_+/=-]{0,40}[0-9] | [\w+/=-]{20})
      | (?<![A-Z0-9]) (?=sk-|AIza)
    )
    ([\w+/=.~-]{8,})
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)


def mask(text: str) -> str:
    """`text` with every secret replaced by its first four characters and an ellipsis.

    Secrets are keys that begin with `sk-` or `AIza`, bearer tokens, and long tokens after the words key, token,
    secret or password.
    """
    return _SECRET.sub(lambda match: f"{match[1]}{match[2][:4]}…", text)

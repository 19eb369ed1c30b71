"""Hides secrets in text that others wrote, so that an upstream's error message can be shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

# A lead that makes a secret of what follows (a word, or the shape of a well-known key) and the secret itself.
# Every repeat before the secret is bounded, so the time is linear in the text.
_SECRET: Final = re.compile(
    r"""
    (
        bearer \s{1,4} (?=[A-Z_+/=.~-]{0,40}[0-9] | [\w+/=.~-]{20})
      | (?:key|token|secret|password) s? [^A-Z0-9\n]{1,4} (?:(?:provided|is) [^A-Z0-9\n]{1,3})?
        (?=[\w+/=-]{16}) (?=[A-Z_+/=-]{0,40}[0-9] | [\w+/=-]{20})
      | (?<![A-Z0-9]) (?=sk-|AIza|eyJ[\w-]{8})
    )
    ([\w+/=.~-]{8,})
    """,
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)


def mask(text: str) -> str:
    """`text` with every secret replaced by its first four characters and an ellipsis.

    Secrets are keys that begin with `sk-` or `AIza`, JSON web tokens, bearer tokens, and long tokens after the words
    key, token, secret or password.
    """
    return _SECRET.sub(lambda match: f"{match[1]}{match[2][:4]}…", text)


LEAST: Final = 8  # characters; what is shorter is no secret, and stands in other words


class Known:
    """Hides the secrets that are known, wherever they stand and however they are escaped (JSON, URL)."""

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets if len(secret) >= LEAST for form in _forms(secret)}
        longest_first = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)) if forms else r"(?!)")
        self.longest = max(map(len, forms), default=0)  # characters of an escaped form

    def hide(self, text: str) -> str:
        """`text` with an ellipsis in place of each known secret, and masked."""
        return mask(self._pattern.sub("…", text))


def _forms(secret: str) -> Iterable[str]:
    for plain in (json.dumps(secret, ensure_ascii=False)[1:-1], json.dumps(secret)[1:-1]):
        yield from (plain, plain.replace("/", "\\/"), plain.replace("/", "\\u002f"), plain.replace("/", "\\u002F"))
    yield from (secret, quote(secret), quote(secret, safe=""))

"""What is the same in the error answers of all dialects: what a status means, and how long to wait."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from math import isfinite
from types import MappingProxyType
from typing import Final

import msgspec

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # what decoding foreign bytes raises
LONGEST_WAIT: Final = 86_400.0  # seconds
LONGEST: Final = 2000  # characters of a provider's message that a client needs to see

# Status -> kind of failure. What is missing is passed on as sent (4xx) or counts as unavailable (5xx). A refused
# payment (402) is a fault of our credential, as a refused key is.
KINDS: Final[Mapping[int, str]] = MappingProxyType(
    {
        401: "upstream_auth_failed",
        402: "upstream_auth_failed",
        403: "upstream_auth_failed",
        408: "upstream_timeout",
        429: "upstream_rate_limited",
        503: "upstream_overloaded",
        504: "upstream_timeout",
        522: "upstream_timeout",
        524: "upstream_timeout",
        529: "upstream_overloaded",
    }
)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from `retry-after-ms` or `retry-after`: a number, or an HTTP date held against the reply's own `date`.
    At most a day; None for what cannot be read."""
    try:
        if "retry-after-ms" in headers:
            seconds = float(headers["retry-after-ms"]) / 1000
        elif (value := headers["retry-after"]).replace(".", "", 1).isdigit():
            seconds = float(value)
        else:
            seconds = (parsedate_to_datetime(value) - parsedate_to_datetime(headers["date"])).total_seconds()
    except (ValueError, KeyError, TypeError):
        return None
    return min(max(seconds, 0.0), LONGEST_WAIT) if isfinite(seconds) else None

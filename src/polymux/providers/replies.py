"""What is the same in the error answers of all dialects: what a status means, and how long to wait."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from types import MappingProxyType
from typing import Final

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
    """Seconds from `retry-after-ms` or `retry-after`: a number, or an HTTP date held against the reply's own `date`."""
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        value = headers.get("retry-after")
        if value is None:
            return None
        if value.replace(".", "", 1).isdigit():
            return float(value)
        until, now = parsedate_to_datetime(value), parsedate_to_datetime(headers["date"])
        return max(0.0, (until - now).total_seconds())
    except (ValueError, KeyError, TypeError):
        return None

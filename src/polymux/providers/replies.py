"""What is the same in the error answers of all dialects: what a status means, what it says, and how long to wait.

An error's body comes in all shapes, whatever the dialect: gateways, proxies and web frameworks stand in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from math import isfinite
from types import MappingProxyType
from typing import Any, Final

import msgspec

from polymux.wire.mask import mask

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


# Words for "our account there has nothing left", which some providers send as 429 or 400: waiting does not help, so it
# is a failure of our credential. OpenAI's codes, then Moonshot's, DashScope's and Z.AI's.
SPENT: Final = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "billing_hard_limit_reached",
        "billing_not_active",
        "exceeded_current_quota_error",
        "Arrearage",
        "1113",
    }
)

_SAYING: Final = ("message", "msg", "detail", "error", "errors", "error_description", "title")
_SHORT: Final = 500  # characters of a plain text that may be a message

Json = dict[str, Any]


def error_of(body: bytes) -> Json:
    """The object that describes the error, out of any wrapping: `{"error": {...}}`, `{"error": "text"}`, a list, a flat
    object, a bare string. What it says is text under `message`, "" for nothing; an empty object for what is no JSON."""
    try:
        value = msgspec.json.decode(body)
    except UNREADABLE:
        return {}
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return {"message": value if isinstance(value, str) else ""}
    inner = value.get("error")
    found = inner if isinstance(inner, dict) and inner else {**value, "error": None, "message": inner or _said(value)}
    return {**found, "message": _text(_said(found))}


def message_of(error: Json, status: int, headers: Mapping[str, str], body: bytes) -> str:
    """What the error says, secrets masked; where it says nothing readable, what came instead of it."""
    if error.get("message"):
        return mask(str(error["message"])[:LONGEST])
    answered = f"the upstream answered with status {status}"
    text = body[: 4 * _SHORT].decode("utf-8", "replace").strip()
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if not text:
        return f"{answered} and no body"
    if error:
        return f"{answered} and gave no reason"
    if "html" in kind or text[0] in "<{[" or len(text) > _SHORT or not text.isprintable():
        return f"{answered} and {kind or 'a body of unknown type'} instead of an error in JSON"
    return f"{answered}: {mask(text)}"


def _said(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return next((value[name] for name in _SAYING if value.get(name)), None)


def _text(value: Any) -> str:
    """Words in any shape as one text: the faults of a list are told one after another, each with its place."""
    if isinstance(value, list) and all(isinstance(one, str | dict) for one in value):
        return "; ".join(filter(None, map(_fault, value)))
    if isinstance(value, dict) and isinstance(inner := _said(value), str):
        return inner
    if value is None or isinstance(value, str):
        return value or ""
    return msgspec.json.encode(value).decode()


def _fault(one: str | Json) -> str:
    said = _said(one)
    if not isinstance(one, dict) or not isinstance(said, str):
        return one if isinstance(one, str) else msgspec.json.encode(one).decode()
    place = one.get("loc")
    return f"{'.'.join(map(str, place))}: {said}" if isinstance(place, list) and place else said


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

"""What an error of an OpenAI-shaped server means; its shapes are read in `replies`.

Sources: OpenAI's error guide; recorded answers of compatible servers (tests/transcripts/openai-compat).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from polymux.errors import Failure
from polymux.providers.replies import KINDS, SPENT, error_of, message_of, retry_after
from polymux.types import Quirks

_CONTEXT_CODES: Final = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_STATUS: Final = re.compile(r"[45][0-9][0-9]")
_CONTEXT_TEXT: Final = re.compile(
    r"maximum context length|context (?:length|window|size)|(?:prompt|input) is too long|too many (?:input )?tokens",
    re.IGNORECASE,
)
# A model that is not there any more, or never was: Groq's and Z.AI's codes too.
_UNKNOWN_CODES: Final = frozenset({"model_not_found", "model_decommissioned", "1211"})
_UNKNOWN_TEXT: Final = re.compile(
    r"""\bmodel\b[\s:]*[`'"]?[\w./:@-]*[`'"]?\s+(?:has\ been\ |is\ |was\ )?
    (?:(?:does\ )?not\ (?:exist|found)|decommissioned|retired|no\ longer\ (?:available|supported))""",
    re.IGNORECASE | re.VERBOSE,
)


def failure_of(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """The failure behind an error status. Secrets in the provider's text are masked."""
    error = error_of(body)
    message = message_of(error, status, headers, body)
    code, param = _text(error.get("code")), _text(error.get("param"))
    type_ = _text(error.get("type")) or _text(error.get("error_type")) or _text(error.get("status"))
    kind = KINDS.get(status) or ("upstream_rejected" if status < 500 else "upstream_unavailable")
    if status < 500 and (code in SPENT or type_ in SPENT):
        kind = "upstream_auth_failed"
    if kind == "upstream_rejected":
        if code in _CONTEXT_CODES or type_ in _CONTEXT_CODES or _CONTEXT_TEXT.search(message):
            return Failure("context_length_exceeded", message, param=param or "messages")
        if code == "content_filter":
            kind = "content_filter"
        elif "API_KEY_INVALID" in message or "API key not valid" in message:
            kind = "upstream_auth_failed"
        elif code in _UNKNOWN_CODES or (status in (400, 404) and _UNKNOWN_TEXT.search(message)):
            return Failure("upstream_model_not_found", message, param=param or "model", sent=(status, type_, code))
        else:
            return Failure(kind, message, param=param, sent=(status, type_, code))
    return Failure(kind, message, param=param, retry_after=retry_after(headers))


def in_band(error: Any) -> Failure:
    """An error inside a 200: its numeric or named code decides, where it has one."""
    fields = error if isinstance(error, dict) else {"message": error}
    code = _text(fields.get("code"))
    status = int(code) if code and _STATUS.fullmatch(code) else 500
    type_ = _text(fields.get("type"))
    if type_ in ("rate_limit_error", "rate_limit_exceeded") or code == "rate_limit_exceeded":
        status = 429
    elif code in SPENT or type_ in SPENT:
        status = 402
    elif code in _CONTEXT_CODES:
        status = 400
    return failure_of(status, {}, msgspec.json.encode({"error": fields}))


def check(answer: Mapping[str, Any], quirks: Quirks) -> None:
    """Raises `Failure` for an answer, or a chunk of one, that holds an error: OpenAI's way, or as the provider's row
    says."""
    if answer.get("error"):
        raise in_band(answer["error"])
    if not quirks.fault:
        return
    *path, name = quirks.fault.split(".")
    place: Any = answer
    for step in path:
        place = place.get(step) if isinstance(place, dict) else None
    told = place.get(name) if isinstance(place, dict) else None
    if told not in (None, 0, "", "0"):
        status = quirks.faults.get(str(told)) or (int(told) if _STATUS.fullmatch(str(told)) else 500)
        words = next((place[word] for word in (name.replace("code", "msg"), "message", "msg") if place.get(word)), "")
        raise failure_of(status, {}, msgspec.json.encode({"error": {"message": str(words), "code": str(told)}}))


def _text(value: Any) -> str | None:
    return None if value is None or isinstance(value, dict | list) else str(value)

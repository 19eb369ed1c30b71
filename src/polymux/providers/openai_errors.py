"""What an error of an OpenAI-shaped server means, in all the shapes such servers have.

`{"error": {...}}`, `{"error": "text"}`, `[{"error": {...}}]`, a flat object, `{"detail": ...}`, or not JSON at all.
Sources: OpenAI's error guide; recorded answers of compatible servers (tests/transcripts/openai-compat).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from polymux.errors import Failure
from polymux.providers.replies import KINDS, LONGEST, retry_after
from polymux.wire.mask import mask

_CONTEXT_CODES: Final = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_STATUS: Final = re.compile(r"[45][0-9][0-9]")
_CONTEXT_TEXT: Final = re.compile(
    r"maximum context length|context (?:length|window|size)|(?:prompt|input) is too long|too many (?:input )?tokens",
    re.IGNORECASE,
)


def failure_of(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """The failure behind an error status. Secrets in the provider's text are masked."""
    error = _error(body)
    message = _message(error, status)
    code = _text(error.get("code"))
    type_ = _text(error.get("type")) or _text(error.get("error_type")) or _text(error.get("status"))
    kind = KINDS.get(status) or ("upstream_rejected" if status < 500 else "upstream_unavailable")
    if kind == "upstream_rejected":
        if code in _CONTEXT_CODES or type_ in _CONTEXT_CODES or _CONTEXT_TEXT.search(message):
            return Failure("context_length_exceeded", message, param=_text(error.get("param")) or "messages")
        if code == "content_filter":
            kind = "content_filter"
        elif "API_KEY_INVALID" in message or "API key not valid" in message:
            kind = "upstream_auth_failed"
        else:
            return Failure(kind, message, param=_text(error.get("param")), sent=(status, type_, code))
    return Failure(kind, message, param=_text(error.get("param")), retry_after=retry_after(headers))


def in_band(error: Any) -> Failure:
    """An error inside a 200: its numeric or named code decides, where it has one."""
    fields = error if isinstance(error, dict) else {"message": error}
    code = _text(fields.get("code"))
    status = int(code) if code and _STATUS.fullmatch(code) else 500
    if _text(fields.get("type")) in ("rate_limit_error", "rate_limit_exceeded") or code == "rate_limit_exceeded":
        status = 429
    elif code in _CONTEXT_CODES:
        status = 400
    return failure_of(status, {}, msgspec.json.encode({"error": fields}))


def _error(body: bytes) -> Mapping[str, Any]:
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return {"message": value} if isinstance(value, str) else {}
    error = value.get("error", value)
    if isinstance(error, dict):
        return error
    return {**value, "message": error}  # {"error": "text", "error_type": ...}


def _message(error: Mapping[str, Any], status: int) -> str:
    message = next((error[name] for name in ("message", "msg", "detail") if error.get(name)), None)
    if message is None:
        return f"the upstream answered with status {status} and no readable reason"
    if not isinstance(message, str):
        message = msgspec.json.encode(message).decode()
    return mask(message[:LONGEST])


def _text(value: Any) -> str | None:
    return None if value is None or isinstance(value, dict | list) else str(value)

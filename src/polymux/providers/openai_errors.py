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

_CONTEXT_CODES: Final = frozenset({"context_length_exceeded", "exceed_context_size_error"})
_STATUS: Final = re.compile(r"[45][0-9][0-9]")
_CONTEXT_TEXT: Final = re.compile(
    r"maximum context length|context (?:length|window|size)|(?:prompt|input) is too long|too many (?:input )?tokens",
    re.IGNORECASE,
)


def failure_of(status: int, headers: Mapping[str, str], body: bytes) -> Failure:
    """The failure behind an error status. Secrets in the provider's text are masked."""
    error = error_of(body)
    message = message_of(error, status, headers, body)
    code = _text(error.get("code"))
    type_ = _text(error.get("type")) or _text(error.get("error_type")) or _text(error.get("status"))
    kind = KINDS.get(status) or ("upstream_rejected" if status < 500 else "upstream_unavailable")
    if status < 500 and (code in SPENT or type_ in SPENT):
        kind = "upstream_auth_failed"
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
    type_ = _text(fields.get("type"))
    if type_ in ("rate_limit_error", "rate_limit_exceeded") or code == "rate_limit_exceeded":
        status = 429
    elif code in SPENT or type_ in SPENT:
        status = 402
    elif code in _CONTEXT_CODES:
        status = 400
    return failure_of(status, {}, msgspec.json.encode({"error": fields}))


def _text(value: Any) -> str | None:
    return None if value is None or isinstance(value, dict | list) else str(value)

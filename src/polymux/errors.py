"""Every way a request can fail: one table, one exception.

A row says what the client is told (status, type, code), whether another attempt may help (`retry`)
and whose fault it is. Nothing else in Polymux decides what an error looks like or whether it is retried.
Sources: INTERFACE.md §4; OpenAI's error envelope and the official SDKs' retry rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec


class Kind(msgspec.Struct, frozen=True):
    """A row of the table.

    retry: "no" (the same request would fail again), "next" (only another deployment can help),
    "any" (another deployment, or this one again after a pause).
    """

    status: int
    type: str
    code: str
    retry: str = "no"
    fault: str = "client"  # client | gateway | upstream


_REQUEST = "invalid_request_error"
_UPSTREAM = "upstream_error"

KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        # the client's key and rights
        "invalid_api_key": Kind(401, "authentication_error", "invalid_api_key"),
        "model_not_allowed": Kind(403, "permission_error", "model_not_allowed"),
        "admin_key_not_set": Kind(403, "permission_error", "admin_key_not_set"),
        "model_not_found": Kind(404, _REQUEST, "model_not_found"),
        "not_found": Kind(404, _REQUEST, "not_found"),
        "method_not_allowed": Kind(405, _REQUEST, "method_not_allowed"),
        # the client's request
        "invalid_json": Kind(400, _REQUEST, "invalid_json"),
        "invalid_type": Kind(400, _REQUEST, "invalid_type"),
        "invalid_value": Kind(400, _REQUEST, "invalid_value"),
        "missing_required_parameter": Kind(400, _REQUEST, "missing_required_parameter"),
        "unsupported_parameter": Kind(400, _REQUEST, "unsupported_parameter", "next"),
        "conflict": Kind(409, _REQUEST, "conflict"),
        "unsupported_operation": Kind(400, _REQUEST, "unsupported_operation"),
        "unsupported_content": Kind(400, _REQUEST, "unsupported_content", "next"),
        "request_too_large": Kind(413, _REQUEST, "request_too_large"),
        "headers_too_large": Kind(431, _REQUEST, "headers_too_large"),
        "request_timeout": Kind(408, _REQUEST, "request_timeout"),
        "bad_request": Kind(400, _REQUEST, "bad_request"),
        "invalid_configuration": Kind(400, _REQUEST, "invalid_configuration"),
        # what we ration, and ourselves
        "rate_limit_exceeded": Kind(429, "rate_limit_error", "rate_limit_exceeded", fault="gateway"),
        "budget_exceeded": Kind(402, "insufficient_quota", "budget_exceeded", fault="gateway"),
        "overloaded": Kind(503, "server_error", "overloaded", "next", "gateway"),
        "internal_error": Kind(500, "server_error", "internal_error", fault="gateway"),
        # upstream: what an attempt can end with
        "context_length_exceeded": Kind(400, _REQUEST, "context_length_exceeded", "next"),
        "content_filter": Kind(400, _REQUEST, "content_filter"),
        "upstream_rejected": Kind(400, _REQUEST, ""),
        "upstream_model_not_found": Kind(404, _REQUEST, "model_not_found", "next"),
        "upstream_rate_limited": Kind(429, "rate_limit_error", "upstream_rate_limited", "any", "upstream"),
        "upstream_auth_failed": Kind(502, _UPSTREAM, "upstream_auth_failed", "next", "upstream"),
        "upstream_unavailable": Kind(502, _UPSTREAM, "upstream_unavailable", "any", "upstream"),
        "upstream_overloaded": Kind(503, _UPSTREAM, "upstream_unavailable", "any", "upstream"),
        "upstream_timeout": Kind(504, _UPSTREAM, "upstream_timeout", "any", "upstream"),
        "upstream_truncated": Kind(502, _UPSTREAM, "upstream_truncated", "any", "upstream"),
    }
)

_NO_CLIENT_RETRY: Final = frozenset({"budget_exceeded", "upstream_auth_failed"})


class Failure(Exception):
    """A request, or one attempt of it, ended badly.

    kind: a row of `KINDS`. message: for the client; never holds a secret. param: the request member at fault.
    status, type, code: what the provider said where it is passed on "as sent"; else the row's.
    retry_after: seconds to wait before the same deployment may be tried again; None when not known.
    """

    def __init__(
        self,
        kind: str,
        message: str,
        *,
        param: str | None = None,
        sent: tuple[int, str | None, str | None] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.row = KINDS[kind]
        self.message = message
        self.param = param
        self.retry_after = retry_after
        status, type_, code = sent or (self.row.status, None, None)
        self.status = status
        self.type = type_ or self.row.type
        self.code = code or self.row.code or None

    @property
    def should_retry(self) -> bool | None:
        """The value of `x-should-retry`, or None where the status already says it."""
        return False if self.kind in _NO_CLIENT_RETRY else None


class Truncated(Exception):
    """A reply ended without its end mark. Raised by readers; the engine turns it into `upstream_truncated`."""

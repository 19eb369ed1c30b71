"""Access tokens by client credentials: what is asked of the token endpoint, and what its answer says.

Source: RFC 6749 §4.4 and §5 (OAuth 2.0); Microsoft's identity platform reference for its errors.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

import msgspec

from polymux.errors import Failure
from polymux.providers.replies import KINDS, UNREADABLE, error_of, message_of, retry_after
from polymux.types import Grant, WireReply, WireRequest

_LIFETIME: Final = 300.0  # seconds, where none is told

_HEADERS: Final = (("accept", "application/json"), ("content-type", "application/x-www-form-urlencoded"))


class Token(msgspec.Struct, frozen=True):
    """lifetime: seconds from when it was given."""

    value: str
    lifetime: float


class _Answer(msgspec.Struct):
    access_token: str
    expires_in: float | str = _LIFETIME  # some send the number as text


_answer = msgspec.json.Decoder(_Answer).decode


def token_request(grant: Grant) -> WireRequest:
    form = {
        "grant_type": "client_credentials",
        "client_id": grant.client_id,
        "client_secret": grant.client_secret,
        **({"scope": grant.scope} if grant.scope else {}),
    }
    return WireRequest("POST", grant.token_url, _HEADERS, urlencode(form).encode(), "whole")


def read_token(reply: WireReply) -> Token:
    """Raises `Failure`: `upstream_auth_failed` where our own credentials are refused."""
    if reply.status != 200:
        error = error_of(reply.body)
        told = message_of(error, reply.status, reply.headers, reply.body)
        refused = "upstream_auth_failed" if 400 <= reply.status < 500 else "upstream_unavailable"
        kind = KINDS.get(reply.status, refused)
        raise Failure(kind, f"no access token was given: {told}", retry_after=retry_after(reply.headers))
    try:
        answer = _answer(reply.body)
        return Token(answer.access_token, max(0.0, float(answer.expires_in)))
    except (*UNREADABLE, ValueError):
        raise Failure("upstream_unavailable", "the token endpoint's answer holds no access token") from None

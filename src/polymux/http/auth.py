"""The client's key: where it stands in a request, and in words what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from polymux.errors import Failure
from polymux.store.base import Keys
from polymux.types import Key

_SEND: Final = "Send the header 'Authorization: Bearer YOUR_KEY' (or 'x-api-key: YOUR_KEY') with a key of this gateway"
_QUOTES: Final = "\"'`\u201c\u201d\u2018\u2019"
_UNSET: Final = frozenset({"undefined", "null", "none", "nil", "your_key", "your-api-key", "your_api_key", "api_key"})
_HEADERS: Final = (b"authorization", b"x-api-key", b"api-key")


def authenticate(headers: Mapping[bytes, bytes], keys: Keys, foreign: Mapping[str, str]) -> Key:
    """The key that a request carries in any of its headers. Raises `Failure`, saying which of missing, empty,
    malformed, unknown or no longer good it was. `foreign`: prefixes of providers' keys -> provider."""
    bearer = headers.get(b"authorization", b"")
    if bearer.startswith(b"Bearer "):  # nearly always
        key = keys.find(bearer[7:].decode("utf-8", "replace"))
        if key is not None:
            return key
    complaint = ""
    for header in _HEADERS:
        value = headers.get(header)
        if value is None:
            continue
        text = value.decode("utf-8", "replace").strip()
        if header == b"authorization" and text[:7].lower() == "bearer ":
            text = text[7:].strip()
            if (key := keys.find(text)) is not None:
                return key
            complaint = complaint or _ended("the Authorization header", keys.reason(text))
            complaint = complaint or _complaint("the Authorization header", text, foreign)
        elif header == b"authorization":
            complaint = complaint or _no_bearer(text)
        else:
            if (key := keys.find(text)) is not None:
                return key
            complaint = complaint or _ended(f"the {header.decode()} header", keys.reason(text))
            complaint = complaint or _complaint(f"the {header.decode()} header", text, foreign)
    if not complaint:
        complaint = "No API key: the request has none of the headers Authorization, x-api-key and api-key"
    raise Failure("invalid_api_key", f"{complaint}. {_SEND}.")


def _ended(where: str, reason: str) -> str:
    return f"API key no longer good: the key in {where} {reason}" if reason else ""


def _no_bearer(text: str) -> str:
    if not text or text.lower() == "bearer":
        return "Empty API key: the Authorization header is there, but holds no key; is the client's key variable set?"
    scheme, _, rest = text.partition(" ")
    if rest and scheme.isalpha() and len(scheme) <= 16:  # anything else may be the key
        return f"Malformed API key: the Authorization header uses the scheme {scheme!r} instead of 'Bearer'"
    return "Malformed API key: the Authorization header lacks the word 'Bearer' before the key"


def _complaint(where: str, text: str, foreign: Mapping[str, str]) -> str:
    """What is wrong with a key that was not found; never the key itself."""
    if not text:
        return f"Empty API key: {where} is there, but holds no key; is the client's key variable set?"
    if text.lower().startswith("bearer"):
        return f"Malformed API key: {where} has the word 'Bearer' twice"
    if text[0] in _QUOTES or text[-1] in _QUOTES:
        return f"Malformed API key: the key in {where} stands in quotes; send it without them"
    if text[0] in "$<{%" or text.lower() in _UNSET:
        return f"Malformed API key: {where} holds a placeholder, not a key; the client did not fill it in"
    if any(character.isspace() for character in text):
        return f"Malformed API key: the key in {where} has blanks inside"
    provider = next((name for prefix, name in foreign.items() if text.startswith(prefix)), None)
    if provider:
        return (
            f"Unknown API key: the key in {where} looks like a key of {provider}; providers' keys belong in the "
            "gateway's configuration, clients use the gateway's own"
        )
    return f"Unknown API key: the key in {where} is well-formed, but not one of this gateway's keys"

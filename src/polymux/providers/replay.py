"""Reasoning that an upstream wants back from clients that do not bring it: under which names it is remembered, and in
what form. ADR 0016.

Names tell whose it is: the dialect, the upstream's address and, where reasoning is bound to one, the model. So what
one vendor has signed or encrypted is never found for another. Sources: the vendors' pages on reasoning with tools.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from polymux.types import Deployment

# Members of messages that hold what a vendor has signed or encrypted: for rows that take them alone (`Quirks.takes`).
SIGNED: Final = ("messages[].reasoning_details", "messages[].tool_calls[].extra_content")

RECENT: Final = 256  # answers that are looked for, the last ones; a client can claim any number
_LONG: Final = 32 * 1024  # bytes; what is longer is compressed, and may then be short enough to be kept
_COMPRESSED: Final = b"\0"  # how such a value begins
_MOST: Final = 1024 * 1024  # bytes that are worth the attempt
# The tail of an id that no other call has: letters and digits mixed, or a long number. Ids that are counted
# (`functions.search:0`, `call_00000001`) and names of tools, which some servers make ids of, are not such.
_TAIL: Final = re.compile(r"(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{8,}$|[0-9]{16,}$")

_encode = msgspec.json.Encoder(order="sorted").encode


def name(to: Deployment, place: str, *, bound: bool = False) -> str:
    """Under which the reasoning of an answer is remembered. place: as `place` says. bound: to the model."""
    authority, slash, path = to.base_url.partition("://")[2].partition("/")
    address = authority.rpartition("@")[2] + slash + path  # without credentials
    return f"{to.dialect}:{address}:{to.model}:{place}" if bound else f"{to.dialect}:{address}:{place}"


def place(thread: bytes, call: str, text: str = "") -> str:
    """Where in which conversation an answer stands: the id of its first call says so, if it is one of a kind. Some
    servers count their calls (`functions.search:0`) or call them as the tool, and answers without calls have no id;
    those are told apart by all that was said before (`thread`), and by themselves. So one conversation cannot be given
    another's reasoning.
    """
    if _TAIL.search(call):
        return call if len(call) <= 100 else hashlib.sha256(call.encode()).hexdigest()
    return hashlib.sha256(thread + _encode([call, text.strip()])).hexdigest()


def grown(thread: bytes, message: Mapping[str, Any]) -> bytes:
    """The digest of a conversation (b"" at its beginning), one message on. It holds what clients send again: the role,
    the text, and the ids of calls; not the reasoning, nor how a call's arguments are written."""
    gist = (
        message.get("role"),
        said(message.get("content")),
        ids(message.get("tool_calls")),
        message.get("tool_call_id"),
    )
    return hashlib.sha256(thread + _encode(gist)).digest()


def ids(calls: Any) -> list[str]:
    """Of a message's tool calls, whatever stands there."""
    return [str(call.get("id") or "") for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def said(content: Any) -> Any:
    """A message's content, the same for a text and for a part that holds it."""
    if isinstance(content, list):
        parts: list[Any] = [
            part.get("text") if isinstance(part, dict) and part.get("type") == "text" else part for part in content
        ]
        content = "".join(parts) if all(isinstance(part, str) for part in parts) else parts
    return content.strip() if isinstance(content, str) else content or ""


def pack(value: bytes) -> bytes:
    """A value as it is remembered."""
    return _COMPRESSED + zlib.compress(value) if _LONG < len(value) <= _MOST else value


def unpack(value: bytes) -> bytes:
    """The same as it was; b"" for what is damaged."""
    if not value.startswith(_COMPRESSED):
        return value
    try:
        return zlib.decompressobj().decompress(value[1:], _MOST)
    except zlib.error:
        return b""

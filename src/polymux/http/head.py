"""What can be wrong with a request's head beyond what the parser refuses.

llhttp, strict as we use it, refuses content-length beside transfer-encoding, more than one content-length, anything
but digits in it, bare CR and LF, NUL, folded lines, a blank before the colon, and whatever is no chunk. The rest of
RFC 9112's rules that keep two readers of the same bytes from finding different requests in them is here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from polymux.errors import Failure

MAX_HEAD: Final = 64 * 1024  # bytes of a request's line and headers
MAX_FIELDS: Final = 200  # header lines

# Headers of which another, different one would leave open whose request this is.
ONCE: Final = frozenset({b"host", b"authorization", b"x-api-key", b"api-key"})


def check_framing(version: str, fields: Mapping[bytes, bytes]) -> None:
    """Raises `Failure` when it is not certain which protocol this is, for whom, and where its body ends."""
    if version not in ("1.0", "1.1"):
        raise Failure("bad_request", f"this port speaks HTTP/1.1, not HTTP/{version}")
    if version == "1.1" and b"host" not in fields:  # RFC 9112 §3.2
        raise Failure("bad_request", "an HTTP/1.1 request needs a host header")
    coding = fields.get(b"transfer-encoding")
    if coding is None:
        return
    if version == "1.0":  # RFC 9112 §6.1: its framing is faulty
        raise Failure("bad_request", "an HTTP/1.0 request cannot have a transfer-encoding")
    if coding.strip(b" \t").lower() != b"chunked":
        raise Failure("bad_request", "the transfer-encoding of a request can be 'chunked' and nothing else")


def check_size(target: bytes, fields: Mapping[bytes, bytes]) -> int:
    """Bytes of a whole head, about. Raises `Failure` when they are too many."""
    size = 12 + len(target) + sum(len(name) + len(value) + 4 for name, value in fields.items())
    if size > MAX_HEAD:
        raise too_large()
    return size


def origin_form(target: bytes) -> bytes:
    """The path of an absolute target, which a client sends to what it takes for a proxy (RFC 9112 §3.2.2)."""
    _, absolute, rest = target.partition(b"://")
    if not absolute:
        return target  # `*`
    at = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
    return rest[at:] if rest[at:].startswith(b"/") else b"/" + rest[at:]


def too_large() -> Failure:
    return Failure("headers_too_large", f"the request's headers exceed {MAX_HEAD // 1024} KiB")


def too_many() -> Failure:
    return Failure("headers_too_large", f"the request has more than {MAX_FIELDS} header lines")


def not_http(data: bytes, error: Exception) -> Failure:
    """What to say of bytes that the parser refused."""
    if data.startswith(b"\x16\x03"):  # a TLS record with a ClientHello
        text = "this port speaks plain http, not TLS: use an address that begins with http://"
    elif data.startswith(b"PRI * HTTP/2"):
        text = "this port speaks HTTP/1.1, not HTTP/2"
    else:
        text = f"not a valid HTTP/1.1 request: {error}"
    return Failure("bad_request", text)

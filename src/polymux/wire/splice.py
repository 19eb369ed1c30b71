"""The top level of a JSON object, without decoding what is below it.

`parse` gives a dict of raw values, `build` writes such a dict back; to set or drop a member is to change the dict.
Keys are compared decoded, and a repeated one is refused, so that `"model"` twice or `"mod\\u0065l"` cannot name one
model to us and another to the upstream.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from operator import call
from typing import Any, Final

import msgspec

_SHORT: Final = 4096  # bytes
_STEP: Final = 1 << 20  # bytes that are decoded at a time to see whether they are UTF-8

# How bodies begin that are no JSON text in UTF-8, and what to say of them.
_BEGINNINGS: Final = (
    (b"\xef\xbb\xbf", "it begins with a byte-order mark; leave that out"),
    (b"\xff\xfe", "it is UTF-16; send UTF-8"),
    (b"\xfe\xff", "it is UTF-16; send UTF-8"),
    (b"{\0", "it is UTF-16; send UTF-8"),
    (b"\0", "it is UTF-16; send UTF-8"),
    (b"\x1f\x8b", "it is compressed; send it as it is"),
)
_HALF_PAIR: Final = re.compile(
    rb"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]", re.DOTALL
)


class NotJson(ValueError):
    """The body is not a JSON object; the message says what is wrong, without quoting the body."""


class Repeated(ValueError):
    """A top-level key stands twice; `key` is its decoded name."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the key {key!r} stands twice")
        self.key = key


class _Once(str):
    """A key that equals only itself, so that a dict keeps every occurrence."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


_decode = msgspec.json.Decoder(dict[_Once, msgspec.Raw], dec_hook=call).decode
_plain = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def parse(body: bytes) -> dict[str, msgspec.Raw]:
    """Top-level members of `body` in order. Raises `NotJson` or `Repeated`.

    What is skipped has been read as strictly as what is decoded: grammar, escapes, UTF-8 (RFC 8259).
    """
    try:
        fields = _plain(body) if len(body) < _SHORT else None
        if not body.isascii():
            _check_utf8(body)
        if fields and _bare(fields) == len(body):
            return fields  # there is room for no more: no key stands twice, or is escaped
        pairs = _decode(body)
    except msgspec.ValidationError:
        raise NotJson("the body must be a JSON object") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJson(_reason(body, error)) from None
    except RecursionError:
        raise NotJson("the body is nested too deeply") from None
    if fields is None:  # a short body is read twice sooner than its keys are turned into strings
        fields = dict(zip(map(str, pairs), pairs.values(), strict=True))
    if len(fields) != len(pairs):
        seen: set[str] = set()
        for key in map(str, pairs):
            if key in seen:
                raise Repeated(key)
            seen.add(key)
    return fields


def _bare(fields: Mapping[str, msgspec.Raw]) -> int:
    """The bytes of an object of these members that is written without a byte more than JSON needs."""
    return sum(map(len, fields)) + sum(map(len, fields.values())) + 4 * len(fields) + 1


def build(fields: Mapping[str, Any]) -> bytes:
    """A JSON object of raw and plain values, in the dict's order."""
    return _encode(fields)


def _check_utf8(body: bytes) -> None:
    """Raises `UnicodeDecodeError`. A long body is not decoded as a whole: that would copy it."""
    if len(body) <= _STEP:
        body.decode()
        return
    decode, view = codecs.getincrementaldecoder("utf-8")().decode, memoryview(body)
    for start in range(0, len(body), _STEP):
        decode(view[start : start + _STEP], start + _STEP >= len(body))


def _reason(body: bytes, error: Exception) -> str:
    """What is wrong, in the words of whoever can mend it; nothing of the body but the place."""
    if not body.strip():
        return "it is empty"
    for beginning, text in _BEGINNINGS:
        if body.startswith(beginning):
            return text
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if _HALF_PAIR.search(body):
        return "it holds half a surrogate pair (an emoji cut in two is written so)"
    return str(error)

"""The top level of a JSON object, without decoding what is below it.

`parse` gives a dict of raw values, `build` writes such a dict back; to set or drop a member is to change the dict.
Keys are compared decoded, and a repeated one is refused, so that `"model"` twice or `"mod\\u0065l"` cannot name one
model to us and another to the upstream.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import call
from typing import Any

import msgspec

_SHORT = 4096  # bytes


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
    """Top-level members of `body` in order. Raises `NotJson` or `Repeated`."""
    if not body.strip():
        raise NotJson("it is empty")
    try:
        pairs = _decode(body)
    except msgspec.ValidationError:
        raise NotJson("the body must be a JSON object") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJson(str(error)) from None
    except RecursionError:
        raise NotJson("the body is nested too deeply") from None
    # a short body is read twice sooner than its keys are turned into strings
    fields = _plain(body) if len(body) < _SHORT else dict(zip(map(str, pairs), pairs.values(), strict=True))
    if len(fields) != len(pairs):
        seen: set[str] = set()
        for key in map(str, pairs):
            if key in seen:
                raise Repeated(key)
            seen.add(key)
    return fields


def build(fields: Mapping[str, Any]) -> bytes:
    """A JSON object of raw and plain values, in the dict's order."""
    return _encode(fields)

"""multipart/form-data, encoded. Source: RFC 7578; names and file names are escaped as WHATWG HTML says (§4.10.21.8)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


class Field(msgspec.Struct, frozen=True):
    """A part of a form. filename and content_type: of a file; empty = the field is text."""

    name: str
    value: bytes
    filename: str = ""
    content_type: str = ""


def encode(fields: Sequence[Field], boundary: str) -> bytes:
    """The body of a form. Raises ValueError for a boundary that stands in a value, for then it would end there."""
    mark = boundary.encode("ascii")
    out = []
    for field in fields:
        if mark in field.value:
            raise ValueError("the boundary stands in a value")
        out.append(b"--%b\r\n%b\r\n\r\n%b\r\n" % (mark, _head(field).encode(), field.value))
    return b"".join([*out, b"--%b--\r\n" % mark])


def content_type(boundary: str) -> str:
    """The value of the header."""
    return f"multipart/form-data; boundary={boundary}"


def _head(field: Field) -> str:
    head = f'content-disposition: form-data; name="{_quoted(field.name)}"'
    if field.filename:
        head += f'; filename="{_quoted(field.filename)}"'
    if field.content_type:
        head += f"\r\ncontent-type: {_line(field.content_type)}"
    return head


def _quoted(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _line(text: str) -> str:
    return text.replace("\r", "").replace("\n", "")

from __future__ import annotations

from email.parser import BytesParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymux.wire.multipart import Field, content_type, encode

BOUNDARY = "polymux-0123456789abcdef"
NAMES = st.text(st.characters(codec="ascii", exclude_characters='\\"%\r\n', categories=["L", "N", "P"]), min_size=1)


def test_a_form_as_it_goes_over_the_wire() -> None:
    fields = [Field("user", "zoë".encode()), Field("file", b"\x00\r\n--", "a.bin", "application/octet-stream")]
    assert encode(fields, "B") == (
        b'--B\r\ncontent-disposition: form-data; name="user"\r\n\r\nzo\xc3\xab\r\n'
        b'--B\r\ncontent-disposition: form-data; name="file"; filename="a.bin"\r\n'
        b"content-type: application/octet-stream\r\n\r\n\x00\r\n--\r\n"
        b"--B--\r\n"
    )
    assert content_type("B") == "multipart/form-data; boundary=B"


def test_an_empty_form() -> None:
    assert encode([], "B") == b"--B--\r\n"


@pytest.mark.parametrize(
    ("field", "head"),
    [
        (Field('a"b', b"", 'x"\r\ny.png'), b'name="a%22b"; filename="x%22%0D%0Ay.png"\r\n\r\n'),
        (Field("f", b"", "世界.png"), 'name="f"; filename="世界.png"\r\n\r\n'.encode()),
        (Field("f", b"", "\ud800.png"), b'name="f"; filename="?.png"\r\n\r\n'),
        (Field("f", b"", "x", "a/b\r\nx: y"), b'name="f"; filename="x"\r\ncontent-type: a/bx: y\r\n\r\n'),
    ],
)
def test_names_cannot_leave_their_place(field: Field, head: bytes) -> None:
    assert encode([field], "B") == b"--B\r\ncontent-disposition: form-data; " + head + b"\r\n--B--\r\n"


def test_a_boundary_that_stands_in_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match="boundary"):
        encode([Field("f", b"... --" + BOUNDARY.encode())], BOUNDARY)


@given(st.lists(st.tuples(NAMES, st.binary())))
def test_what_is_encoded_is_read_by_others(values: list[tuple[str, bytes]]) -> None:
    body = encode([Field(name, value, "x.bin") for name, value in values], BOUNDARY)
    form = BytesParser().parsebytes(f"content-type: {content_type(BOUNDARY)}\r\n\r\n".encode() + body)
    found = form.get_payload() if values else []
    assert len(found) == len(values)
    for part, (name, value) in zip(found, values, strict=True):
        assert part.get_param("name", header="content-disposition") == name
        assert part.get_payload(decode=True).replace(b"\r\n", b"\n") == value.replace(b"\r\n", b"\n")

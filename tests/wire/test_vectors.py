"""Vectors to base64 and back."""

from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymux.wire.vectors import pack, unpack

SINGLES = st.floats(width=32, allow_nan=False, allow_infinity=False)


def test_the_documented_form() -> None:
    assert pack([0.5, -0.25, 0.125, 1.0]) == "AAAAPwAAgL4AAAA+AACAPw=="
    assert unpack("AAAAPwAAgL4AAAA+AACAPw==") == [0.5, -0.25, 0.125, 1.0]
    assert pack([]) == ""
    assert unpack("") == []


@given(st.lists(SINGLES))
def test_what_float32_holds_comes_back_the_same(numbers: list[float]) -> None:
    assert unpack(pack(numbers)) == numbers
    assert base64.b64decode(pack(numbers)) == struct.pack(f"<{len(numbers)}f", *numbers)


@given(st.lists(st.floats(-1e30, 1e30)))
def test_other_numbers_come_back_rounded_once(numbers: list[float]) -> None:
    once = unpack(pack(numbers))
    assert unpack(pack(once)) == once
    assert once == pytest.approx(numbers, rel=1e-6, abs=1e-37)


@given(st.binary())
def test_any_bytes_are_a_vector_or_a_value_error(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    if len(data) % 4:
        with pytest.raises(ValueError, match="no float32"):
            unpack(text)
    else:
        assert len(unpack(text)) == len(data) // 4


@pytest.mark.parametrize("text", ["AAAA", "A", "!!!!", "AAAAPw=", "AAAAPw==x", "ä"])
def test_what_is_no_vector(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever it says
        unpack(text)


@pytest.mark.parametrize("numbers", [[1e39], ["a"], [None]])
def test_what_cannot_be_packed(numbers: list[float]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - likewise
        pack(numbers)

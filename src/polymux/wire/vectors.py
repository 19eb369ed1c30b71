"""Vectors in base64: little-endian float32 values, the standard alphabet with padding. Source: OpenAI's API description
(embeddings, `encoding_format`)."""

from __future__ import annotations

import binascii
import struct
from collections.abc import Sequence


def pack(numbers: Sequence[float]) -> str:
    """Raises ValueError for a number that is too large."""
    try:
        data = struct.pack(f"<{len(numbers)}f", *numbers)
    except (OverflowError, struct.error) as error:
        raise ValueError(str(error)) from None
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def unpack(text: str) -> list[float]:
    """Raises ValueError for what is no such vector."""
    data = binascii.a2b_base64(text, strict_mode=True)
    if len(data) % 4:
        raise ValueError(f"{len(data)} bytes are no float32 values")
    return list(struct.unpack(f"<{len(data) // 4}f", data))

"""Names of requests: unique, and in the order of time, so that an index of them grows at its end."""

from __future__ import annotations

import random
import time


def request_id() -> str:
    """`req_` and 24 hexadecimal digits: 12 of milliseconds, 12 of chance."""
    return "req_%024x" % (time.time_ns() // 1_000_000 << 48 | random.getrandbits(48))

"""Names of requests."""

from __future__ import annotations

import re
import time

from polymux.ids import request_id


def test_ids_are_unique_and_in_the_order_of_time() -> None:
    ids = [request_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert all(re.fullmatch(r"req_[0-9a-f]{24}", one) for one in ids)
    times = [one[:16] for one in ids]
    assert times == sorted(times)
    assert abs(int(ids[-1][4:16], 16) / 1000 - time.time()) < 60

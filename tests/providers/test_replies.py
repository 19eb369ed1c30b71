from __future__ import annotations

import pytest

from polymux import errors
from polymux.providers.replies import KINDS, retry_after

DATE = {"date": "Sat, 21 Nov 2026 10:00:00 GMT"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "12"}, 12.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "120"}, 0.12),
        ({"retry-after-ms": "120", "retry-after": "7"}, 0.12),
        ({"retry-after-ms": "-5"}, 0.0),
        ({"retry-after": "Sat, 21 Nov 2026 10:00:30 GMT", **DATE}, 30.0),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:30 +0200", **DATE}, 30.0),
        ({"retry-after": "Sat, 21 Nov 2026 09:00:00 GMT", **DATE}, 0.0),
        ({"retry-after": "Sat, 21 Nov 2026 10:00:30 GMT"}, None),
        ({"retry-after": "Sat, 21 Nov 2026 10:00:30", **DATE}, None),
        ({"retry-after": "soon", **DATE}, None),
        ({"retry-after": "", **DATE}, None),
        ({"retry-after": "-3", **DATE}, None),
        ({"retry-after": "1.2.3", **DATE}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after-ms": "soon", "retry-after": "7"}, None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


@pytest.mark.parametrize("headers", [{"retry-after-ms": "inf"}, {"retry-after": "9" * 400}])
def test_an_endless_wait_is_none(headers: dict[str, str]) -> None:
    assert retry_after(headers) is None


@pytest.mark.parametrize("status", KINDS)
def test_what_a_status_means_is_a_row_of_the_table(status: int) -> None:
    row = errors.KINDS[KINDS[status]]
    assert row.fault == "upstream"
    assert row.retry == ("next" if status in (401, 402, 403) else "any")


def test_only_what_is_no_bad_request_is_listed() -> None:
    assert not KINDS.keys() & {400, 404, 405, 409, 413, 422, 500, 502}

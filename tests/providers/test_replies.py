from __future__ import annotations

import json
from typing import Any

import pytest

from polymux import errors
from polymux.providers.replies import KINDS, error_of, message_of, retry_after

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


ANSWERED = "the upstream answered with status 502"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "m", "type": "t"}}, "m"),
        ({"error": "m"}, "m"),
        ({"error": ["m", "n"]}, "m; n"),
        ({"error": {"detail": "m"}}, "m"),
        ({"error": {"message": {"a": 1}}}, '{"a":1}'),
        ({"type": "error", "error": {"type": "t", "message": "m"}}, "m"),
        ({"message": "m"}, "m"),
        ({"msg": "m"}, "m"),
        ({"detail": "m"}, "m"),
        ({"detail": {"message": "m"}}, "m"),
        ({"detail": [{"loc": ["body", "a", 0], "msg": "m"}, {"msg": "n"}]}, "body.a.0: m; n"),
        ({"errors": [{"code": 7003, "message": "m"}], "success": False}, "m"),
        ({"error_description": "m"}, "m"),
        ({"title": "m", "status": 502}, "m"),
        ([{"error": {"message": "m"}}], "m"),
        (["m"], "m"),
        ("m", "m"),
        ("no sk-proj-abcdef0123456789", "no sk-p…"),
        ({"error": {}}, f"{ANSWERED} and gave no reason"),
        ({"error": None}, f"{ANSWERED} and gave no reason"),
        ({}, f"{ANSWERED} and gave no reason"),
        ([], f"{ANSWERED} and gave no reason"),
        (5, f"{ANSWERED} and gave no reason"),
        (None, f"{ANSWERED} and gave no reason"),
    ],
)
def test_every_shape_of_an_error_is_read(body: Any, message: str) -> None:
    raw = json.dumps(body).encode()
    assert message_of(error_of(raw), 502, {}, raw) == message


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        ("text/plain", b"", f"{ANSWERED} and no body"),
        ("text/plain", b" \n", f"{ANSWERED} and no body"),
        ("text/plain", b"no healthy upstream\n", f"{ANSWERED}: no healthy upstream"),
        ("", b"no healthy upstream", f"{ANSWERED}: no healthy upstream"),
        ("text/html; charset=utf-8", b"Bad Gateway", f"{ANSWERED} and text/html instead of an error in JSON"),
        ("", b"<html>", f"{ANSWERED} and a body of unknown type instead of an error in JSON"),
        ("application/json", b"{", f"{ANSWERED} and application/json instead of an error in JSON"),
        ("text/plain", b"x" * 501, f"{ANSWERED} and text/plain instead of an error in JSON"),
        ("text/plain", b"\x00\xff", f"{ANSWERED} and text/plain instead of an error in JSON"),
        ("", b"[" * 100_000, f"{ANSWERED} and a body of unknown type instead of an error in JSON"),
    ],
)
def test_what_is_no_json_is_told_as_far_as_it_is_words(kind: str, body: bytes, message: str) -> None:
    assert error_of(body) == {}
    assert message_of({}, 502, {"content-type": kind}, body) == message


def test_a_long_message_is_cut() -> None:
    assert len(message_of({"message": "x" * 5000}, 400, {}, b"-")) == 2000

"""The line of a request: short for people, the journal's own for machines, and nobody can forge one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from polymux.hooks.requestlog import RequestLog, coloured, plain, request_log, text
from polymux.store.journal import Journal
from polymux.types import Record
from store.test_journal import record as journalled

AT = 1_793_552_400.25


@pytest.fixture(autouse=True)
def _somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def record(**members: object) -> Record:
    return journalled("req_1", **{"overhead_ms": 0.1, **members})


LINES: tuple[tuple[Mapping[str, object], str], ...] = (
    ({}, "17:00:00 200 corp/gpt → corp/gpt 11+7 tokens 0.0015s [key 1] req_1"),
    (
        {"stream": True, "first_token_ms": 350.0, "duration_ms": 1234.5, "attempts": 2},
        "17:00:00 200 corp/gpt → corp/gpt 11+7 tokens 1.23s (0.35s to first) 2 attempts [key 1] req_1",
    ),
    (
        {"status": 502, "error_code": "upstream_timeout", "usage_source": "none"},
        "17:00:00 502 corp/gpt → corp/gpt 0.0015s upstream_timeout [key 1] req_1",
    ),
    (
        {"status": 404, "error_code": "model_not_found", "usage_source": "none", "provider": "", "model": "nope"},
        "17:00:00 404 nope 0.0015s model_not_found [key 1] req_1",
    ),
    (
        {
            "status": 401,
            "error_code": "invalid_api_key",
            "usage_source": "none",
            "provider": "",
            "model": "",
            "surface": "GET /v1/models",
            "key_id": "",
            "key_name": "",
        },
        "17:00:00 401 GET /v1/models invalid_api_key req_1",
    ),
)


@pytest.mark.parametrize(("members", "line"), LINES)
def test_a_line_for_people(members: Mapping[str, object], line: str) -> None:
    assert text(record(**members)) == line


@pytest.mark.parametrize(("status", "code"), [(200, 32), (404, 33), (499, 33), (502, 31)])
def test_the_status_has_a_colour(status: int, code: int) -> None:
    assert f" \x1b[{code}m{status}\x1b[0m corp/gpt" in coloured(record(status=status))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("gpt-4o", "gpt-4o"),
        ("模型", "模型"),
        ("a\nb\r\x1b[31m\u2028\u202e\x00", "a\\nb\\r\\x1b[31m\\u2028\\u202e\\x00"),
        ("x" * 81, "x" * 80 + "..."),
        ("\ud800", "\\ud800"),
    ],
)
def test_a_name_stays_on_its_line(name: str, shown: str) -> None:
    assert plain(name) == shown


def lines(form: str, write: Callable[[RequestLog], None], fds: tuple[int, int], **env: str) -> bytes:
    source, sink = fds
    log = request_log(form, sink, env)
    assert log is not None
    write(log)
    return os.read(source, 65536)


def test_json_is_what_the_journal_writes(tmp_path: Path) -> None:
    def write(log: RequestLog) -> None:
        journal = Journal(tmp_path, echo=log)
        journal.append([record(model="a\nb"), record(status=500)])
        journal.close()

    seen = lines("json", write, os.pipe())
    (file,) = tmp_path.iterdir()
    assert seen == file.read_bytes()
    assert seen.count(b"\n") == 2


@pytest.mark.parametrize("form", ["auto", "json"])
def test_what_no_journal_keeps_is_logged_as_well(form: str) -> None:
    seen = lines(form, lambda log: log.ended([record(status=401)]), os.pipe())
    assert seen.startswith(b'{"id":"req_1",')
    assert b'"status":401' in seen


def test_text_is_for_those_who_ask() -> None:
    seen = lines("text", lambda log: log.ended([record(model="\ud800\n")]), os.pipe())
    assert seen == "17:00:00 200 \\ud800\\n → corp/gpt 11+7 tokens 0.0015s [key 1] req_1\n".encode()


@pytest.mark.parametrize(
    ("form", "env", "begin"),
    [
        ("auto", {}, b"17:00:00 \x1b[32m200\x1b[0m "),
        ("text", {"NO_COLOR": "1"}, b"17:00:00 200 "),
        ("auto", {"TERM": "dumb"}, b"17:00:00 200 "),
        ("json", {}, b'{"id":"req_1"'),
    ],
)
def test_a_terminal_gets_colours_unless_it_wants_none(form: str, env: dict[str, str], begin: bytes) -> None:
    import pty

    assert lines(form, lambda log: log.ended([record()]), pty.openpty(), **env).startswith(begin)


def test_off_is_off() -> None:
    assert request_log("off", 1, {}) is None

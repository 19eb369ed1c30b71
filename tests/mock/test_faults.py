"""Each fault bends the good answer as its sentence says, in both dialects, streamed and whole."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from polymux.mock.faults import FAULTS, HUGE, MEBIBYTE, Case
from polymux.mock.replies import DIALECTS, Reply
from polymux.mock.scripts import Ask, Script, render

REPLY = Reply(text=("Hel", "lo ", "you", " two"))
FORMS = [(dialect, stream) for dialect in DIALECTS for stream in (True, False)]

# The sixteen of Failover Bench, by its words.
BENCH = {
    "429 with Retry-After": "429-retry-after",
    "persistent 429": "429",
    "500 once": "500-once",
    "persistent 503": "503",
    "TCP reset": "reset-before-answer",
    "no response at all": "no-answer",
    "slow first token": "slow-first-token",
    "stream cut": "cut",
    "stream stall": "stall",
    "malformed chunk": "malformed-event",
    "missing [DONE]": "no-done",
    "context_length_exceeded": "context-length",
    "content filter": "content-filter",
    "assistant prefill rejected": "prefill",
    "flapping primary": "flapping",
    "accounting across a failover": "cut-after-usage",
}


def case(dialect: str, stream: bool, role: str = "user") -> Case:
    body: dict[str, Any] = {"stream": stream, "messages": [{"role": role, "content": "x"}]}
    ask = Ask(dialect, "m", {**body, "stream_options": {"include_usage": True}})
    return Case(ask, render(REPLY, ask), 5.0)


def bent(name: str, form: tuple[str, bool] = ("openai", True)) -> tuple[Script, Script]:
    """The good answer and the bent one."""
    given = case(*form)
    return given.good, FAULTS[name].bend(given)


def test_all_of_the_public_yardstick_have_a_name() -> None:
    assert len(BENCH) == 16
    assert set(BENCH.values()) <= set(FAULTS)


def test_names_and_sentences() -> None:
    for name, fault in FAULTS.items():
        assert name == name.lower()
        assert " " not in name
        assert fault.sentence.endswith(".")
        assert len(fault.sentence) <= 90


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", sorted(set(FAULTS) - {"prefill", "500-once", "huge-body", "endless-event"}))
def test_every_fault_bends_every_form(name: str, form: tuple[str, bool]) -> None:
    flaws_of_streams = {"malformed-event", "no-done", "double-finish"}
    good, bad = bent(name, form)
    assert (bad == good) == (name in flaws_of_streams and not form[1])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", [name for name in FAULTS if name[:3].isdigit()])
def test_a_status_is_named_by_its_number(name: str, form: tuple[str, bool]) -> None:
    _, bad = bent(name, form)
    assert bad.status == int(name[:3])
    assert ("retry-after" in dict(bad.headers)) == name.endswith("-retry-after")
    assert json.loads(bad.frames[0])["error"]["message"]


def test_when_a_fault_strikes() -> None:
    assert {name: (f.every, f.first) for name, f in FAULTS.items() if (f.every, f.first) != (1, 0)} == {
        "500-once": (1, 1),
        "flapping": (2, 0),
    }


CHECKS: dict[str, Callable[[Script, Script], bool]] = {
    "slow-head": lambda good, bad: bad.before == 5.0 and bad.frames == good.frames,
    "slow-first-token": lambda good, bad: bad.pause == (1, 5.0) and bad.frames == good.frames,
    "no-answer": lambda good, bad: bad.start == "stall",
    "stall": lambda good, bad: bad.end == "stall" and bad.frames == good.frames[:4],
    "trickle": lambda good, bad: bad.bite == 1 and bad.frames == good.frames,
    "truncate": lambda good, bad: bad.end == "" and bad.frames == good.frames[:4],
    "cut": lambda good, bad: bad.end == "close" and bad.frames == good.frames[:4],
    "reset": lambda good, bad: bad.end == "reset" and bad.frames == good.frames[:4],
    "cut-after-usage": lambda good, bad: bad.end == "close" and b'"prompt_tokens"' in bad.frames[-1],
    "close-before-answer": lambda good, bad: bad.start == "close",
    "reset-before-answer": lambda good, bad: bad.start == "reset",
    "garbage": lambda good, bad: not b"".join((bad.head(), *bad.frames)).startswith(b"HTTP"),
    "html": lambda good, bad: "html" in dict(bad.headers)["content-type"],
    "empty-200": lambda good, bad: not bad.frames and b"content-length: 0\r\n" in bad.head(),
    "empty-choices": lambda good, bad: b'"choices":[]' in bad.frames[0],
    "error-in-200": lambda good, bad: bad.status == 200 and b'"error"' in bad.frames[0],
    "redirect": lambda good, bad: bad.status == 307 and "location" in dict(bad.headers),
    "error-event": lambda good, bad: bad.frames[:4] == good.frames[:4] and b'"error"' in bad.frames[4],
    "malformed-event": lambda good, bad: len(bad.frames) == len(good.frames) + 1,
    "no-done": lambda good, bad: bad.frames == good.frames[:-1] and not bad.end,
    "double-finish": lambda good, bad: sum(b'"finish_reason":"stop"' in frame for frame in bad.frames) == 2,
    "wrong-content-type": lambda good, bad: dict(bad.headers)["content-type"] == "text/plain",
    "huge-head": lambda good, bad: len(bad.head()) > MEBIBYTE,
    "huge-body": lambda good, bad: sum(map(len, bad.frames)) > HUGE * MEBIBYTE,
    "endless-event": lambda good, bad: sum(map(len, bad.frames)) > HUGE * MEBIBYTE and b"\n" not in bad.frames[-1],
    "bad-chunk": lambda good, bad: bad.frames[0].endswith(b"chunked\r\n\r\n") and b"zz\r\n" in bad.frames[-1],
}


@pytest.mark.parametrize("name", CHECKS)
def test_what_a_fault_does(name: str) -> None:
    assert CHECKS[name](*bent(name))


@pytest.mark.parametrize("form", FORMS)
def test_gzip_can_be_undone(form: tuple[str, bool]) -> None:
    good, bad = bent("gzip", form)
    assert dict(bad.headers)["content-encoding"] == "gzip"
    assert gzip.decompress(b"".join(bad.frames)) == b"".join(good.frames)


def test_a_compressed_stream_arrives_event_by_event() -> None:
    good, bad = bent("gzip")
    inflate = zlib.decompressobj(wbits=31)

    def arriving() -> Iterator[bytes]:
        for frame in bad.frames:
            yield inflate.decompress(frame)

    assert [data for data in arriving() if data] == list(good.frames)


def test_prefill_is_refused_and_nothing_else() -> None:
    given = case("openai", True, "assistant")
    assert FAULTS["prefill"].bend(given).status == 400
    user = case("openai", True)
    assert FAULTS["prefill"].bend(user) is user.good


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_huge_text_is_an_answer_like_others(dialect: str) -> None:
    frames = FAULTS["huge-body"].bend(case(dialect, False)).frames
    assert json.loads(b"".join((frames[0], frames[1], frames[-1])))

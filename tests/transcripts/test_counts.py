"""What the ledger counts of every transcript: the last usage that is told, once, on each lane that may serve it."""

from __future__ import annotations

from typing import Any, Final

import pytest
from tests.transcripts.test_transcripts import adapter, framing, load, of_kind, relayed_too

from polymux.errors import Failure, Truncated
from polymux.providers.base import Asked
from polymux.providers.openai import OpenAI
from polymux.surfaces.chat import Chat
from polymux.surfaces.stream import Translated, Writer, usage_of
from polymux.types import NO_USAGE, Call, Deployment, Key, Quirks, Usage

CALL: Final = Call("1", "chat", Key("k", "k"), "m", True, {}, b"")
# where the ledger counts what the client is not told: thinking that only the total holds
OTHERS: Final = {"openai-compat/gemini-layer-tools-stream": Usage(70, 90, reasoning=59)}

CORRECTED: Final = {"gemini/safety-stop-stream": None}  # tokens of an answer that is stopped count no more at its end


def expected(name: str) -> Usage:
    expect = load(name)[0]["expect"]
    told = expect.get("usage_normalized", expect.get("usage"))
    if told is None:
        return NO_USAGE
    details = (told.get(f"{what}_tokens", 0) for what in ("cached", "cache_write", "reasoning"))
    return OTHERS.get(name) or Usage(told["prompt_tokens"], told["completion_tokens"], *details)


def lanes(name: str) -> dict[str, Any]:
    translated = Translated(adapter(name).reader(Asked("m", 0)), Writer(Chat(), CALL), framing(name))
    found: dict[str, Any] = {"translated": translated}
    if relayed_too(name):
        for repair in (False, True):
            to = Deployment("p/m", "p", "m", "openai", quirks=Quirks(repair=repair))
            found["mended" if repair else "relayed"] = OpenAI().relay_reader(CALL, to)
    return found


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
@pytest.mark.parametrize("name", [name for name in of_kind("stream") if expected(name) is not NO_USAGE])
def test_a_stream(name: str, size: int) -> None:
    _, body = load(name)
    for label, lane in lanes(name).items():
        for at in range(0, len(body), size):
            lane.feed(body[at : at + size])
        lane.close()
        if label == "translated" and name in OTHERS:
            continue  # the pivot has what the client is told
        assert lane.usage == expected(name), label


@pytest.mark.parametrize("name", [name for name in of_kind("whole") if expected(name) is not NO_USAGE])
def test_a_whole_answer(name: str) -> None:
    _, body = load(name)
    answer = adapter(name).read(body, Asked("m", 0))
    assert answer.usage
    assert usage_of(answer.usage) == expected(name)
    if relayed_too(name):
        for repair in (False, True):
            to = Deployment("p/m", "p", "m", "openai", quirks=Quirks(repair=repair))
            assert OpenAI().relay_whole(body, CALL, to)[1] == expected(name)


@pytest.mark.parametrize("name", of_kind("stream"))
def test_what_is_told_so_far_never_exceeds_the_end(name: str) -> None:
    """Whenever it breaks off: a running total, or nothing yet."""
    _, body = load(name)
    last = expected(name)
    for label, lane in lanes(name).items():
        told = []
        try:
            for at in range(0, len(body), 50):
                lane.feed(body[at : at + 50])
                told.append(lane.usage)
            lane.close()
        except (Failure, Truncated):
            continue
        if last is not NO_USAGE and name not in OTHERS | CORRECTED:
            assert all(one.input <= last.input and one.output <= last.output for one in told), label

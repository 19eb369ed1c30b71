"""The sliding minute against a brute-force count."""

from __future__ import annotations

from math import floor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymux.routing.limits import SPAN, Window, duration, prompt_tokens

STEADY = settings(derandomize=True, deadline=None, max_examples=400)
# Sixteenths of a second are exact in floats, so that a border is a border.
PAUSES = st.lists(st.sampled_from([0, 1, 3, 15, 16, 17, 160, 16 * 29, 16 * 59, 16 * 60, 16 * 61, 16 * 90]), max_size=60)
STARTS = st.integers(0, 16 * 200).map(lambda n: n / 16)


def times(start: float, pauses: list[int]) -> list[float]:
    out = [start]
    for pause in pauses:
        out.append(out[-1] + pause / 16)
    return out


@STEADY
@given(STARTS, PAUSES, st.integers(1, 6))
def test_never_more_than_the_limit_in_any_minute_and_not_less_than_must_be(start, pauses, limit) -> None:
    window, admitted = Window(), []
    for now in times(start, pauses):
        counted = [at for at in admitted if floor(at) >= floor(now) - SPAN]  # the oldest second counts whole
        verdict = window.admit(now, limit)
        assert verdict.admitted == (len(counted) < limit)
        if verdict.admitted:
            admitted.append(now)
    for at in admitted:
        assert sum(at <= other <= at + SPAN for other in admitted) <= limit


@STEADY
@given(STARTS, PAUSES, st.integers(1, 6))
def test_what_a_verdict_promises_holds(start, pauses, limit) -> None:
    now = start
    window, admitted = Window(), []
    for now in times(start, pauses):
        verdict = window.admit(now, limit)
        counted = [at for at in admitted if floor(at) >= floor(now) - SPAN]
        if verdict.admitted:
            admitted.append(now)
            assert verdict.wait == 0
            assert verdict.remaining == limit - len(counted) - 1
        else:
            assert verdict.remaining == 0
            assert verdict.wait > 0
            free = now + verdict.wait
            assert sum(floor(at) >= floor(free) - SPAN for at in admitted) < limit, "it fits after the wait"
            early = free - 1 / 16
            assert sum(floor(at) >= floor(early) - SPAN for at in admitted) >= limit, "and not before"
        empty = now + verdict.reset
        assert not any(floor(at) >= floor(empty) - SPAN for at in admitted), "all is back after the reset"
        assert any(floor(at) >= floor(empty - 1 / 16) - SPAN for at in admitted), "and not before"


@STEADY
@given(
    STARTS, st.lists(st.tuples(st.sampled_from([0, 1, 8, 16, 160, 16 * 29, 16 * 61]), st.integers(0, 12)), max_size=50)
)
def test_amounts_that_are_corrected(start, steps) -> None:
    """Against all that was counted, by its second: what comes back comes back there, what is added counts now."""
    limit, window, counted, now = 10, Window(), [], start
    for pause, amount in steps:
        now += pause / 16
        here = [one for one in counted if one[0] >= floor(now) - SPAN]
        verdict = window.admit(now, limit, amount)
        assert verdict.admitted == (sum(size for _, size in here) + amount <= limit)
        assert verdict.second == floor(now)
        if verdict.admitted:
            counted.append([floor(now), amount])
        elif counted:  # the amount for a size: some earlier request has turned out otherwise
            second = counted[0][0]
            more = amount - 11  # -10 .. 1
            window.correct(now, second, more)
            if more > 0:
                counted.append([floor(now), more])
            else:
                same = [one for one in here if one[0] == second]
                taken = min(-more, sum(size for _, size in same))
                for one in same:
                    less = min(taken, one[1])
                    one[1] -= less
                    taken -= less
        total = sum(size for second, size in counted if second >= floor(now) - SPAN)
        assert window.admit(now, 100, 0).remaining == 100 - total


def test_what_is_more_than_the_limit_by_a_correction_is_waited_for() -> None:
    window = Window()
    second = window.admit(0.0, 10, 8).second
    window.correct(5.0, second, 7)
    refused = window.admit(5.0, 10, 1)
    assert (refused.admitted, refused.remaining, refused.wait, refused.reset) == (False, 0, 56.0, 61.0)
    assert window.admit(61.0, 10, 3).admitted


def test_what_left_the_window_cannot_come_back() -> None:
    window = Window()
    second = window.admit(0.0, 10, 10).second
    window.correct(61.0, second, -10)
    assert window.admit(61.0, 10, 10).admitted
    assert not window.admit(61.0, 10, 1).admitted


@pytest.mark.parametrize(
    ("parts", "count"),
    [
        ([], 0),
        ([b""], 0),
        ([b"a"], 1),
        ([b"abcd", b"e"], 2),
        ([b'"data:image/png;base64,' + b"iVBO" * 50_000 + b'","Hi"'], 1006),
        ([b"data:a/b;base64,AA== data:a/b;base64,AA\\/A=="], 2005),
        ([b"x;base64,"], 1001),
    ],
)
def test_prompts_are_estimated_and_files_count_as_such(parts: list[bytes], count: int) -> None:
    assert prompt_tokens([memoryview(part) for part in parts]) == count


def test_a_refused_request_does_not_count() -> None:
    window = Window()
    assert [window.admit(0.0, 2).admitted for _ in range(5)] == [True, True, False, False, False]
    assert [window.admit(61.0, 2).admitted for _ in range(3)] == [True, True, False]


def test_the_oldest_second_counts_whole() -> None:
    window = Window()
    assert window.admit(0.0, 1).admitted
    refused = window.admit(60.5, 1)
    assert (refused.admitted, refused.wait) == (False, 0.5)
    assert window.admit(61.0, 1).admitted


def test_a_limit_may_change() -> None:
    window = Window()
    assert [window.admit(n, 3).remaining for n in (0.0, 10.0, 20.0)] == [2, 1, 0]
    lowered = window.admit(30.0, 1)
    assert (lowered.admitted, lowered.wait, lowered.reset) == (False, 51.0, 51.0)
    assert window.admit(30.0, 2).wait == 41.0
    assert window.admit(30.0, 5).remaining == 1


def test_a_limit_of_nothing_admits_nothing() -> None:
    verdict = Window().admit(5.0, 0)
    assert (verdict.admitted, verdict.remaining, verdict.wait, verdict.reset) == (False, 0, SPAN + 1, SPAN + 1)


@STEADY
@given(STARTS, st.lists(st.integers(-400, 400), max_size=40), st.integers(1, 4))
def test_a_clock_that_steps_back_admits_no_more(start, steps, limit) -> None:
    """Times are taken as the latest seen, so the limit holds on that axis."""
    window, latest, admitted, now = Window(), 0.0, [], start + 1000
    for step in steps:
        now = max(0.0, now + step / 16)
        latest = max(latest, now)
        if window.admit(now, limit).admitted:
            admitted.append(latest)
    for at in admitted:
        assert sum(at <= other < at + SPAN for other in admitted) <= limit


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.0001, "1ms"),
        (0.85, "850ms"),
        (0.9991, "1000ms"),
        (1, "1s"),
        (1.01, "2s"),
        (6, "6s"),
        (59.5, "1m0s"),
        (60, "1m0s"),
        (61, "1m1s"),
        (90, "1m30s"),
        (3600, "60m0s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text

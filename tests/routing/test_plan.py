"""Plans: which attempts come out for which outcomes."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymux.errors import KINDS, Failure
from polymux.routing.plan import FIRST_PAUSE, Event, Step, plan, verdict
from polymux.types import Deployment, Route

NEVER = 1e9
AGAIN, NEXT, NO = "upstream_unavailable", "upstream_auth_failed", "upstream_rejected"


def route(*names: str, **members: object) -> Route:
    members = {"strategy": "ordered", "retries": 2, "max_attempts": 6} | members
    return Route("r", tuple(Deployment(name, "p", name, "openai") for name in names), **members)


def failed(kind: str, retry_after: float | None = None) -> Failure:
    return Failure(kind, kind, retry_after=retry_after)


def drive(routes: Sequence[Route], failures: Sequence[Failure], at: float = 0.0, deadline: float = NEVER) -> list[Step]:
    """The steps of a plan whose attempts fail as given, the last failure for all further ones."""
    steps = plan(routes, 0.0, 0, deadline)
    out = [next(steps)]
    try:
        while True:
            assert len(out) < 100
            out.append(steps.send(Event(failures[min(len(out), len(failures)) - 1], at)))
    except StopIteration:
        return out


def shown(steps: list[Step]) -> list[tuple[str, float]]:
    return [(step.deployment.id, step.after) for step in steps]


@pytest.mark.parametrize(
    ("routes", "kinds", "steps"),
    [
        pytest.param([route("a", "b", "c")], [AGAIN], "a b c", id="each once before any twice"),
        pytest.param([route("a", "b")], [AGAIN], "a b a:0.5", id="again after a pause"),
        pytest.param([route("a")], [AGAIN], "a a:0.5 a:1", id="the pause is doubled"),
        pytest.param([route("a", retries=5)], [AGAIN], "a a:0.5 a:1 a:2 a:4 a:8", id="and doubled again"),
        pytest.param([route("a", "b", retries=4)], [AGAIN], "a b a:0.5 b:0.5 a:1", id="for each of them"),
        pytest.param([route("a", retries=0)], [AGAIN], "a", id="no retries"),
        pytest.param([route("a", "b", retries=0)], [AGAIN], "a", id="no retries, though there is another"),
        pytest.param([route("a", "b")], [NO], "a", id="the request is at fault"),
        pytest.param([route("a", "b", fallbacks=("x",)), route("x")], [NO], "a", id="nor do fallbacks help then"),
        pytest.param([route("a", "b")], [NEXT], "a b", id="only others can help"),
        pytest.param([route("a", "b", retries=5)], [NEXT, AGAIN], "a b b:0.5 b:1 b:2 b:4", id="one is out"),
        pytest.param([route("a", retries=1), route("x", "y", retries=1)], [AGAIN], "a a:0.5 x y", id="fallbacks"),
        pytest.param([route("a"), route("x"), route("y")], [NEXT], "a x y", id="fallbacks in order"),
        pytest.param([route("a", max_attempts=4), route("x")], [AGAIN], "a a:0.5 a:1 x", id="the budget is for all"),
        pytest.param([route("a", max_attempts=1), route("x")], [AGAIN], "a", id="a budget of one"),
        pytest.param([route("a"), route("a", "x")], [NEXT], "a x", id="what cannot help is out in fallbacks too"),
        pytest.param([route("a", retries=0), route("a", retries=0)], [AGAIN], "a a:0.5", id="and what may, waits"),
        pytest.param([route("a", "a")], [NEXT], "a", id="listed twice"),
    ],
)
def test_the_steps(routes: list[Route], kinds: list[str], steps: str) -> None:
    wanted = [(name, float(pause or 0)) for name, _, pause in (step.partition(":") for step in steps.split())]
    assert shown(drive(routes, [failed(kind) for kind in kinds])) == wanted


def test_why_each_was_chosen_and_by_whose_name() -> None:
    other = msgspec.structs.replace(route("x", "y", retries=1), name="other")
    steps = drive([route("a", "b", retries=2), other], [failed(AGAIN)])
    assert [(step.deployment.id, step.route, step.why) for step in steps] == [
        ("a", "r", "first"),
        ("b", "r", "next deployment"),
        ("a", "r", "retry"),
        ("x", "other", "fallback"),
        ("y", "other", "next deployment"),
    ]


def test_a_wait_that_the_provider_asks_for_is_kept() -> None:
    assert shown(drive([route("a", "b")], [failed("upstream_rate_limited", 7.0), failed(AGAIN)])) == [
        ("a", 0.0),
        ("b", 0.0),
        ("a", 7.0),
    ]
    assert shown(drive([route("a", retries=1)], [failed("upstream_rate_limited", 0.1)]))[1] == ("a", FIRST_PAUSE)


def test_nothing_waits_beyond_the_deadline() -> None:
    limited = failed("upstream_rate_limited", 7.0)
    assert shown(drive([route("a")], [limited], at=3.0, deadline=10.0)) == [("a", 0.0)]
    assert shown(drive([route("a", retries=1)], [limited], at=2.9, deadline=10.0)) == [("a", 0.0), ("a", 7.0)]
    assert shown(drive([route("a", "b"), route("a")], [limited], at=3.0, deadline=10.0)) == [("a", 0.0), ("b", 0.0)]


def test_nothing_is_tried_after_the_deadline() -> None:
    assert shown(drive([route("a", "b"), route("x")], [failed(AGAIN)], at=10.0, deadline=10.0)) == [("a", 0.0)]


def test_the_strategy_is_asked_with_the_draw_and_the_turn() -> None:
    assert next(plan([route("a", "b", strategy="round-robin")], 0.0, 1, NEVER)).deployment.id == "b"
    assert next(plan([route("a", "b", strategy="weighted")], 0.9, 0, NEVER)).deployment.id == "b"


NAMES = st.sampled_from("abcd")
ROUTES = st.lists(
    st.builds(
        lambda names, retries, most, strategy: route(*names, retries=retries, max_attempts=most, strategy=strategy),
        st.lists(NAMES, min_size=1, max_size=4),
        st.integers(0, 4),
        st.integers(1, 8),
        st.sampled_from(["ordered", "weighted", "round-robin"]),
    ),
    min_size=1,
    max_size=3,
)
OUTCOMES = st.lists(
    st.tuples(st.sampled_from(sorted(KINDS)), st.none() | st.floats(0, 30), st.floats(0, 20)), min_size=40, max_size=40
)


@settings(derandomize=True, deadline=None, max_examples=500)
@given(ROUTES, OUTCOMES, st.floats(0, 1, exclude_max=True), st.integers(0, 9), st.floats(1, 200))
def test_what_holds_for_every_plan(routes, outcomes, draw, turn, deadline) -> None:
    steps = plan(routes, draw, turn, deadline)
    step, now = next(steps), 0.0
    tried: list[str] = []
    waits: dict[str, float] = {}
    out: set[str] = set()
    outcome = iter(outcomes)
    while True:
        name = step.deployment.id
        assert name not in out, "tried again though only others could help"
        assert bool(step.after) == (name in tried), "a pause is for what was tried before, and always"
        assert step.after >= waits.get(name, 0.0), "sooner than the provider asked"
        assert now + step.after < deadline, "an attempt that begins too late"
        tried.append(name)
        kind, retry_after, took = next(outcome)
        now += step.after + took
        failure = failed(kind, retry_after)
        waits[name] = retry_after or 0.0
        if failure.row.retry != "any":
            out.add(name)
        try:
            step = steps.send(Event(failure, now))
        except StopIteration:
            break
        assert failure.row.retry != "no", "the request is at fault, and yet"
    assert len(tried) <= routes[0].max_attempts
    assert len(tried) <= sum(1 + each.retries for each in routes)


@settings(derandomize=True, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=4, unique=True), st.integers(0, 9), st.integers(1, 12))
def test_no_attempt_is_left_out_while_time_and_bounds_allow(names, retries, most) -> None:
    steps = drive([route(*names, retries=retries, max_attempts=most)], [failed(AGAIN)])
    assert len(steps) == min(1 + retries, most)
    ids = [step.deployment.id for step in steps]
    assert ids == [names[n % len(names)] for n in range(len(ids))]


@pytest.mark.parametrize(
    ("kinds", "told"),
    [
        ([AGAIN], 0),
        ([AGAIN, "upstream_timeout"], 1),
        (["upstream_rate_limited", AGAIN], 1),
        ([AGAIN, "upstream_rate_limited"], 0),
        ([NEXT, AGAIN, "upstream_rate_limited"], 1),
        (["upstream_rate_limited", "upstream_rate_limited"], 1),
    ],
)
def test_which_failure_the_client_is_told(kinds: list[str], told: int) -> None:
    failures = [failed(kind) for kind in kinds]
    assert verdict(failures) is failures[told]


@pytest.mark.parametrize(
    ("waits", "told"), [([None], 1.0), ([7.0], 7.0), ([9.0, 3.0, None], 3.0), ([None, 5.0], 5.0), ([0.0, 4.0], 0.0)]
)
def test_a_rate_limit_tells_the_shortest_wait(waits: list[float | None], told: float) -> None:
    assert verdict([failed("upstream_rate_limited", wait) for wait in waits]).retry_after == told

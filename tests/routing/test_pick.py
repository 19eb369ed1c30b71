"""The orders of a route's deployments."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import permutations
from math import lcm

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymux.routing.pick import STRATEGIES, ordered, round_robin, weighted
from polymux.types import Deployment

STEADY = settings(derandomize=True, deadline=None)
WEIGHTS = st.lists(st.integers(0, 7), min_size=1, max_size=6)
DRAWS = st.floats(0, 1, exclude_max=True)


def fleet(*weights: int) -> list[Deployment]:
    return [Deployment(f"p/{n}", "p", str(n), "openai", weight=weight) for n, weight in enumerate(weights)]


def chances(weights: tuple[int, ...]) -> dict[tuple[int, ...], Fraction]:
    """The exact chance of every order when each next one is drawn in proportion to weight."""
    out = {}
    for order in permutations(range(len(weights))):
        left, chance = sum(weights), Fraction(1)
        for n in order[:-1]:
            chance *= Fraction(weights[n], left)
            left -= weights[n]
        out[order] = chance
    return out


@pytest.mark.parametrize("weights", [(1,), (1, 1), (3, 1), (3, 1, 2), (5, 3, 2), (1, 1, 1, 1), (3, 1, 1, 1)])
def test_every_order_has_its_exact_share_of_the_draws(weights: tuple[int, ...]) -> None:
    """The order is constant between draws that are multiples of 1/cells, so their middles are an integral."""
    expected = chances(weights)
    cells = lcm(*(chance.denominator for chance in expected.values())) * 12
    found: Counter[tuple[int, ...]] = Counter()
    for cell in range(cells):
        found[tuple(int(d.model) for d in weighted(fleet(*weights), (cell + 0.5) / cells, 0))] += 1
    assert {order: Fraction(found[order], cells) for order in expected} == expected


@STEADY
@given(WEIGHTS, DRAWS, st.integers(0, 1000), st.sampled_from(sorted(STRATEGIES)))
def test_every_strategy_gives_each_deployment_once(weights, draw, turn, strategy) -> None:
    deployments = fleet(*weights)
    given_ = list(deployments)
    assert sorted(d.id for d in STRATEGIES[strategy](deployments, draw, turn)) == sorted(d.id for d in deployments)
    assert deployments == given_, "the route's own list was changed"


@STEADY
@given(WEIGHTS, DRAWS)
def test_weight_nothing_comes_last(weights, draw) -> None:
    order = [d.weight for d in weighted(fleet(*weights), draw, 0)]
    assert order == [w for w in order if w] + [w for w in order if not w]


@pytest.mark.parametrize("draw", [0.0, 0.5, 1 - 2**-53])
def test_a_route_without_weights_keeps_its_order(draw: float) -> None:
    assert [d.model for d in weighted(fleet(0, 0, 0), draw, 0)] == ["0", "1", "2"]


def test_the_borders_of_the_draw() -> None:
    assert [d.model for d in weighted(fleet(3, 1), 0.0, 0)] == ["0", "1"]
    assert [d.model for d in weighted(fleet(3, 1), 0.75, 0)] == ["1", "0"]
    assert [d.model for d in weighted(fleet(3, 1), 1 - 2**-53, 0)] == ["1", "0"]


def test_round_robin_starts_with_each_in_turn() -> None:
    orders = [[d.model for d in round_robin(fleet(1, 5, 9), 0.9, turn)] for turn in range(4)]
    assert orders == [["0", "1", "2"], ["1", "2", "0"], ["2", "0", "1"], ["0", "1", "2"]]


def test_ordered_is_as_written() -> None:
    assert [d.model for d in ordered(fleet(1, 5, 9), 0.9, 7)] == ["0", "1", "2"]


def test_the_strategies_by_name() -> None:
    assert dict(STRATEGIES) == {"weighted": weighted, "round-robin": round_robin, "ordered": ordered}

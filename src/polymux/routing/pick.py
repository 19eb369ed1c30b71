"""In which order a route's deployments are tried: functions of their arguments alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from polymux.types import Deployment

Order = Callable[[Sequence[Deployment], float, int], list[Deployment]]


def weighted(deployments: Sequence[Deployment], draw: float, turn: int) -> list[Deployment]:
    """By chance in proportion to weight, without repetition. `draw` in [0, 1) decides it; weight 0 comes last."""
    left = list(deployments)
    out: list[Deployment] = []
    while len(left) > 1:
        total = sum(deployment.weight for deployment in left)
        if total <= 0:
            return out + left
        point = draw * total
        for deployment in left:
            if point < deployment.weight:
                break
            point -= deployment.weight
        draw = min(point / deployment.weight, 1 - 1e-12) if deployment.weight else 0.0
        left.remove(deployment)
        out.append(deployment)
    return out + left


def round_robin(deployments: Sequence[Deployment], draw: float, turn: int) -> list[Deployment]:
    """Each in turn; `turn` counts the route's requests."""
    start = turn % len(deployments)
    return [*deployments[start:], *deployments[:start]]


def ordered(deployments: Sequence[Deployment], draw: float, turn: int) -> list[Deployment]:
    """As written; the first serves until it fails."""
    return list(deployments)


STRATEGIES: Final[Mapping[str, Order]] = MappingProxyType(
    {"weighted": weighted, "round-robin": round_robin, "ordered": ordered}
)

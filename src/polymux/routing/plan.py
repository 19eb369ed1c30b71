"""What to try next: attempts out, outcomes in. Pure: time and chance are arguments.

One budget bounds a request: `max_attempts` of its route over everything, and the deadline. Within a route the next
deployment comes first; the same one again only when all have been tried, after a pause. Then the fallback routes.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import msgspec

from polymux.errors import Failure
from polymux.routing.pick import STRATEGIES
from polymux.types import Deployment, Route

FIRST_PAUSE = 0.5  # seconds before a deployment is tried again, doubled each round


class Step(msgspec.Struct, frozen=True):
    """Try this deployment, after so many seconds."""

    deployment: Deployment
    after: float = 0.0


class Event(msgspec.Struct, frozen=True):
    """How the last step ended, and when (the clock of the deadline)."""

    failure: Failure
    at: float


Plan = Generator[Step, Event, None]


def plan(routes: Sequence[Route], draw: float, turn: int, deadline: float) -> Plan:
    """The attempts for a request to `routes[0]`, the others being its fallbacks. Ends when nothing is left to try."""
    budget = routes[0].max_attempts
    for route in routes:
        order = STRATEGIES[route.strategy](route.deployments, draw, turn)
        pauses: dict[str, float] = {}  # deployments that may be tried again -> when asked to wait, how long
        for number in range(1 + route.retries):
            if budget <= 0 or not order:
                break
            deployment = order.pop(0)
            again = pauses.pop(deployment.id, None)
            event = yield Step(deployment, again or 0.0)
            budget -= 1
            retry = event.failure.row.retry
            if retry == "no":
                return
            if retry == "any":
                pause = max(event.failure.retry_after or 0.0, FIRST_PAUSE * 2 ** (number // len(route.deployments)))
                if event.at + pause < deadline:
                    pauses[deployment.id] = pause
                    order.append(deployment)


def verdict(failures: Sequence[Failure]) -> Failure:
    """Which of the failures the client is told: a rate limit only when every attempt was one, else the last other."""
    others = [failure for failure in failures if failure.kind != "upstream_rate_limited"]
    if others:
        return others[-1]
    waits = [failure.retry_after for failure in failures if failure.retry_after is not None]
    last = failures[-1]
    last.retry_after = min(waits) if waits else 1.0
    return last

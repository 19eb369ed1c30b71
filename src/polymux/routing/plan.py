"""What to try next: attempts out, outcomes in. Pure: time and chance are arguments.

One budget bounds a request: `max_attempts` of its route over everything, and the deadline. Within a route the next
deployment comes first; the same one again only when all have been tried, after a pause. Then the fallback routes.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from math import inf

import msgspec

from polymux.errors import Failure
from polymux.routing.pick import STRATEGIES
from polymux.types import Deployment, Route

FIRST_PAUSE = 0.5  # seconds before a deployment is tried again, doubled each time


class Step(msgspec.Struct, frozen=True):
    """Try this deployment, after so many seconds. `route`: by whose name; `why`: as `types.Try` has it."""

    deployment: Deployment
    after: float
    route: str
    why: str


class Event(msgspec.Struct, frozen=True):
    """How the last step ended, and when (the clock of the deadline)."""

    failure: Failure
    at: float


Plan = Generator[Step, Event, None]


def plan(routes: Sequence[Route], draw: float, turn: int, deadline: float) -> Plan:
    """The attempts for a request to `routes[0]`, the others being its fallbacks. Ends when nothing is left to try."""
    budget, at = routes[0].max_attempts, -inf
    tries: dict[str, int] = {}
    why = "first"
    waits: dict[str, float] = {}  # deployments that were tried -> seconds to wait before the next time; inf = never
    for route in routes:
        order = STRATEGIES[route.strategy](route.deployments, draw, turn)
        for _ in range(1 + route.retries):
            if waits:  # else nothing has been tried
                order = [one for one in order if at + waits.get(one.id, 0.0) < deadline]
            if budget <= 0 or not order:
                break
            deployment = order.pop(0)
            name = deployment.id
            event = yield Step(deployment, waits.get(name, 0.0), route.name, "retry" if name in waits else why)
            why = "next deployment"
            budget, at = budget - 1, event.at
            retry = event.failure.row.retry
            if retry == "no":
                return
            waits[name] = inf
            if retry == "any":
                waits[name] = max(event.failure.retry_after or 0.0, FIRST_PAUSE * 2 ** tries.get(name, 0))
                tries[name] = tries.get(name, 0) + 1
                order.append(deployment)
        why = "fallback"


def only(routes: Sequence[Route]) -> Step | None:
    """The first step where there is no choice, which is what a plan would begin with."""
    route = routes[0]
    if len(route.deployments) == 1 and route.max_attempts > 0:
        return Step(route.deployments[0], 0.0, route.name, "first")
    return None


def verdict(failures: Sequence[Failure]) -> Failure:
    """Which of the failures the client is told: a rate limit only when every attempt was one, else the last other."""
    others = [failure for failure in failures if failure.kind != "upstream_rate_limited"]
    if others:
        return others[-1]
    waits = [failure.retry_after for failure in failures if failure.retry_after is not None]
    last = failures[-1]
    last.retry_after = min(waits) if waits else 1.0
    return last

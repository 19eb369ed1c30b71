"""Counts for Prometheus: cheap cells while requests run, the exposition made when it is asked for.

Names follow OpenTelemetry's semantic conventions for generative AI (gen-ai-metrics), in Prometheus' spelling; what they
have no name for begins with `polymux_`. A label is empty where it has nothing to tell.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from polymux.errors import KINDS, Failure
from polymux.hooks.base import Hook
from polymux.types import Call, Deployment, Record


class Series(Protocol):
    """As `store.cells.Series`."""

    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> tuple[str, ...]: ...


class Slot(Protocol):
    """What one worker has counted; as `store.cells.Slot`."""

    @property
    def name(self) -> str: ...
    @property
    def series(self) -> Iterable[tuple[Series, tuple[float, ...]]]: ...


class Cells(Protocol):
    """Where the counts are kept (`store.cells`)."""

    @property
    def values(self) -> memoryview[float]: ...
    def series(self, name: str, labels: tuple[str, ...], width: int) -> int: ...
    def slots(self) -> Iterable[Slot]: ...


class Family(NamedTuple):
    """A row of the table. kind: counter, gauge or histogram; the latter's `bounds` are its buckets' upper ends.

    Cells of a histogram: the sum, the count of each bucket alone, the count above the last bound.
    """

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        return len(self.bounds) + 2 if self.kind == "histogram" else 1


_CALL: Final = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model", "gen_ai_response_model")
_POWERS: Final = tuple(4.0**power for power in range(14))
_DOUBLED: Final = tuple(0.01 * 2**power for power in range(14))
_FIRST: Final = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
_FINE: Final = (5e-05, 0.0001, 0.00015, 0.0002, 0.0003, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 1.0)

DURATION: Final = Family(
    "gen_ai_server_request_duration_seconds",
    "histogram",
    "From a call's arrival to its last byte.",
    (*_CALL, "error_type"),
    _DOUBLED,
)
FIRST_TOKEN: Final = Family(
    "gen_ai_server_time_to_first_token_seconds",
    "histogram",
    "From the arrival of a streamed call to its first content.",
    _CALL,
    _FIRST,
)
TOKENS: Final = Family(
    "gen_ai_client_token_usage", "histogram", "Tokens of a call.", (*_CALL, "gen_ai_token_type"), _POWERS
)
OVERHEAD: Final = Family(
    "polymux_overhead_seconds",
    "histogram",
    "What of the time up to the first content was not spent waiting for upstreams, in calls of one attempt.",
    ("gen_ai_operation_name",),
    _FINE,
)
ATTEMPTS: Final = Family(
    "polymux_attempts",
    "histogram",
    "Attempts that a call took.",
    ("gen_ai_operation_name",),
    (1.0, 2.0, 3.0, 4.0, 6.0, 10.0),
)
REQUESTS: Final = Family(
    "polymux_requests",
    "counter",
    "Calls that have ended, and requests that were refused before they became one.",
    ("gen_ai_operation_name", "http_response_status_code", "error_type"),
)
FAILURES: Final = Family(
    "polymux_upstream_failures",
    "counter",
    "Attempts that failed.",
    ("gen_ai_provider_name", "gen_ai_response_model", "error_type"),
)
IN_FLIGHT: Final = Family("polymux_in_flight", "gauge", "Calls under way.")
CLIENTS: Final = Family("polymux_client_connections", "gauge", "Open connections of clients.")
UPSTREAMS: Final = Family(
    "polymux_upstream_connections", "gauge", "Connections to upstreams: busy, idle or being made.", ("state",)
)
WAITING: Final = Family("polymux_upstream_waiting", "gauge", "Requests that wait for a connection to an upstream.")
FAILING: Final = Family("polymux_journal_failing", "gauge", "Whether the disk takes no usage records (1) or does (0).")
LOST: Final = Family(
    "polymux_journal_lost_records", "counter", "Usage records that were dropped, for the disk took none for too long."
)
SKIPPED: Final = Family("polymux_journal_skipped_lines", "counter", "Lines of the journals that were no usage records.")
WORKER: Final = Family("polymux_worker_pid", "gauge", "The worker's process.")  # for ourselves, not shown

TABLE: Final = (
    *(DURATION, FIRST_TOKEN, TOKENS, OVERHEAD, ATTEMPTS, REQUESTS, FAILURES),
    *(IN_FLIGHT, CLIENTS, UPSTREAMS, WAITING, FAILING, LOST, SKIPPED),
)
LEVELS: Final = (
    *((IN_FLIGHT, ()), (CLIENTS, ())),
    *((UPSTREAMS, ("busy",)), (UPSTREAMS, ("idle",)), (UPSTREAMS, ("connecting",))),
    *((WAITING, ()), (FAILING, ()), (LOST, ()), (SKIPPED, ()), (WORKER, ())),
)
# surfaces as the conventions name their operations
OPERATIONS: Final = MappingProxyType({"chat": "chat", "completions": "text_completion", "embeddings": "embeddings"})
ERRORS: Final = frozenset({*KINDS, *(kind.code for kind in KINDS.values()), "client_disconnected"})
OTHER: Final = "other"
MOST: Final = 1000  # models that are known, and kinds of records whose cells are remembered


# bounds with the place of the sum before them, which is no bound
_DURATION, _FIRST_TOKEN, _OVERHEAD = ((0.0, *family.bounds) for family in (DURATION, FIRST_TOKEN, OVERHEAD))
_ATTEMPTS, _TOKENS = ((0, *map(int, family.bounds)) for family in (ATTEMPTS, TOKENS))


class Levels(NamedTuple):
    """What is so at this moment, in the order of `LEVELS`."""

    in_flight: int = 0
    clients: int = 0
    busy: int = 0
    idle: int = 0
    connecting: int = 0
    waiting: int = 0
    failing: bool = False
    lost: int = 0
    skipped: int = 0


class _Places(NamedTuple):
    """The first cells of what a kind of record counts in."""

    requests: int
    duration: int
    first_token: int
    input: int
    output: int
    overhead: int
    attempts: int


class Metrics(Hook):
    """Counts calls and failed attempts, and shows what all workers have counted."""

    def __init__(self, cells: Cells) -> None:
        self._cells = cells
        self._values = cells.values
        self._places: dict[tuple[str, str, str, str, int, str | None], _Places] = {}
        self._known: set[str] = set()  # models of clients, and (provider/model) of upstreams, that exist
        self._levels = tuple(cells.series(family.name, labels, 1) for family, labels in LEVELS)
        self.observe(Levels())  # of an earlier worker in this slot nothing is left

    def ended(self, records: Sequence[Record]) -> None:
        values = self._values
        for record in records:
            provider, status = record.provider, record.status
            kind = (record.surface, provider, record.model, record.upstream_model, status, record.error_code)
            at = self._places.get(kind) or self._place(kind)
            requests, duration, first_token, into, out, overhead, attempts = at
            values[requests] += 1
            if not provider:  # refused, by us
                continue
            value = record.duration_ms / 1000  # what follows is the same five times: a call for each costs twice that
            values[duration] += value
            values[bisect_left(_DURATION, value, 1) + duration] += 1
            count = record.attempts
            values[attempts] += count
            if count != 1:
                values[bisect_left(_ATTEMPTS, count, 1) + attempts] += 1
            else:  # in others the overhead holds the pauses between attempts
                values[attempts + 1] += 1
                value = record.overhead_ms / 1000
                values[overhead] += value
                values[bisect_left(_OVERHEAD, value, 1) + overhead] += 1
            if record.stream and record.first_token_ms is not None:
                value = record.first_token_ms / 1000
                values[first_token] += value
                values[bisect_left(_FIRST_TOKEN, value, 1) + first_token] += 1
            if record.usage_source != "none":
                count = record.input_tokens
                values[into] += count
                values[bisect_left(_TOKENS, count, 1) + into] += 1
                count = record.output_tokens
                values[out] += count
                values[bisect_left(_TOKENS, count, 1) + out] += 1

    def failed(self, call: Call, to: Deployment, failure: Failure) -> None:
        model = self._model(f"{to.provider}/{to.model}", to.model, failure.row.fault != "client")
        self._values[self._cell(FAILURES, to.provider, model, failure.kind)] += 1

    def observe(self, levels: Levels) -> None:
        """Set the gauges of this worker."""
        for cell, level in zip(self._levels, (*levels, os.getpid()), strict=True):
            self._values[cell] = level

    def expose(self, accept: str = "") -> tuple[str, bytes]:
        """Content type and text of the exposition, of all workers; in OpenMetrics' form for who accepts it."""
        from polymux.hooks.exposition import exposition  # at the first scrape: it is not light

        return exposition(tuple(self._cells.slots()), accept)

    def _place(self, kind: tuple[str, str, str, str, int, str | None]) -> _Places:
        surface, provider, model, upstream, status, code = kind
        operation = OPERATIONS.get(surface, "")
        error = "" if code is None else code if code in ERRORS else "upstream_rejected"
        there = status < 400 or status == 429 or status >= 500
        requests = self._cell(REQUESTS, operation, str(status), error)
        places = _Places(requests, 0, 0, 0, 0, 0, 0)
        if provider:
            shown = self._model(model, model, there)
            call = (operation, provider, shown, self._model(f"{provider}/{upstream}", upstream, there))
            places = _Places(
                requests,
                self._cell(DURATION, *call, error),
                self._cell(FIRST_TOKEN, *call),
                self._cell(TOKENS, *call, "input"),
                self._cell(TOKENS, *call, "output"),
                self._cell(OVERHEAD, operation),
                self._cell(ATTEMPTS, operation),
            )
            if OTHER in call and len(self._known) < MOST:  # it may be known by the next time
                return places
        if len(self._places) >= MOST:
            self._places.clear()
        self._places[kind] = places
        return places

    def _model(self, name: str, shown: str, there: bool) -> str:
        """A model's label. Names are the client's: one that nobody is known to serve (`there`) is not told."""
        if there and len(self._known) < MOST:
            self._known.add(name)
        return shown if name in self._known else OTHER

    def _cell(self, family: Family, *labels: str) -> int:
        return self._cells.series(family.name, labels, family.width)

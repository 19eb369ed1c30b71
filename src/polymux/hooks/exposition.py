"""What the cells hold, as Prometheus reads it. A module of its own: it is imported at the first scrape."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

from polymux import __version__
from polymux.hooks.metrics import TABLE, WORKER, Family, Slot

_OPEN: Final = "application/openmetrics-text"

Sums = Mapping[str, Mapping[tuple[str, ...], Sequence[float]]]  # name -> labels -> cells


def exposition(slots: Sequence[Slot], accept: str) -> tuple[str, bytes]:
    """Content type and text, in the form that the header `accept` asks for (Prometheus' own, or OpenMetrics)."""
    encode, kind = choose_encoder(_OPEN if _OPEN in accept else "")  # what else it says may not be well-formed
    registry = CollectorRegistry()
    registry.register(_Collector(slots))
    return kind, encode(registry)


class _Collector:
    def __init__(self, slots: Sequence[Slot]) -> None:
        self._workers = {slot.name: pid for slot in slots if (pid := _pid(slot)) and _alive(pid)}
        self._sums = _sums(slots, self._workers)

    def collect(self) -> Iterator[Metric]:
        for family in TABLE:
            if series := self._sums.get(family.name):
                yield _metric(family, series)
        yield InfoMetricFamily(
            "polymux_build", "What runs.", {"version": __version__, "python": platform.python_version()}
        )
        yield GaugeMetricFamily("polymux_workers", "Workers that run.", len(self._workers))
        yield from _processes(self._workers)

    def describe(self) -> Sequence[Metric]:
        return ()  # the registry would collect everything to find the names


def _sums(slots: Sequence[Slot], workers: Mapping[str, int]) -> Sums:
    """Over all slots; what a dead worker has counted stays, its gauges do not."""
    gauges = {family.name for family in TABLE if family.kind == "gauge"}
    sums: dict[str, dict[tuple[str, ...], Sequence[float]]] = {}
    for slot in slots:
        for series, cells in slot.series:
            if series.name in gauges and slot.name not in workers:
                continue
            of_name = sums.setdefault(series.name, {})
            before = of_name.get(series.labels)
            of_name[series.labels] = cells if before is None else [a + b for a, b in zip(before, cells, strict=True)]
    return sums


def _metric(family: Family, series: Mapping[tuple[str, ...], Sequence[float]]) -> Metric:
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for labels, (total, *counts) in series.items():
            if any(counts):
                ends = [*map(floatToGoString, family.bounds), "+Inf"]
                histogram.add_metric(labels, list(zip(ends, accumulate(counts), strict=True)), total)
        return histogram
    plain = (CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily)(
        family.name, family.help, labels=family.labels
    )
    for labels, (value,) in series.items():
        plain.add_metric(labels, value)
    return plain


def _processes(workers: Mapping[str, int]) -> Iterator[Metric]:
    """prometheus-client's process metrics, for each worker."""
    found: dict[str, Metric] = {}
    for name, pid in workers.items():
        for metric in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]  # a default, to bind it now
            kept = found.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
            for sample in metric.samples:
                kept.add_sample(sample.name, {"worker": name}, sample.value)
    yield from found.values()


def _pid(slot: Slot) -> int:
    return next((int(cells[0]) for series, cells in slot.series if series.name == WORKER.name), 0)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True

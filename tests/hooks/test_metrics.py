"""What records and failures count in, and what they may not: names that clients make up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from polymux.errors import Failure
from polymux.hooks import metrics as module
from polymux.hooks.metrics import LEVELS, TABLE, Family, Levels, Metrics
from polymux.store.cells import Cells
from polymux.types import Call, Deployment, Key
from store.test_journal import record

CALL = Call("req_1", "chat", Key("k", "k"), "corp/gpt", False, {}, b"")
COUNTED = ("chat", "corp", "corp/gpt", "gpt")


def counted(cells: Cells) -> dict[tuple[str, ...], tuple[float, ...]]:
    """All series in which something is counted."""
    (slot,) = cells.slots()
    return {(series.name, *series.labels): values for series, values in slot.series if any(values)}


def family(name: str) -> Family:
    return next(family for family in TABLE if family.name == name)


def histogram(name: str, *values: float) -> tuple[float, ...]:
    """The cells of a histogram that has seen these values."""
    bounds = family(name).bounds
    counts = [0.0] * (len(bounds) + 1)
    for value in values:
        counts[sum(bound < value for bound in bounds)] += 1
    return (sum(values), *counts)


def after(*records: Any) -> dict[tuple[str, ...], tuple[float, ...]]:
    cells = Cells()
    Metrics(cells).ended(records)
    found = counted(cells)
    del found[("polymux_worker_pid",)]
    return found


def test_a_whole_answer() -> None:
    found = after(record("req_1", overhead_ms=0.07, first_token_ms=1.0, duration_ms=20.0))
    assert found == {
        ("polymux_requests", "chat", "200", ""): (1.0,),
        ("gen_ai_server_request_duration_seconds", *COUNTED, ""): histogram(
            "gen_ai_server_request_duration_seconds", 0.02
        ),
        ("gen_ai_client_token_usage", *COUNTED, "input"): histogram("gen_ai_client_token_usage", 11.0),
        ("gen_ai_client_token_usage", *COUNTED, "output"): histogram("gen_ai_client_token_usage", 7.0),
        ("polymux_overhead_seconds", "chat"): histogram("polymux_overhead_seconds", 7.000000000000001e-05),
        ("polymux_attempts", "chat"): histogram("polymux_attempts", 1.0),
    }


def test_a_stream_has_a_first_token() -> None:
    found = after(
        *(record(f"req_{n}", overhead_ms=0.1, stream=True, first_token_ms=n * 1000.0) for n in (1, 2)),
        record("req_3", overhead_ms=0.1, stream=True, status=499, error_code="client_disconnected"),
    )
    name = "gen_ai_server_time_to_first_token_seconds"
    assert found[(name, *COUNTED)] == histogram(name, 1.0, 2.0)
    assert found["polymux_requests", "chat", "499", "client_disconnected"] == (1.0,)


def test_a_bound_belongs_to_its_bucket() -> None:
    """`le` means less or equal."""
    name = "polymux_attempts"
    assert after(record("req_1", overhead_ms=0.0, attempts=2))[name, "chat"] == (2.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_overhead_is_told_without_the_pauses_between_attempts() -> None:
    assert ("polymux_overhead_seconds", "chat") not in after(record("req_1", overhead_ms=1500.0, attempts=2))


def test_what_is_not_known_is_not_counted_as_nothing() -> None:
    found = after(record("req_1", overhead_ms=0.1, usage_source="none", input_tokens=0, output_tokens=0))
    assert not any(name[0] == "gen_ai_client_token_usage" for name in found)


def test_what_never_reached_an_upstream_is_a_request_and_nothing_else() -> None:
    found = after(
        record("req_1", overhead_ms=0.1, attempts=0, provider="", status=429, error_code="rate_limit_exceeded"),
        record("req_2", overhead_ms=0.1, attempts=0, provider="", status=404, error_code="not_found", surface="GET /x"),
    )
    assert found == {
        ("polymux_requests", "chat", "429", "rate_limit_exceeded"): (1.0,),
        ("polymux_requests", "", "404", "not_found"): (1.0,),
    }


@pytest.mark.parametrize(
    ("status", "shown"), [(200, "corp/made-up"), (502, "corp/made-up"), (429, "corp/made-up"), (404, "other")]
)
def test_a_model_has_a_label_when_somebody_serves_it(status: int, shown: str) -> None:
    made = record("req_1", overhead_ms=0.1, status=status, model="corp/made-up", upstream_model="made-up")
    labels = {name[3] for name in after(made) if name[0] == "gen_ai_server_request_duration_seconds"}
    assert labels == {shown}


def test_a_model_that_was_served_stays_known() -> None:
    found = after(
        record("req_1", overhead_ms=0.1),
        record("req_2", overhead_ms=0.1, status=400, error_code="context_length_exceeded"),
    )
    assert ("gen_ai_server_request_duration_seconds", *COUNTED, "context_length_exceeded") in found


def test_a_model_that_fails_first_is_known_once_it_was_served() -> None:
    failed = record("req_1", overhead_ms=0.1, status=400, error_code="context_length_exceeded")
    found = after(failed, record("req_2", overhead_ms=0.1), failed)
    name = "gen_ai_server_request_duration_seconds"
    assert found[name, *COUNTED, "context_length_exceeded"][-1:] == found[name, *COUNTED, ""][-1:]
    assert sum(series[0] == name and "other" in series for series in found) == 1


def test_codes_of_providers_are_counted_together() -> None:
    found = after(record("req_1", overhead_ms=0.1, status=400, error_code="string_above_max_length"))
    assert ("polymux_requests", "chat", "400", "upstream_rejected") in found


def test_names_without_end_take_a_bounded_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 5)
    cells = Cells()
    metrics = Metrics(cells)
    for number in range(50):
        metrics.ended([record("req_1", overhead_ms=0.1, model=f"corp/{number}", upstream_model=str(number))])
    names = {name[3] for name in counted(cells) if name[0] == "gen_ai_server_request_duration_seconds"}
    assert names == {*(f"corp/{number}" for number in range(5)), "other"}
    assert len(metrics._places) <= 5
    assert counted(cells)["polymux_requests", "chat", "200", ""] == (50.0,)


def test_failed_attempts_are_counted_by_kind() -> None:
    cells = Cells()
    metrics = Metrics(cells)
    to = Deployment("corp/gpt", "corp", "gpt", "openai")
    metrics.failed(CALL, to, Failure("upstream_timeout", "x"))
    metrics.failed(CALL, to, Failure("upstream_timeout", "x"))
    metrics.failed(CALL, to, Failure("upstream_rejected", "x"))
    metrics.failed(CALL, Deployment("corp/made-up", "corp", "made-up", "openai"), Failure("upstream_rejected", "x"))
    found = {name[1:]: values for name, values in counted(cells).items() if name[0] == "polymux_upstream_failures"}
    assert found == {
        ("corp", "gpt", "upstream_timeout"): (2.0,),
        ("corp", "gpt", "upstream_rejected"): (1.0,),
        ("corp", "other", "upstream_rejected"): (1.0,),
    }


def test_levels_are_set_and_not_added() -> None:
    cells = Cells()
    metrics = Metrics(cells)
    metrics.observe(Levels(*[9] * len(Levels._fields)))
    levels = range(1, len(Levels._fields) + 1)
    metrics.observe(Levels(*levels))
    assert list(counted(cells).values()) == [*((float(level),) for level in levels), (float(os.getpid()),)]


def test_the_levels_have_their_cells() -> None:
    assert len(LEVELS) == len(Levels._fields) + 1


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_metric_is_in_the_docs(language: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / language / "observability.md").read_text("utf-8")
    names = [f"{family.name}_total" if family.kind == "counter" else family.name for family in TABLE]
    assert [name for name in names if f"| `{name}` |" not in page] == []

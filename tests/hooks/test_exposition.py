"""What Prometheus reads: the sum over all workers, in the form it asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_families
from prometheus_client.parser import text_string_to_metric_families as plain_families

from polymux.errors import Failure
from polymux.hooks.metrics import TABLE, Levels, Metrics
from polymux.store.cells import Cells
from polymux.types import Call, Deployment, Key
from store.test_journal import record

PLAIN, OPEN = "text/plain; version=0.0.4; charset=utf-8", "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)


def samples(metrics: Metrics, accept: str = "") -> dict[tuple[str, ...], float]:
    """(name, labels in the order of their names) -> value, as Prometheus' own parser finds them."""
    kind, text = metrics.expose(accept)
    families = open_families if kind == OPEN else plain_families
    return {
        (sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()) if value)): sample.value
        for family in families(text.decode())
        for sample in family.samples
    }


def used(cells: Cells) -> Metrics:
    metrics = Metrics(cells)
    metrics.ended([record(f"req_{n}", overhead_ms=0.07, stream=True, first_token_ms=2.0) for n in range(3)])
    call = Call("req_1", "chat", Key("k", "k"), "corp/gpt", False, {}, b"")
    metrics.failed(call, Deployment("corp/gpt", "corp", "gpt", "openai"), Failure("upstream_timeout", "x"))
    metrics.observe(Levels(1, 2, 3, 4, 5, 6))
    return metrics


@pytest.mark.parametrize("accept", ["", PROMETHEUS])
def test_every_family_is_there(accept: str) -> None:
    found = samples(used(Cells()), accept)
    for family in TABLE:
        suffix = {"histogram": "_count", "counter": "_total", "gauge": ""}[family.kind]
        assert any(name[0] == family.name + suffix for name in found), family.name
    assert not any(name[0].startswith("polymux_worker_pid") for name in found)


def test_a_histogram_is_cumulative() -> None:
    found = samples(used(Cells()))
    at = ("polymux_overhead_seconds_bucket", "gen_ai_operation_name=chat")
    assert [found[*at, f"le={end}"] for end in ("5e-05", "0.0001", "1.0", "+Inf")] == [0.0, 3.0, 3.0, 3.0]
    assert found["polymux_overhead_seconds_count", "gen_ai_operation_name=chat"] == 3.0
    assert found["polymux_overhead_seconds_sum", "gen_ai_operation_name=chat"] == pytest.approx(0.00021)


def test_labels_are_those_of_the_conventions() -> None:
    call = (
        *("gen_ai_operation_name=chat", "gen_ai_provider_name=corp", "gen_ai_request_model=corp/gpt"),
        *("gen_ai_response_model=gpt", "gen_ai_token_type=output"),
    )
    assert samples(used(Cells()))["gen_ai_client_token_usage_sum", *call] == 21.0


def test_a_histogram_in_which_nothing_is_counted_is_left_out() -> None:
    metrics = Metrics(Cells())
    metrics.ended([record("req_1", overhead_ms=0.1)])
    assert not any(name[0].startswith("gen_ai_server_time_to_first_token") for name in samples(metrics))


def test_workers_are_summed_and_told_apart(tmp_path: Path) -> None:
    one, two = used(Cells(tmp_path, 0)), used(Cells(tmp_path, 1))
    for found in (samples(one), samples(two)):
        requests = ("polymux_requests_total", "gen_ai_operation_name=chat", "http_response_status_code=200")
        assert found[requests] == 6.0
        assert found[("polymux_in_flight",)] == 2.0
        assert found["polymux_upstream_connections", "state=idle"] == 8.0
        assert found[("polymux_workers",)] == 2.0
        assert {name[1] for name in found if name[0] == "process_resident_memory_bytes"} == {"worker=0", "worker=1"}


def test_a_dead_worker_leaves_its_counts_and_not_its_gauges(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from hooks.test_exposition import Cells, used
used(Cells(Path({str(tmp_path)!r}), 1))
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    found = samples(Metrics(Cells(tmp_path, 0)))
    assert found["polymux_requests_total", "gen_ai_operation_name=chat", "http_response_status_code=200"] == 3.0
    assert found[("polymux_in_flight",)] == 0.0
    assert found[("polymux_workers",)] == 1.0
    successor = Metrics(Cells(tmp_path, 1))
    assert samples(successor)[("polymux_in_flight",)] == 0.0
    assert samples(successor)[("polymux_workers",)] == 2.0


def test_the_process_is_there() -> None:
    found = samples(used(Cells()))
    assert found["process_start_time_seconds", "worker=0"] > 0
    assert os.name == "posix"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        *(("", PLAIN), ("*/*", PLAIN), (PROMETHEUS, OPEN), ("application/openmetrics-text", OPEN)),
        ("application/openmetrics-text; version=99999999999999999999.x; escaping=\x00", OPEN),
        *(("text/plain; version=abc", PLAIN), (";;,,==", PLAIN)),
    ],
)
def test_the_form_is_the_one_asked_for(accept: str, kind: str) -> None:
    assert used(Cells()).expose(accept)[0] == kind


def test_hostile_labels_cannot_forge_a_line() -> None:
    metrics = Metrics(Cells())
    name = 'corp/"}\nevil{x="\\'
    metrics.ended([record("req_1", overhead_ms=0.1, model=name)])
    assert any(f"gen_ai_request_model={name}" in found for found in samples(metrics))
    assert not any(found[0] == "evil" for found in samples(metrics))

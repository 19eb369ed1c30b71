"""The benchmark's pure parts: ratios, the table, the READMEs' markers, its own tables. Nothing is measured here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from benchmarks import harness, report, run
from benchmarks.scenarios import DEFAULT_SCENARIOS, DEFAULT_TARGETS, HISTORY_BYTES, SCENARIOS, bodies

NO_ERRORS = {"status": 0, "body": 0, "conn": 0, "timeout": 0}


def measurement(cpu: float, disturbed: bool = False, wrong: int = 0) -> dict[str, Any]:
    return {"cpu_us_per_request": cpu, "disturbed": disturbed, "errors": {**NO_ERRORS, "body": wrong}}


def result(number: int, target: str, scenarios: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"round": number, "target": target, "scenarios": dict(scenarios)}
    if target != "direct":
        found |= {"start_s": number / 10, "idle_rss_mb": 20.4, "peak_rss_mb": 30.6, "wrong_key_status": 401}
    return found


def run_of(*rounds: Mapping[str, Any], scenarios: tuple[str, ...] = ("small",)) -> dict[str, Any]:
    return {
        "at": "2026-11-21",
        "machine": "2 × A CPU, Python 3.13.0",
        "command": "./dev bench",
        "round_count": 3,
        "targets": ["direct", "nginx", "polymux"],
        "scenarios": list(scenarios),
        "footprint": {"packages": 6, "install_mb": 17.4, "import_ms": 13.0},
        "failed": {},
        "rounds": list(rounds),
    }


def small(number: int, nginx: float, polymux: float) -> list[dict[str, Any]]:
    """One round of `small`."""
    return [
        result(number, "nginx", {"small": measurement(nginx)}),
        result(number, "polymux", {"small": measurement(polymux)}),
    ]


def cells(data: Mapping[str, Any], language: str = "en") -> dict[tuple[str, str], list[str]]:
    """(scenario, gateway) -> the other cells of the first table."""
    table = report.markdown(data, language).split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {(row[0], row[1]): row[2:] for row in rows}


# ---- ratios ------------------------------------------------------------------------------------------------------


def test_a_ratio_stays_within_its_round() -> None:
    # the machine doubles its speed between rounds: medians of each target alone would say 40 / 20
    data = run_of(*small(1, 10, 40), *small(2, 20, 40), *small(3, 20, 100))
    assert report.ratios(data, "polymux", "small") == [4, 2, 5]
    assert cells(data)["small", "polymux"] == ["40.0", "40.0", "4.00", "≤ 5", "met"]


def test_a_round_without_nginx_gives_no_ratio() -> None:
    data = run_of(*small(1, 10, 20), result(2, "polymux", {"small": measurement(90)}))
    assert report.ratios(data, "polymux", "small") == [2]


@pytest.mark.parametrize(
    ("scenario", "reference", "cpu", "row"),
    [
        ("small", "small", 50.0, ["50.0", "50.0", "5.00", "≤ 5", "met"]),
        ("small", "small", 50.1, ["50.1", "50.1", "5.01", "≤ 5", "missed"]),
        ("burst", "burst", 18.0, ["18.0", "18.0", "1.80", "≤ 1.8", "met"]),
        ("burst", "burst", 18.1, ["18.1", "18.1", "1.81", "≤ 1.8", "missed"]),
        ("tr-burst", "burst", 50.0, ["50.0", "50.0", "5.00", "≤ 5", "met"]),
        ("tr-burst", "burst", 51.0, ["51.0", "51.0", "5.10", "≤ 5", "missed"]),
        ("tr-small", "small", 99.0, ["99.0", "99.0", "9.90", "–", "–"]),
        ("tr-burst", "small", 99.0, ["99.0", "99.0", "–", "≤ 5", "–"]),
    ],
)
def test_budgets(scenario: str, reference: str, cpu: float, row: list[str]) -> None:
    rounds = (
        result(1, "nginx", {reference: measurement(10)}),
        result(1, "polymux", {scenario: measurement(cpu)}),
    )
    assert cells(run_of(*rounds, scenarios=(reference, scenario)))[scenario, "polymux"] == row


def test_budgets_are_for_polymux_alone() -> None:
    data = run_of(*small(1, 10, 20), result(1, "litellm", {"small": measurement(9000)}))
    data["targets"].append("litellm")
    assert cells(data)["small", "litellm"] == ["9000.0", "9000.0", "900.00", "–", "–"]
    assert cells(data)["small", "nginx"] == ["10.0", "10.0", "1.00", "–", "–"]


# ---- the table ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nginx", "polymux", "remark"),
    [
        (measurement(10), measurement(20, disturbed=True), "met, disturbed 1 of 1"),
        (measurement(10, disturbed=True), measurement(60), "missed"),
        (measurement(10), measurement(1, wrong=3), "invalid: 3 wrong answers"),
        (measurement(10, wrong=1), measurement(20), "–"),
    ],
)
def test_what_makes_a_figure_doubtful_is_said(nginx: Any, polymux: Any, remark: str) -> None:
    rounds = result(1, "nginx", {"small": nginx}), result(1, "polymux", {"small": polymux})
    assert cells(run_of(*rounds))["small", "polymux"][-1] == remark


TABLE = """\
| scenario | gateway | CPU µs per request, median | minimum | × nginx | budget | result |
|---|---|--:|--:|--:|--:|---|
| small | direct | 3.0 | 3.0 | – | – | – |
| small | nginx | 11.0 | 10.0 | 1.00 | – | – |
| small | polymux | 60.0 | 40.0 | 5.33 | ≤ 5 | missed |

| gateway | start to first 200, s | idle RSS, MiB | peak RSS, MiB | status for a wrong key |
|---|--:|--:|--:|--:|
| nginx | 0.15 | 20 | 31 | 401 |
| polymux | 0.15 | 20 | 31 | 401 |

`polymux` installs 6 packages, 17.4 MB in all; `import polymux` takes 13.0 ms.

Measured 2026-11-21 on 2 × A CPU, Python 3.13.0, rounds: 3, with `./dev bench`. \
[What the figures mean](benchmarks/README.md).
"""


def test_the_whole_table() -> None:
    direct = result(1, "direct", {"small": measurement(3)})
    backward = reversed(small(2, 12, 80))
    assert report.markdown(run_of(*small(1, 10, 40), *backward, direct)) == TABLE


def test_both_languages_have_the_same_words_and_figures() -> None:
    english, chinese = report.WORDS["en"], report.WORDS["zh"]
    assert set(english) == set(chinese)
    for name in ("figures", "footprint"):
        assert english[name].count("|") == chinese[name].count("|")
    data = run_of(*small(1, 10, 40), *small(2, 10, 60))
    assert [row[:-1] for row in cells(data).values()] == [row[:-1] for row in cells(data, "zh").values()]
    assert cells(data, "zh")["small", "polymux"][-1] == "达标"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "./dev bench"),
        (["--rounds", "3", "--readme", "--out", "x"], "./dev bench"),
        (["--all", "--seconds", "2"], "./dev bench --all --seconds 2.0"),
        (["--target", "nginx", "--target", "polymux"], "./dev bench --target nginx --target polymux"),
    ],
)
def test_the_command_that_repeats_a_run(arguments: list[str], line: str) -> None:
    assert run.command(run.arguments().parse_args(arguments)) == line


# ---- the READMEs -------------------------------------------------------------------------------------------------


def test_the_text_goes_between_the_markers() -> None:
    page = f"# A\n\n{report.BEGIN}\nold\nlines\n{report.END}\n\nrest\n"
    written = report.between_markers(page, "\nnew\n\n")
    assert written == f"# A\n\n{report.BEGIN}\nnew\n{report.END}\n\nrest\n"
    assert report.between_markers(written, "new") == written


@pytest.mark.parametrize(
    "page",
    [
        "",
        report.BEGIN,
        report.END,
        f"{report.END} {report.BEGIN}",
        f"{report.BEGIN} {report.BEGIN} {report.END}",
        f"{report.BEGIN} {report.END} {report.END}",
        f"{report.BEGIN} {report.END} {report.BEGIN} {report.END}",
    ],
)
def test_markers_that_are_not_there_once_are_refused(page: str) -> None:
    with pytest.raises(ValueError, match="once, in this order"):
        report.between_markers(page, "new")


def test_an_earlier_run_is_written_into_both_readmes_or_into_none(tmp_path: Path) -> None:
    data = run_of(*small(1, 10, 40))
    english, chinese = tmp_path / "README.md", tmp_path / "README.zh-CN.md"
    marked = f"before\n{report.BEGIN}\n{report.END}\nafter\n"
    english.write_text(marked, "utf-8")
    chinese.write_text("no markers", "utf-8")
    with pytest.raises(ValueError, match="once"):
        report.write(tmp_path, data)
    assert english.read_text("utf-8") == marked
    chinese.write_text(marked, "utf-8")
    report.write(tmp_path, data)
    for page, language in ((english, "en"), (chinese, "zh")):
        text = page.read_text("utf-8")
        assert text.startswith("before\n")
        assert text.endswith("after\n")
        assert report.markdown(data, language) in text


def test_this_checkouts_readmes_take_the_table() -> None:
    for name in report.READMES:
        page = (harness.ROOT / name).read_text("utf-8")
        assert "the table" in report.between_markers(page, "the table")


def test_report_prints_an_earlier_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = run_of(*small(1, 10, 40))
    path = tmp_path / "run.json"
    path.write_text(json.dumps(data), "utf-8")
    assert run.main(["--report", str(path)]) == 0
    assert capsys.readouterr().out == report.markdown(data)


def test_a_report_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--report", str(tmp_path / "none.json")]) == 2
    assert capsys.readouterr().err.startswith("./dev bench: ")


# ---- the tables it runs by ---------------------------------------------------------------------------------------


def test_every_target_is_complete() -> None:
    targets = harness.targets()
    assert set(DEFAULT_TARGETS) <= set(targets)
    for target in targets.values():
        places = harness.placeholders(target, Path("work"), 1, 2)
        templates = [(harness.HERE / name).read_text("utf-8") for name in target.render]
        texts = [*target.cmd, *target.needs, *target.env.values(), *target.headers]
        assert [text for text in texts if "{" in harness.fill(text, places)] == []
        assert not target.cmd or target.writes_port or any("{port}" in text for text in texts + templates)
        assert bool(target.needs) == bool(target.cmd)


def test_what_is_missing_is_named() -> None:
    target = harness.Target("x", needs=("sh", str(harness.HERE), "no-such-command", "{bench}/no-such-file"))
    assert target.missing() == ["no-such-command", f"{harness.HERE}/no-such-file"]


@pytest.mark.parametrize(
    ("target", "scenarios"),
    [("direct", ["small", "burst"]), ("nginx", ["small", "burst"]), ("polymux", list(DEFAULT_SCENARIOS))],
)
def test_only_who_translates_is_asked_to(target: str, scenarios: list[str]) -> None:
    row = harness.targets()[target]
    assert [name for name in DEFAULT_SCENARIOS if row.runs(name)] == scenarios


def test_bodies() -> None:
    models = {"fast": "f", "d50": "d", "paced": "p", "claude": "c", "gemini": "g", "ollama": "o", "dify": "y"}
    texts = bodies(models)
    assert {scenario.body for scenario in SCENARIOS.values()} == set(texts)
    for scenario in SCENARIOS.values():
        body = json.loads(texts[scenario.body])
        assert body.get("stream", False) is scenario.stream
        assert body["model"] in models.values()
        assert body["model"] == models[scenario.needs] if scenario.needs else body["model"] in "fdp"
        assert scenario.against in SCENARIOS
    assert len(texts["small"]) < 1000
    assert HISTORY_BYTES <= len(texts["big"]) < HISTORY_BYTES + 2000

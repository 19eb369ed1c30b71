"""From the figures of a run to the table that is printed and written into the READMEs. Pure but for `write`."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from benchmarks.scenarios import DEFAULT_SCENARIOS, DEFAULT_TARGETS, JUDGED, REFERENCE, SCENARIOS

BEGIN: Final = "<!-- bench:begin -->"
END: Final = "<!-- bench:end -->"
NONE: Final = "–"

WORDS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "en": MappingProxyType(
            {
                "figures": "scenario | gateway | CPU µs per request, median | minimum | × nginx | budget | result",
                "footprint": "gateway | start to first 200, s | idle RSS, MiB | peak RSS, MiB | status for a wrong key",
                "met": "met",
                "missed": "missed",
                "wrong": "invalid: {} wrong answers",
                "disturbed": "disturbed {} of {}",
                "install": "`polymux` installs {packages} packages, {install_mb} MB in all; "
                "`import polymux` takes {import_ms} ms.",
                "run": "Measured {at} on {machine}, rounds: {round_count}, with `{command}`. "
                "[What the figures mean](benchmarks/README.md).",
            }
        ),
        "zh": MappingProxyType(
            {
                "figures": "场景 | 网关 | 每请求 CPU 微秒，中位数 | 最小值 | nginx 的倍数 | 预算 | 结果",
                "footprint": "网关 | 启动到首个 200，秒 | 空闲 RSS，MiB | 峰值 RSS，MiB | 错误密钥的状态码",
                "met": "达标",
                "missed": "未达标",
                "wrong": "无效：{} 个错误应答",
                "disturbed": "受干扰 {}/{}",
                "install": "`polymux` 共安装 {packages} 个包，合计 {install_mb} MB；"
                "`import polymux` 需 {import_ms} 毫秒。",
                "run": "{at} 测于 {machine}，轮数：{round_count}，命令：`{command}`。"
                "[数字的含义](benchmarks/README.md)（英文）。",
            }
        ),
    }
)
READMES: Final[Mapping[str, str]] = MappingProxyType({"README.md": "en", "README.zh-CN.md": "zh"})


def of(data: Mapping[str, Any], target: str) -> list[Mapping[str, Any]]:
    """What was measured of a target, one result a round."""
    return [result for result in data["rounds"] if result["target"] == target]


def measured(data: Mapping[str, Any], target: str, scenario: str) -> dict[int, Mapping[str, Any]]:
    """Round -> what was measured of a target in a scenario."""
    return {one["round"]: one["scenarios"][scenario] for one in of(data, target) if scenario in one["scenarios"]}


def ratios(data: Mapping[str, Any], target: str, scenario: str) -> list[float]:
    """CPU per request relative to nginx, each within one round; rounds that lack one of the two give none."""
    reference = measured(data, REFERENCE, SCENARIOS[scenario].against)
    return [
        one["cpu_us_per_request"] / reference[number]["cpu_us_per_request"]
        for number, one in measured(data, target, scenario).items()
        if number in reference
    ]


def wrong_answers(measurements: Iterable[Mapping[str, Any]]) -> int:
    return sum(sum(one["errors"].values()) for one in measurements)


# --- the table --------------------------------------------------------------------------------------------------------


def markdown(data: Mapping[str, Any], language: str = "en") -> str:
    """The whole report of a run."""
    words = WORDS[language]
    names = ordered({result["target"] for result in data["rounds"]}, (*DEFAULT_TARGETS, *data["targets"]))
    asked = ordered(data["scenarios"], (*DEFAULT_SCENARIOS, *SCENARIOS))
    figures = [
        figure_row(data, target, scenario, words)
        for scenario in asked
        for target in names
        if measured(data, target, scenario)
    ]
    started = [name for name in names if any("start_s" in result for result in of(data, name))]
    parts = [
        table(words["figures"], "llrrrrl", figures),
        table(words["footprint"], "lrrrr", [footprint_row(data, name) for name in started]),
        words["install"].format_map(data["footprint"]),
        words["run"].format_map(data),
    ]
    return "\n\n".join(parts) + "\n"


def ordered(names: Iterable[str], order: Iterable[str]) -> list[str]:
    """The names in the order of another list, each once."""
    wanted = set(names)
    return [name for name in dict.fromkeys(order) if name in wanted]


def table(heading: str, alignment: str, rows: Iterable[Iterable[str]]) -> str:
    rule = "|".join("--:" if column == "r" else "---" for column in alignment)
    return "\n".join([f"| {heading} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)])


def figure_row(data: Mapping[str, Any], target: str, scenario: str, words: Mapping[str, str]) -> list[str]:
    rounds = list(measured(data, target, scenario).values())
    cpu = [one["cpu_us_per_request"] for one in rounds]
    # the mock works for every gateway: how it compares with one of them means nothing
    relative = ratios(data, target, scenario) if target != "direct" else []
    ratio = statistics.median(relative) if relative else None
    budget = SCENARIOS[scenario].budget if target == JUDGED else None
    return [
        scenario,
        target,
        f"{statistics.median(cpu):.1f}",
        f"{min(cpu):.1f}",
        NONE if ratio is None else f"{ratio:.2f}",
        NONE if budget is None else f"≤ {budget:g}",
        ", ".join(remarks(data, target, scenario, words)) or NONE,
    ]


def remarks(data: Mapping[str, Any], target: str, scenario: str, words: Mapping[str, str]) -> list[str]:
    """Whether the budget is met, how many rounds others disturbed; wrong answers make the rest meaningless."""
    rounds = list(measured(data, target, scenario).values())
    reference = measured(data, REFERENCE, SCENARIOS[scenario].against).values()
    if wrong := wrong_answers(rounds):
        return [words["wrong"].format(wrong)]
    found = []
    budget = SCENARIOS[scenario].budget if target == JUDGED else None
    relative = ratios(data, target, scenario)
    if budget is not None and relative and not wrong_answers(reference):
        found.append(words["met" if statistics.median(relative) <= budget else "missed"])
    if disturbed := sum(one["disturbed"] for one in rounds):
        found.append(words["disturbed"].format(disturbed, len(rounds)))
    return found


def footprint_row(data: Mapping[str, Any], target: str) -> list[str]:
    results = of(data, target)
    start, idle, peak = (
        statistics.median(result[name] for result in results) for name in ("start_s", "idle_rss_mb", "peak_rss_mb")
    )
    return [target, f"{start:.2f}", f"{idle:.0f}", f"{peak:.0f}", str(results[0]["wrong_key_status"])]


# --- the READMEs ------------------------------------------------------------------------------------------------------


def between_markers(page: str, text: str) -> str:
    """The page with the text between its two markers. Raises ValueError when they are not there once, in order."""
    before, begin, rest = page.partition(BEGIN)
    old, end, after = rest.partition(END)
    if not begin or not end or BEGIN in old + after or END in before + after:
        raise ValueError(f"{BEGIN} and {END} must stand there once, in this order")
    return f"{before}{begin}\n{text.strip()}\n{end}{after}"


def write(root: Path, data: Mapping[str, Any]) -> None:
    """Put the report into both READMEs, or into none. Raises ValueError as `between_markers` does."""
    pages = {}
    for name, language in READMES.items():
        page = (root / name).read_text("utf-8")
        pages[name] = between_markers(page, markdown(data, language))
    for name, page in pages.items():
        (root / name).write_text(page, "utf-8")

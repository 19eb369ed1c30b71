"""Measure gateways side by side against one mock upstream: `./dev bench --help`."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

from benchmarks import report
from benchmarks.harness import HERE, ROOT, Bench, Fault, Target, bench, footprint, machine, measure_target, targets
from benchmarks.scenarios import DEFAULT_SCENARIOS, DEFAULT_TARGETS, SCENARIOS

RESULTS: Final = HERE / "results"
EXAMPLES: Final = """examples:
  ./dev bench                                    nginx and polymux, the budgets met or missed
  ./dev bench --scenario small --rounds 1        a quick look while working on the code
  ./dev bench --all                              every target of targets.toml that is installed
  ./dev bench --report benchmarks/results/X.json the table of an earlier run
"""


def arguments() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("./dev bench", description=__doc__, epilog=EXAMPLES, formatter_class=layout)
    names = list(targets())
    parser.add_argument("--target", action="append", choices=names, help="measure this one (repeatable)")
    parser.add_argument("--all", action="store_true", help="measure every target that is installed")
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS), help="apply this load (repeatable)")
    parser.add_argument("--rounds", type=int, choices=range(1, 51), default=3, metavar="N", help="1 to 50 (default: 3)")
    parser.add_argument("--seconds", type=seconds, default=4.0, help="of each load: 0.5 to 60 (default: 4)")
    parser.add_argument("--out", type=file_name, metavar="NAME", help="keep the figures as results/NAME.json")
    parser.add_argument("--report", type=Path, metavar="FILE", help="measure nothing: print an earlier run")
    parser.add_argument("--readme", action="store_true", help="write the table into both READMEs too")
    return parser


def seconds(text: str) -> float:
    value = float(text)
    if not 0.5 <= value <= 60:
        raise argparse.ArgumentTypeError("must be 0.5 to 60")
    return value


def file_name(text: str) -> str:
    if Path(text).name != text:
        raise argparse.ArgumentTypeError("must be a plain name: it becomes a file of benchmarks/results")
    return text


def selected(options: argparse.Namespace) -> list[Target]:
    """The targets to measure. Raises Fault when one of them is not installed, unless all are asked for."""
    table = targets()
    chosen = [table[name] for name in (table if options.all else options.target or DEFAULT_TARGETS)]
    absent = {target.name: target.missing() for target in chosen if target.missing()}
    for target in chosen:
        if target.name in absent and not options.all:
            advice = target.hint or "see benchmarks/setup_peers.sh"
            raise Fault(f"{target.name} is not installed ({advice}); --target measures others.")
    if absent:
        say(f"Not installed: {', '.join(absent)}.")
    return [target for target in chosen if target.name not in absent]


def command(options: argparse.Namespace) -> str:
    """The line that repeats a run: the options about what is measured, where they differ from the defaults."""
    words = ["./dev bench"]
    defaults = arguments().parse_args([])
    for name in ("all", "target", "scenario", "rounds", "seconds"):
        value = getattr(options, name)
        if value is True:
            words.append(f"--{name}")
        elif value != getattr(defaults, name):
            words += [f"--{name} {item}" for item in (value if isinstance(value, list) else [value])]
    return " ".join(words)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure what is asked for; the figures are kept in a file even when a part fails or the run is stopped."""
    for stopping in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(stopping, interrupt)  # so that what was started is stopped too
    chosen = selected(options)
    scenarios = options.scenario or list(DEFAULT_SCENARIOS)
    now = datetime.datetime.now(datetime.UTC)
    data: dict[str, Any] = {
        "at": now.date().isoformat(),
        "machine": machine(),
        "command": command(options),
        "targets": [target.name for target in chosen],
        "scenarios": scenarios,
        "seconds": options.seconds,
        "round_count": options.rounds,
        "failed": {},
        "rounds": [],
    }
    RESULTS.mkdir(exist_ok=True)
    out = RESULTS / f"{options.out or now.strftime('run-%Y%m%d-%H%M%S')}.json"
    with bench() as on:
        data["footprint"] = footprint(on.gateway_cpu)
        for number in range(1, options.rounds + 1):
            say(f"round {number} of {options.rounds}, load average {os.getloadavg()[0]:.2f}")
            # forward and backward, so that what changes slowly disturbs all alike
            for target in chosen if number % 2 else reversed(chosen):
                measure_round(data, target, on, number)
                out.write_text(json.dumps(data, indent=1), "utf-8")
    say(f"The figures are in {out.relative_to(ROOT)}.")
    return data


def measure_round(data: dict[str, Any], target: Target, on: Bench, number: int) -> None:
    try:
        result = measure_target(target, on, data["scenarios"], data["seconds"])
    except Fault as fault:
        data["failed"][target.name] = str(fault)
        say(f"  FAILED {fault}")
        return
    data["rounds"].append({"round": number, **result})
    for name, seen in result["scenarios"].items():
        say(progress(target.name, name, seen))


def progress(target: str, scenario: str, seen: dict[str, Any]) -> str:
    """One measurement in one line."""
    wrong = report.wrong_answers([seen])
    return (
        f"  {target:<10} {scenario:<8} {seen['cpu_us_per_request']:9.1f} µs CPU  {seen['cpu_util']:4.0%} of a CPU"
        f"  {seen['rps']:9.1f}/s  p50 {seen['p50_us'] / 1000:7.2f} ms  p99 {seen['p99_us'] / 1000:7.2f} ms"
        f"  others {seen['other_cpu_util']:4.0%}"
        + ("  repeated" if seen.get("repeated") else "")
        + ("  disturbed" if seen["disturbed"] else "")
        + (f"  WRONG {seen['errors']} {seen['bad_sample'][:160]!r}" if wrong else "")
    )


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 measured (budgets met or not), 1 a target failed, 2 cannot run here, 130 stopped."""
    options = arguments().parse_args(argv)
    try:
        data = json.loads(options.report.read_text("utf-8")) if options.report else measure(options)
        if not data["rounds"]:
            raise Fault("Nothing was measured.")
        print(report.markdown(data), end="")
        if options.readme and data["failed"]:
            raise Fault(f"The READMEs are left alone: {', '.join(data['failed'])} failed.")
        if options.readme:
            report.write(ROOT, data)
    except (Fault, OSError, ValueError) as fault:
        say(f"./dev bench: {fault}")
        return 2
    except KeyboardInterrupt:
        say("Stopped.")
        return 130
    return 1 if data["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())

"""Coverage-guided fuzzing of everything that reads bytes others wrote: `python tools/fuzz.py --seconds 60`.

Runs each target of tests/fuzz/targets.py for its share of the time, with atheris (libFuzzer) in an environment of its
own (build/fuzz, made when it is missing; Linux and macOS). What a target must not raise ends the run with status 1;
the input is kept in build/fuzz/crashes, and `--replay FILE --target NAME` runs it again. Inputs that lead somewhere new
are kept in build/fuzz/corpus, so that the next run goes on from there.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
HOME: Final = ROOT / "build" / "fuzz"
PYTHON: Final = HOME / "venv" / "bin" / "python"
ATHERIS: Final = "atheris==3.0.0"
MODULES: Final = ("polymux.wire", "polymux.providers", "polymux.surfaces", "polymux.schema")  # watched for coverage


def requirements() -> list[str]:
    """The fuzzer, and what the pure floors need, in the version that the gateway runs with."""
    found = re.search(r"^msgspec==[\d.]+", (ROOT / "requirements.lock").read_text("utf-8"), re.MULTILINE)
    if not found:
        raise SystemExit("requirements.lock does not name msgspec")
    return [ATHERIS, found[0]]


def prepare() -> None:
    """Make the environment, unless it holds what is wanted."""
    stamp, wanted = HOME / "venv" / "stamp", "\n".join(requirements())
    if stamp.is_file() and stamp.read_text("utf-8") == wanted:
        return
    sys.stderr.write(f"Setting up {HOME.relative_to(ROOT)}/venv.\n")
    venv.create(HOME / "venv", clear=True, with_pip=True, symlinks=True)
    if call("-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements()).returncode:
        raise SystemExit("atheris could not be installed; the lines above say why")
    stamp.write_text(wanted, "utf-8")


def call(*command: str, capture: bool = False) -> subprocess.CompletedProcess[str]:
    """Python of that environment, which sees the sources and the tests."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    return subprocess.run(  # noqa: S603 - our own command lines
        [str(PYTHON), *command], env=env, capture_output=capture, text=True, errors="replace", check=False
    )


def run(name: str, seconds: int, seed: int) -> bool:
    """One target in a process of its own; whether it held."""
    corpus, crashes = HOME / "corpus" / name, HOME / "crashes"
    corpus.mkdir(parents=True, exist_ok=True)
    crashes.mkdir(parents=True, exist_ok=True)
    limits = [f"-max_total_time={seconds}", f"-seed={seed}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=65536"]
    limits += [f"-artifact_prefix={crashes}/{name}-", "-verbosity=0", "-print_final_stats=1"]
    done = call(str(Path(__file__).resolve()), "--inside", name, str(corpus), *limits, capture=True)
    runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    verdict = "ok" if done.returncode == 0 else "FAILED"
    sys.stdout.write(f"{verdict:<6} {name:<20} {runs[1] if runs else '?':>8} runs in {seconds} s\n")
    sys.stdout.flush()
    if done.returncode:
        sys.stdout.write(done.stdout[-4000:] + done.stderr[-4000:])
    return done.returncode == 0


def inside(name: str, arguments: Sequence[str]) -> None:
    """In the fuzzing process: instrument, write the seeds, fuzz."""
    import atheris

    with atheris.instrument_imports(include=list(MODULES)):
        from tests.fuzz.targets import TARGETS, seeds

    corpus = Path(arguments[0])
    for seed in seeds(name):
        (corpus / f"seed-{hashlib.sha1(seed, usedforsecurity=False).hexdigest()}").write_bytes(seed)
    target = TARGETS[name]
    atheris.Setup([sys.argv[0], *arguments], target)
    atheris.Fuzz()


def targets() -> list[str]:
    return call("-c", "from tests.fuzz.targets import TARGETS; print(*TARGETS)", capture=True).stdout.split()


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["--inside"]:
        inside(arguments[1], arguments[2:])
        return 0
    parser = argparse.ArgumentParser(prog="tools/fuzz.py", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together")
    parser.add_argument("--target", help="only this one")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay", help="run one input once, without the fuzzer")
    asked = parser.parse_args(arguments)
    prepare()
    names = targets()
    if asked.target and asked.target not in names:
        parser.error(f"there is no target {asked.target!r}, only {', '.join(names)}")
    if asked.replay:
        code = "import sys, pathlib; from tests.fuzz.targets import TARGETS; "
        code += "TARGETS[sys.argv[1]](pathlib.Path(sys.argv[2]).read_bytes())"
        return call("-c", code, asked.target or parser.error("--replay wants --target"), asked.replay).returncode
    chosen = [asked.target] if asked.target else names
    held = [run(name, max(1, asked.seconds // len(chosen)), asked.seed) for name in chosen]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

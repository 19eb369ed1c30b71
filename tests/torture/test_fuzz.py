"""The coverage-guided fuzzer over all its targets, for a while. `POLYMUX_FUZZ` sets another number of seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECONDS = os.environ.get("POLYMUX_FUZZ", "120")


def test_the_decoders_hold_against_the_fuzzer() -> None:
    command = [sys.executable, str(ROOT / "tools" / "fuzz.py"), "--seconds", SECONDS]
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout[-4000:]

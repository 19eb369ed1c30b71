"""Rule 4: importing any module opens, reads and starts nothing; `import polymux` costs next to nothing.

Looked at from within, in a fresh interpreter: an audit hook sees what code of the package does while it is imported.
The work of the import machinery itself (finding and reading modules) is not the package's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from tests.house.source import PACKAGE, package

MODULES: Final = 40  # `import polymux` may load so many, the standard library's included
HEAVY: Final = frozenset({"asyncio", "click", "httptools", "logging", "msgspec", "socket", "ssl", "uvicorn", "uvloop"})

WATCH: Final = """
import importlib, json, signal, sys, threading

package, names = sys.argv[1], sys.argv[2:]
ACTS = ("open", "os.listdir", "os.mkdir", "os.remove", "os.scandir", "os.system", "socket.", "sqlite3.", "subprocess.")
seen = []

def hook(event, arguments):
    if event.startswith(ACTS):
        frame = sys._getframe(1)
        while frame and not frame.f_code.co_filename.startswith("<frozen importlib"):
            if frame.f_code.co_filename.startswith(package):
                seen.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {event} {arguments!r:.80}")
                break
            frame = frame.f_back

handlers = [signal.getsignal(number) for number in signal.valid_signals()]
sys.addaudithook(hook)
for name in names:
    importlib.import_module(name)
    if threading.active_count() > 1:
        seen.append(f"{name} starts a thread")
        break
if handlers != [signal.getsignal(number) for number in signal.valid_signals()]:
    seen.append("a signal handler was set")
print(json.dumps(seen))
"""


def python(*arguments: str, path: Path) -> str:
    """The standard output of a fresh interpreter with `path` in front of its modules."""
    environment = {**os.environ, "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=60).stdout


def acts(package: Path, *names: str) -> list[str]:
    """What the package does while its modules `names` are imported."""
    found: list[str] = json.loads(python("-c", WATCH, f"{package}{os.sep}", *names, path=package.parent))
    return found


def test_importing_does_nothing() -> None:
    names = [source.module for source in package() if not source.path.endswith("__main__.py")]
    assert not acts(PACKAGE, *names)


def test_import_polymux_is_light() -> None:
    script = "import sys; old = set(sys.modules); import polymux; print(*set(sys.modules) - old)"
    loaded = set(python("-c", script, path=PACKAGE.parent).split())
    assert "polymux" in loaded
    assert not loaded & HEAVY
    assert len(loaded) <= MODULES


@pytest.mark.parametrize(
    "text",
    [
        "open(__file__).close()",
        "from pathlib import Path\nPath(__file__).read_text()",
        "from importlib import resources\nresources.files('sample').joinpath('__init__.py').read_text()",
        "import socket\nsocket.socket().close()",
        "import subprocess\nsubprocess.run(['true'])",
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()",
        "import signal\nsignal.signal(signal.SIGTERM, print)",
    ],
)
def test_an_act_at_import_is_seen(tmp_path: Path, text: str) -> None:
    sample = tmp_path / "sample"
    sample.mkdir()
    (sample / "__init__.py").write_text("import json, asyncio\n")
    (sample / "bad.py").write_text(text)
    assert not acts(sample, "sample")
    assert acts(sample, "sample", "sample.bad")

"""`./dev`: finds a Python, makes .venv once, and says in plain words what it lacks.

The checkouts here are real but small: locks without packages, so that nothing is fetched, and a stub for polymux.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import importlib.machinery
import importlib.util
import io
import json
import re
import shutil
import subprocess
import sys
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
LOCKS: Final = ("requirements.lock", "requirements-dev.lock")
STUB: Final = "import sys\n\n\ndef main():\n    print('polymux', *sys.argv[1:])\n"
CREDENTIALS: Final = base64.b64encode(b"reader:p@ss").decode()


@pytest.fixture
def dev(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return load(ROOT / "dev")


def load(script: Path) -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("dev", str(script))
    spec = importlib.util.spec_from_loader("dev", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a space in its path and no .venv."""
    root = tmp_path / "a checkout"
    (root / "src" / "polymux" / "cli").mkdir(parents=True)
    (root / "src" / "polymux" / "__init__.py").touch()
    (root / "src" / "polymux" / "cli" / "__init__.py").write_text(STUB)
    for name in LOCKS:
        (root / name).write_text("# nothing to install\n")
    shutil.copy(ROOT / "dev", root)
    return root


def tools(folder: Path, **scripts: str) -> str:
    """A PATH with nothing but what the shell part needs, and the given scripts."""
    folder.mkdir()
    (folder / "dirname").symlink_to(shutil.which("dirname") or "")
    for name, text in scripts.items():
        path = folder / name.replace("_", ".")
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    return str(folder)


def call(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """./dev with the Python of the tests first on its path, called from elsewhere."""
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(root.parent), **environment}
    command = [str(root / "dev"), *arguments]
    return subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, timeout=120)


def pins(name: str) -> dict[str, str]:
    """Package -> version and marker, as a lock file has them."""
    found = re.findall(r"^([a-z0-9-]+)==(.*?) ?\\$", (ROOT / name).read_text(), re.MULTILINE)
    assert found
    return dict(found)


def test_it_parses_on_python_3_8_and_in_the_shell() -> None:
    text = (ROOT / "dev").read_text()
    ast.parse(text, feature_version=(3, 8))
    for_the_shell = text.partition("\n'''\n")[0]
    assert for_the_shell.endswith("\nexit 1")
    subprocess.run(["sh", "-n"], input=for_the_shell, text=True, check=True)


def test_help_has_every_verb(dev: ModuleType, checkout: Path) -> None:
    promised = {"run", "test", "test-all", "check", "bench", "torture", "record", "docs", "lock", "help"}
    assert set(dev.VERBS) == promised
    for arguments in (["help"], ["--help"], []):
        result = call(checkout, *arguments)
        assert result.returncode == 0
        assert promised == set(re.findall(r"^  (\S+)", result.stdout, re.MULTILINE))


def test_make_has_every_verb(dev: ModuleType) -> None:
    found = re.search(r"^VERBS := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found
    assert found[1].split() == list(dev.VERBS)


def test_an_unknown_verb_is_named(checkout: Path) -> None:
    result = call(checkout, "tset")
    assert (result.returncode, result.stderr) == (2, "Unknown verb: tset. `./dev help` lists them.\n")


@pytest.mark.parametrize("verb", ["bench", "torture", "record", "docs"])
def test_what_does_not_exist_is_not_pretended(checkout: Path, verb: str) -> None:
    result = call(checkout, verb)
    assert result.returncode == 2
    assert re.fullmatch(r"Nothing to run: this checkout has no \S+\.\n", result.stderr)


@pytest.mark.parametrize("scripts", [{}, {"python3": "exit 1", "uv": "exit 2"}], ids=["none", "too old"])
def test_no_python_is_said_in_one_line(checkout: Path, tmp_path: Path, scripts: dict[str, str]) -> None:
    result = call(checkout, "help", PATH=tools(tmp_path / "bin", **scripts))
    assert result.returncode == 1
    assert re.fullmatch(r"\./dev needs Python 3\.11 or newer and found none: install it .*\n", result.stderr)


def test_another_python_is_found(checkout: Path, tmp_path: Path) -> None:
    real = f'exec "{sys.executable}" "$@"'
    for number, scripts in enumerate(({"python3": "exit 1", "python3_12": real}, {"uv": f"echo '{sys.executable}'"})):
        path = tools(tmp_path / f"bin{number}", **scripts)
        assert call(checkout, "help", PATH=path).stdout.startswith("usage:")


def test_the_first_run_makes_venv_and_the_second_needs_nothing(checkout: Path, tmp_path: Path) -> None:
    misleading = {"PYTHONHOME": "/nowhere", "PYTHONPATH": "/nowhere", "VIRTUAL_ENV": "/nowhere", "PIP_USER": "1"}
    first = call(checkout, "run", "--port", "a b", **misleading)
    assert (first.returncode, first.stdout) == (0, "polymux serve --port a b\n"), first.stderr
    second = call(checkout, "run", PATH=tools(tmp_path / "bin"))
    assert (second.returncode, second.stdout, second.stderr) == (0, "polymux serve\n", "")
    direct = subprocess.run([checkout / ".venv/bin/polymux", "x"], capture_output=True, text=True)
    assert direct.stdout == "polymux x\n"


def test_the_stamp_tells_locks_and_python(checkout: Path) -> None:
    digest = hashlib.sha256((checkout / LOCKS[0]).read_bytes()).hexdigest()
    call(checkout, "run")
    stamp = json.loads((checkout / ".venv/stamp.json").read_text())
    assert stamp["locks"] == {LOCKS[0]: digest}
    assert stamp["version"] == ".".join(map(str, sys.version_info[:3]))
    call(checkout, "test")
    assert set(json.loads((checkout / ".venv/stamp.json").read_text())["locks"]) == set(LOCKS)


@pytest.mark.parametrize("harm", ["none", "no stamp", "half a stamp", "no python", "other lock", "moved"])
def test_an_unsound_venv_is_seen(checkout: Path, monkeypatch: pytest.MonkeyPatch, harm: str) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    dev = load(checkout / "dev")
    (checkout / ".venv" / "bin").mkdir(parents=True)
    python, stamp = checkout / ".venv" / "bin" / "python", checkout / ".venv" / "stamp.json"
    python.symlink_to(sys.executable)
    locks = {LOCKS[0]: dev.digest(LOCKS[0])}
    stamp.write_text(json.dumps({"root": str(checkout.resolve()), "python": str(python.resolve()), "locks": locks}))
    if harm == "no stamp":
        stamp.unlink()
    elif harm == "half a stamp":
        stamp.write_text(stamp.read_text()[:-2])
    elif harm == "no python":
        python.unlink()
    elif harm == "other lock":
        (checkout / LOCKS[0]).write_text("# changed\n")
    elif harm == "moved":
        dev = load(checkout.rename(checkout.parent / "moved") / "dev")
    assert dev.installed() == (locks if harm == "none" else {})


def test_a_half_made_venv_is_made_anew(checkout: Path) -> None:
    left_over = checkout / ".venv" / "lib" / "left-over"
    left_over.parent.mkdir(parents=True)
    left_over.touch()
    result = call(checkout, "run")
    assert (result.returncode, result.stdout) == (0, "polymux serve\n"), result.stderr
    assert "Setting up .venv" in result.stderr
    assert not left_over.exists()


def test_two_first_runs_at_once_make_one_venv(checkout: Path) -> None:
    results: list[subprocess.CompletedProcess[str]] = []
    both = [threading.Thread(target=lambda: results.append(call(checkout, "run"))) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert [result.stdout for result in results] == ["polymux serve\n"] * 2
    assert sum(result.stderr.count("Setting up .venv with") for result in results) == 1


def test_missing_system_packages_are_named(dev: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(dev, "SYSTEM_PACKAGES", {"no-such-command": "its-package"})
    monkeypatch.setenv("PATH", str(tmp_path))  # no apt-get
    with pytest.raises(SystemExit, match=r"Missing: no-such-command\..*apt-get install its-package"):
        dev.test_all([])


def test_system_packages_are_installed_after_an_update(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    apt = f'echo "$@" >> "{log}"; case "$*" in *update) touch "{log}.fresh" ;; *) test -e "{log}.fresh" ;; esac'
    path = tools(tmp_path / "bin", apt_get=apt, sudo='test "$1" = -n && shift && exec "$@"')
    (tmp_path / "bin" / "apt.get").rename(tmp_path / "bin" / "apt-get")
    monkeypatch.setenv("PATH", f"{path}:/usr/bin:/bin")
    assert dev.apt_install(["one", "two"])
    verbs = [
        re.findall(r"\b(install|update|one two)\b", line)
        for line in log.read_text().replace("no-install", "").splitlines()
    ]
    assert verbs == [["install", "one two"], ["update"], ["install", "one two"]]


class Index(BaseHTTPRequestHandler):
    """A package index that offers one wheel to those who know the password."""

    def do_GET(self) -> None:
        known = self.headers["Authorization"] == f"Basic {CREDENTIALS}"
        bodies = {"/simple/pip/": b'<a href="../../files/pip-26.3-py3-none-any.whl?a=1&amp;b=2#sha256=0">pip</a>'}
        bodies["/files/pip-26.3-py3-none-any.whl?a=1&b=2"] = wheel()
        self.send_response(200 if known else 401)
        self.end_headers()
        self.wfile.write(bodies[self.path] if known else b"")

    def log_message(self, *_: object) -> None:
        pass


def wheel() -> bytes:
    """A wheel with the one file that tells it was unpacked; the same bytes each time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("pip/__init__.py"), "")
    return buffer.getvalue()


@pytest.fixture
def index(dev: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """Host and port of an index; pip's own configuration is out of the way."""
    for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(dev, "VENV", str(tmp_path))
    monkeypatch.setattr(dev, "PIP_WHEEL", "pip-26.3-py3-none-any.whl")
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("place", ["PIP_INDEX_URL", "UV_INDEX_URL", "pip.conf"])
def test_pip_comes_from_the_configured_index(
    dev: ModuleType, index: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    url = f"http://reader:p%40ss@{index}/simple"
    if place == "pip.conf":
        (tmp_path / place).write_text(f"[global]\nindex-url = {url}\n")
        monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / place))
    else:
        monkeypatch.setenv(place, url)
    monkeypatch.setattr(dev, "PIP_SHA256", hashlib.sha256(wheel()).hexdigest())
    assert dev.fetch_pip()
    assert (Path(dev.site_packages()) / "pip/__init__.py").is_file()


@pytest.mark.parametrize(
    ("user", "wanted", "message"),
    [
        ("reader:p%40ss", "pip-26.3-py3-none-any.whl", "with a wrong hash"),
        ("reader:p%40ss", "pip-1.0-py3-none-any.whl", "does not offer pip-1.0"),
        ("reader:wrong", "pip-26.3-py3-none-any.whl", r"Could not fetch pip .* at 127\.0\.0\.1:\d+: HTTP Error 401"),
    ],
)
def test_what_an_index_does_wrong_is_said(
    dev: ModuleType, index: str, monkeypatch: pytest.MonkeyPatch, user: str, wanted: str, message: str
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"http://{user}@{index}/simple/")
    monkeypatch.setattr(dev, "PIP_WHEEL", wanted)
    with pytest.raises(SystemExit, match=message):
        dev.fetch_pip()
    assert not Path(dev.site_packages()).exists()


def test_the_locks_have_hashes_and_no_addresses() -> None:
    for name in LOCKS:
        lines = (ROOT / name).read_text().splitlines()
        assert lines[0].startswith("# Made by `./dev lock`")
        wrong = [line for line in lines if not re.match(r"[a-z0-9-]+==|    --hash=sha256:[0-9a-f]{64}|\s*#", line)]
        assert wrong == []
        assert not [line for line in lines if "://" in line]


def test_the_locks_agree_with_each_other_and_with_pyproject() -> None:
    run, everything = (pins(name) for name in LOCKS)
    assert len(run) <= 35
    assert run.items() <= everything.items()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for wanted, have in ((project["project"]["dependencies"], run), (project["dependency-groups"]["dev"], everything)):
        assert {re.split(r"[^a-z0-9-]", requirement)[0] for requirement in wanted} <= have.keys()

"""Processes and what /proc says of them: builds the two C programs, starts and stops targets, applies load.

The gateway has the first CPU of this process's affinity to itself; the mock and the load generator have the second.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from benchmarks.scenarios import SCENARIOS, Scenario, bodies

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent
BUILD: Final = HERE / "build"
WORK: Final = HERE / "work"
KEY: Final = "sk-bench-0123456789abcdef"
MODELS: Final = ("fast", "d50", "paced")
SEARCH_PATH: Final = os.pathsep.join(
    [str(ROOT / ".venv/bin"), os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"]
)
TICKS: Final = os.sysconf("SC_CLK_TCK")
QUIET: Final = 0.3  # of a CPU: what others may use of the two CPUs before a measurement counts as disturbed
FIRST_WARM_UP_S: Final = 1.5
WARM_UP_S: Final = 0.7
SETTLE_S: Final = 2.0  # from the first answer to the reading of the idle memory
STOP_S: Final = 8.0
DRAIN_S: Final = 20.0  # the load generator waits so long for requests in flight


class Fault(Exception):
    """Something that the user has to know; the text says what, and what to do."""


# --- what is to be measured -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """A row of targets.toml; the columns are explained there. Without a command it is the mock itself."""

    name: str
    cmd: Sequence[str] = ()
    needs: Sequence[str] = ()
    render: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    headers: Sequence[str] = ()
    models: Mapping[str, str] = field(default_factory=dict)
    skip: Sequence[str] = ()
    key: str = KEY
    path: str = "/v1/chat/completions"
    writes_port: bool = False
    start_timeout: float = 60.0
    hint: str = ""

    def missing(self) -> list[str]:
        """The files and commands that it needs and that are not there."""
        needs = [fill(need, constants()) for need in self.needs]
        return [need for need in needs if not Path(need).exists() and not shutil.which(need, path=SEARCH_PATH)]

    def runs(self, scenario: str) -> bool:
        needs = SCENARIOS[scenario].needs
        return scenario not in self.skip and (not needs or needs in self.models)


def targets() -> dict[str, Target]:
    """All rows of targets.toml by name."""
    rows = tomllib.loads((HERE / "targets.toml").read_text("utf-8"))
    return {name: Target(name, **row) for name, row in rows.items()}


def constants() -> dict[str, str]:
    """Placeholders that are the same for all targets."""
    peers = os.environ.get("BENCH_PEERS") or str(Path(tempfile.gettempdir(), "peers"))
    return {"bench": str(HERE), "peers": peers, "polymux": os.environ.get("POLYMUX_BIN") or "polymux"}


def fill(text: str, places: Mapping[str, str]) -> str:
    for name, value in places.items():
        text = text.replace("{" + name + "}", value)
    return text


# --- the machine ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bench:
    """Two CPUs and the running mock upstream."""

    gateway_cpu: int
    load_cpu: int
    upstream: subprocess.Popen[bytes]
    upstream_port: int


@contextmanager
def bench() -> Iterator[Bench]:
    """Build what is to be built and run the mock upstream; it is stopped at the end. Raises Fault."""
    gateway_cpu, load_cpu = two_cpus()
    build()
    WORK.mkdir(exist_ok=True)
    with open(WORK / "lock", "w") as guard:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Fault("Another benchmark runs in this checkout; two at once would measure each other.") from None
        os.sched_setaffinity(0, {load_cpu})
        port = free_port()
        upstream = subprocess.Popen([BUILD / "mock", str(port)], stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            wait_for(port, upstream)
            yield Bench(gateway_cpu, load_cpu, upstream, port)
        finally:
            stop(upstream)


def two_cpus() -> tuple[int, int]:
    if sys.platform != "linux":
        raise Fault("The benchmark reads /proc and pins processes: it needs Linux.")
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        raise Fault("The benchmark needs two CPUs: one for the gateway, one for the load.")
    return cpus[0], cpus[1]


def build() -> None:
    """Compile the mock and the load generator where they are missing or older than their source."""
    BUILD.mkdir(exist_ok=True)
    for name in ("mock", "loadgen"):
        source, program = HERE / f"{name}.c", BUILD / name
        if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
            continue
        compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
        if not shutil.which(compiler[0], path=SEARCH_PATH):
            raise Fault(f"No C compiler ({compiler[0]}): install one (Debian, Ubuntu: apt-get install gcc libc6-dev).")
        if subprocess.run([*compiler, "-O2", "-Wall", "-o", program, source]).returncode:
            raise Fault(f"Could not compile benchmarks/{source.name}; the lines above say why.")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.01)
    raise Fault("The mock upstream did not start.")


@contextmanager
def on_cpu(cpu: int) -> Iterator[None]:
    """Run on one CPU; processes started meanwhile stay there."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that this one started, and all its descendants: politely, then not."""
    pids = tree(process.pid)
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        pids = tree(process.pid)
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


# --- /proc ------------------------------------------------------------------------------------------------------------


def stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from `state` on (proc(5) numbers it 3); empty when the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def tree(root: int) -> list[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (fields := stat(int(name))):
            children.setdefault(int(fields[1]), []).append(int(name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu_seconds(root: int) -> float:
    """User and system time of a process tree, with the children that have been waited for."""
    return sum(int(ticks) for pid in tree(root) for ticks in stat(pid)[11:15]) / TICKS


def busy_seconds(cpus: Sequence[int]) -> float:
    """Time that CPUs were not idle; what the hypervisor took is in it."""
    names = [f"cpu{cpu}" for cpu in cpus]
    rows = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
    # proc(5): user, nice, system, idle, iowait, irq, softirq, steal; a process's own time has its interrupts in it too
    return sum(int(row[column]) for row in rows if row[0] in names for column in (1, 2, 3, 6, 7, 8)) / TICKS


def children_seconds() -> float:
    """User and system time of the children that this process has waited for: of the load generator, while it runs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def memory_mb(root: int, name: str) -> float:
    """A memory field of /proc/PID/status (VmRSS: now, VmHWM: the most so far) summed over a process tree, in MiB."""
    total = 0
    for pid in tree(root):
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                total += int(line.split()[1]) if line.startswith(name + ":") else 0
    return round(total / 1024, 1)


def machine() -> str:
    """The CPUs and the Python of this machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "CPU unknown")
    return f"{os.cpu_count()} × {model}, Python {sys.version.split()[0]}"


# --- one target -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Running:
    """A target that answers. root: the process whose tree is measured (the mock's when nothing is in front of it)."""

    target: Target
    folder: Path
    headers: Sequence[str]
    port: int
    root: int

    def status(self, key: str) -> int:
        """The status of one small request with this key; 0 when there is no answer."""
        body = (self.folder / "small.json").read_bytes()
        head = [
            f"POST {self.target.path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            f"Authorization: Bearer {key}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Connection: close",
            *self.headers,
        ]
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
                connection.settimeout(5)
                connection.sendall("\r\n".join([*head, "", ""]).encode() + body)
                return int(connection.recv(65536).split()[1])
        except (OSError, ValueError, IndexError):
            return 0

    def load(self, scenario: Scenario, seconds: float) -> dict[str, Any]:
        """Apply load and return what the load generator saw."""
        body = self.folder / f"{scenario.body}.json"
        command = [str(BUILD / "loadgen"), "127.0.0.1", str(self.port), self.target.path, str(body)]
        command += [
            str(scenario.connections),
            str(seconds),
            "-k",
            self.target.key,
            *(["-s"] if scenario.stream else []),
        ]
        for header in self.headers:
            command += ["-H", header]
        limit = seconds + DRAIN_S + 10
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=limit)
        seen: dict[str, Any] = json.loads(done.stdout)
        return seen


def measure_target(target: Target, on: Bench, scenarios: Sequence[str], seconds: float) -> dict[str, Any]:
    """Start a target, put every scenario on it that it can run, and stop it. Raises Fault when it does not work."""
    folder = WORK / target.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, body in bodies({model: f"mock-{model}" for model in MODELS} | dict(target.models)).items():
        (folder / f"{name}.json").write_text(body, "utf-8")
    result: dict[str, Any] = {"target": target.name}
    process: subprocess.Popen[bytes] | None = None
    try:
        subject = Running(target, folder, (), on.upstream_port, on.upstream.pid)
        if target.cmd:
            port = free_port()
            places = placeholders(target, folder, port, on.upstream_port)
            started = time.monotonic()
            process = spawn(target, folder, places, on.gateway_cpu)
            headers = tuple(fill(header, places) for header in target.headers)
            subject = first_answer(Running(target, folder, headers, port, process.pid), process)
            result["start_s"] = round(time.monotonic() - started, 3)
            result["wrong_key_status"] = subject.status("sk-wrong")
            time.sleep(SETTLE_S)
            result["idle_rss_mb"] = memory_mb(process.pid, "VmRSS")
        subject.load(SCENARIOS["small"], FIRST_WARM_UP_S)
        result["scenarios"] = {name: measure(subject, on, name, seconds) for name in scenarios if target.runs(name)}
        result["peak_rss_mb"] = memory_mb(subject.root, "VmHWM")
    except subprocess.SubprocessError as error:
        raise Fault(f"{target.name}: the load generator failed: {error}") from error
    finally:
        if process:
            stop(process)
    shutil.rmtree(folder, ignore_errors=True)
    return result


def placeholders(target: Target, folder: Path, port: int, upstream: int) -> dict[str, str]:
    host = f"127.0.0.1:{upstream}"
    own = {"work": str(folder), "port": str(port), "key": target.key, "upstream_host": host}
    return {**constants(), **own, "upstream": f"http://{host}"}


def spawn(target: Target, folder: Path, places: Mapping[str, str], cpu: int) -> subprocess.Popen[bytes]:
    """Start a target on one CPU. Of this process's environment it gets the path alone: no proxy, no key, no setting."""
    for name in target.render:
        (folder / Path(name).name).write_text(fill((HERE / name).read_text("utf-8"), places), "utf-8")
    command = [fill(part, places) for part in target.cmd]
    own = {name: fill(value, places) for name, value in target.env.items()}
    env = {"PATH": SEARCH_PATH, "HOME": str(folder), "LANG": "C.UTF-8", **own}
    program = shutil.which(command[0], path=SEARCH_PATH) or command[0]
    with on_cpu(cpu), open(folder / "log.txt", "wb") as log:
        return subprocess.Popen(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=folder,
            start_new_session=True,
        )


def first_answer(subject: Running, process: subprocess.Popen[bytes]) -> Running:
    """Wait for the first 200; the port is the one that the target wrote, where it chooses its own."""
    target = subject.target
    deadline = time.monotonic() + target.start_timeout
    while time.monotonic() < deadline and process.poll() is None:
        if target.writes_port:
            with suppress(OSError, ValueError):
                subject = replace(subject, port=int((subject.folder / "port").read_text()))
        if subject.status(target.key) == 200:
            return subject
        time.sleep(0.01)
    log = (subject.folder / "log.txt").read_text("utf-8", "replace").strip()[-600:]
    raise Fault(f"{target.name}: no 200 (exit code {process.poll()}); its output is in benchmarks/work: {log}")


def measure(subject: Running, on: Bench, name: str, seconds: float) -> dict[str, Any]:
    """Measure one scenario; once more when others disturbed it, and of the two the quieter one counts."""
    subject.load(SCENARIOS[name], WARM_UP_S)
    found = measure_once(subject, on, name, seconds)
    if found["other_cpu_util"] > QUIET:
        again = measure_once(subject, on, name, seconds)
        found = min(found, again, key=lambda one: float(one["other_cpu_util"]))
        found["repeated"] = True
    found["disturbed"] = found["other_cpu_util"] > QUIET
    return found


def measure_once(subject: Running, on: Bench, name: str, seconds: float) -> dict[str, Any]:
    """CPU of the target's process tree while one load runs; the figures of the load generator are kept with it."""
    before = reading(subject, on)
    seen = subject.load(SCENARIOS[name], seconds)
    cpu, ours, busy, clock = (after - start for after, start in zip(reading(subject, on), before, strict=True))
    answered = seen["completed"] + seen["errors"]["status"] + seen["errors"]["body"]
    if not answered or cpu <= 0:
        raise Fault(
            f"{subject.target.name}: {answered} answers for {cpu:.2f} s of CPU in {name}; the load went elsewhere."
        )
    seen["cpu_us_per_request"] = round(cpu / answered * 1e6, 1)
    seen["cpu_util"] = round(cpu / clock, 3)
    seen["other_cpu_util"] = round(max(0.0, busy - ours) / clock, 3)
    return seen


def reading(subject: Running, on: Bench) -> tuple[float, float, float, float]:
    """Seconds so far: CPU of the target, CPU of all that is part of the benchmark, CPU of everybody, the clock."""
    cpu = cpu_seconds(subject.root)
    upstream = cpu_seconds(on.upstream.pid) if subject.root != on.upstream.pid else 0.0
    busy = busy_seconds((on.gateway_cpu, on.load_cpu))
    return cpu, cpu + upstream + children_seconds(), busy, time.monotonic()


# --- what an installation takes ---------------------------------------------------------------------------------------


def footprint(cpu: int) -> dict[str, Any]:
    """Packages and MB of polymux and of what requirements.lock installs, and the time of `import polymux`."""
    source = sum(path.stat().st_size for path in (ROOT / "src/polymux").rglob("*") if "__pycache__" not in path.parts)
    sizes = [size for name in locked() if (size := installed_bytes(name))]
    return {
        "packages": len(sizes),
        "install_mb": round((source + sum(sizes)) / 1e6, 1),
        "import_ms": round(statistics.median(import_ms(cpu) for _ in range(7)), 1),
    }


def locked() -> list[str]:
    """The names in requirements.lock."""
    lines = (ROOT / "requirements.lock").read_text("utf-8").splitlines()
    return [line.partition("==")[0].strip() for line in lines if "==" in line and not line.startswith((" ", "#"))]


def installed_bytes(name: str) -> int:
    """The size of an installed distribution without compiled caches; 0 when it is not installed here."""
    try:
        paths = [Path(str(file.locate())) for file in metadata.files(name) or () if "__pycache__" not in file.parts]
    except metadata.PackageNotFoundError:
        return 0
    return sum(path.stat().st_size for path in paths if path.is_file())


def import_ms(cpu: int) -> float:
    code = "import time; start = time.perf_counter(); import polymux; print((time.perf_counter() - start) * 1000)"
    with on_cpu(cpu):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return float(done.stdout)

"""The floors of the house, in one table, and the paths of what stands on them.

A unit is a package or module of `polymux` by its first name; `__init__` is the package's own file. A file may import
its own unit and the units of rows above it in this table, no others: neighbours in a row do not know each other.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Row(NamedTuple):
    floor: int
    units: tuple[str, ...]


ROWS: Final = (
    Row(0, ("wire", "marks")),
    Row(0, ("schema", "__init__")),
    Row(0, ("types", "errors")),
    Row(0, ("config",)),
    Row(1, ("providers",)),
    Row(1, ("surfaces", "routing")),
    Row(2, ("store", "transport", "functions", "local", "hooks", "demo", "ids")),
    Row(3, ("pulse", "nested", "heads", "adapters", "tokens", "flows")),
    Row(3, ("run",)),
    Row(3, ("admit", "recorder")),
    Row(3, ("engine",)),
    Row(3, ("discovery",)),
    Row(4, ("admin", "mock")),
    Row(4, ("http",)),
    Row(5, ("app",)),
    Row(5, ("cli",)),
    Row(5, ("__main__",)),
)
RANK: Final = {unit: rank for rank, row in enumerate(ROWS) for unit in row.units}
FLOOR: Final = {unit: row.floor for row in ROWS for unit in row.units}
HIGHEST_PURE: Final = 1

# What floors 0 and 1 must do without: clocks, randomness, logs, files, sockets, threads, drivers.
IMPURE: Final = (
    *(
        "asyncio",
        "atexit",
        "concurrent",
        "glob",
        "http",
        "importlib.resources",
        "io",
        "logging",
        "multiprocessing",
        "os",
    ),
    *("pathlib", "random", "secrets", "select", "selectors", "shutil", "signal", "socket", "sqlite3", "ssl"),
    *("subprocess", "sys", "tempfile", "threading", "time", "urllib.request", "uuid"),
    *("aiosqlite", "alembic", "asyncpg", "click", "httptools", "opentelemetry", "prometheus_client", "redis", "rich"),
    *("sqlalchemy", "starlette", "uvicorn", "uvloop", "xllamacpp"),
)
IMPURE_CALLS: Final = frozenset({"open", "print", "input", "exec", "eval"})


def unit_of(module: str) -> str:
    """`polymux.http.serve` -> `http`; `polymux` -> `__init__`; `polymux.config.walk` -> `config`."""
    return [*module.split("."), "__init__"][1]

"""The composition root: a configuration becomes a running gateway; explicit, in order, one screen."""

from __future__ import annotations

import os
import secrets
import string
import sys
import time
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TypeVar

import msgspec

from polymux.config import Config, ConfigError, Fault, load, parse_dotenv
from polymux.engine import Engine, Snapshot
from polymux.functions import Functions, LoadError
from polymux.functions import load as load_functions
from polymux.http.serve import Front, Settings
from polymux.providers.dialects import DIALECTS
from polymux.providers.table import FUNCTIONS, Row, Source, prefixes, rows, sources
from polymux.routing.registry import Registry
from polymux.store.journal import Journal
from polymux.store.memory import LocalCounters, StaticKeys, digest
from polymux.transport import Transport
from polymux.types import Deployment, Key, Route, Timeouts

T = TypeVar("T", bound=msgspec.Struct)


class Setup(msgspec.Struct, frozen=True):
    """A checked configuration with everything it names loaded; nothing runs yet."""

    config: Config
    dotenv: str  # path of the .env that was read, or ""
    table: Mapping[str, Row]
    sources: tuple[Source, ...]
    functions: Functions
    registry: Registry


def table() -> Mapping[str, Row]:
    return rows(resources.files("polymux.providers").joinpath("providers.toml").read_text("utf-8"), DIALECTS)


def environment(directory: Path) -> tuple[dict[str, str], str]:
    """The environment with the `.env` of a directory below it, and that file's path ("" if there is none)."""
    path = directory / ".env"
    if not path.is_file():
        return dict(os.environ), ""
    return {**parse_dotenv(_text(path)), **os.environ}, str(path)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError([Fault(str(path), 0, "", f"cannot be read: {reason}")]) from None


def find_config(named: str | None, env: Mapping[str, str]) -> Path | None:
    """The file to read: the named one, or the first usual place that exists."""
    if named or env.get("POLYMUX_CONFIG"):
        return Path(named or env["POLYMUX_CONFIG"]).expanduser()
    usual = (Path("polymux.toml"), Path("~/.config/polymux/polymux.toml").expanduser())
    return next((path for path in usual if path.is_file()), None)


def prepare(named: str | None = None, functions: tuple[str, ...] = ()) -> Setup:
    """Read and check everything. Raises `ConfigError` with all faults. `functions`: specs of the command line."""
    env, dotenv = environment(Path.cwd())
    path = find_config(named, env)
    text = None if path is None else _text(path)
    given: tuple[Fault, ...] = ()
    try:
        config: Config = load(text, env, file=str(path) if path else "")
    except ConfigError as error:
        given, config = error.faults, error.config  # goes on, to tell all faults at once
    config = _at_home(config)
    faults: list[Fault] = []
    presets = table()
    found: list[Source] = []
    try:
        found = sources(config, presets, env)
    except ConfigError as error:
        faults += error.faults
    specs = (*config.functions, *((config.server.functions_dir,) if config.server.functions_dir else ()), *functions)
    loaded = Functions({})
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # where `module:object` is looked for, after all else
    try:
        loaded = Functions(load_functions(specs or (() if config.file else ("polymux.demo",))))
    except LoadError as error:
        faults.append(Fault(config.file or "command line", 0, "functions", str(error)))
    faults += _files(config) + _function_refs(config, loaded)
    if given or faults:
        told = {fault.field for fault in given}  # what only follows from a fault is none of its own
        both = [*given, *(fault for fault in faults if fault.field not in told)]
        raise ConfigError(sorted(both, key=lambda fault: (not fault.line, fault.line)))
    names = registry(config, found, loaded)
    if lost := names.unknown_fallbacks():
        raise ConfigError(
            Fault(
                config.file,
                config.models[route].line,
                f"models.{route}.fallbacks",
                f"there is no route or model {name!r}",
            )
            for route, name in lost
        )
    return Setup(config, dotenv, presets, tuple(found), loaded, names)


def registry(config: Config, found: list[Source], functions: Functions) -> Registry:
    """The names of a configuration and what serves them."""
    defaults = config.defaults
    base = Route("", (), "weighted", (), defaults.retries, defaults.max_attempts, defaults.timeouts, defaults.strict)
    template = Deployment(f"{FUNCTIONS}/", FUNCTIONS, "", "function")
    builtin = Source(FUNCTIONS, (template,), {name: name for name in functions.names})
    providers = {source.name: source for source in (*found, builtin)}
    routes = []
    for model in config.models.values():
        deployments = tuple(
            _timed(deployment, model.timeouts, defaults.timeouts)
            for reference in model.deployments
            for deployment in providers[reference.provider].deployments(reference.model, reference.weight)
        )
        routes.append(
            Route(
                model.name,
                deployments,
                model.strategy,
                model.fallbacks,
                model.retries,
                model.max_attempts,
                model.timeouts,
                model.strict,
            )
        )
    return Registry(routes, providers.values(), base, int(time.time()))


def build(setup: Setup, data_dir: Path) -> Front:
    """The gateway. Opens the journal in `data_dir`, and its key file when no other key is configured."""
    config = setup.config
    ledger = Journal(data_dir / "journal", config.ledger.fsync)
    engine = Engine(DIALECTS, Transport(), LocalCounters(), ledger)
    return Front(engine, settings(setup, data_dir))


def settings(setup: Setup, data_dir: Path) -> Settings:
    """What the gateway goes by: all that a reload replaces."""
    config = setup.config
    keys = [
        (secret, Key(f"static-{number}", f"key {number}", rpm=config.limits.rpm))
        for number, secret in enumerate(config.auth.keys, 1)
    ]
    if not keys:
        keys = [
            (first_run_key(data_dir)[0], Key("first-run", "first-run key", rpm=config.limits.rpm, origin="first-run"))
        ]
    return Settings(
        Snapshot(setup.registry, setup.functions),
        StaticKeys(keys),
        prefixes(setup.table),
        digest(config.auth.admin_key) if config.auth.admin_key else b"",
        config.server.cors_origins,
        config.server.max_body,
        "https" if config.server.tls_cert else "http",
    )


def first_run_key(data_dir: Path) -> tuple[str, bool]:
    """The generated key in `data_dir/first-run.key` (mode 0600), and whether it was made just now."""
    path = data_dir / "first-run.key"
    if path.is_file() and (key := path.read_text("ascii").strip()):
        return key, False
    letters = string.ascii_letters + string.digits
    key = "sk-pmx-" + "".join(secrets.choice(letters) for _ in range(32))
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        os.fchmod(file.fileno(), 0o600)  # an older, empty file may have been readable by others
        file.write(key + "\n")
    return key, True


def _timed(deployment: Deployment, route: Timeouts, defaults: Timeouts) -> Deployment:
    """A route's own timeouts come before its providers'."""
    return deployment if route == defaults else msgspec.structs.replace(deployment, timeouts=route)


def _at_home(config: Config) -> Config:
    """The same with `~` resolved in the paths of files."""

    def resolved(section: T, *fields: str) -> T:
        return msgspec.structs.replace(
            section, **{field: os.path.expanduser(getattr(section, field)) for field in fields}
        )

    return msgspec.structs.replace(
        config,
        server=resolved(config.server, "tls_cert", "tls_key", "functions_dir"),
        providers={
            name: resolved(provider, "ca_file", "client_cert", "client_key")
            for name, provider in config.providers.items()
        },
    )


def _files(config: Config) -> list[Fault]:
    """Files that the configuration names and that cannot be read."""
    named = [
        (one.line, f"providers.{one.name}.{field}", getattr(one, field))
        for one in config.providers.values()
        for field in ("ca_file", "client_cert", "client_key")
    ] + [(0, f"server.{field}", getattr(config.server, field)) for field in ("tls_cert", "tls_key")]
    return [
        Fault(config.file, line, field, f"there is no readable file {path!r}")
        for line, field, path in named
        if path and not (Path(path).is_file() and os.access(path, os.R_OK))
    ]


def _function_refs(config: Config, functions: Functions) -> list[Fault]:
    return [
        Fault(
            config.file, reference.line, f"models.{model.name}.deployments", f"there is no function {reference.model!r}"
        )
        for model in config.models.values()
        for reference in model.deployments
        if reference.provider == FUNCTIONS and reference.model not in functions.names
    ]

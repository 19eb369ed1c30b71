"""The composition root: a configuration becomes a running gateway; explicit, in order, one screen."""

from __future__ import annotations

import fnmatch
import os
import re
import secrets
import ssl
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import TypeVar

import msgspec

from polymux.config import Config, ConfigError, Fault, Provider, load, parse_dotenv
from polymux.engine import Engine
from polymux.functions import Functions, LoadError, Watcher
from polymux.hooks.halt import Halt
from polymux.hooks.metrics import Metrics
from polymux.hooks.requestlog import request_log
from polymux.hooks.wirelog import wire_log
from polymux.http.serve import Front, Settings
from polymux.http.watch import Watch
from polymux.providers.base import Adapter
from polymux.providers.credentials import secrets_in, secrets_to
from polymux.providers.dialects import DIALECTS
from polymux.providers.table import FUNCTIONS, Row, Source, prefixes, rows, sources
from polymux.routing.price import Prices
from polymux.routing.registry import Registry
from polymux.run import Snapshot
from polymux.store.base import Conversations, Counters, Keeping, Keys
from polymux.store.catalog import current
from polymux.store.cells import Cells
from polymux.store.journal import Journal
from polymux.store.live import LiveKeys
from polymux.store.memory import LocalCounters, StaticKeys, digest, new_secret
from polymux.transport import Transport
from polymux.types import Deployment, Key, Route, Timeouts
from polymux.wire.redact import Redactor

BUSY = 2  # calls under way, from which on usage waits in the journal

T = TypeVar("T", bound=msgspec.Struct)


class Setup(msgspec.Struct, frozen=True):
    """A checked configuration with everything it names loaded; nothing runs yet."""

    config: Config
    dotenv: str  # path of the .env that was read, or ""
    table: Mapping[str, Row]
    sources: tuple[Source, ...]
    functions: Functions
    registry: Registry
    prices: Prices
    watcher: Watcher  # of the files that the functions are from
    adapters: Mapping[str, Adapter]  # own dialects by name


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


class Crew(msgspec.Struct, frozen=True):
    """What one worker of several is told. slot: its own number among those that run. run: a directory for what they
    share, gone when the gateway ends. counters: the descriptor of the file behind the limits they share."""

    slot: int
    run: Path
    counters: int


def prepare(
    named: str | None = None,
    functions: tuple[str, ...] = (),
    server: Mapping[str, str | int | bool] | None = None,
    *,
    strict: bool = True,
) -> Setup:
    """Read and check everything. Raises `ConfigError` with all faults.

    functions, server: specs of function models and fields of `[server]` from the command line. strict: a broken file
    in a folder of functions is a fault; else it is logged, and the rest is served.
    """
    env, dotenv = environment(Path.cwd())
    config, given = _read(named, server or {}, env)
    faults: list[Fault] = []
    presets = table()
    found: list[Source] = []
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # where `module:object` is looked for, after all else
    own = _own_dialects(config, faults)
    try:
        found = sources(config, presets, env)
    except ConfigError as error:
        faults += error.faults
    specs = (*config.functions, *((config.server.functions_dir,) if config.server.functions_dir else ()), *functions)
    watcher = None
    try:
        watcher = Watcher(specs or (() if config.file else ("polymux.demo",)), strict=strict)
    except LoadError as error:
        faults.append(Fault(config.file or "command line", 0, "functions", str(error)))
    prices = _prices(config, presets, faults)
    faults += _files(config) + (_function_refs(config, watcher.functions) if watcher else [])
    if given or faults or watcher is None or prices is None:
        told = {fault.field for fault in given}  # what only follows from a fault is none of its own
        both = [*given, *(fault for fault in faults if fault.field not in told)]
        raise ConfigError(sorted(both, key=lambda fault: (not fault.line, fault.line)))
    names = registry(config, found, watcher.functions)
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
    return Setup(config, dotenv, presets, tuple(found), watcher.functions, names, prices, watcher, own)


def configured(named: str | None = None, server: Mapping[str, str | int | bool] | None = None) -> Config:
    """The configuration for a command that calls no provider: what is wrong with the rest of it does not matter.
    Raises `ConfigError` for what is wrong with `[server]` and `[limits]`."""
    config, given = _read(named, server or {}, environment(Path.cwd())[0])
    if faults := [fault for fault in given if fault.field.partition(".")[0] in ("", "server", "limits")]:
        raise ConfigError(faults)
    return config


def _read(
    named: str | None, server: Mapping[str, str | int | bool], env: Mapping[str, str]
) -> tuple[Config, tuple[Fault, ...]]:
    """What the file says, and what is wrong with it. Raises `ConfigError` when nothing can be made of it."""
    path = find_config(named, env)
    text = None if path is None else _text(path)
    given: tuple[Fault, ...] = ()
    try:
        config: Config = load(text, env, file=str(path) if path else "")
    except ConfigError as error:
        if error.config is None:
            raise
        given, config = error.faults, error.config  # goes on, to tell all faults at once
    return _at_home(msgspec.structs.replace(config, server=msgspec.structs.replace(config.server, **server))), given


def refreshed(setup: Setup, functions: Functions) -> Setup:
    """The same with function models that have changed. Raises `ConfigError` when a route has lost one."""
    if faults := _function_refs(setup.config, functions):
        raise ConfigError(faults)
    names = registry(setup.config, setup.sources, functions)
    return msgspec.structs.replace(setup, functions=functions, registry=names)


def registry(config: Config, found: Iterable[Source], functions: Functions) -> Registry:
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


def build(setup: Setup, data_dir: Path, crew: Crew | None = None) -> Front:
    """The gateway; `crew` when it is one of several workers. Opens the journal and the database in `data_dir`, and its
    key file when no other key is configured. Raises `Unusable` and OSError."""
    from polymux.store.database import Database  # not for commands that serve nothing: SQLAlchemy is large
    from polymux.store.keeper import Keeper
    from polymux.store.keys import KeyStore
    from polymux.store.shipper import Shipper
    from polymux.store.values import StoredMemory

    config = setup.config
    log = request_log(config.server.log if sys.stdout else "off", 1, os.environ)
    tap = wire_log(2, secrets_of(setup, data_dir)) if config.server.debug else None
    metrics = Metrics(Cells(crew.run, crew.slot) if crew else Cells())
    ledger = Journal(data_dir / "journal", config.ledger.fsync, log)
    halt = Halt(ledger) if config.ledger.journal_full == "stop" else None
    hooks = tuple(hook for hook in (metrics, tap, halt) if hook is not None)
    database = Database(config.server.database_url, data_dir)
    engine = Engine(DIALECTS, Transport(tap), counters(crew), ledger, StoredMemory(database), hooks)
    live = LiveKeys(KeyStore(database), static_keys(config, data_dir))
    keeper = Keeper(database, config.conversations.retention)
    given = settings(setup, live, keeping(setup, data_dir, keeper))
    shipper = Shipper(database, data_dir, config.ledger.retention or 0.0, lambda: engine.under_way > BUSY)
    front = Front(engine, given, Watch(metrics, (log,) if log else (), ledger, shipper))
    front.database, front.live, front.keeper, front.shipper = database, live, keeper, shipper
    return front


def keeping(setup: Setup, data_dir: Path, log: Conversations) -> Keeping:
    """What is kept of conversations."""
    given = setup.config.conversations
    models = re.compile("|".join(map(fnmatch.translate, given.models))) if given.models else None
    return Keeping(log, models, Redactor(given.redact, secrets_of(setup, data_dir)), given.max_size)


def secrets_of(setup: Setup, data_dir: Path) -> Iterator[str]:
    """What must not be seen in a log."""
    config = setup.config
    yield from config.auth.keys or (first_run_key(data_dir)[0],)
    yield config.auth.admin_key
    for url in (config.server.database_url, config.server.redis_url):
        yield from secrets_in(url)
    for source in setup.sources:
        for template in source.templates:
            yield from secrets_to(template)


def counters(crew: Crew | None) -> Counters:
    """What limits are counted with: one count, however many workers there are."""
    if crew is None:
        return LocalCounters()
    from polymux.store.shared import SharedCounters  # not everywhere: it needs file locks

    return SharedCounters(crew.counters, worker=crew.slot)


def static_keys(config: Config, data_dir: Path) -> StaticKeys:
    """The keys of the configuration; without any, that of the first run."""
    auth, limits = config.auth, config.limits
    shared = Key("", "", rpm=limits.rpm, tpm=limits.tpm, concurrency=limits.concurrency)
    keys = [
        (secret, msgspec.structs.replace(shared, id=f"static-{number}", name=f"key {number}"))
        for number, secret in enumerate(auth.keys, 1)
    ]
    if not keys:
        first = msgspec.structs.replace(shared, id="first-run", name="first-run key", origin="first-run")
        keys = [(first_run_key(data_dir)[0], first)]
    return StaticKeys(keys)


def settings(setup: Setup, keys: Keys, keeping: Keeping) -> Settings:
    """What the gateway goes by: all that a reload replaces."""
    config = setup.config
    return Settings(
        Snapshot(
            setup.registry,
            setup.functions,
            setup.prices,
            drain=config.ledger.on_cancel == "drain",
            refuse_unpriced=config.ledger.unknown_price == "refuse",
            keeping=keeping,
        ),
        keys,
        prefixes(setup.table),
        digest(config.auth.admin_key) if config.auth.admin_key else b"",
        config.server.cors_origins,
        config.server.max_body,
        "https" if config.server.tls_cert else "http",
        config.server.max_connections,
        config.limits,
        setup.adapters,
    )


def first_run_key(data_dir: Path) -> tuple[str, bool]:
    """The generated key in `data_dir/first-run.key` (mode 0600), and whether it was made just now."""
    path = data_dir / "first-run.key"
    if key := _kept(path):
        return key, False
    key = new_secret()
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = data_dir / f".first-run-{secrets.token_hex(8)}"
    with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key + "\n")
    try:
        os.link(made, path)  # whole or not at all: of several workers one makes the key, the others find it
    except OSError:  # it is there by now, or empty, or this file system has no links
        if found := _kept(path):
            return found, False
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)
    return key, True


def _kept(path: Path) -> str:
    return path.read_text("ascii").strip() if path.is_file() else ""


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
        server=resolved(config.server, "tls_cert", "tls_key", "functions_dir", "data_dir", "unix_socket", "models_dir"),
        providers={
            name: resolved(provider, "ca_file", "client_cert", "client_key")
            for name, provider in config.providers.items()
        },
    )


def _prices(config: Config, presets: Mapping[str, Row], faults: list[Fault]) -> Prices | None:
    """What models cost; the whole catalogue is read, for a fault in it must not show later."""
    try:
        catalog = current(Path(config.server.data_dir))
        for provider in catalog.providers:
            catalog.models(provider)
    except OSError as error:
        faults.append(Fault(str(error.filename), 0, "", f"cannot be read: {error.strerror}"))
    except ValueError as error:
        faults.append(Fault(config.server.data_dir, 0, "", str(error)))
    else:
        return Prices(config, catalog, presets)
    return None


def _own_dialects(config: Config, faults: list[Fault]) -> Mapping[str, Adapter]:
    """The adapters of providers that have one of their own, by the name that their deployments give as dialect."""
    using: dict[str, list[Provider]] = {}
    for one in config.providers.values():
        if one.adapter:
            using.setdefault(one.adapter, []).append(one)
    if not using:
        return {}
    from polymux.adapters import Unfit, load  # for those who have some

    found = {}
    for spec, providers in using.items():
        try:
            found[spec] = load(spec)
        except Unfit as error:
            faults += [
                Fault(config.file, one.line, f"providers.{one.name}.adapter", f"{spec}: {error}") for one in providers
            ]
    return found


def _files(config: Config) -> list[Fault]:
    """Files that the configuration names and that cannot be read."""
    named = [
        (one.line, f"providers.{one.name}.{field}", getattr(one, field))
        for one in config.providers.values()
        for field in ("ca_file", "client_cert", "client_key")
    ] + [(0, f"server.{field}", getattr(config.server, field)) for field in ("tls_cert", "tls_key")]
    faults = [
        Fault(config.file, line, field, f"there is no readable file {path!r}")
        for line, field, path in named
        if path and not (Path(path).is_file() and os.access(path, os.R_OK))
    ]
    return faults or _certificate(config)


def _certificate(config: Config) -> list[Fault]:
    cert, key = config.server.tls_cert, config.server.tls_key
    if not cert or not key:
        return []
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password="")
    except OSError as error:  # an SSLError is one
        return [Fault(config.file, 0, "server.tls_cert", f"{cert} and {key} cannot serve TLS: {error}")]
    return []


def _function_refs(config: Config, functions: Functions) -> list[Fault]:
    return [
        Fault(
            config.file, reference.line, f"models.{model.name}.deployments", f"there is no function {reference.model!r}"
        )
        for model in config.models.values()
        for reference in model.deployments
        if reference.provider == FUNCTIONS and reference.model not in functions.names
    ]

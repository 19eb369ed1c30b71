"""One process that serves: the gateway on its sockets, its beginning and its end, signals, and how it reloads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import logging
import resource
import signal
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from socket import socket as Socket
from typing import Any, Final, TypeVar

import click
import msgspec
import uvicorn

from polymux.admin.api import Faulty, Reloaded
from polymux.app import Crew, Setup, build, keeping, prepare, refreshed, settings, static_keys
from polymux.config import Config, ConfigError
from polymux.discovery import Discovery, carried
from polymux.http.protocol import PolymuxProtocol
from polymux.http.serve import Settings
from polymux.http.supervisor import on_signals, outcome
from polymux.run import Snapshot
from polymux.store.memory import StaticKeys
from polymux.types import Key

# What a running process keeps of its first configuration. TLS cannot be switched on or off; other files can be given.
FIXED: Final = (
    *("host", "port", "unix_socket", "workers", "data_dir"),
    *("database_url", "redis_url", "models_dir", "log", "debug"),
)
JOURNAL: Final = ("fsync", "journal_full", "retention")
GRACE: Final = 0.2  # seconds in which what is sent on connections that were accepted last is still read
PATIENCE: Final = 110.0  # seconds for all that is read; the parent of several workers waits a little longer
LOOK: Final = 1.0  # seconds between two looks at the files of function models
_ALL: Final = Key("all", "all")

log = logging.getLogger("polymux")

T = TypeVar("T")
Signals = Mapping[int, Callable[[], object]]


class Order(msgspec.Struct, frozen=True):
    """What the command line asks for; it holds through every reload.

    config: the file. functions: specs of function models. server: fields of `[server]`.
    """

    config: str | None = None
    functions: tuple[str, ...] = ()
    server: dict[str, str | int | bool] = {}

    def prepare(self, *, strict: bool) -> Setup:
        """As `app.prepare`. Raises `ConfigError`."""
        return prepare(self.config, self.functions, self.server, strict=strict)


class Ready(msgspec.Struct, frozen=True):
    """What has been read and checked, and only needs to be swapped in."""

    setup: Setup
    settings: Settings
    keys: StaticKeys


class Process:
    """The gateway and what it is reloaded from. Raises OSError and `Unusable` when it cannot use its data directory."""

    def __init__(self, order: Order, setup: Setup, crew: Crew | None = None) -> None:
        self._order = order
        self._setup = setup
        self._first = setup.config
        self._data_dir = Path(setup.config.server.data_dir)
        self._one_by_one = asyncio.Lock()
        self._reading = asyncio.Lock()  # function models are loaded by one thread at a time
        self.front = build(setup, self._data_dir, crew)
        self.front.reload = self.reload
        self.discovery = Discovery(self.front, self.front.engine)
        self.listening = uvicorn.Config(
            self.front,  # type: ignore[arg-type]  # our protocol talks to it directly, not by ASGI
            http=PolymuxProtocol,
            loop="uvloop",
            lifespan="off",
            interface="asgi3",
            ws="none",
            proxy_headers=False,
            server_header=False,
            log_config=None,
            access_log=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=30,
            ssl_certfile=setup.config.server.tls_cert or None,
            ssl_keyfile=setup.config.server.tls_key or None,
        )
        self.listening.load()

    async def reload(self) -> Reloaded:
        """Read everything anew and go by it. Raises `Faulty`; then all stays as it was."""
        async with self._one_by_one:
            try:
                done = self.swap(await self.prepare())
            except Faulty as error:
                say({"faults": error.faults})
                raise
            say(msgspec.to_builtins(done))
            return done

    async def prepare(self) -> Ready:
        """Read and check, in a thread: it imports functions. Raises `Faulty`."""
        try:
            async with self._reading:
                return await _aside(self._read)
        except ConfigError as error:
            raise Faulty(tuple(map(str, error.faults))) from None
        except TimeoutError:
            raise Faulty((f"the configuration and the function models were not read within {PATIENCE:g} s",)) from None
        except OSError as error:
            raise Faulty((f"{error.filename}: {error.strerror}",)) from None
        except Exception:
            log.exception("the configuration could not be read")
            raise Faulty(("an internal error; the gateway's log has the details",)) from None

    def _read(self) -> Ready:
        setup = self._order.prepare(strict=True)
        kept = keeping(setup, self._data_dir, self.front.keeper)
        return Ready(setup, settings(setup, self.front.live, kept), static_keys(setup.config, self._data_dir))

    def swap(self, ready: Ready) -> Reloaded:
        """From the next request on; calls under way keep what they began with. Never fails."""
        front, server = self.front, ready.setup.config.server
        self._setup = ready.setup
        snapshot = self._carried(ready.settings.snapshot)
        front.live.follow(ready.keys)
        front.keeper.retention = ready.setup.config.conversations.retention
        front.swap(msgspec.structs.replace(ready.settings, snapshot=snapshot, scheme=front.settings.scheme))
        self.discovery.follow()
        if self.listening.ssl is not None and server.tls_cert:
            try:
                self.listening.ssl.load_cert_chain(server.tls_cert, server.tls_key)  # new handshakes use it
            except OSError as error:  # it was good a moment ago
                click.echo(f"polymux: the old TLS certificate stays in use: {error}", err=True)
        return Reloaded(len(snapshot.registry.names(_ALL)), 1, needs_restart(self._first, ready.setup.config))

    async def watch(self) -> None:
        """Serve function models anew when their files change, until cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            try:
                await self._look()
            except ConfigError as error:
                click.echo(f"polymux: the function models stay as they were: {error}", err=True)
            except Exception:
                log.exception("the files of function models could not be looked at")

    async def _look(self) -> None:
        async with self._reading:
            setup = self._setup
            functions = await _aside(setup.watcher.changed)
        if functions is not None and setup is self._setup:
            self._setup = refreshed(setup, functions)
            self.front.snapshot = self._carried(
                msgspec.structs.replace(self.front.snapshot, registry=self._setup.registry, functions=functions)
            )

    def _carried(self, snapshot: Snapshot) -> Snapshot:
        """With the models that providers have listed up to now."""
        registry = carried(self.front.snapshot.registry, snapshot.registry)
        return msgspec.structs.replace(snapshot, registry=registry)

    def begin(self) -> None:
        """It serves: see to what goes on beside."""
        self.discovery.follow()
        self.front.live.begin()
        self.front.shipper.start()
        self.front.keeper.start()
        self._watching = asyncio.ensure_future(self.watch())

    async def close(self) -> None:
        self.discovery.close()
        self._watching.cancel()
        await self.front.engine.close()
        self.front.live.close()
        await asyncio.to_thread(self.front.keeper.close)
        await asyncio.to_thread(self.front.shipper.close)  # when the journal is complete
        self.front.database.close()


async def _aside(work: Callable[[], T]) -> T:
    """Done in a thread that the end of the process does not wait for: it runs users' files, which may never return.
    Raises TimeoutError when it takes too long."""
    done: concurrent.futures.Future[T] = concurrent.futures.Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="polymux-reading", daemon=True).start()
    async with asyncio.timeout(PATIENCE):
        return await asyncio.wrap_future(done)


def needs_restart(first: Config, new: Config) -> tuple[str, ...]:
    """The settings that differ from those a process began with, and that it cannot change."""
    changed = [f"server.{name}" for name in FIXED if getattr(first.server, name) != getattr(new.server, name)]
    if bool(first.server.tls_cert) != bool(new.server.tls_cert):
        changed.append("server.tls_cert")
    changed += [f"ledger.{name}" for name in JOURNAL if getattr(first.ledger, name) != getattr(new.ledger, name)]
    return tuple(changed)


def say(told: dict[str, Any]) -> None:
    """Log what became of a reload."""
    click.echo(f"polymux: {outcome(told)}", err=True)


class Server(uvicorn.Server):
    """uvicorn's server with our beginning and end. `begun` is called when it serves; `signals`: more than the two that
    end it."""

    def __init__(self, process: Process, begun: Callable[[], None], signals: Signals) -> None:
        super().__init__(process.listening)
        self._process = process
        self._begun = begun
        self._signals = signals

    def serve_on(self, sockets: list[Socket]) -> None:
        """Serve until told to end, then drain."""
        raise_file_limit()
        self.run(sockets)

    def leave(self) -> None:
        """Finish what is under way, and end; told twice, break it off."""
        if self.should_exit:
            self._break_off()
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Instead of uvicorn's, which raises the signal once more at the end: a clean end would look like a death."""
        on_signals({signal.SIGTERM: self.leave, signal.SIGINT: self.leave, **self._signals})
        yield

    async def startup(self, sockets: list[Socket] | None = None) -> None:
        await super().startup(sockets)
        self._process.begin()
        gc.collect()
        gc.freeze()  # what start-up made stays: collections need not look at it again
        gc.set_threshold(20_000, 20, 20)  # a request makes hundreds of short-lived objects and no cycles
        self._begun()

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # once a second
            self._expire()
            front = self._process.front
            front.watch.sample(front.engine, len(self.server_state.connections))
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[Socket] | None = None) -> None:
        self._process.front.draining = True
        for server in self.servers:
            server.close()
        await asyncio.sleep(GRACE)
        await super().shutdown(sockets)
        if self.server_state.connections:  # it has taken too long
            self._break_off()
            await asyncio.sleep(GRACE)  # for what was broken off to be recorded
        await self._process.close()

    async def _wait_tasks_to_complete(self) -> None:
        """Instead of uvicorn's, which does not end meanwhile what is waited for too long."""
        while self.server_state.connections:
            self._expire()
            await asyncio.sleep(0.1)

    def _expire(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in list(self.server_state.connections):
            if isinstance(connection, PolymuxProtocol):
                connection.expire(now)

    def _break_off(self) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, PolymuxProtocol):
                connection.cut()


def log_to_stderr() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("polymux.functions").setLevel(logging.INFO)  # what functions say is meant to be read


def raise_file_limit() -> None:
    """As many open files as this process may have: each client and each upstream connection is one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS calls it unlimited, and then refuses that
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

"""`polymux serve`: start the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from socket import AF_INET, AF_INET6, AF_UNIX, create_server, gaierror
from socket import socket as Socket
from typing import Any, ParamSpec, TypeVar

import click
import msgspec

from polymux.admin.api import Faulty
from polymux.app import first_run_key
from polymux.cli.banner import banner
from polymux.cli.faults import told
from polymux.cli.process import Order, Process, Server, log_to_stderr
from polymux.config import Server as Settings
from polymux.http.supervisor import Plan, on_hangup, python, run_directory, take_over

P = ParamSpec("P")
T = TypeVar("T")


def _setting(ctx: click.Context, option: click.Parameter, value: Any) -> None:
    """Keep what was given as a field of `[server]`."""
    if value is not None:
        ctx.ensure_object(dict)[option.name] = value


def _option(
    name: str, help: str, metavar: str | None = None, type: click.IntRange | None = None
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """An option that is a setting of `[server]` too; without `metavar` it is a flag."""
    flag = metavar is None
    return click.option(
        name, help=help, metavar=metavar, type=type, is_flag=flag, default=None, expose_value=False, callback=_setting
    )


@click.command()
@click.option("--config", metavar="FILE", help="The configuration (default: ./polymux.toml, if there is one).")
@_option("--host", metavar="H", help="Address to listen on (default: 127.0.0.1).")
@_option("--port", metavar="P", type=click.IntRange(0, 65535), help="Port (default: 8000; 0 = any free one).")
@_option("--unix-socket", metavar="PATH", help="Listen on this Unix socket instead of an address and port.")
@_option("--workers", metavar="N", type=click.IntRange(1), help="Processes that serve (default: 1).")
@_option("--data-dir", metavar="DIR", help="Where the key and the journal are kept (default: ~/.polymux).")
@_option("--models-dir", metavar="DIR", help="Where local model files are (default: ./models).")
@click.option("--functions", metavar="FILE", multiple=True, help="Function models: FILE.py, a folder or module:object.")
@_option("--debug", help="Show on stderr what passes to and from upstreams, secrets masked.")
@click.pass_context
@told
def command(ctx: click.Context, config: str | None, functions: tuple[str, ...]) -> None:
    """Start the gateway.

    \b
    Examples:
      polymux serve
      polymux serve --config polymux.toml --port 9000 --workers 4
      polymux serve --functions meow.py

    Ctrl-C or SIGTERM ends it when what is under way is finished; SIGHUP makes it read its configuration again.
    """
    from polymux.store.database import Database  # large; `polymux --help` does without it

    log_to_stderr()
    order = Order(config, functions, ctx.obj or {})
    setup = order.prepare(strict=False)
    server = setup.config.server
    directory = Path(server.data_dir)
    try:
        fresh = not setup.config.auth.keys and first_run_key(directory)[1]
        Database(server.database_url, directory).close()  # what is wrong with it is told once, before the workers start
        process = Process(order, setup) if server.workers == 1 else None
    except OSError as error:
        raise click.ClickException(f"cannot write to the data directory {directory}: {error.strerror}") from None
    socket = _listen_unix(server.unix_socket) if server.unix_socket else _listen(server.host, server.port)
    address = server.unix_socket or (server.host, socket.getsockname()[1])
    greeting = banner(setup, address, directory, fresh=fresh)
    if process is None:
        _supervise(order, server, socket, greeting)
        return

    def begun() -> None:
        click.echo(greeting)
        sys.stdout.flush()

    _lone(process, begun).serve_on([socket])
    if server.unix_socket:
        Path(server.unix_socket).unlink(missing_ok=True)


def _lone(process: Process, begun: Callable[[], None]) -> Server:
    """The server of a process without a supervisor."""

    async def reload() -> None:
        with contextlib.suppress(Faulty):  # they have been told
            await process.reload()

    hint = "polymux: SIGUSR2 replaces one worker after the other; that needs --workers 2 or more"
    signals: dict[int, Callable[[], object]] = {signal.SIGUSR2: lambda: click.echo(hint, err=True)}
    server = Server(process, begun, signals)
    signals[signal.SIGHUP] = on_hangup(lambda: asyncio.ensure_future(reload()), server.leave)
    return server


def _supervise(order: Order, server: Settings, socket: Socket, greeting: str) -> None:
    """Become the parent of several workers; this does not return."""
    from polymux.store.shared import shared_file  # only now: one process does not need it

    run, counters = str(run_directory(Path(server.data_dir))), shared_file()
    listening = [socket.detach()]
    told = {"order": msgspec.to_builtins(order), "listening": listening, "counters": counters, "run": run}
    take_over(
        Plan(
            server.workers,
            python("polymux.cli.worker"),
            told,
            [*listening, counters],
            len(listening),
            run,
            greeting,
            server.unix_socket,
        )
    )


def _listen(host: str, port: int) -> Socket:
    """A listening socket, or a message that helps."""
    try:
        return create_server((host, port), family=AF_INET6 if ":" in host else AF_INET, backlog=4096)
    except OSError as error:
        hint = "; choose another with --port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else ""
        raise click.ClickException(f"cannot listen on {host}:{port}: {_reason(error)}{hint}") from None


def _listen_unix(path: str) -> Socket:
    """Likewise, on a path. What a gateway that died has left there is removed; owner and group may connect."""
    socket = Socket(AF_UNIX)
    try:
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.stat(path).st_mode) and not _answers(path):
                os.unlink(path)
        socket.bind(path)
        os.chmod(path, 0o660)
        socket.listen(4096)
    except OSError as error:
        socket.close()
        raise click.ClickException(f"cannot listen on {path}: {_reason(error)}") from None
    return socket


def _answers(path: str) -> bool:
    with Socket(AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def _reason(error: OSError) -> str:
    known = 0 if isinstance(error, gaierror) else error.errno
    return (os.strerror(known) if known else error.strerror or str(error)).lower()

"""`polymux serve`: start the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import sys
from pathlib import Path
from socket import AF_INET, AF_INET6, create_server, gaierror
from socket import socket as Socket

import click
import uvicorn

from polymux.app import build, first_run_key, prepare
from polymux.cli.banner import banner
from polymux.cli.faults import told
from polymux.discovery import keep_models
from polymux.http.protocol import PolymuxProtocol
from polymux.http.serve import Front


@click.command()
@click.option("--config", metavar="FILE", help="The configuration (default: ./polymux.toml, if there is one).")
@click.option("--host", metavar="H", help="Address to listen on (default: 127.0.0.1).")
@click.option("--port", metavar="P", type=click.IntRange(0, 65535), help="Port (default: 8000; 0 = any free one).")
@click.option("--data-dir", metavar="DIR", help="Where the key and the journal are kept (default: ~/.polymux).")
@click.option("--functions", metavar="FILE", multiple=True, help="Function models: FILE.py, a folder or module:object.")
@told
def command(
    config: str | None, host: str | None, port: int | None, data_dir: str | None, functions: tuple[str, ...]
) -> None:
    """Start the gateway.

    \b
    Examples:
      polymux serve
      polymux serve --config polymux.toml --port 9000
      polymux serve --functions meow.py
    """
    setup = prepare(config, functions)
    server = setup.config.server
    directory = Path(data_dir or server.data_dir).expanduser()
    try:
        fresh = not setup.config.auth.keys and first_run_key(directory)[1]
        front = build(setup, directory)
    except OSError as error:
        raise click.ClickException(f"cannot write to the data directory {directory}: {error.strerror}") from None
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr)
    listening = uvicorn.Config(
        front,  # type: ignore[arg-type]  # our protocol talks to it directly, not by ASGI
        http=PolymuxProtocol,
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        lifespan="off",
        interface="asgi3",
        ws="none",
        proxy_headers=False,
        server_header=False,
        log_config=None,
        access_log=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=30,
        ssl_certfile=server.tls_cert or None,
        ssl_keyfile=server.tls_key or None,
    )
    try:
        listening.load()
    except OSError as error:  # an SSLError is one
        text = f"{server.tls_cert} and {server.tls_key} cannot be used as tls_cert and tls_key: {error}"
        raise click.ClickException(text) from None
    where = host or server.host
    socket = _listen(where, server.port if port is None else port)
    address = (where, socket.getsockname()[1])
    with contextlib.suppress(KeyboardInterrupt):
        _Server(listening, front, banner(setup, address, directory, fresh=fresh)).run([socket])


class _Server(uvicorn.Server):
    """uvicorn's server with our beginning and end."""

    def __init__(self, config: uvicorn.Config, front: Front, greeting: str) -> None:
        super().__init__(config)
        self._front = front
        self._greeting = greeting

    async def startup(self, sockets: list[Socket] | None = None) -> None:
        await super().startup(sockets)
        self._discovery = asyncio.ensure_future(keep_models(self._front, self._front.engine))
        gc.collect()
        gc.freeze()  # what start-up made stays: collections need not look at it again
        gc.set_threshold(20_000, 20, 20)  # a request makes hundreds of short-lived objects and no cycles
        click.echo(self._greeting)
        sys.stdout.flush()

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:  # once a second
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                if isinstance(connection, PolymuxProtocol):
                    connection.expire(now)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[Socket] | None = None) -> None:
        self._front.draining = True
        self._discovery.cancel()
        await super().shutdown(sockets)
        await self._front.engine.close()
        self._front.snapshot.functions.close()


def _listen(host: str, port: int) -> Socket:
    """A listening socket, or a message that helps."""
    try:
        return create_server((host, port), family=AF_INET6 if ":" in host else AF_INET, backlog=4096)
    except OSError as error:
        hint = "; choose another with --port" if error.errno in (errno.EADDRINUSE, errno.EACCES) else ""
        known = 0 if isinstance(error, gaierror) else error.errno
        reason = os.strerror(known) if known else error.strerror or str(error)
        raise click.ClickException(f"cannot listen on {host}:{port}: {reason.lower()}{hint}") from None

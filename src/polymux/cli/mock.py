"""`polymux mock`: a provider to test against, that behaves or misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from functools import partial
from socket import AF_INET, AF_INET6, create_server
from socket import socket as Socket

import click

from polymux.cli.options import keep, option
from polymux.mock.banner import banner, faults
from polymux.mock.faults import FAULTS
from polymux.mock.provider import Options, Provider
from polymux.mock.replies import DIALECTS
from polymux.mock.server import Exchange, Server


def _keep_fault(context: click.Context, parameter: click.Parameter, value: str) -> None:
    if value not in ("", "list", *FAULTS):
        raise click.BadParameter(f"there is no fault {value!r}; 'polymux mock --fault list' names them")
    keep(context, parameter, value)


_count = partial(option, metavar="N", type=click.IntRange(0), default=0)
_seconds = partial(option, metavar="S", type=click.FloatRange(0, 86400), default=0.0)


@click.command(epilog=f"\b\nFaults:\n{faults()}")
@click.option("--host", metavar="H", default="127.0.0.1", help="Address to listen on (default: 127.0.0.1).")
@click.option("--port", metavar="P", default=8100, type=click.IntRange(0, 65535), help="Port (default: 8100; 0 = any).")
@option("--dialect", "dialects", multiple=True, type=click.Choice(DIALECTS), help="Speak only this one.")
@option("--key", metavar="K", default="", help="The only key that is accepted (default: any, or none).")
@option("--fault", metavar="NAME", default="", callback=_keep_fault, help="Have this fault; 'list' names all.")
@_count("--every", help="The fault is for each Nth request only.")
@_count("--first", help="The fault is for the first N requests only.")
@_seconds("--slow", default=30.0, help="Seconds of silence of the slow faults (default: 30).")
@_seconds("--latency", help="Seconds before each good answer.")
@_seconds("--pace", help="Seconds before each event of a stream.")
@_count("--chunks", default=8, type=click.IntRange(1), help="Events of a streamed text (default: 8).")
@click.pass_context
def command(context: click.Context, host: str, port: int) -> None:
    """A provider made of scripts, to test against: it behaves, or has a fault.

    Good answers are an echo that obeys the request (tools that are demanded, schemas, limits, stop sequences) and
    counts its tokens. A fault is chosen for all requests with --fault, or by one request for itself: by the model's
    name, 'fault:NAME', or by the header 'x-mock-fault: NAME'.

    \b
    Examples:
      polymux mock
      polymux mock --port 8200 --fault stall
      polymux mock --fault 503 --every 2
    """
    given = context.obj
    options = Options(**{**given, "dialects": given["dialects"] or DIALECTS})
    if options.fault == "list":
        click.echo(faults())
        return
    listening = _listen(host, port)
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host  # noqa: S104 - compared, not bound
    greeting = banner(f"http://{shown}:{listening.getsockname()[1]}", options)
    with listening, contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(listening, Provider(options), greeting))


def _listen(host: str, port: int) -> Socket:
    try:
        return create_server((host, port), family=AF_INET6 if ":" in host else AF_INET)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror}") from None


async def _serve(listening: Socket, provider: Provider, greeting: str) -> None:
    """Until a signal comes."""
    end = asyncio.Event()
    with contextlib.suppress(NotImplementedError):  # Windows has Ctrl-C alone
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, end.set)
    click.echo(greeting)
    sys.stdout.flush()
    await Server(provider.script, _Told).run(listening, end)


class _Told(Exchange):
    """An exchange that is told in a line when it is over."""

    def when_ended(self, whole: bool) -> None:
        flaw = f"  fault {self.fault}" if self.fault else ""
        click.echo(f"{self.method} {self.path}  {self.model!r}  {self.script.status}{flaw}{'' if whole else '  left'}")
        sys.stdout.flush()

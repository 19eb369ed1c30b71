"""`polymux chat`: talk to a model, through the running gateway or without one."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click
import msgspec

from polymux.app import Setup, build, environment, prepare
from polymux.cli.backends import Backend, Gateway, Inside, chunks
from polymux.cli.banner import LOOPBACK
from polymux.cli.faults import told
from polymux.cli.options import option
from polymux.cli.screen import Screen, note
from polymux.errors import Failure
from polymux.schema.chat import ChatResponse, Chunk
from polymux.surfaces.assemble import gather
from polymux.types import Link
from polymux.wire.printable import printable

HELP: Final = """\
/model NAME    another model from here on; without a name, list them
/system TEXT   another system prompt from here on; without a text, none
/clear         forget the conversation
/exit          leave, as Ctrl-D does
A line that ends with \\ goes on in the next; three double quotes begin and end a text of several lines.
Ctrl-C stops an answer; at the prompt, twice leaves."""


class Wanted(msgspec.Struct):
    """What the command line says."""

    config: str | None
    url: str | None
    key: str | None
    system: str | None
    max_tokens: int | None
    temperature: float | None
    no_stream: bool
    as_json: bool
    history: str | None


class Chat:
    """A conversation. `model` and `system` may change between two answers."""

    def __init__(self, backend: Backend, model: str, wanted: Wanted) -> None:
        self.model, self.system = model, wanted.system or ""
        self.turns: list[dict[str, Any]] = []
        self._backend, self._wanted = backend, wanted

    async def say(self, text: str) -> ChatResponse:
        """Show the answer and keep it. Raises `Failure`; what has come until then, or until a cancellation, stays part
        of the conversation."""
        self.turns.append({"role": "user", "content": text})
        screen, came = Screen(), list[Chunk]()
        try:
            async with aclosing(chunks(self._backend, self._request())) as answer:
                async for chunk in answer:
                    came.append(chunk)
                    if not self._wanted.as_json:
                        screen.chunk(chunk)
        finally:
            response = gather(came) if came else ChatResponse("", 0, self.model, [])
            self._keep(response)
            if not self._wanted.as_json:
                _end(screen, response)
        return response

    def _request(self) -> dict[str, Any]:
        wanted = self._wanted
        system = [{"role": "system", "content": self.system}] if self.system else []
        request: dict[str, Any] = {"model": self.model, "messages": [*system, *self.turns]}
        if not wanted.no_stream:
            request |= {"stream": True, "stream_options": {"include_usage": True}}
        if wanted.max_tokens is not None:
            request["max_completion_tokens"] = wanted.max_tokens
        if wanted.temperature is not None:
            request["temperature"] = wanted.temperature
        return request

    def _keep(self, response: ChatResponse) -> None:
        """A question without any answer is taken back: the next one would stand beside it. Tool calls are shown, and
        not kept: nobody here could answer them."""
        if text := response.choices[0].message.content if response.choices else "":
            self.turns.append({"role": "assistant", "content": text})
        else:
            self.turns.pop()


def _end(screen: Screen, response: ChatResponse) -> None:
    if response.choices and (calls := response.choices[0].message.tool_calls):
        screen.calls(calls)
    screen.line()
    if response.usage:
        screen.usage(response.usage.prompt_tokens, response.usage.completion_tokens)


@click.command()
@click.argument("model", required=False)
@click.argument("prompt", required=False)
@option("--config", metavar="FILE", help="The configuration; by default the one 'serve' would read.")
@option("--url", metavar="URL", help="The gateway (default: where the configuration says, if it answers there).")
@option("--key", metavar="K", help="A key of the gateway (default: $POLYMUX_API_KEY, or the configuration's first).")
@option("--system", metavar="TEXT", help="A system prompt.")
@option("--max-tokens", metavar="N", type=click.IntRange(1), help="The longest answer.")
@option("--temperature", metavar="T", type=float, help="How much chance there is in the answer.")
@option("--no-stream", is_flag=True, help="Ask for the answer in one piece.")
@option("--json", "as_json", is_flag=True, help="Print the whole answer as JSON.")
@option("--history", metavar="FILE", help="Keep the lines that are typed in a file.")
@click.pass_context
@told
def command(context: click.Context, model: str | None, prompt: str | None) -> None:
    """Talk to a model: one question with PROMPT (or what is piped in, or both), else a conversation.

    The running gateway is asked; if there is none, the providers, with the same configuration. Without MODEL, the
    models are listed.

    \b
    Examples:
      polymux chat
      polymux chat meow
      polymux chat meow "Say hello"
      git diff | polymux chat meow "Write a commit message for this"
    """
    wanted = Wanted(**context.obj)
    text = _text(prompt) if model else None
    if model and text is None and (wanted.as_json or not sys.stdout.isatty()):
        raise click.UsageError("there is no PROMPT; a conversation is for a terminal, and not for --json")
    with asyncio.Runner() as runner:
        backend = _backend(runner, wanted)
        note(backend.where)
        try:
            if model is None:
                _list(runner, backend, wanted.as_json)
            elif text is None:
                Prompt(runner, Chat(backend, model, wanted), backend, wanted.history).loop()
            else:
                response = runner.run(Chat(backend, model, wanted).say(text))
                if wanted.as_json:
                    _print(response)
        except Failure as failure:
            raise click.ClickException(_line(failure)) from None
        finally:
            runner.run(backend.close())


def _text(prompt: str | None) -> str | None:
    """What is asked once: the prompt, then what is piped in. None = a conversation at the terminal."""
    if sys.stdin and sys.stdin.isatty():
        return prompt
    try:
        piped = sys.stdin.read() if sys.stdin else ""  # None: it is closed
    except UnicodeDecodeError:
        raise click.ClickException("what is piped in is not text in UTF-8") from None
    text = "\n\n".join(filter(None, [prompt, piped.strip("\n")]))
    if not text:
        raise click.UsageError("there is no PROMPT, and nothing is piped in")
    return text


def _list(runner: asyncio.Runner, backend: Backend, as_json: bool) -> None:
    names = list(runner.run(_models(backend)))
    if as_json:
        _print(names)
    else:
        click.echo("\n".join(map(printable, names)) or "none: name a provider in the configuration")


async def _models(backend: Backend) -> list[str]:
    return list(await backend.models())


def _print(value: object) -> None:
    click.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def _line(failure: Failure) -> str:
    return printable(" ".join(failure.message.split()))


# ---- whom to ask -----------------------------------------------------------------------------------------------


def _backend(runner: asyncio.Runner, wanted: Wanted) -> Backend:
    """The gateway at the URL, or at the configured address if it answers, else the engine. Raises `ConfigError`."""
    key = wanted.key or environment(Path.cwd())[0].get("POLYMUX_API_KEY", "")
    if wanted.url:
        url = _url(wanted.url)
        local = urlsplit(url).hostname in LOOPBACK  # our key is for our own gateway only
        return Gateway(url, key or (_first_key(prepare(wanted.config, strict=False)) if local else ""), Link())
    setup = prepare(wanted.config, server={"log": "off"}, strict=False)  # its lines would stand among the answers
    server = setup.config.server
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)  # noqa: S104 - compared, not bound
    address = f"[{host}]:{server.port}" if ":" in host else f"{host}:{server.port}"
    url = f"{'https' if server.tls_cert else 'http'}://{address}"
    gateway = Gateway(url, key or _first_key(setup), Link(ca_file=server.tls_cert))
    if runner.run(gateway.healthy()):
        return gateway
    runner.run(gateway.close())
    directory = Path(server.data_dir).expanduser()
    try:
        return Inside(build(setup, directory))
    except OSError as error:
        raise click.ClickException(f"cannot write to the data directory {directory}: {error.strerror}") from None


def _url(given: str) -> str:
    """The URL of a gateway as its user may write it, without `/v1`."""
    url = given if "://" in given else f"http://{given}"
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise click.UsageError(f"--url {given!r} is no URL of a gateway; one is http://127.0.0.1:8000")
    return url.rstrip("/").removesuffix("/v1")


def _first_key(setup: Setup) -> str:
    """A key that the gateway of this configuration takes, or "": it is made when the gateway is first started."""
    if setup.config.auth.keys:
        return setup.config.auth.keys[0]
    with suppress(OSError):
        return (Path(setup.config.server.data_dir).expanduser() / "first-run.key").read_text("ascii").strip()
    return ""


# ---- the conversation at a terminal ----------------------------------------------------------------------------


class Prompt:
    """Reads what is typed until the user leaves."""

    def __init__(self, runner: asyncio.Runner, chat: Chat, backend: Backend, history: str | None) -> None:
        self._runner, self._chat, self._backend = runner, chat, backend
        self._history = Path(history).expanduser() if history else None
        self._stopped = False  # the last that happened was a Ctrl-C

    def loop(self) -> None:
        note("/help tells what can be typed; Ctrl-D leaves")
        readline = _readline()
        if readline is not None and self._history is not None:
            with suppress(OSError):
                readline.read_history_file(self._history)
        try:
            while self._turn():
                pass
        finally:
            if readline is not None and self._history is not None:
                with suppress(OSError):
                    readline.write_history_file(self._history)

    def _turn(self) -> bool:
        """One input and what it leads to; False when the user leaves."""
        try:
            text = _read()
        except EOFError:
            click.echo()
            return False
        except KeyboardInterrupt:
            click.echo()
            leaving, self._stopped = self._stopped, True
            if not leaving:
                note("Ctrl-C again leaves")
            return not leaving
        if not text.strip():
            return True
        self._stopped = False
        if text.startswith("/"):
            return self._command(*text.partition(" ")[::2])
        self._run(text)
        return True

    def _run(self, text: str) -> None:
        try:
            self._runner.run(self._chat.say(text))
        except KeyboardInterrupt:
            self._stopped = True
            note("stopped")
        except Failure as failure:
            click.echo(f"Error: {_line(failure)}", err=True)

    def _command(self, name: str, argument: str) -> bool:
        argument = argument.strip()
        if name in ("/exit", "/quit"):
            return False
        if name == "/clear":
            self._chat.turns.clear()
            note("the conversation is forgotten")
        elif name == "/system":
            self._chat.system = argument
            note("the system prompt is set" if argument else "there is no system prompt")
        elif name == "/model" and argument:
            self._chat.model = argument
            note(f"the model is {argument}")
        elif name == "/model":
            try:
                _list(self._runner, self._backend, as_json=False)
            except Failure as failure:
                click.echo(f"Error: {_line(failure)}", err=True)
        elif name == "/help":
            note(HELP)
        else:
            note(f"there is no command {name}; /help tells what there is. A space before it sends it as text.")
        return True


def _readline() -> Any:
    """The module that lets `input` edit lines and remember them, where there is one."""
    try:
        return import_module("readline")
    except ImportError:  # Windows: its console edits lines by itself
        return None


def _read() -> str:
    '''One text: a line, lines that end with a backslash, or all between two """.'''
    text = input("> ")
    if text.startswith('"""'):
        text = text[3:]
        while not text.rstrip().endswith('"""'):
            text += "\n" + input(". ")
        return text.rstrip()[:-3].strip("\n")
    while text.endswith("\\"):
        text = text[:-1] + "\n" + input(". ")
    return text

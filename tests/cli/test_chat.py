"""`polymux chat`: one question through pipes, a conversation at a terminal; through a gateway and without one."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polymux.cli.backends import Gateway as Remote
from polymux.cli.chat import Wanted, _backend, _line
from polymux.errors import Failure
from polymux.mock.replies import Reply, ToolUse
from polymux.mock.scripts import Ask, render
from support.gateway import KEY, Gateway
from support.settings import FUNCTIONS, providers
from support.terminal import CTRL_C, CTRL_D, Terminal, environment, plain, run
from support.upstream import Upstream

TEXT = "Hello, 世界!"
THROUGH = "through the gateway at "
WITHOUT = "without a gateway"


@pytest.fixture
def alone(home: Path, upstream: Upstream) -> Path:
    """A directory with a configuration whose gateway does not run."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    head = f'[server]\nport = {port}\ndata_dir = "data"\nfunctions_dir = "models"\n[defaults]\nretries = 0\n'
    (home / "polymux.toml").write_text(head + providers(upstream))
    (home / "models").mkdir(mode=0o700)
    (home / "models" / "models.py").write_text(FUNCTIONS)
    return home


@pytest.fixture
def served(home: Path, gateway: Gateway) -> Path:
    """A directory with the configuration of the gateway that runs."""
    port = gateway.url.rpartition(":")[2]
    (home / "polymux.toml").write_text(f'[server]\nport = {port}\n[auth]\nkeys = ["{KEY}"]\n')
    return home


def of(upstream: Upstream, model: str = "text", count: int = 1) -> Any:
    """The request that arrived at the provider."""
    return upstream.wait(model, count).json


# ---- one question ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [(), ("--no-stream",)])
@pytest.mark.parametrize("provider", ["corp", "claude"])
def test_through_the_gateway_that_runs(served: Path, gateway: Gateway, provider: str, more: tuple[str, ...]) -> None:
    done = run(served, "chat", f"{provider}/text", "Hi", *more)
    assert (done.stdout, done.returncode) == (TEXT + "\n", 0)
    assert done.stderr == f"{THROUGH}{gateway.url}\n"


@pytest.mark.parametrize("more", [(), ("--no-stream",)])
@pytest.mark.parametrize(("model", "text"), [("corp/text", TEXT), ("claude/text", TEXT), ("meow", "喵!")])
def test_without_a_gateway(alone: Path, model: str, text: str, more: tuple[str, ...]) -> None:
    done = run(alone, "chat", model, "Hi", *more)
    assert (done.stdout, done.returncode) == (text + "\n", 0)
    assert done.stderr.startswith(WITHOUT)
    (journal,) = (alone / "data" / "journal").iterdir()
    record = json.loads(journal.read_text())
    assert (record["model"], record["status"], record["key_name"]) == (model, 200, "polymux chat")


def test_the_parameters_arrive(served: Path, upstream: Upstream) -> None:
    arguments = ("--system", "Be kind.", "--max-tokens", "7", "--temperature", "0.5")
    assert run(served, "chat", "corp/text", "Hi", *arguments).returncode == 0
    sent = of(upstream)
    assert sent["messages"] == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    assert (sent["temperature"], sent.get("max_completion_tokens") or sent["max_tokens"]) == (0.5, 7)
    assert sent["stream"] is True


@pytest.mark.parametrize(
    ("prompt", "piped", "sent"),
    [
        ((), "from a pipe\n", "from a pipe"),
        (("Summarise",), "line 1\n\nline 2\n", "Summarise\n\nline 1\n\nline 2"),
        (("Hi",), "", "Hi"),
    ],
)
def test_what_is_piped_in(served: Path, prompt: tuple[str, ...], piped: str, sent: str) -> None:
    assert run(served, "chat", "corp/told", *prompt, piped=piped).stdout == sent + "\n"


def test_json(served: Path) -> None:
    done = run(served, "chat", "corp/reasoning", "Hi", "--json")
    message = json.loads(done.stdout)["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Then speak.", "First think. ")


def test_a_pipe_gets_the_bare_answer(served: Path, upstream: Upstream) -> None:
    assert run(served, "chat", "corp/reasoning", "Hi").stdout == "Then speak.\n"
    call = ToolUse("call_1", "f", {"a": 1})
    upstream.script("called", render(Reply(text=(), tools=(call, call)), Ask("openai", "called", {"stream": True})))
    assert run(served, "chat", "corp/called", "Hi").stdout == 'f({"a":1})\nf({"a":1})\n'


def test_the_models_are_listed(alone: Path) -> None:
    """Without a gateway the providers are asked for what they list."""
    names = json.loads(run(alone, "chat", "--json").stdout)
    assert {"meow", "echo"} <= set(names)
    assert any(name.endswith("text") for name in names)
    assert run(alone, "chat").stdout.splitlines() == names


def test_the_models_of_the_gateway_are_listed(served: Path, gateway: Gateway) -> None:
    listed = [model["id"] for model in gateway.get("/v1/models").json()["data"]]
    assert run(served, "chat").stdout.splitlines() == listed


# ---- whom to ask, and with which key ---------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_a_url_is_taken_as_it_is_written(home: Path, gateway: Gateway, suffix: str) -> None:
    url = gateway.url.removeprefix("http://") + suffix
    assert run(home, "chat", "meow", "Hi", "--url", url, "--key", KEY).stdout == "喵!\n"
    assert run(home, "chat", "meow", "Hi", "--url", url, POLYMUX_API_KEY=KEY).stdout == "喵!\n"


def test_the_key_of_the_first_run(home: Path) -> None:
    with Gateway(None, arguments=("--functions", "models.py"), files={"models.py": FUNCTIONS}) as gateway:
        port = gateway.url.rpartition(":")[2]
        done = run(home, "chat", "meow", "Hi", POLYMUX_DATA_DIR=str(gateway.data), PORT=port)
        assert (done.stdout, done.stderr) == ("喵!\n", f"{THROUGH}{gateway.url}\n")


def wanted(url: str, config: str) -> Wanted:
    return Wanted(config, url, None, None, None, None, no_stream=False, as_json=False, history=None)


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://127.0.0.1:9", True),
        ("localhost", True),
        ("https://[::1]:9/v1", True),
        ("https://llm.example.com", False),
        ("http://127.0.0.1:9@llm.example.com", False),
    ],
)
def test_a_configured_key_goes_to_no_stranger(served: Path, url: str, sent: bool) -> None:
    with asyncio.Runner() as runner:
        backend = _backend(runner, wanted(url, str(served / "polymux.toml")))
    assert isinstance(backend, Remote)
    assert (KEY in str(backend._to.headers)) == sent


# ---- what goes wrong -------------------------------------------------------------------------------------------


def check_error(done: Any, *words: str) -> None:
    """One clear line."""
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert done.stderr.endswith(line + "\n")
    for word in words:
        assert word in line


@pytest.mark.parametrize("place", ["served", "alone"])
def test_an_unknown_model(place: str, request: pytest.FixtureRequest) -> None:
    check_error(run(request.getfixturevalue(place), "chat", "meo", "Hi"), "'meo' does not exist", "'meow'")


@pytest.mark.parametrize("place", ["served", "alone"])
def test_a_provider_that_fails(place: str, request: pytest.FixtureRequest) -> None:
    home = request.getfixturevalue(place)
    check_error(run(home, "chat", "corp/status-500", "Hi"))
    check_error(run(home, "chat", "corp/status-400", "Hi"), "not right")


@pytest.mark.parametrize("place", ["served", "alone"])
def test_an_answer_that_breaks_off(place: str, request: pytest.FixtureRequest) -> None:
    """What has come is shown, on a line of its own."""
    done = run(request.getfixturevalue(place), "chat", "corp/cut-5", "Hi")
    assert done.stdout == "Hello, 世界\n"
    check_error(done)


def test_a_wrong_key(home: Path, gateway: Gateway) -> None:
    check_error(run(home, "chat", "meow", "Hi", "--url", gateway.url, "--key", "sk-wrong"), "key")


def test_nobody_there(home: Path) -> None:
    check_error(run(home, "chat", "meow", "Hi", "--url", "http://127.0.0.1:1"), "127.0.0.1:1")


def test_faults_of_the_configuration(home: Path) -> None:
    (home / "polymux.toml").write_text("[server]\nprot = 1\n")
    done = run(home, "chat", "meow", "Hi")
    assert done.returncode == 1
    assert "server.prot" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        *(("meow",), ("meow", "Hi", "--max-tokens", "0"), ("meow", "a", "b")),
        *(("meow", "Hi", "--url", url) for url in ("http://[x", "ftp://127.0.0.1:1", "127.0.0.1:99999", "http://")),
    ],
)
def test_a_wrong_command_line(home: Path, arguments: tuple[str, ...]) -> None:
    done = run(home, "chat", *arguments)
    assert done.returncode == 2
    assert "Usage: " in done.stderr


@pytest.mark.parametrize("arguments", [("meow", "\udcff"), ("\udcff", "Hi"), ("meow", "Hi", "--system", "\udcff")])
def test_what_is_typed_is_no_text(alone: Path, arguments: tuple[str, ...]) -> None:
    done = run(alone, "chat", *arguments)
    assert (done.returncode, done.stderr.splitlines()[1:]) == (1, ["Error: what is to be sent is not text in UTF-8"])


def test_nothing_to_read_from(alone: Path) -> None:
    close = "import os, runpy, sys; os.close(0); sys.stdin = None; sys.argv[0] = 'polymux'; runpy.run_module('polymux')"
    command = [sys.executable, "-W", "error", "-c", close, "chat", "meow", "Hi"]
    done = subprocess.run(command, cwd=alone, env=environment(alone, {}), capture_output=True, timeout=60, check=False)
    assert (done.stdout.decode(), done.returncode) == ("喵!\n", 0)


def test_a_broken_file_of_functions_is_told_and_the_rest_answers(alone: Path) -> None:
    (alone / "models" / "broken.py").write_text("def (")
    done = run(alone, "chat", "meow", "Hi")
    assert (done.stdout, done.returncode) == ("喵!\n", 0)
    assert "not served: models/broken.py: SyntaxError" in done.stderr


def test_an_error_does_not_steer_the_terminal() -> None:
    assert _line(Failure("bad_request", "no\n\x1b]0;title\x07 such  thing")) == "no \\x1b]0;title\\x07 such thing"


def test_the_help_has_an_example(home: Path) -> None:
    assert 'polymux chat meow "Say hello"' in run(home, "chat", "--help").stdout


# ---- a conversation --------------------------------------------------------------------------------------------


@pytest.fixture
def talk(served: Path) -> Iterator[Terminal]:
    with Terminal(served, "chat", "corp/told") as terminal:
        yield terminal


def test_a_conversation_remembers_and_forgets(talk: Terminal, upstream: Upstream) -> None:
    talk.enter("first")
    talk.enter("second")
    talk.enter("/clear")
    talk.enter("third")
    talk.enter("/exit")
    assert talk.status() == 0
    sent = [[message["content"] for message in of(upstream, "told", n)["messages"]] for n in (1, 2, 3)]
    assert sent == [["first"], ["first", "first", "second"], ["third"]]


def test_the_gateway_the_usage_and_the_help_are_told(talk: Terminal, gateway: Gateway) -> None:
    assert f"{THROUGH}{gateway.url}" in plain(talk.until("> "))
    talk.type("hello\r")
    assert talk.until("11 tokens in, 7 out")
    talk.enter("/help")
    assert talk.until("Ctrl-C stops an answer")
    talk.enter("/nonsense")
    assert talk.until("there is no command /nonsense")
    talk.until("> ")
    talk.type(CTRL_D)
    assert talk.status() == 0


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        (("one\\", "two\\", "three"), "one\ntwo\nthree"),
        (('"""', "one", "", "two", '"""'), "one\n\ntwo"),
        (('"""one', 'two"""'), "one\ntwo"),
        (('"""one"""',), "one"),
        ((" /exit",), " /exit"),
        (("", "  ", "one"), "one"),
    ],
)
def test_several_lines(talk: Terminal, upstream: Upstream, typed: tuple[str, ...], sent: str) -> None:
    talk.until("> ")
    for line in typed:
        talk.type(line + "\r")
    assert of(upstream, "told")["messages"][0]["content"] == sent


def test_another_model_and_another_system_prompt(talk: Terminal, upstream: Upstream) -> None:
    talk.enter("/model corp/text")
    talk.enter("/system Be kind.")
    talk.enter("Hi")
    talk.until(TEXT)
    talk.enter("/system")
    talk.enter("Ho")
    talk.until(TEXT)
    talk.enter("/model")
    assert talk.until("meow")
    assert [message["role"] for message in of(upstream)["messages"]] == ["system", "user"]
    assert [message["role"] for message in of(upstream, count=2)["messages"]] == ["user", "assistant", "user"]


def test_an_error_is_told_and_the_conversation_goes_on(talk: Terminal, upstream: Upstream) -> None:
    talk.enter("/model corp/status-400")
    talk.enter("lost")
    assert talk.until("Error: The value is not right.")
    talk.enter("/model corp/told")
    talk.enter("kept")
    talk.until("> ")
    assert [message["content"] for message in of(upstream, "told")["messages"]] == ["kept"]


@pytest.mark.parametrize("place", ["served", "alone"])
def test_ctrl_c_stops_the_answer_and_a_second_leaves(
    place: str, upstream: Upstream, request: pytest.FixtureRequest
) -> None:
    with Terminal(request.getfixturevalue(place), "chat", "corp/gate") as talk:
        talk.enter("Hi")
        seen = upstream.wait("gate")
        seen.release(3)
        talk.until("Hello, ")
        talk.type(CTRL_C)
        talk.until("stopped")
        seen.wait_gone()
        talk.enter("/model corp/told")
        talk.enter("again")
        sent = [message["content"] for message in of(upstream, "told")["messages"]]
        assert sent == ["Hi", "Hello, ", "again"]
        talk.until("> ")
        talk.type(CTRL_C + "\r")  # a Ctrl-C that comes just before `input` waits is noticed at the next key
        talk.until("Ctrl-C again leaves")
        talk.until("> ")
        talk.type(CTRL_C + "\r")
        assert talk.status() == 0


def test_reasoning_and_notes_are_dim_at_a_terminal(served: Path) -> None:
    with Terminal(served, "chat", "corp/reasoning") as talk:
        talk.enter("Hi")
        shown = talk.until("tokens in")
        assert "\x1b[2mFirst " in shown
        assert "\x1b[2mthink. " in shown
        assert "First think. \n\nThen speak.\n" in plain(shown)
        assert "\x1b[2mThen" not in shown


def test_one_question_at_a_terminal(served: Path) -> None:
    with Terminal(served, "chat", "corp/text", "Hi") as talk:
        assert talk.status() == 0
        assert plain(talk.shown).endswith(f"{TEXT}\n11 tokens in, 7 out\n")


def test_ctrl_c_ends_one_question(served: Path, upstream: Upstream) -> None:
    with Terminal(served, "chat", "corp/gate", "Hi") as talk:
        seen = upstream.wait("gate")
        seen.release(3)
        talk.until("Hello, ")
        talk.type(CTRL_C)
        assert talk.status() == 1
        seen.wait_gone()


def test_a_conversation_is_not_for_json(served: Path) -> None:
    with Terminal(served, "chat", "corp/text", "--json") as talk:
        assert talk.status() == 2
        assert "there is no PROMPT" in plain(talk.shown)


@pytest.mark.parametrize("plainly", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_color(served: Path, plainly: dict[str, str]) -> None:
    with Terminal(served, "chat", "corp/reasoning", "Hi", **plainly) as talk:
        assert talk.status() == 0
        assert "First think." in talk.shown
        assert not re.search(r"\x1b\[\d*m", talk.shown)


def test_the_history_is_kept_where_it_is_asked_for_and_nowhere_else(served: Path) -> None:
    before = set(served.iterdir())
    for arguments in ((), ("--history", "typed"), ("--history", "typed")):
        with Terminal(served, "chat", "corp/told", *arguments) as talk:
            talk.enter("remember me")
            talk.until("tokens in")
            talk.enter("/exit")
            assert talk.status() == 0
    assert {path.name for path in set(served.iterdir()) - before} == {"typed"}
    assert (served / "typed").read_text().count("remember me") == 2

"""Dify apps as models: the real gateway, the official SDK, and a Dify that keeps Dify's rules."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from support.dify import KINDS, Dify
from support.gateway import KEY, Gateway
from support.raw import post

OTHER_KEY = "sk-test-other-0123456789"
PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()
APPS = "".join(
    f'[providers.{kind}-desk]\npreset = "dify"\nbase_url = "URL/v1"\napi_key = "app-{kind}"\n'
    f'models = {{ "my-{kind}" = "{kind}" }}\n'
    for kind in KINDS
)
CONFIG = f"""
[server]
debug = true

[auth]
keys = ["{KEY}", "{OTHER_KEY}"]
{APPS}
[providers.topic]
preset = "dify"
base_url = "URL"
api_key = "app-workflow"
models = {{ "my-topic" = "workflow" }}
inputs = {{ topic = "{{query}}", tone = "warm" }}

[providers.hasty]
preset = "dify"
base_url = "URL/v1"
api_key = "app-chat"
models = {{ "my-hasty" = "chat" }}
timeouts = {{ first_token = "500ms" }}

[defaults]
retries = 1
"""
Said = list[dict[str, Any]]


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Dify, Gateway]]:
    with Dify() as dify, Gateway(CONFIG.replace("URL", dify.url)) as gateway:
        yield dify, gateway


@pytest.fixture
def gateway(running: tuple[Dify, Gateway]) -> Gateway:
    return running[1]


@pytest.fixture
def dify(running: tuple[Dify, Gateway]) -> Iterator[Dify]:
    dify = running[0]
    dify.clear()
    dify.broken.clear()
    dify.stopped.clear()
    yield dify
    assert dify.broken == []


def client_of(gateway: Gateway, key: str = KEY) -> OpenAI:
    return OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0, timeout=20)


def until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(2000):
        if condition():
            return
        pause.wait(0.005)
    raise AssertionError


def say(client: OpenAI, model: str, messages: Any, text: str, **more: Any) -> str:
    """Asks as a chat program does: with the whole history, which the answer joins."""
    messages.append({"role": "user", "content": text})
    answer = client.chat.completions.create(model=model, messages=messages, **more)
    said = answer.choices[0].message.content
    messages.append({"role": "assistant", "content": said})
    return str(said)


# ---- all kinds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_app_answers_whole(gateway: Gateway, dify: Dify, kind: str) -> None:
    with client_of(gateway) as client:
        answer = client.chat.completions.create(model=f"my-{kind}", messages=[{"role": "user", "content": "Grüezi"}])
    assert answer.model == f"my-{kind}"
    assert answer.choices[0].message.content == "turn 1: Grüezi"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage
    assert answer.usage.total_tokens == 15
    assert [body["response_mode"] for body in dify.asked()] == ["streaming"]
    assert dify.asked()[0]["user"] == "polymux-static-1"


@pytest.mark.parametrize("kind", KINDS)
def test_an_app_streams(gateway: Gateway, dify: Dify, kind: str) -> None:
    with client_of(gateway) as client:
        chunks = list(
            client.chat.completions.create(
                model=f"my-{kind}",
                messages=[{"role": "user", "content": "Grüezi"}],
                stream=True,
                stream_options={"include_usage": True},
                user="alice",
            )
        )
    said = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    pieces = [delta.content for delta in said if delta.content]
    assert len(pieces) == 2
    assert "".join(pieces) == "turn 1: Grüezi"
    assert said[0].role == "assistant"
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].usage
    assert chunks[-1].usage.total_tokens == 15
    assert dify.asked()[0]["user"] == "alice"


def test_an_agents_steps_are_reasoning_and_knowledge_is_cited(gateway: Gateway, dify: Dify) -> None:
    answer = gateway.chat("my-agent").json()["choices"][0]["message"]
    assert answer["reasoning_content"] == 'search {"q":1}\nfound\n'
    (cited,) = gateway.chat("my-chat").json()["choices"][0]["message"]["annotations"]
    assert cited["url_citation"]["title"] == "list.txt"


def test_apps_are_listed_under_their_public_names(gateway: Gateway) -> None:
    with client_of(gateway) as client:
        assert {f"my-{kind}" for kind in KINDS} <= {model.id for model in client.models.list()}


# ---- conversations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["chat", "agent", "chatflow"])
def test_a_conversation_goes_on_at_dify(gateway: Gateway, dify: Dify, kind: str) -> None:
    messages: Any = [{"role": "system", "content": f"Be brief, {kind}."}]
    with client_of(gateway) as client:
        first = say(client, f"my-{kind}", messages, "one")
        assert first == f"turn 1: Be brief, {kind}.\n\none"
        assert say(client, f"my-{kind}", messages, "two") == "turn 2: two"
        messages.append({"role": "user", "content": [{"type": "text", "text": "three"}]})  # streamed, and in parts
        given = client.chat.completions.create(model=f"my-{kind}", messages=messages, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in given) == "turn 3: three"
    assert len({body.get("conversation_id") for body in dify.asked()[1:]}) == 1


def test_it_goes_on_after_a_restart_of_the_gateway(tmp_path: Path) -> None:
    messages: Said = []
    with Dify() as dify:
        config = CONFIG.replace("URL", dify.url)
        for number, text in enumerate(("one", "two", "three"), 1):
            with Gateway(config, data=tmp_path / "data") as gateway, client_of(gateway) as client:
                assert say(client, "my-chatflow", messages, text) == f"turn {number}: {text}"
        assert len(dify.conversations) == 1
        assert dify.broken == []


def test_two_that_begin_the_same_are_two(gateway: Gateway, dify: Dify) -> None:
    mine: Said = []
    yours: Said = []
    with client_of(gateway) as client:
        assert say(client, "my-chat", mine, "same") == say(client, "my-chat", yours, "same") == "turn 1: same"
        assert say(client, "my-chat", mine, "my secret is 7") == "turn 2: my secret is 7"
        other = say(client, "my-chat", yours, "what is my secret?")
        assert other.startswith("turn 1: Earlier in this conversation:\nuser: same\nassistant: turn 1: same\n")
        assert "7" not in other
        assert say(client, "my-chat", mine, "go on") == "turn 3: go on"
        assert say(client, "my-chat", yours, "go on") == "turn 2: go on"


def test_a_branch_and_an_edit_do_not_see_what_was_said_elsewhere(gateway: Gateway, dify: Dify) -> None:
    messages: Said = []
    with client_of(gateway) as client:
        say(client, "my-chat", messages, "begin")
        branch, edited = [dict(one) for one in messages], [dict(one) for one in messages]
        say(client, "my-chat", messages, "the main line")
        assert "main" not in say(client, "my-chat", branch, "a branch")
        edited[1]["content"] = "something else"
        assert say(client, "my-chat", edited, "and now?").endswith("The user now says:\nand now?")
    assert len({body.get("conversation_id", number) for number, body in enumerate(dify.asked())}) == 4


def test_nobody_goes_on_with_anothers(gateway: Gateway, dify: Dify) -> None:
    """Another key, or another user of the same key, with the very same words."""
    messages: Said = []
    with client_of(gateway) as mine, client_of(gateway, OTHER_KEY) as other:
        say(mine, "my-chat", messages, "hello", user="alice")
        stolen, foreign = list(messages), list(messages)
        assert say(other, "my-chat", stolen, "go on", user="alice").startswith("turn 1: Earlier")
        assert say(mine, "my-chat", foreign, "go on", user="bob").startswith("turn 1: Earlier")
        assert say(mine, "my-chat", messages, "go on", user="alice") == "turn 2: go on"


def test_many_at_once_with_the_same_words_do_not_share(gateway: Gateway, dify: Dify) -> None:
    messages: Said = []
    with client_of(gateway) as client:
        say(client, "my-chat", messages, "at once")
    messages.append({"role": "user", "content": "go on, hold"})
    wires = [gateway.wire() for _ in range(4)]
    for wire in wires:
        wire.send(post(gateway.key, {"model": "my-chat", "messages": messages, "stream": True}))
    dify.wait_asked(5)
    assert sum("conversation_id" in body for body in dify.asked()) == 1
    for wire in wires:
        wire.leave()


def test_a_conversation_that_is_gone_begins_anew_within_the_request(gateway: Gateway, dify: Dify) -> None:
    messages: Said = []
    with client_of(gateway) as client:
        say(client, "my-chat", messages, "deleted soon")
        dify.conversations.clear()
        assert say(client, "my-chat", messages, "go on").startswith("turn 1: Earlier in this conversation:")
        assert say(client, "my-chat", messages, "go on") == "turn 2: go on"
    assert len(dify.broken) == 2  # the question, and the look for the conversation
    dify.broken.clear()


def test_a_refusal_does_not_end_the_conversation(gateway: Gateway, dify: Dify) -> None:
    messages: Said = []
    with client_of(gateway) as client:
        say(client, "my-chat", messages, "patience")
        dify.refuse.append((429, "too_many_requests", "Too many requests. Please try again later."))
        assert say(client, "my-chat", messages, "go on") == "turn 2: go on"
        assert say(client, "my-chat", messages, "on") == "turn 3: on"
    dify.broken.clear()


# ---- inputs and files --------------------------------------------------------------------------------------------


def test_the_variables_of_an_app(gateway: Gateway, dify: Dify) -> None:
    gateway.chat("my-topic", "rain", metadata={"lang": "de"})
    gateway.chat("my-chat", "rain", metadata={"lang": "de"})
    assert [body["inputs"] for body in dify.asked()] == [
        {"lang": "de", "topic": "rain", "tone": "warm"},
        {"lang": "de"},
    ]


def test_images_are_uploaded_for_their_user(gateway: Gateway, dify: Dify) -> None:
    parts = [
        {"type": "text", "text": "Compare."},
        {"type": "image_url", "image_url": {"url": PNG}},
        {"type": "image_url", "image_url": {"url": "https://example.org/p.png"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": base64.b64encode(b"%PDF-1.4").decode()}},
    ]
    body = {"model": "my-chatflow", "user": "alice", "messages": [{"role": "user", "content": parts}]}
    assert gateway.post(body).status == 200
    kinds = [(file["type"], file["transfer_method"]) for file in dify.asked()[0]["files"]]
    assert kinds == [("image", "local_file"), ("image", "remote_url"), ("document", "local_file")]
    assert set(dify.uploads.values()) == {"alice"}


# ---- stopping ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_who_leaves_a_stream_stops_the_app(gateway: Gateway, dify: Dify, kind: str) -> None:
    messages = [{"role": "user", "content": "hold on"}]
    with gateway.wire() as wire:
        wire.send(post(gateway.key, {"model": f"my-{kind}", "messages": messages, "stream": True, "user": "zoë & co"}))
        wire.head()
        next(wire.pieces())
        wire.leave()
    assert dify.tasks[dify.wait_stopped()] == (kind, "zoë & co")


@pytest.mark.parametrize("kind", KINDS)
def test_who_does_not_wait_for_a_whole_answer_stops_the_app(gateway: Gateway, dify: Dify, kind: str) -> None:
    messages = [{"role": "user", "content": "hold on"}]
    with gateway.wire() as wire:
        wire.send(post(gateway.key, {"model": f"my-{kind}", "messages": messages}))
        dify.wait_asked()
        task = list(dify.tasks)[-1]
        until(lambda: f'"{task}"' in gateway.log())  # it has been told what to stop
        wire.leave()
    assert dify.tasks[dify.wait_stopped()][0] == kind


def test_an_app_that_takes_too_long_is_stopped(gateway: Gateway, dify: Dify) -> None:
    answer = gateway.chat("my-hasty", "hold on")
    assert answer.status == 504
    assert dify.wait_stopped(2) != dify.wait_stopped()  # both attempts


def test_a_complete_answer_stops_nothing(gateway: Gateway, dify: Dify) -> None:
    gateway.chat("my-chat")
    gateway.chat("my-chat", stream=True)
    assert not [path for path in dify.paths() if "stop" in path]


# ---- errors ------------------------------------------------------------------------------------------------------


def test_errors_are_told_as_the_table_says(gateway: Gateway, dify: Dify) -> None:
    dify.refuse += [(400, "app_unavailable", "App unavailable, please check your app configurations.")]
    with client_of(gateway) as client, pytest.raises(openai.BadRequestError, match="App unavailable") as found:
        say(client, "my-chat", [], "Hi")
    assert found.value.code == "app_unavailable"
    dify.refuse += [(400, "provider_quota_exceeded", "Your quota has been exhausted.")]
    answer = gateway.chat("my-chat")
    assert (answer.status, answer.json()["error"]["code"]) == (502, "upstream_auth_failed")
    dify.broken.clear()


def test_tools_are_refused_and_parameters_named(gateway: Gateway, dify: Dify) -> None:
    refused = gateway.chat("my-chat", tools=[{"type": "function", "function": {"name": "f"}}])
    assert (refused.status, refused.json()["error"]["param"]) == (400, "tools")
    answer = gateway.chat("my-chat", temperature=0.5, max_tokens=5)
    assert answer.headers["x-polymux-dropped"] == "max_tokens,temperature"
    assert json.loads(answer.body)["usage"]["total_tokens"] == 15


# ---- the documentation -------------------------------------------------------------------------------------------

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_worked_example(language: str) -> None:
    page = (DOCS / language / "dify.md").read_text(encoding="utf-8")
    (config,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    keys = {"DIFY_HELPDESK_KEY": "app-chatflow", "DIFY_HAIKU_KEY": "app-workflow", "API_KEYS": KEY}
    with Dify() as dify:
        here = config.replace("https://dify.corp.example", dify.url)
        with Gateway(here, environment=keys) as gateway:
            there = code.replace("http://127.0.0.1:8000", gateway.url).replace("sk-your-key", gateway.key)
            exec(there, said := {})
    assert dify.broken == []
    (conversation,) = dify.conversations.values()
    assert (conversation.user, conversation.messages) == ("alice", ["My printer smokes.", "It is a laser printer."])
    assert dify.asked()[-1]["inputs"] == {"topic": "rain", "tone": "warm"}
    assert said["poem"].choices[0].message.content == "turn 1: rain"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_form_of_a_history_that_is_told(gateway: Gateway, dify: Dify, language: str) -> None:
    page = (DOCS / language / "dify.md").read_text(encoding="utf-8")
    (form,) = re.findall(r"^```text\n(.*?)\n```$", page, re.MULTILINE | re.DOTALL)
    messages = [
        {"role": "system", "content": "(system prompt)"},
        {"role": "user", "content": "My printer smokes."},
        {"role": "assistant", "content": "Is it a laser printer?"},
        {"role": "user", "content": "It is."},
    ]
    gateway.post({"model": "my-chat", "messages": messages})
    assert dify.asked()[0]["query"] == form

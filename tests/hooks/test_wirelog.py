"""The debug log shows what passes, and no secret, however it is written or cut."""

from __future__ import annotations

import asyncio
import base64
import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polymux.errors import Failure
from polymux.hooks.wirelog import MOST, WireLog
from polymux.types import Call, Deployment, Key, Link, WireRequest
from store.test_journal import record

SECRET = "qwer/tyui+1234567890"
TO = Deployment(
    "corp/gpt",
    "corp",
    "gpt",
    "openai",
    "https://user:pass%2Fword@llm.example/v1?token=tokentoken",
    headers=(("authorization", f"Bearer {SECRET}"), ("user-agent", "polymux/1"), ("x-team", "the-team-1")),
    link=Link(proxy="http://proxyuser:proxypass@proxy.example:3128"),
)
URL = "https://user:pass%2Fword@llm.example/v1/chat/completions?token=tokentoken&api-version="
CALL = Call("req_1", "chat", Key("k", "ada"), "smart", True, {}, b"12345")
EVENTS = [(b"content-type", b"text/event-stream")]
WHOLE = [(b"Content-Type", b"application/json"), (b"set-cookie", b"session=1"), (b"x-ratelimit-limit", b"7")]


class Log:
    def __init__(self, *secrets: str) -> None:
        self.text = ""
        self.tap = WireLog(self.write, secrets)

    def write(self, lines: bytes) -> None:
        assert lines.endswith(b"\n")
        self.text += lines.decode()


def exchange(log: Log, *blocks: bytes, headers: Any = EVENTS, status: int = 200, body: bytes = b"") -> str:
    """One exchange in a task of its own; what was logged."""

    async def run() -> None:
        log.tap.sent(TO, WireRequest("POST", URL, TO.headers, body))
        log.tap.answered(TO, status, headers)
        for block in blocks:
            log.tap.received(TO, block)

    asyncio.run(run())
    return log.text


def test_an_exchange_is_shown() -> None:
    shown = exchange(Log(), b'{"ok":true}', headers=WHOLE, body=b'{"model":"gpt"}')
    assert shown.splitlines() == [
        "#1 > corp/gpt POST https://…@llm.example/v1/chat/completions?token=…&api-version=…",
        "    authorization: …",
        "    user-agent: polymux/1",
        "    x-team: …",
        "#1",
        '    {"model":"gpt"}',
        "#1 < corp/gpt 200",
        "    content-type: application/json",
        "    set-cookie: …",
        "    x-ratelimit-limit: 7",
        "#1",
        '    {"ok":true}',
    ]


def test_a_call_is_shown_in_short() -> None:
    log = Log()

    async def run() -> None:
        await log.tap.admit(CALL)
        log.tap.sent(TO, WireRequest("GET", "http://h/", ()))

    asyncio.run(run())
    log.tap.failed(CALL, TO, Failure("upstream_timeout", f"no\nanswer with {SECRET}"))
    log.tap.ended([record("req_1", status=504, error_code="upstream_timeout", overhead_ms=0.0)])
    assert log.text.splitlines() == [
        "req_1 from 'ada': chat 'smart', stream, 5 bytes",
        "#1 > corp/gpt GET http://h/ req_1",
        "req_1 attempt at corp/gpt failed: upstream_timeout: no\\nanswer with …",
        "req_1 ended: 504 upstream_timeout, 1.5 ms",
    ]


SECRETS = [
    *(SECRET, json.dumps(SECRET)[1:-1].replace("/", "\\/"), "qwer%2Ftyui%2B1234567890", f"Bearer {SECRET}"),
    *("the-team-1", "tokentoken", "pass/word", "pass%2Fword", "proxypass", "client-key-1"),
    base64.b64encode(b"user:pass/word").decode(),
    base64.b64encode(b"proxyuser:proxypass").decode(),
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("headers", [EVENTS, WHOLE])
def test_a_secret_is_hidden_wherever_it_stands(secret: str, headers: Any) -> None:
    body = f'data: {{"error":"you sent {secret}!"}}\n\n'.encode()
    shown = exchange(Log("client-key-1"), body, headers=[*headers, (b"x-request-id", secret.encode())], body=body)
    assert secret not in shown
    assert shown.count("you sent …!") == 2


@given(st.lists(st.integers(0, 120)))
def test_a_secret_in_two_blocks_is_hidden(cuts: list[int]) -> None:
    whole = f"event: error\ndata: {SECRET} and {SECRET}\n\ndata: [DONE]\n\ndata: {SECRET}".encode()
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    shown = exchange(Log(), *(whole[a:b] for a, b in pairwise(places)))
    assert "tyui" not in shown.replace("qwer/", "")
    assert shown.count("…") == 2 + 3 + 3  # headers, the URL's, and these
    assert "    data: [DONE]" in shown


def test_exchanges_beside_each_other_do_not_mix() -> None:
    log = Log()

    async def one(step: asyncio.Barrier) -> None:
        log.tap.sent(TO, WireRequest("GET", "http://h/", ()))
        log.tap.answered(TO, 200, EVENTS)
        for block in (SECRET[:7], SECRET[7:], "\n"):
            await step.wait()
            log.tap.received(TO, block.encode())

    async def both() -> None:
        step = asyncio.Barrier(2)
        await asyncio.gather(one(step), one(step))

    asyncio.run(both())
    assert [line for line in log.text.splitlines() if line.startswith("    ") and ":" not in line] == ["    …", "    …"]


def test_a_long_body_is_cut_and_no_secret_with_it() -> None:
    for short in range(len(SECRET) + 2):
        body = b"a " * ((MOST - short) // 2) + b" " * (short % 2) + SECRET.encode() + b" b" * 100
        shown = exchange(Log(), body=body)
        assert "qw" not in shown
        assert len(shown) < MOST + 1000
    assert "(the rest is not shown)" in exchange(Log(), body=b"a b " * MOST)


def test_a_long_stream_is_cut() -> None:
    shown = exchange(Log(), *[b"data: hello\n\n"] * 20_000)
    assert len(shown) < 4 * MOST
    assert shown.count("(the rest is not shown)") == 1


def test_a_line_without_end_is_bounded() -> None:
    log = Log()
    shown = exchange(log, *[b"a b " * 1000] * 100)
    assert len(shown) < 2 * MOST


def test_a_secret_as_long_as_an_image_is_not_begun() -> None:
    secret = "Zq9" + "kT4vLm2Xw8" * 60
    assert secret[:8] not in exchange(Log(secret), f'{{"echo":"{secret}"}}'.encode())


def test_images_are_shortened() -> None:
    data = base64.b64encode(bytes(100_000))
    shown = exchange(Log(), body=b'{"url":"data:image/png;base64,' + data + b'","text":"after"}')
    assert '{"url":"data:image/png;base64,AAAA...(133336 bytes)","text":"after"}' in shown


def test_what_others_write_cannot_pass_for_ours() -> None:
    shown = exchange(Log(), b"data: x\r\n#9 > forged\x1b[2J\n\xff\n", headers=[(b"server", b"a\x1b]0;b")])
    assert "\x1b" not in shown
    assert "\n#9" not in shown
    assert "    #9 > forged\\x1b[2J" in shown


def test_an_answer_that_ends_within_a_line_is_shown() -> None:
    assert "    data: half" in exchange(Log(), b"data: half")
    assert "    bad gateway" in exchange(Log(), b"bad gateway", status=502, headers=[])

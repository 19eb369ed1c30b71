"""Bodies that no client should send: the documented error with the right `param`, or the right answer, never a 500.

Lanes: `relay` (the provider speaks the client's dialect and judges types itself), `translated`, and function models:
`function`, and `parameters`, which looks at the request's members as well.
The gateway is alive afterwards, and its log has no traceback.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.gateway import KEY, Gateway
from support.raw import Answer, Wire, ask, build
from support.scripts import SSE, Script
from support.taking import Taking
from support.upstream import Upstream

MEBIBYTE: Final = 1 << 20
LANES: Final = {"relay": "plain/any", "translated": "other/any", "function": "any", "parameters": "params"}
FUNCTIONS: Final = """
from polymux import model


@model("any")
def any_messages(messages):
    return "ok"


@model("params")
def any_parameters(messages, call):
    return str(len(call.params))
"""
CONFIG: Final = """
[auth]
keys = ["{key}"]

[limits]
rpm = 1000000

[defaults]
retries = 0

[providers.plain]
preset = "openai-compatible"
base_url = "{url}/v1"
api_key = "none"

[providers.other]
preset = "anthropic-compatible"
base_url = "{url}"
api_key = "none"
"""
HEADERS: Final = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
MESSAGES: Final = b'"messages":[{"role":"user","content":"hi"}]'
OK: Final = (200, None, None)

Outcome = tuple[int, str | None, str | None]  # status, code, param


@pytest.fixture(scope="module")
def provider() -> Iterator[Taking]:
    with Taking() as running:
        yield running


@pytest.fixture(scope="module")
def house(provider: Taking) -> Iterator[Gateway]:
    config = CONFIG.format(key=KEY, url=provider.url)
    with Gateway(config, arguments=("--functions", "any.py"), files={"any.py": FUNCTIONS}) as running:
        yield running
        assert all(send(running, b'{"model":"%s",%s}' % (m.encode(), MESSAGES)).status == 200 for m in LANES.values())
        running.stop()
        assert "Traceback" not in running.log(), running.log()


def send(gateway: Gateway, body: bytes, **headers: str) -> Answer:
    given = {**HEADERS, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return ask(gateway.url, build("POST", "/v1/chat/completions", given, body))


def outcome(answer: Answer) -> Outcome:
    if answer.status == 200:
        return OK
    error = answer.error()
    assert error["message"]
    return answer.status, error["code"], error["param"]


def members(more: bytes) -> bytes:
    return b'{"model":"MODEL",' + more + b"," + MESSAGES + b"}"


def user(content: bytes) -> bytes:
    return b'{"model":"MODEL","messages":[{"role":"user","content":' + content + b"}]}"


def tool(schema: bytes) -> bytes:
    return members(b'"tools":[{"type":"function","function":{"name":"f","parameters":' + schema + b"}}]")


# ---- what is not JSON --------------------------------------------------------------------------------------------

PLAIN: Final = members(b'"user":"x"')
NOT_JSON: Final[Mapping[str, tuple[bytes, str]]] = {
    "nothing": (b"", "empty"),
    "blanks": (b" \r\n\t", "empty"),
    "null": (b"null", "object"),
    "a list": (b"[" + PLAIN + b"]", "object"),
    "a string": (b'"hi"', "object"),
    "a number": (b"1", "object"),
    "cut short": (PLAIN[:-1], "truncated"),
    "two of them": (PLAIN * 2, "trailing"),
    "a NUL behind": (PLAIN + b"\0", "trailing"),
    "a comma too many": (PLAIN[:-1] + b",}", "trailing comma"),
    "single quotes": (PLAIN.replace(b'"', b"'"), ""),
    "a comment": (b"/* hi */" + PLAIN, ""),
    "bare keys": (b"{model:1}", ""),
    "NaN": (members(b'"temperature":NaN'), ""),
    "Infinity": (members(b'"temperature":Infinity'), ""),
    "-Infinity": (members(b'"x":-Infinity'), ""),
    "hexadecimal": (members(b'"seed":0x10'), ""),
    "a leading zero": (members(b'"seed":01'), ""),
    "a bare minus": (members(b'"seed":-'), ""),
    "half a number": (members(b'"temperature":1.'), ""),
    "True": (members(b'"store":True'), ""),
    "a line break in a string": (user(b'"a\nb"'), ""),
    "a NUL in a string": (user(b'"a\0b"'), ""),
    "an unknown escape": (user(b'"\\x41"'), ""),
    "half an escape": (user(b'"\\u12"'), ""),
    "invalid UTF-8": (user(b'"\xff\xfe"'), "UTF-8"),
    "invalid UTF-8 where nobody looks": (members(b'"x":{"y":["\xc3\x28"]}'), "UTF-8"),
    "overlong UTF-8": (user(b'"\xc0\xaf"'), "UTF-8"),
    "a surrogate in UTF-8": (user(b'"\xed\xa0\x80"'), "UTF-8"),
    "Latin-1": (user('"é"'.encode("latin-1")), "UTF-8"),
    "GBK": (user('"你好"'.encode("gbk")), "UTF-8"),
    "invalid UTF-8 behind a long text": (user(b'"' + b"\xe4\xbd\xa0" * 600_000 + b'\xe4\xbd"'), "UTF-8"),
    "a byte-order mark": (b"\xef\xbb\xbf" + PLAIN, "byte-order mark"),
    "UTF-16": (PLAIN.decode().encode("utf-16"), "UTF-16"),
    "UTF-16 without a mark": (PLAIN.decode().encode("utf-16-le"), "UTF-16"),
    "UTF-32": (PLAIN.decode().encode("utf-32-be"), "UTF-16"),
    "a form": (b"model=any&messages=hi", ""),
    "gzip": (gzip.compress(PLAIN, mtime=0), "compressed"),
    "half a pair in a text": (user(b'"\\ud83d"'), "surrogate"),
    "the other half": (user(b'"\\ude00 and more"'), "surrogate"),
    "a pair the wrong way round": (user(b'"\\ude00\\ud83d"'), "surrogate"),
    "half a pair in a key": (members(b'"\\ud800":1'), "surrogate"),
    "half a pair where nobody looks": (members(b'"x":{"y":["\\udfff"]}'), "surrogate"),
    "half a pair in the model": (b'{"model":"MODEL\\ud800",' + MESSAGES + b"}", "surrogate"),
    "100,000 levels": (b"[" * 100_000 + b"]" * 100_000, ""),
    "100,000 levels open": (b"[" * 100_000, ""),
    "100,000 levels of messages": (b'{"model":"MODEL","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "deep"),
    "100,000 levels of content": (user(b"[" * 100_000 + b"]" * 100_000), "deep"),
    "100,000 levels of a tool": (tool(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "deep"),
    "100,000 levels of what nobody knows": (members(b'"x":' + b"[" * 100_000 + b"]" * 100_000), "deep"),
}


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("name", NOT_JSON)
def test_what_is_no_json_is_told_so(house: Gateway, name: str, lane: str) -> None:
    body, word = NOT_JSON[name]
    answer = send(house, body.replace(b"MODEL", LANES[lane].encode()))
    assert outcome(answer) == (400, "invalid_json", None)
    assert answer.error()["type"] == "invalid_request_error"
    assert word in answer.error()["message"]
    assert len(answer.body) < 1000  # nothing of the body is quoted


@pytest.mark.parametrize("again", [b'"model"', b'"mod\\u0065l"', b'"\\u006dodel"', b'"messages"', b'"x"'])
@pytest.mark.parametrize("lane", LANES)
def test_a_member_twice_is_told_by_its_name(house: Gateway, again: bytes, lane: str) -> None:
    body = members(b'"x":1,' + again + b":1").replace(b"MODEL", LANES[lane].encode())
    assert outcome(send(house, body)) == (400, "invalid_json", json.loads(again))


# ---- what is JSON ------------------------------------------------------------------------------------------------

WRONG_TYPE: Final = "invalid_type"
ODD: Final[Mapping[str, tuple[bytes, Outcome | None]]] = {  # None = fine; else what the lanes that read it say
    "an escaped key": (b'{"mod\\u0065l":"MODEL",' + MESSAGES + b"}", None),
    "an escaped pair": (user(b'"\\ud83d\\ude00"'), None),
    "NUL escaped": (user(b'"a\\u0000b"'), None),
    "keys twice further down": (b'{"model":"MODEL","messages":[{"role":"user","role":"user","content":"a"}]}', None),
    "a key without letters": (members(b'"":1'), None),
    "a key that would forge a header": (members(b'"a\\r\\nx-forged: 1":1'), None),
    "minus zero": (members(b'"temperature":-0,"seed":-0,"top_p":-0.0'), None),
    "a huge number": (members(b'"temperature":1e999'), (400, WRONG_TYPE, "temperature")),
    "a tiny number": (members(b'"temperature":1e-999'), None),
    "400 digits": (members(b'"seed":' + b"9" * 400), None),
    "5,000 digits": (members(b'"seed":' + b"9" * 5000), (400, WRONG_TYPE, "seed")),
    "a huge number where nobody looks": (members(b'"x":1e999'), None),
    "400 digits in a tool": (tool(b'{"type":"object","maximum":' + b"9" * 400 + b"}"), None),
    "no messages": (b'{"model":"MODEL","messages":[]}', (400, "invalid_value", "messages")),
    "null messages": (b'{"model":"MODEL","messages":null}', (400, WRONG_TYPE, "messages")),
    "a message without a role": (
        b'{"model":"MODEL","messages":[{"content":"x"}]}',
        (400, "missing_required_parameter", "messages[0].role"),
    ),
    "a role that is none": (
        b'{"model":"MODEL","messages":[{"role":"king","content":"x"}]}',
        (400, "invalid_value", "messages[0].role"),
    ),
    "a part without a type": (
        user(b'[{"text":"x"}]'),
        (400, "missing_required_parameter", "messages[0].content[0].type"),
    ),
    "20,000 messages": (
        b'{"model":"MODEL","messages":[' + b",".join([b'{"role":"user","content":"x"}'] * 20_000) + b"]}",
        None,
    ),
    "5,000 tools": (members(b'"tools":[' + b",".join([b'{"function":{"name":"f"}}'] * 5000) + b"]"), None),
    "20,000 members": (members(b",".join(b'"k%d":1' % n for n in range(20_000))), None),
}


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("name", ODD)
def test_odd_json_is_answered_or_told_what_is_wrong(house: Gateway, name: str, lane: str) -> None:
    body, refused = ODD[name]
    answer = send(house, body.replace(b"MODEL", LANES[lane].encode()))
    if name == "a huge number where nobody looks" and lane == "parameters":
        refused = (400, "invalid_value", "x")
    assert outcome(answer) == (OK if lane == "relay" or refused is None else refused)
    assert "x-forged" not in answer.headers
    assert sum(len(name) + len(value) for name, value in answer.headers.items()) < 4096


@pytest.mark.parametrize("levels", range(900, 1000, 3))
@pytest.mark.parametrize("lane", LANES)
def test_nesting_is_read_or_refused_at_any_depth(house: Gateway, levels: int, lane: str) -> None:
    """What is just read where it is looked at first may be too deep where it is looked at again."""
    deep = b"[" * levels + b"]" * levels
    stream = b'"stream":true,"stream_options":{"include_usage":false,"x":' + deep + b"}"
    for more in (b'"x":' + deep, b'"metadata":{"x":' + deep + b"}", stream):
        body = members(more).replace(b"MODEL", LANES[lane].encode())
        assert outcome(send(house, body)) in (OK, (400, "invalid_json", None))
    body = tool(b'{"type":"object","x":' + deep + b"}").replace(b"MODEL", LANES[lane].encode())
    assert outcome(send(house, body)) in (OK, (400, "invalid_json", None))


# ---- wrong types everywhere --------------------------------------------------------------------------------------

VALUES: Final = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    10**30,
    "",
    "text",
    [],
    [1],
    ["a"],
    [[]],
    [{}],
    [None],
    {},
    {"a": 1},
    {"type": 1},
)


def request_members() -> list[str]:
    from polymux.schema.chat import ChatRequest

    return list(ChatRequest.__struct_fields__)


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("name", request_members())
def test_a_value_of_any_type_is_taken_or_refused_by_name(house: Gateway, name: str, lane: str) -> None:
    base: dict[str, Any] = {"model": LANES[lane], "messages": [{"role": "user", "content": "hi"}]}
    with Wire(house.url) as wire:
        for value in VALUES:
            wire.send(build("POST", "/v1/chat/completions", HEADERS, json.dumps(base | {name: value}).encode()))
            answer = wire.answer()
            status, code, param = outcome(answer)
            if status == 200:
                continue
            assert (status, code) in DOCUMENTED, (value, answer.body)
            assert re.split(r"[.\[]", param or "")[0] == name, (value, answer.body)


DOCUMENTED: Final = {
    (400, "invalid_type"),
    (400, "invalid_value"),
    (400, "missing_required_parameter"),
    (400, "unsupported_parameter"),
    (400, "unsupported_content"),
    (404, "model_not_found"),
}


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("missing", ["model", "messages"])
def test_what_is_missing_is_named(house: Gateway, missing: str, lane: str) -> None:
    body = {"model": LANES[lane], "messages": [{"role": "user", "content": "hi"}]}
    del body[missing]
    assert outcome(send(house, json.dumps(body).encode())) == (400, "missing_required_parameter", missing)


# ---- names of models ---------------------------------------------------------------------------------------------

NAMES: Final[Mapping[str, tuple[str, int]]] = {
    "line breaks": ("any\r\nx-forged: 1", 0),
    "a NUL": ("any\0", 0),
    "an escape sequence": ("any\x1b[31m", 0),
    "Chinese": ("嗯", 0),
    "a right-to-left mark": ("any\u202e", 0),
    "quotes": ("\"'`", 0),
    "a path": ("../../etc/passwd", 0),
    "a query": ("?x=1#y", 0),
    "a template": ("{0}%s%d${x}", 0),
    "1,000 characters": ("a" * 1000, 404),
    "a million": ("a" * 1_000_000, 404),
}


@pytest.mark.parametrize("provider_name", ["plain", "other"])
@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_model_is_one_value_of_a_header(house: Gateway, name: str, provider_name: str) -> None:
    model, status = NAMES[name]
    answer = send(
        house,
        json.dumps({"model": f"{provider_name}/{model}", "messages": [{"role": "user", "content": "x"}]}).encode(),
    )
    assert answer.status == (status or 200)
    assert "x-forged" not in answer.headers
    assert all(value.isascii() and value.isprintable() and len(value) < 1024 for value in answer.headers.values())
    if status:
        assert outcome(answer) == (404, "model_not_found", "model")
        assert len(answer.body) < 2000


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_model_is_told_whatever_its_name(house: Gateway, name: str) -> None:
    body = {"model": f"no{NAMES[name][0]}", "messages": [{"role": "user", "content": "x"}]}
    answer = send(house, json.dumps(body).encode())
    assert outcome(answer) == (404, "model_not_found", "model")
    assert len(answer.body) < 2000


# ---- how bodies are declared -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=gbk", "", "x"]
)
def test_json_is_taken_however_it_is_declared(house: Gateway, kind: str) -> None:
    assert send(house, user(b'"hi"').replace(b"MODEL", b"any"), content_type=kind).status == 200


def test_json_is_taken_undeclared(house: Gateway) -> None:
    body = user(b'"hi"').replace(b"MODEL", b"any")
    head = {"authorization": HEADERS["authorization"]}
    assert ask(house.url, build("POST", "/v1/chat/completions", head, body)).status == 200


@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        (
            gzip.compress(PLAIN, mtime=0),
            {"content_encoding": "gzip"},
            "content-encoding is 'gzip'; send the body uncompressed",
        ),
        (b"\x8b\x02\x80{}\x03", {"content_encoding": "br"}, "content-encoding is 'br'; send the body uncompressed"),
        (b"model=a", {"content_type": "application/x-www-form-urlencoded"}, "send application/json"),
        (b"--x\r\n\r\n--x--", {"content_type": "multipart/form-data; boundary=x"}, "'multipart/form-data; boundary=x'"),
    ],
)
def test_what_is_no_json_is_told_by_its_headers_too(
    house: Gateway, body: bytes, headers: dict[str, str], words: str
) -> None:
    answer = send(house, body, **headers)
    assert outcome(answer) == (400, "invalid_json", None)
    assert words in answer.error()["message"]


# ---- mutations ---------------------------------------------------------------------------------------------------

VALID: Final[dict[str, Any]] = {
    "model": "MODEL",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": "http://x/y.png"}}],
        },
        {
            "role": "assistant",
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "1"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    "stop": ["a"],
    "stream_options": {"include_usage": True},
    "stream": True,
    "temperature": 0.5,
    "max_tokens": 5,
    "reasoning_effort": "low",
    "metadata": {"a": "b"},
}
LEAVES: Final = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["function", "text", "auto"]),
)
JSON_VALUES: Final = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value inside another one."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from paths(inner, (*path, key))


def mutated(value: Any, path: tuple[Any, ...], new: Any, *, drop: bool) -> Any:
    value = json.loads(json.dumps(value))
    place = value
    for key in path[:-1]:
        place = place[key]
    if drop:
        del place[path[-1]]
    else:
        place[path[-1]] = new
    return value


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.sampled_from(list(paths(VALID))), JSON_VALUES, st.booleans(), st.binary(max_size=3), st.integers(0, 2000))
def test_a_valid_request_with_anything_in_any_place_gets_a_documented_answer(
    house: Gateway, path: tuple[Any, ...], new: Any, drop: bool, raw: bytes, at: int
) -> None:
    """A value replaced by another or dropped, and some bytes of the text overwritten."""
    text = json.dumps(mutated(VALID, path, new, drop=drop)).encode()
    torn = text[:at] + raw + text[at + len(raw) :]
    with Wire(house.url) as wire:
        for model in LANES.values():
            for body in (text, torn):
                sent = body.replace(b"MODEL", model.encode())
                wire.send(build("POST", "/v1/chat/completions", HEADERS, sent))
                answer = wire.answer()
                if answer.status == 200:
                    assert answer.headers["content-type"].startswith(("application/json", "text/event-stream"))
                    continue
                status, code, _ = outcome(answer)
                assert (status, code) in DOCUMENTED | {(400, "invalid_json")}, (sent, answer.body)


# ---- memory ------------------------------------------------------------------------------------------------------

SIZE: Final = 20 * MEBIBYTE


def memory(gateway: Gateway, name: str) -> int:
    """VmRSS or VmHWM (the highest it has been) in bytes."""
    assert gateway.process is not None
    status = Path(f"/proc/{gateway.process.pid}/status").read_text(encoding="ascii")
    return int(status.partition(f"{name}:")[2].split()[0]) * 1024


def measured(provider: Taking) -> Gateway:
    """A gateway whose allocator gives large blocks back at once: what is resident is what is held."""
    files, environment = {"any.py": FUNCTIONS}, {"MALLOC_MMAP_THRESHOLD_": str(MEBIBYTE)}
    config = CONFIG.format(key=KEY, url=provider.url)
    return Gateway(config, arguments=("--functions", "any.py"), files=files, environment=environment)


def image(model: str, more: bytes = b"") -> bytes:
    uri = b'[{"type":"image_url","image_url":{"url":"data:image/png;base64,' + b"iVBO" * (SIZE // 4) + b'"}}]'
    return user(uri).replace(b"MODEL", model.encode())[:-1] + more + b"}"


@pytest.mark.parametrize(("lane", "copies"), [("relay", 1), ("translated", 2), ("function", 2)])
def test_a_large_image_is_copied_twice_at_most(provider: Taking, lane: str, copies: int) -> None:
    """Beside the body itself, at any moment."""
    with measured(provider) as gateway:
        assert send(gateway, user(b'"hi"').replace(b"MODEL", LANES[lane].encode())).status == 200
        before = memory(gateway, "VmRSS")
        assert send(gateway, image(LANES[lane])).status == 200
        assert memory(gateway, "VmHWM") - before < (1 + copies) * SIZE + 8 * MEBIBYTE


def test_refused_bodies_are_not_kept(provider: Taking) -> None:
    """A failure must not hold its request until some later garbage collection."""
    with measured(provider) as gateway:
        body = image("other/any", b',"temperature":"warm"')
        assert outcome(send(gateway, body)) == (400, "invalid_type", "temperature")
        before = memory(gateway, "VmRSS")
        for model in ("other/any", "any", "no-model") * 3:
            assert send(gateway, image(model, b',"temperature":"warm"')).status in (400, 404)
        assert memory(gateway, "VmRSS") - before < 2 * SIZE


@pytest.mark.parametrize("provider_name", ["corp", "claude"])
def test_an_event_without_end_is_given_up(gateway: Gateway, upstream: Upstream, provider_name: str) -> None:
    upstream.script("endless", Script(headers=SSE, framing="close", frames=(b"data: ", *[b"x" * MEBIBYTE] * 40)))
    answer = gateway.chat(f"{provider_name}/endless", stream=True)
    assert outcome(answer) == (502, "upstream_unavailable", None)
    assert "exceeds 32 MiB" in answer.error()["message"]
    assert upstream.wait("endless").sent < 40 * MEBIBYTE

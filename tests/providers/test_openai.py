"""The lanes of OpenAI's dialect: the relay and its mender on the golden streams; requests; damaged answers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import golden_harness as harness
from polymux.errors import Failure, Truncated
from polymux.providers.base import Asked
from polymux.providers.openai import OpenAI
from polymux.types import NO_USAGE, Call, Deployment, Key, Quirks, Usage
from polymux.wire import splice
from polymux.wire.sse import Decoder, encode

Json = Any
STEADY = settings(derandomize=True, deadline=None)
DONE = b"data: [DONE]\n\n"
TO = Deployment("p/m", "p", "m", "openai", "https://llm.example/v1", (("authorization", "Bearer k"),))

STREAMED = {
    path.stem: case
    for path in sorted((harness.ROOT / "openai").glob("*.txt"))
    if "wire stream" in (case := harness.read_case(path)).sections
}


def quirks_of(case: harness.Case) -> Quirks:
    return harness.deployment_of(case, harness.Dialect(OpenAI(), TO, "", ())).quirks


# those whose answers mean what they mean whoever the provider is, and those that need its row to be read
STREAMS = {name: case for name, case in STREAMED.items() if not (quirks_of(case).tags or quirks_of(case).fault)}
OWN = {name: case for name, case in STREAMED.items() if name not in STREAMS}


def call_of(body: bytes, *, stream: bool = True, wants_usage: bool = True) -> Call:
    return Call("1", "chat", Key("k", "k"), "public", stream, splice.parse(body), body, wants_usage)


ASKED = call_of(b"{}", stream=False)


def lane_of(quirks: Quirks, wants_usage: bool) -> Any:
    to = msgspec.structs.replace(TO, quirks=quirks)
    return OpenAI().relay_reader(call_of(b"{}", wants_usage=wants_usage), to)


class Sent:
    """What a lane makes of a body in pieces: the client's bytes, and what it took down on the way."""

    def __init__(
        self, pieces: Iterable[bytes], *, repair: bool = False, wants_usage: bool = True, quirks: Quirks | None = None
    ) -> None:
        lane = lane_of(quirks or Quirks(repair=repair), wants_usage)
        self.out = b""
        self.ended: object = "complete"
        try:
            for piece in pieces:
                self.out += lane.feed(piece)
            self.out += lane.close()
        except Truncated:
            self.ended = "truncated"
        except Failure as failure:
            self.ended = harness.plain_failure(failure)
        self.content, self.usage, self.malformed, self.done = lane.content, lane.usage, lane.malformed, lane.done
        assert (lane.failed is not None) == isinstance(self.ended, dict)

    @property
    def events(self) -> list[bytes]:
        return [data for _, data in Decoder().feed(self.out)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sent) and vars(self) == vars(other)

    __hash__ = None

    def __repr__(self) -> str:
        return f"{vars(self)}"


def body_of(name: str) -> bytes:
    return harness.stream_of(STREAMS[name])


def dressed(body: bytes) -> bytes:
    """The same events among all that framing allows and clients do not bear."""
    noise = b": comment\n\nid: 7\n\nevent: ping\n\nretry: 5\n\ndata:\n\n"
    return noise + body.replace(b"data: ", b"id: 8\n: comment\nevent: x\ndata: ") + noise


def untouched(name: str, wants_usage: bool) -> bytes:
    """The bytes a client gets of a golden stream that is relayed."""
    out = b""
    for data in (data for _, data in Decoder().feed(body_of(name)) if data != b"[DONE]"):
        chunk = json.loads(data)
        if chunk.get("error"):
            return out
        if wants_usage or chunk["choices"] or not chunk.get("usage"):
            out += encode(data)
    return out


# ---- the relay ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wants_usage", [True, False])
@pytest.mark.parametrize("name", [name for name in STREAMS if name != "two-choices-cut"])  # see the next test
def test_a_relayed_stream_is_the_upstreams_bytes(name: str, wants_usage: bool) -> None:
    sent = Sent([body_of(name)], wants_usage=wants_usage)
    failure = STREAMS[name].sections.get("failure")
    if failure is None:
        assert sent.ended == "complete"
        assert sent.out == untouched(name, wants_usage) + DONE
        assert sent.out.count(b"[DONE]") == 1
    else:
        kind = json.loads(failure)
        assert sent.ended == ("truncated" if kind == {"kind": "truncated"} else kind)
        assert sent.out == untouched(name, wants_usage)


def test_the_relay_takes_one_finish_for_the_end() -> None:
    """Where the upstream sends no end mark: to count choices would cost every chunk a look."""
    assert Sent([body_of("two-choices-cut")]).ended == "complete"


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize("name", STREAMS)
def test_every_cut_gives_the_same(name: str, repair: bool) -> None:
    body = body_of(name)
    whole = Sent([body], repair=repair, wants_usage=False)
    assert Sent([body[n : n + 1] for n in range(len(body))], repair=repair, wants_usage=False) == whole
    for cut in range(1, len(body), 1 if len(body) < 1000 else 7):
        assert Sent([body[:cut], body[cut:]], repair=repair, wants_usage=False) == whole, f"cut at byte {cut}"
    events = body.split(b"\n\n")
    assert Sent([event + b"\n\n" for event in events if event], repair=repair, wants_usage=False) == whole
    for seed in range(20):
        assert Sent(harness.random_pieces(body, seed), repair=repair, wants_usage=False) == whole, f"seed {seed}"


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
@pytest.mark.parametrize("name", STREAMS)
def test_framing_is_normalised(name: str, end: bytes, repair: bool) -> None:
    whole = Sent([body_of(name)], repair=repair)
    for body in (dressed(body_of(name)), dressed(body_of(name)).replace(b"\n", end), b"\xef\xbb\xbf" + body_of(name)):
        assert Sent([body], repair=repair) == whole
        assert Sent([body[n : n + 1] for n in range(len(body))], repair=repair) == whole


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize("name", STREAMS)
def test_every_stream_is_truncated_until_it_ends(name: str, repair: bool) -> None:
    events = [data for _, data in Decoder().feed(body_of(name))]
    whole = Sent([body_of(name)], repair=repair)
    wanted = 2 if repair and name.startswith("two-choices") else 1
    for count in range(len(events)):
        head = events[:count]
        sent = Sent(map(encode, head), repair=repair)
        finished = sum(b'"finish_reason":"' in data for data in head) >= wanted
        if any(json.loads(data).get("error") for data in head if data != b"[DONE]"):
            assert sent.ended == whole.ended
        else:
            assert sent.ended == ("complete" if finished or b"[DONE]" in head else "truncated"), head
        assert (DONE in sent.out) == (sent.ended == "complete")


PIECES = st.sampled_from(
    [
        b'data: {"choices":[{"delta":{"content":"x"}}]}',
        b'data: {"choices":[{"delta":{"role":"assistant"}}]}',
        b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}',
        b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}',
        b'data: {"choices":[{"usage":{"prompt_tokens":4}}],"usage":null}',
        b'data: {"error":{"message":"no"}}',
        b"data: [DONE]",
        b"data: {",
        b'data: "x":1}',
        b'\n"usage":{"prompt_tokens":9}}',
        b'{"choices":[]}',
        b'data: {"choices":[{"delta":{"content":"\xff"}}]}',
        b"data: {}",
        b": comment",
        b"id: 1",
        b"event: x",
        b"}",
        b"\n\n",
        b"\n\n",
        b"\n\n",
        b"\n\n",
        b"\n",
        b"\r\n\r\n",
        b"\r",
    ]
)


@settings(derandomize=True, deadline=None, max_examples=1000)
@given(st.lists(PIECES, max_size=24).map(b"".join), st.booleans(), st.booleans(), st.data())
def test_what_comes_out_does_not_depend_on_the_cuts(body: bytes, repair: bool, wants: bool, data: Any) -> None:
    """Reads of whole events take a short way; it must lead to the same place."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    slow = Sent([body[n : n + 1] for n in range(len(body))], repair=repair, wants_usage=wants)
    assert Sent(pieces, repair=repair, wants_usage=wants) == slow
    for line in slow.out.split(b"\n"):
        assert line == b"" or line.startswith(b"data: ")


STOPPED = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'


@pytest.mark.parametrize(
    "odd",
    [
        b'\ndata: {"usage":{"prompt_tokens":1}}\n\n',
        b'data: {\n"usage":{"prompt_tokens":1}}\n\ndata: {"usage":{"prompt_tokens":1}}\n\n',
        b'data: {"usage":{"prompt_tokens":1}}\n{"choices":[]}\n\n',
        b'data: {"usage":{"prompt_tokens":1}} {"choices":[]}\n\ndata: {"usage":{"prompt_tokens":1}}\n\n',
    ],
)
def test_what_looks_plainly_framed_and_is_not(odd: bytes) -> None:
    """The short way decodes all lines of a read at once: blank, broken and foreign lines must not mislead it."""
    for wants in (False, True):
        body = STOPPED + odd
        sent = Sent([body], wants_usage=wants)
        assert sent == Sent([body[n : n + 1] for n in range(len(body))], wants_usage=wants)
        assert len(sent.events) == 2 + wants
        assert sent.usage.input == 1


ONE = b'{"choices":[{"index":0,"delta":{"content":"a"}}]}'
STOP = b'{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
ERROR = b'{"error":{"message":"no","code":429}}'


@pytest.mark.parametrize("repair", [False, True])
def test_an_error_ends_it_and_what_came_before_is_given_out(repair: bool) -> None:
    lane = lane_of(Quirks(repair=repair), True)
    out = lane.feed(encode(ONE) + encode(ERROR) + encode(ONE) + DONE)
    assert [json.loads(data)["choices"][0]["delta"]["content"] for _, data in Decoder().feed(out)] == ["a"]
    assert (lane.failed.kind, lane.failed.status) == ("upstream_rate_limited", 429)
    assert lane.feed(encode(ONE)) == b""
    with pytest.raises(Failure, match="no"):
        lane.close()


@pytest.mark.parametrize("repair", [False, True])
def test_an_error_as_the_last_unended_event(repair: bool) -> None:
    lane = lane_of(Quirks(repair=repair), True)
    assert lane.feed(encode(ONE) + b"data: " + ERROR)
    assert lane.failed is None
    with pytest.raises(Failure, match="no"):
        lane.close()


@pytest.mark.parametrize("repair", [False, True])
@pytest.mark.parametrize(
    ("delta", "content"),
    [
        ({"role": "assistant"}, False),
        ({"role": "assistant", "content": ""}, False),
        ({"role": "assistant", "content": None, "refusal": None}, False),
        ({"role": "assistant", "content": "", "reasoning_content": ""}, False),
        ({"content": "a"}, True),
        ({"reasoning_content": "a"}, True),
        ({"reasoning": "a"}, True),
        ({"refusal": "a"}, True),
        ({"function_call": {"name": "f"}}, True),
        ({"audio": {"id": "a"}}, True),
        ({"role": "assistant", "tool_calls": [{"index": 0, "id": "c", "function": {"name": "f"}}]}, True),
    ],
)
def test_a_role_alone_is_not_content(delta: Json, content: bool, repair: bool) -> None:
    lane = lane_of(Quirks(repair=repair), True)
    lane.feed(encode(json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode()))
    assert lane.content is content


@pytest.mark.parametrize("repair", [False, True])
def test_what_is_no_chunk_is_left_out_and_counted(repair: bool) -> None:
    bad = [b"not JSON", b"[1]", b'"x"', b'{"choices":1', b"[" * 100_000]
    if repair:  # the relay does not look at text
        bad.append(b'{"choices":[{"delta":{"content":"\xff"}}]}')
    sent = Sent([*map(encode, [*bad, ONE, STOP]), DONE], repair=repair)
    assert sent.ended == "complete"
    assert sent.malformed == len(bad)
    texts = [json.loads(data)["choices"][0]["delta"].get("content") for data in sent.events[:-1]]
    assert texts == ["a", None]


@pytest.mark.parametrize("repair", [False, True])
def test_the_last_event_may_lack_its_end(repair: bool) -> None:
    assert Sent([encode(ONE) + b"data: " + STOP], repair=repair) == Sent([encode(ONE) + encode(STOP)], repair=repair)


@pytest.mark.parametrize("repair", [False, True])
def test_the_end_mark_is_remembered(repair: bool) -> None:
    lane = lane_of(Quirks(repair=repair), True)
    lane.feed(encode(STOP))
    assert not lane.done
    lane.feed(encode(STOP) + DONE)
    assert lane.done
    lane.feed(encode(STOP))
    assert lane.done


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        ("usage", Usage(2006, 300, 1920, 64, 256)),
        ("usage-on-finish", Usage(12, 4)),
        ("usage-running", Usage(12, 4)),
        ("usage-in-choice", Usage(12, 4)),
        ("usage-with-choice", Usage(12, 4)),
        ("usage-twice", Usage(12, 4)),
        ("usage-reasoning-apart", Usage(32, 103, 6, 0, 94)),
        ("usage-no-total", Usage(12, 4)),
        ("usage-none", NO_USAGE),
        ("reasoning", Usage(12, 40, 0, 0, 36)),
    ],
)
def test_both_lanes_count_the_same_usage(name: str, usage: Usage) -> None:
    for repair in (False, True):
        for wants in (False, True):
            assert Sent([body_of(name)], repair=repair, wants_usage=wants).usage == usage
    whole = harness.pretty(STREAMS[name].json("wire reply")).encode()
    for repair in (False, True):
        to = msgspec.structs.replace(TO, quirks=Quirks(repair=repair))
        assert OpenAI().relay_whole(whole, ASKED, to)[1] == usage, "buffered"


# ---- the mender --------------------------------------------------------------------------------------------------


def chunks_of(sent: Sent) -> list[Json]:
    *chunks, end = sent.events
    assert end == b"[DONE]"
    return [json.loads(data) for data in chunks]


@pytest.mark.parametrize("name", [name for name, case in STREAMS.items() if "failure" not in case.sections])
def test_a_mended_stream_is_what_the_reader_gives_but_for_the_names_of_the_upstream(name: str) -> None:
    chunks = chunks_of(Sent([body_of(name)], repair=True))
    named = [chunk | {"created": harness.CREATED, "model": "m"} for chunk in chunks]
    harness.check_chunks(harness.Outcome(named), "m")
    expected = [json.loads(line) for line in STREAMS[name].sections["chunks"].splitlines()]
    merged, wanted = harness.merge(chunks), harness.merge(expected)
    for usage in (merged.pop("usage"), wanted.pop("usage")):
        assert bool(usage) == ("usage" in STREAMS[name].sections)
    assert merged == wanted
    without = chunks_of(Sent([body_of(name)], repair=True, wants_usage=False))
    assert without == [chunk for chunk in chunks if chunk["choices"]]


@pytest.mark.parametrize("name", OWN)
def test_answers_that_need_their_row_are_mended_by_it(name: str) -> None:
    """The same as through the reader, however they are cut, and the failure that ends them."""
    case, body, quirks = OWN[name], harness.stream_of(OWN[name]), quirks_of(OWN[name])
    whole = Sent([body], quirks=quirks)
    assert Sent([body[n : n + 1] for n in range(len(body))], quirks=quirks) == whole
    expected = [json.loads(line) for line in case.sections["chunks"].splitlines()]
    if "failure" in case.sections:
        assert whole.ended == case.json("failure")
        return
    merged, wanted = harness.merge(chunks_of(whole)), harness.merge(expected)
    merged.pop("usage"), wanted.pop("usage")
    assert merged == wanted


def test_the_mender_keeps_what_it_does_not_know() -> None:
    call = {"id": "c", "function": {"name": "f", "x": 2}, "extra_content": {"s": 1}}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "cost": 4}
    stream = [
        {"id": "a", "provider": "x", "choices": [{"index": 0, "delta": {"content": "a", "new": 1}, "native": "n"}]},
        {"id": "b", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]},
        {"id": "b", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": "eos"}]},
        {"id": "b", "choices": [], "usage": usage},
    ]
    first, second, third, last = chunks_of(Sent((encode(json.dumps(c).encode()) for c in stream), repair=True))
    assert first["provider"] == "x"
    assert (first["choices"][0]["native"], first["choices"][0]["delta"]["new"]) == ("n", 1)
    (fragment,) = second["choices"][0]["delta"]["tool_calls"]
    assert fragment["extra_content"] == {"s": 1}
    assert fragment["function"] == {"name": "f", "arguments": "", "x": 2}
    assert third["choices"] == [{"index": 0, "delta": {}, "finish_reason": "tool_calls", "stop_reason": "eos"}]
    assert last["usage"]["cost"] == 4
    assert {chunk["id"] for chunk in (first, second, third, last)} == {"a"}


# ---- damaged answers ---------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 700)
    | st.floats(allow_nan=False)
    | st.sampled_from(["", "a", "0", "²"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "text", "type"]), inner),
    max_leaves=4,
)


def odd(members: dict[str, Any]) -> st.SearchStrategy[Json]:
    """An object with some of the members, each as it should be or anything."""
    return st.fixed_dictionaries({}, optional={name: VALUES | kind for name, kind in members.items()})


FUNCTION = odd({"name": st.just("f"), "arguments": st.just("{}")})
CALL = odd({"index": st.integers(0, 2), "id": st.just("c"), "function": FUNCTION, "custom": FUNCTION})
TEXTS = {"content": st.just("a"), "role": st.just("assistant"), "reasoning": VALUES, "reasoning_content": VALUES}
DELTA = odd({**TEXTS, "tool_calls": st.lists(VALUES | CALL, max_size=2), "refusal": VALUES})
COUNTS = odd(
    {
        "prompt_tokens": st.just(1),
        "completion_tokens": st.just(2),
        "total_tokens": st.just(3),
        "completion_tokens_details": odd({"reasoning_tokens": st.just(1)}),
    }
)
CHOICE = odd({"index": st.just(0), "delta": DELTA, "message": DELTA, "finish_reason": st.just("stop"), "usage": COUNTS})
FAULT = odd({"code": VALUES, "message": VALUES, "type": VALUES, "param": VALUES})
CHUNK = odd(
    {
        **dict.fromkeys(("id", "created", "model", "system_fingerprint"), VALUES),
        "choices": st.lists(VALUES | CHOICE, max_size=2),
        "usage": COUNTS,
        "error": st.none() | FAULT,
    }
)
MANY = settings(derandomize=True, deadline=None, max_examples=600)


@MANY
@given(st.lists(VALUES | CHUNK, max_size=4), st.booleans())
def test_no_stream_of_json_breaks_a_lane(values: list[Json], wants: bool) -> None:
    body = [encode(json.dumps(value).encode()) for value in values]
    for repair in (False, True):
        sent = Sent(body, repair=repair, wants_usage=wants)
        assert (DONE in sent.out) == (sent.ended == "complete")
        assert Sent([b"".join(body)], repair=repair, wants_usage=wants) == sent
    reader = OpenAI().reader(Asked("m", 1))
    try:
        for _, data in Decoder().feed(b"".join(body)):
            reader.feed("", data)
        assert reader.close()
    except (Failure, Truncated):
        pass


@MANY
@given(VALUES | CHUNK)
def test_no_json_breaks_the_reading_of_whole_answers(value: Json) -> None:
    body = json.dumps(value).encode()
    for repair in (False, True):
        try:
            to = msgspec.structs.replace(TO, quirks=Quirks(repair=repair))
            out, usage = OpenAI().relay_whole(body, ASKED, to)
        except Failure:
            continue
        assert isinstance(usage, Usage)
        assert json.loads(out)["choices"]
    try:
        response = OpenAI().read(body, Asked("m", 1))
    except Failure:
        return
    assert (response.model, response.created) == ("m", 1)
    assert response.choices


@pytest.mark.parametrize("body", [b"", b"<html>", b"{", b'{"\xff":1}', b"[" * 100_000, b"null", b'"x"', b"[]"])
@pytest.mark.parametrize("repair", [False, True])
def test_what_is_no_completion_is_a_failure(body: bytes, repair: bool) -> None:
    to = msgspec.structs.replace(TO, quirks=Quirks(repair=repair))
    with pytest.raises(Failure) as found:
        OpenAI().relay_whole(body, ASKED, to)
    assert found.value.kind == "upstream_unavailable"
    with pytest.raises(Failure) as found:
        OpenAI().read(body, Asked("m", 1))
    assert found.value.kind == "upstream_unavailable"


def test_a_whole_answer_is_relayed_untouched() -> None:
    body = b'{ "choices" : [{"message": {"content": "\\u00fc", "new": 1e0}}], "usage": null, "choices2": 1 }\n'
    assert OpenAI().relay_whole(body, ASKED, TO) == (body, NO_USAGE)


# ---- requests ----------------------------------------------------------------------------------------------------


def relayed(
    body: str, *, stream: bool = False, wants_usage: bool = False, **quirks: Any
) -> tuple[Json, tuple[str, ...]]:
    call = call_of(body.encode(), stream=stream, wants_usage=wants_usage)
    before = dict(call.fields)
    request = OpenAI().relay(call, msgspec.structs.replace(TO, quirks=Quirks(**quirks)))
    assert (request.method, request.url, request.headers) == ("POST", f"{TO.base_url}/chat/completions", TO.headers)
    assert call.fields == before, "another attempt needs the fields as they were"
    return json.loads(request.body), request.dropped


USAGE = {"include_usage": True}


@pytest.mark.parametrize(
    ("body", "options", "sent", "dropped"),
    [
        ('{"a": 1, "model": "public"}', {}, {"a": 1, "model": "m"}, ()),
        ("{}", {"stream": True}, {"model": "m", "stream_options": USAGE}, ()),
        ('{"stream_options": null}', {"stream": True}, {"model": "m", "stream_options": USAGE}, ()),
        ('{"stream_options": {"x": 1}}', {"stream": True}, {"model": "m", "stream_options": {"x": 1, **USAGE}}, ()),
        (
            '{"stream_options": {"include_usage": false}}',
            {"stream": True},
            {"model": "m", "stream_options": USAGE},
            (),
        ),
        (
            '{"stream_options": {"include_usage": true, "x": 1}}',
            {"stream": True, "wants_usage": True},
            {"model": "m", "stream_options": {"x": 1, **USAGE}},
            (),
        ),
        (
            '{"stream_options": {"include_usage": true, "include_obfuscation": false, "x": 1}}',
            {"stream": True, "stream_usage": False},
            {"model": "m"},
            ("stream_options.x",),
        ),
        ('{"stream_options": null}', {"stream": True, "stream_usage": False}, {"model": "m"}, ()),
        ('{"user": "u", "seed": null}', {"drop": ("user", "seed", "stop")}, {"model": "m"}, ("user",)),
        ('{"a": 1}', {"rename": {"a": "b"}}, {"model": "m", "b": 1}, ()),
        ('{"a": 1, "b": 2}', {"rename": {"a": "b"}}, {"model": "m", "b": 2}, ("a",)),
        ('{"a": 1, "b": null}', {"rename": {"a": "b"}}, {"model": "m", "b": 1}, ()),
        ('{"t": 1.5}', {"clamp": {"t": (0, 1)}}, {"model": "m", "t": 1.0}, ("t",)),
        ('{"t": -3}', {"clamp": {"t": (0, 1)}}, {"model": "m", "t": 0}, ("t",)),
        ('{"t": 1}', {"clamp": {"t": (0, 1)}}, {"model": "m", "t": 1}, ()),
        ('{"t": null}', {"clamp": {"t": (0, 1)}}, {"model": "m", "t": None}, ()),
        ('{"t": "hot"}', {"clamp": {"t": (0, 1)}}, {"model": "m", "t": "hot"}, ()),
        ("{}", {"clamp": {"t": (0, 1)}}, {"model": "m"}, ()),
        ("{}", {"set": {"safe": True}}, {"model": "m", "safe": True}, ()),
        ('{"safe": false}', {"set": {"safe": True}}, {"model": "m", "safe": True}, ("safe",)),
    ],
)
def test_the_relayed_request(body: str, options: Json, sent: Json, dropped: tuple[str, ...]) -> None:
    assert relayed(body, **options) == (sent, dropped)


def test_a_clamped_integer_stays_one() -> None:
    to = msgspec.structs.replace(TO, quirks=Quirks(clamp={"max_tokens": (1.0, 8192.0)}))
    assert b'"max_tokens":8192,' in OpenAI().relay(call_of(b'{"max_tokens": 9000}', stream=False), to).body


def test_all_but_the_repaired_members_pass_byte_for_byte() -> None:
    body = b'{"model": "public", "seed": 12345678901234567890123, "messages": [ {"a":"\\u00fc\\/", "a": 1e0} ]}'
    sent = OpenAI().relay(call_of(body, stream=False), TO).body
    assert sent == b'{"model":"m","seed":12345678901234567890123,"messages":[ {"a":"\\u00fc\\/", "a": 1e0} ]}'


def test_models_are_listed() -> None:
    request = OpenAI().models(TO)
    assert (request.method, request.url, request.headers) == ("GET", "https://llm.example/v1/models", TO.headers)
    assert OpenAI().read_models(b'{"object":"list","data":[{"id":"a","x":1},{"id":"b/c"}]}') == ["a", "b/c"]

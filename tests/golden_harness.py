"""Golden files: the documentation of a dialect's mapping, and its test.

A case is a text file `golden/<dialect>/<case>.txt`: what it is about in the first lines, then sections, each opened by
`--- name`. Written by hand:

    client request   the chat completions body a client sends, JSON
    preset           a row of the table of providers, whose address and quirks the deployment has
    deployment       members of the deployment that differ from the dialect's default, JSON (rarely needed)
    wire stream      what the upstream streams, frame by frame
    wire reply       the same answer whole, JSON
    wire error       an error answer instead: the status, `name: value` headers, an empty line, the body
    recalled         what earlier requests have left behind, JSON: name -> text
    prepared         the replies to the flow's preparatory requests, a JSON list of {"status", "headers", "body"}

Written by `POLYMUX_UPDATE_GOLDEN=1 pytest tests/test_golden.py`, and then reviewed as a diff:

    preparing        the preparatory requests, as the next one
    wire request     method and URL, headers that are not the deployment's, an empty line, the body
    dropped          names of the parameters that the wire request lacks, one a line
    chunks           what the reader makes of the stream, one a line
    response         what is made of the whole reply; of the stream where the dialect gathers whole answers from it
    usage            token counts, the same in `chunks` and `response`
    remembered       what the request and its answer leave behind, JSON: name -> text
    failure          how it ends instead; kind "truncated" where the stream ends without its end mark

`check` compares these and asks of every stream, unasked, what `check_stream` lists.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from polymux.app import table
from polymux.errors import Failure, Truncated
from polymux.providers.base import Adapter, Asked, Recall
from polymux.schema.chat import ChatRequest
from polymux.surfaces.assemble import gather
from polymux.surfaces.stream import DECODERS
from polymux.types import Deployment, WireReply, WireRequest

CREATED = 1_700_000_000
LINE_ENDS = {"sse": (b"\r\n", b"\r"), "ndjson": (b"\r\n",)}
ROOT = Path(__file__).parent / "golden"
INPUTS = ("client request", "preset", "deployment", "recalled", "prepared", "wire stream", "wire reply", "wire error")
OUTPUTS = ("preparing", "wire request", "dropped", "chunks", "response", "usage", "remembered", "failure")
ORDER = (
    *("client request", "preset", "deployment", "recalled", "prepared", "preparing", "wire request", "dropped"),
    *("wire stream", "chunks", "wire reply", "response", "usage", "remembered", "wire error", "failure"),
)

Json = Any
Event = tuple[str, bytes]


@dataclass(frozen=True)
class Dialect:
    """A row of the table of dialects: what the harness needs to know of one."""

    adapter: Adapter
    deployment: Deployment
    end: str  # pattern of the data of a frame from which on the answer, or one of the `n` asked for, is complete
    noise: Sequence[Event]  # events that a reader must ignore, wherever they come
    framing: str = "sse"
    gathers: bool = False  # its upstreams are asked for a stream in any case


@dataclass
class Case:
    dialect: str
    name: str
    about: str
    sections: dict[str, str] = field(default_factory=dict)

    def json(self, name: str) -> Json:
        return json.loads(self.sections[name])


def read_case(path: Path) -> Case:
    about, *parts = re.split(r"^--- (.+)\n", path.read_text("utf-8"), flags=re.MULTILINE)
    case = Case(path.parent.name, path.stem, about.strip())
    for name, text in zip(parts[::2], parts[1::2], strict=True):
        if name not in ORDER or name in case.sections:
            raise ValueError(f"{path.name}: section '{name}' is unknown or there twice")
        case.sections[name] = text.strip("\n") + "\n"
    return case


def write_case(case: Case, path: Path) -> None:
    parts = [f"--- {name}\n{case.sections[name].rstrip()}\n" for name in ORDER if name in case.sections]
    path.write_text("\n".join([case.about + "\n", *parts]), "utf-8")


# ---- what a case comes to ----------------------------------------------------------------------------------------


@dataclass
class Outcome:
    """How a stream was read: its chunks as JSON, and the failure that ended it, if one did."""

    chunks: list[Json] = field(default_factory=list)
    failure: Json | None = None
    read: int = field(default=0, compare=False)  # events before the failure


def request_of(case: Case) -> ChatRequest:
    return msgspec.json.decode(case.sections["client request"], type=ChatRequest)


def deployment_of(case: Case, row: Dialect) -> Deployment:
    fields = msgspec.to_builtins(row.deployment)
    if "preset" in case.sections:
        name = case.sections["preset"].strip()
        preset = rows()[name]
        fields |= {"provider": name, "base_url": preset.base_url, "quirks": msgspec.to_builtins(preset.quirks)}
    return msgspec.convert(fields | json.loads(case.sections.get("deployment", "{}")), Deployment)


rows = cache(table)


def asked_of(case: Case, row: Dialect) -> Asked:
    return Asked(case.json("client request")["model"], CREATED, deployment_of(case, row), "key-1")


@dataclass
class Translation:
    """Equal when all that leaves the gateway is."""

    request: WireRequest
    asked: Asked
    before: list[WireRequest] = field(default_factory=list)


def translate(case: Case, row: Dialect, request: ChatRequest) -> Translation:
    asked = asked_of(case, row)
    recalled = {name: text.encode() for name, text in json.loads(case.sections.get("recalled", "{}")).items()}
    replies = iter(json.loads(case.sections.get("prepared", "[]")))
    before: list[WireRequest] = []
    flow, sent = row.adapter.flow(request, asked), None
    while True:
        try:
            wanted = flow.send(sent)
        except StopIteration as stop:
            assert next(replies, None) is None, "a prepared reply is left over"
            return Translation(stop.value, asked, before)
        if isinstance(wanted, Recall):
            sent = {name: recalled[name] for name in wanted.names if name in recalled}
            continue
        before.append(wanted)
        reply = next(replies, None)
        assert reply, f"nothing is prepared for {wanted.method} {wanted.url}"
        sent = WireReply(reply["status"], reply.get("headers", {}), json.dumps(reply["body"]).encode())


def read_events(case: Case, row: Dialect, events: Iterable[Event], asked: Asked | None = None) -> Outcome:
    reader = row.adapter.reader(asked or asked_of(case, row))
    outcome = Outcome()
    try:
        for event, data in events:
            outcome.chunks += [plain(chunk) for chunk in reader.feed(event, data)]
            outcome.read += 1
        outcome.chunks += [plain(chunk) for chunk in reader.close()]
    except Failure as failure:
        outcome.failure = plain_failure(failure)
    except Truncated:
        outcome.failure = {"kind": "truncated"}
    return outcome


def decode(pieces: Iterable[bytes], framing: str = "sse") -> list[Event]:
    decoder = DECODERS[framing]()
    events = [event for piece in pieces for event in decoder.feed(piece)]
    return events + decoder.close()


def plain(value: Any) -> Json:
    """A struct as the JSON a client would get."""
    return json.loads(msgspec.json.encode(value))


def plain_failure(failure: Failure) -> Json:
    names = ("kind", "status", "type", "code", "message", "param", "retry_after")
    return {name: getattr(failure, name) for name in names if getattr(failure, name) is not None}


def outputs(case: Case, row: Dialect) -> dict[str, str]:
    """The sections that the code writes."""
    made: dict[str, str] = {}
    try:
        done = translate(case, row, request_of(case))
    except Failure as failure:
        return {"failure": pretty(plain_failure(failure))}
    to = deployment_of(case, row)
    if done.before:
        made["preparing"] = "\n".join(show_request(request, to) for request in done.before)
    made["wire request"] = show_request(done.request, to)
    if done.request.dropped:
        made["dropped"] = "\n".join(done.request.dropped) + "\n"
    failure = None
    if "wire stream" in case.sections:
        outcome = read_events(case, row, decode([stream_of(case)], row.framing), done.asked)
        if outcome.chunks:
            made["chunks"] = "".join(json.dumps(chunk, ensure_ascii=False) + "\n" for chunk in outcome.chunks)
        failure = outcome.failure
        usages = [chunk["usage"] for chunk in outcome.chunks if chunk.get("usage")]
        if usages:
            made["usage"] = pretty(usages[-1])
    if "wire reply" in case.sections:
        made.update(read_whole(case, row, done.asked))
    elif row.gathers and "chunks" in made and not failure:
        made["response"] = pretty(gathered(case, row))
    if done.asked.remembered:
        made["remembered"] = pretty({name: value.decode() for name, value in done.asked.remembered.items()})
    if "wire error" in case.sections:
        failure = plain_failure(row.adapter.failure(*parse_error(case.sections["wire error"])))
    if failure:
        made["failure"] = pretty(failure)
    return made


def read_whole(case: Case, row: Dialect, asked: Asked) -> dict[str, str]:
    try:
        response = plain(row.adapter.read(case.sections["wire reply"].encode(), asked))
    except Failure as failure:
        return {"failure": pretty(plain_failure(failure))}
    except Truncated:
        return {"failure": pretty({"kind": "truncated"})}
    usage = {"usage": pretty(response["usage"])} if response.get("usage") else {}
    return {"response": pretty(response), **usage}


def gathered(case: Case, row: Dialect) -> Json:
    """The whole answer, for a client that does not stream, of the stream that the upstream sends all the same."""
    request = request_of(case)
    request.stream = False
    reader = row.adapter.reader(translate(case, row, request).asked)
    chunks = [chunk for event, data in decode([stream_of(case)], row.framing) for chunk in reader.feed(event, data)]
    return plain(gather([*chunks, *reader.close()]))


def stream_of(case: Case) -> bytes:
    return case.sections["wire stream"].encode() + b"\n"


def parse_error(text: str) -> tuple[int, dict[str, str], bytes]:
    head, _, body = text.partition("\n\n")
    status, *headers = head.splitlines()
    pairs = (line.partition(": ") for line in headers)
    return int(status), {name.lower(): value for name, _, value in pairs}, body.encode()


def show_request(request: WireRequest, to: Deployment) -> str:
    added = [f"{name}: {value}" for name, value in request.headers if (name, value) not in to.headers]
    lost = [f"(lacks {name})" for name, value in to.headers if (name, value) not in request.headers]
    body = pretty(json.loads(request.body)) if request.body and "multipart" not in "".join(added) else ""
    if request.body and not body:
        body = request.body.decode("latin-1").replace("\r\n", "\n")
        body = re.sub(r"[^ -~\n]", lambda found: f"\\x{ord(found[0]):02x}", body)
    return "\n".join([f"{request.method} {request.url}", *added, *lost, "", body])


def pretty(value: Json) -> str:
    """JSON with an indent; what fits on a line stays on one."""
    return _pretty(value, "") + "\n"


def _pretty(value: Json, indent: str) -> str:
    flat = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(flat) <= 110 and (indent or not isinstance(value, dict)):
        return flat
    deeper = indent + "  "
    if isinstance(value, dict):
        items = [f"{deeper}{json.dumps(k, ensure_ascii=False)}: {_pretty(v, deeper)}" for k, v in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list):
        return "[\n" + ",\n".join(deeper + _pretty(v, deeper) for v in value) + f"\n{indent}]"
    return flat


# ---- checks ------------------------------------------------------------------------------------------------------


def check(case: Case, row: Dialect) -> None:
    """Everything that is asked of a case. Raises AssertionError."""
    made = outputs(case, row)
    for name in OUTPUTS:
        assert comparable(name, made.get(name)) == comparable(name, case.sections.get(name)), name
    if "wire request" not in made:
        return
    check_request(case, row)
    if "wire stream" in case.sections:
        check_stream(case, row)
    if "wire stream" in case.sections and "response" in made:
        chunks = [json.loads(line) for line in made.get("chunks", "").split("\n") if line]
        assert merge(chunks) == summary(json.loads(made["response"])), "the stream and its buffered twin differ"


def comparable(name: str, text: str | None) -> Json:
    """A section without the accidents of its layout: JSON as values, the rest as lines."""
    if text is None or name in ("dropped", "preparing"):
        return text and text.split()
    if name == "wire request":
        head, _, body = text.partition("\n\n")
        return head.splitlines(), json.loads(body) if body.strip() else None
    if name == "chunks":
        return [json.loads(line) for line in text.split("\n") if line]
    return json.loads(text)


def check_request(case: Case, row: Dialect) -> None:
    """A translation depends on its input alone and leaves it as it was; what is lost is the same streamed or not."""
    request = request_of(case)
    first = translate(case, row, request)
    assert msgspec.json.encode(request) == msgspec.json.encode(request_of(case)), "the request was changed"
    assert translate(case, row, request) == first, "the same request, translated again, differs"
    request.stream = not request.stream
    assert translate(case, row, request).request.dropped == first.request.dropped


def check_stream(case: Case, row: Dialect) -> None:
    """What holds for every stream of every dialect."""
    data = stream_of(case)
    events = decode([data], row.framing)
    whole = read_events(case, row, events)
    check_chunks(whole, case.json("client request")["model"])
    for cut in range(1, len(data)):  # a reader sees events only, so the same events are the same answer
        assert decode([data[:cut], data[cut:]], row.framing) == events, f"cut at byte {cut}"
    assert read_events(case, row, decode((data[n : n + 1] for n in range(len(data))), row.framing)) == whole, (
        "byte by byte"
    )
    for seed in range(20):
        assert read_events(case, row, decode(random_pieces(data, seed), row.framing)) == whole, (
            f"random cuts, seed {seed}"
        )
    for end in LINE_ENDS[row.framing]:
        assert read_events(case, row, decode([data.replace(b"\n", end)], row.framing)) == whole, (
            f"lines ended by {end!r}"
        )
    noisy = [*row.noise, *(one for event in events for one in (event, *row.noise))]
    assert read_events(case, row, noisy) == whole, "unknown events are not ignored"
    check_truncation(case, row, events)


def check_truncation(case: Case, row: Dialect, events: list[Event]) -> None:
    """Cut after any frame before the end mark, or inside one, an answer is never a success."""
    wanted = case.json("client request").get("n") or 1
    whole = read_events(case, row, events)
    complete = end_of(row, events[: whole.read], wanted)
    assert (complete is None) == bool(whole.failure), "the end mark says one thing, the reader another"
    for count in range(complete if complete is not None else whole.read):
        cut = read_events(case, row, events[:count])
        assert cut.failure == {"kind": "truncated"}, f"cut after {count} frames"
        assert cut.chunks == whole.chunks[: len(cut.chunks)]
    data = stream_of(case)
    for seed in range(50):
        cut_at = random.Random(seed).randrange(len(data))
        part = decode([data[:cut_at]], row.framing)
        if end_of(row, part, wanted) is None:
            assert read_events(case, row, part).failure, f"cut at byte {cut_at}"


def end_of(row: Dialect, events: list[Event], wanted: int) -> int | None:
    """Which event completes the last of the answers; None = there is none."""
    ends = [n for n, (_, data) in enumerate(events) if re.search(row.end, data.decode("utf-8", "replace"))]
    return ends[wanted - 1] if len(ends) >= wanted else None


def check_chunks(outcome: Outcome, model: str) -> None:
    """The order that `providers.base.Reader` promises."""
    chunks = outcome.chunks
    assert chunks or outcome.failure, "a success without a chunk"
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) <= 1, (
        "id, created or model change"
    )
    for chunk in chunks:
        assert chunk["id"], "an answer without an id"
        assert (chunk["created"], chunk["model"]) == (CREATED, model)
    with_usage = [n for n, chunk in enumerate(chunks) if chunk.get("usage")]
    assert with_usage in ([], [len(chunks) - 1]), "usage comes once and last"
    assert all(chunks[n]["choices"] == [] for n in with_usage), "the usage chunk has no choices"
    for index in {choice["index"] for chunk in chunks for choice in chunk["choices"]}:
        choices = [c for chunk in chunks for c in chunk["choices"] if c["index"] == index]
        roles = [n for n, choice in enumerate(choices) if "role" in choice["delta"]]
        assert roles == [0], "the role comes once and first"
        finishes = [n for n, choice in enumerate(choices) if choice["finish_reason"]]
        assert finishes == ([] if outcome.failure else [len(choices) - 1]), "one finish, last of its choice"
        check_calls([call for choice in choices for call in choice["delta"].get("tool_calls", ())])


def check_calls(fragments: list[Json]) -> None:
    seen: list[int] = []
    for call in fragments:
        if call["index"] not in seen:
            seen.append(call["index"])
            assert call["id"], "a call begins without an id"
            assert call["type"] in ("function", "custom")
            assert call[call["type"]]["name"], "a call begins without a name"
        else:
            assert set(call) in ({"index", "function"}, {"index", "custom"}), "only the first fragment names a call"
    assert seen == list(range(len(seen))), "calls are numbered 0, 1, 2 ..."


TEXTS = ("content", "refusal", "reasoning_content")
LISTS = ("reasoning_details", "annotations")


def merge(chunks: list[Json]) -> Json:
    """The summary of a stream: what its deltas add up to."""
    usage = next((chunk["usage"] for chunk in reversed(chunks) if chunk.get("usage")), None)
    indices = sorted({choice["index"] for chunk in chunks for choice in chunk["choices"]})
    parts = {n: [c for chunk in chunks for c in chunk["choices"] if c["index"] == n] for n in indices}
    return {**{n: merge_choice(parts[n]) for n in indices}, "usage": usage, "id": chunks and chunks[0]["id"]}


def merge_choice(parts: list[Json]) -> Json:
    deltas = [part["delta"] for part in parts]
    calls: dict[int, Json] = {}
    for call in (call for delta in deltas for call in delta.get("tool_calls") or ()):
        held = calls.setdefault(call["index"], {"id": call.get("id"), "name": "", "arguments": ""})
        named, said = spoken(call)
        held["name"] += named
        held["arguments"] += said
    legacy = [delta["function_call"] for delta in deltas if "function_call" in delta]
    audio = [delta["audio"] for delta in deltas if "audio" in delta]
    return {
        **{name: "".join(delta.get(name) or "" for delta in deltas) for name in TEXTS},
        **{name: [one for delta in deltas for one in delta.get(name) or ()] for name in LISTS},
        "calls": [held | {"arguments": parsed(held["arguments"])} for held in calls.values()],
        "function_call": [joined(legacy, name) for name in ("name", "arguments")],
        "audio": [joined(audio, name) for name in ("data", "transcript")],
        "finish": [part["finish_reason"] for part in parts if part["finish_reason"]],
        "logprobs": [token for part in parts for token in tokens(part)],
    }


def summary(response: Json) -> Json:
    """The same of a whole answer."""
    choices = {choice["index"]: summary_of_choice(choice) for choice in response["choices"]}
    return {**choices, "usage": response.get("usage"), "id": response["id"]}


def summary_of_choice(choice: Json) -> Json:
    given = choice["message"]
    return {
        **{name: given.get(name) or "" for name in TEXTS},
        **{name: given.get(name) or [] for name in LISTS},
        "calls": [
            {"id": c["id"], "name": spoken(c)[0], "arguments": parsed(spoken(c)[1])}
            for c in given.get("tool_calls") or ()
        ],
        "function_call": [joined([given.get("function_call") or {}], name) for name in ("name", "arguments")],
        "audio": [joined([given.get("audio") or {}], name) for name in ("data", "transcript")],
        "finish": [choice["finish_reason"]],
        "logprobs": tokens(choice),
    }


def spoken(call: Json) -> tuple[str, str]:
    """A call's name and what it is called with, as far as this fragment tells them."""
    body = call.get("custom") or call.get("function") or {}
    return body.get("name", ""), body.get("input", body.get("arguments", ""))


def joined(parts: list[Json], name: str) -> str:
    return "".join(part.get(name) or "" for part in parts)


def tokens(choice: Json) -> list[Json]:
    return (choice.get("logprobs") or {}).get("content") or []


def parsed(arguments: str) -> Json:
    """Arguments as values: the two forms of an answer may lay out the same JSON differently. Or text that is none."""
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def random_pieces(data: bytes, seed: int) -> list[bytes]:
    source = random.Random(seed)
    cuts = sorted(source.sample(range(1, len(data)), k=source.randrange(1, 30)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]

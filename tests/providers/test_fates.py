"""The table of parameters: every row and column is there, and each cell is what is seen on the wire."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args, get_type_hints

import msgspec
import pytest

from polymux.errors import Failure
from polymux.providers.base import Asked, Recall, Relaying
from polymux.providers.dialects import DIALECTS
from polymux.providers.fates import DROPPED, FORWARDED, NEUTRAL, PARAMETERS, Column, Fate, asks, column, ordered
from polymux.providers.gemini_turns import detail_of
from polymux.schema import chat
from polymux.surfaces.chat import Chat
from polymux.types import Deployment, Key, WireReply, WireRequest
from support.parameters import EXAMPLES, HI, Example, assistant, called, found, part, request

Json = Any

# The models that the examples go to, one that takes what each of them asks for.
MODELS: Final = {
    "openai": "gpt-5.4-mini",
    "anthropic": "claude-sonnet-4-5",
    "azure": "gpt-5.4-mini",
    "ollama": "qwen3:8b",
    "dify": "chat",
    "gemini": "gemini-3.5-flash",
}
PICTURE: Final = {"url": "data:image/png;base64,iVBORw0KGgo="}
# Where a dialect takes only some forms of a parameter, and refuses that of the example.
OTHER_EXAMPLES: Final = {
    ("ollama", "messages[].content[].image_url"): Example(part("image_url", PICTURE)),
    ("ollama", "messages[].content[].image_url.detail"): Example(
        part("image_url", {**PICTURE, "detail": "low"}), part("image_url", PICTURE)
    ),
    ("gemini", "messages[].reasoning_details"): Example(
        assistant(HI, content="a", reasoning_details=[detail_of("c2ln")]), assistant(HI, content="a")
    ),
    ("gemini", "messages[].tool_calls[].extra_content"): Example(
        called(extra_content={"google": {"thought_signature": "c2ln"}}), called()
    ),
}
WITHOUT_ROWS: Final = frozenset({"type"})  # it says which of the other members is meant
LEAVES: Final = frozenset({chat.FunctionCall, chat.CustomCall, chat.InputAudio})  # their members share one fate
NO_TOOLS: Final = frozenset({"dify"})  # tools are refused; that some were called earlier is told
SAME_AS: Final = {"functions": "tools[].function"}  # members that are described once


def deployment(dialect: str) -> Deployment:
    return Deployment("p/m", "p", MODELS[dialect], dialect, "https://llm.example/v1", (("anthropic-version", "1"),))


def example_of(dialect: str, name: str) -> Example:
    example = OTHER_EXAMPLES.get((dialect, name)) or EXAMPLES[name]
    if dialect in NO_TOOLS and name.startswith("messages"):
        return Example(without_tools(example.asked), example.plain and without_tools(example.plain))
    return example


def without_tools(members: dict[str, Json]) -> dict[str, Json]:
    return {name: value for name, value in members.items() if name != "tools"}


def translated(dialect: str, body: Json) -> WireRequest:
    flow = DIALECTS[dialect].flow(msgspec.convert(body, chat.ChatRequest), Asked("m", 7, deployment(dialect)))
    sent: Any = None
    while True:
        try:
            wanted = flow.send(sent)
        except StopIteration as stop:
            return stop.value
        # nothing is remembered, and an upload's id is its content's
        sent = {} if isinstance(wanted, Recall) else WireReply(201, {}, json.dumps({"id": str(wanted.body)}).encode())


def relayed(dialect: str, body: Json) -> WireRequest:
    adapter = DIALECTS[dialect]
    assert isinstance(adapter, Relaying)
    return adapter.relay(Chat().decode(json.dumps(body).encode(), "1", Key("k", "k")), deployment(dialect))


LANES: Final = {"translated": translated, "relayed": relayed}
CELLS: Final = [
    pytest.param(lane, dialect, name, id=f"{dialect}:{lane}:{name}")
    for dialect, adapter in DIALECTS.items()
    for lane in LANES
    if lane == "translated" or isinstance(adapter, Relaying)
    for name in PARAMETERS
]


# ---- the table ---------------------------------------------------------------------------------------------------


def members(cls: type, path: str = "") -> Iterator[str]:
    """Every member of a Struct of the pivot and of those within it, as paths."""
    for name, hint in get_type_hints(cls).items():
        if name in WITHOUT_ROWS:
            continue
        yield path + name
        for inner, more in structs(hint):
            if inner not in LEAVES and path + name not in SAME_AS:
                yield from members(inner, f"{path}{name}{more}.")


def structs(hint: Any) -> Iterator[tuple[type, str]]:
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        yield hint, ""
    for arg in get_args(hint):
        for inner, more in structs(arg):
            yield inner, ("[]" if isinstance(hint, type(list[int])) else "") + more


def test_every_parameter_of_the_pivot_has_a_row_and_every_row_is_one() -> None:
    rows = [name for name in PARAMETERS if "=" not in name]
    assert sorted(rows) == sorted(set(members(chat.ChatRequest)))
    assert {name.partition("=")[0] for name in PARAMETERS} == set(rows), "a value of what is no parameter"
    assert len(set(PARAMETERS)) == len(PARAMETERS)


def test_every_row_has_an_example_that_asks_for_it() -> None:
    assert list(EXAMPLES) == list(PARAMETERS)
    for name, example in EXAMPLES.items():
        values = found(request(example.asked), name)
        assert values, name
        assert any(asks(name, value) for value in values), name
        if example.plain is not None:
            assert found(request(example.plain), name) != values, name


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_row_has_a_cell_in_every_column(dialect: str) -> None:
    assert list(DIALECTS[dialect].fates) == list(PARAMETERS)


def test_neutral_values_are_of_parameters() -> None:
    assert set(NEUTRAL) <= set(PARAMETERS)


def test_a_column_lacks_nothing_and_has_nothing_foreign() -> None:
    cells = dict.fromkeys(PARAMETERS, DROPPED)
    assert column(cells) == column({}, rest=DROPPED)
    assert column({"seed": FORWARDED}, rest=DROPPED)["seed"] == FORWARDED
    with pytest.raises(ValueError, match=r"no fate for \['seed'\]"):
        column({name: fate for name, fate in cells.items() if name != "seed"})
    with pytest.raises(ValueError, match="novelty"):
        column({**cells, "novelty": Fate("dropped")})


def test_names_come_in_the_order_of_the_table() -> None:
    assert ordered(set(PARAMETERS)) == PARAMETERS
    assert ordered({"seed", "messages[].name", "novelty"}) == ("messages[].name", "seed")
    assert ordered(()) == ()


# ---- what is seen on the wire --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("lane", "dialect", "name"), CELLS)
def test_a_parameter_meets_its_fate(lane: str, dialect: str, name: str) -> None:
    fate, example = DIALECTS[dialect].fates[name], example_of(dialect, name)
    asked, send = request(example.asked), LANES[lane]
    if fate.what == "refused":
        check_refused(name, lambda: send(dialect, asked))
        return
    wire = send(dialect, asked)
    plain = None if example.plain is None else send(dialect, request(example.plain))
    CHECKS[fate.what](name, fate, asked, wire, plain)


def check_refused(name: str, act: Any) -> None:
    with pytest.raises(Failure) as caught:
        act()
    assert caught.value.kind in ("unsupported_parameter", "unsupported_content")
    assert caught.value.status == 400
    assert name.startswith(re.sub(r"\[\d+\]", "[]", caught.value.param or "?"))


def check_forwarded(name: str, fate: Fate, asked: Json, wire: WireRequest, plain: WireRequest | None) -> None:
    assert wire.dropped == ()
    values = found(asked, name)
    sent = found(json.loads(wire.body), fate.to or name)
    assert values
    assert [value for value in values if value in sent] == values
    if plain:
        assert found(json.loads(plain.body), fate.to or name) != sent


def body_of(wire: WireRequest) -> Json:
    """What is sent, and where to: that says something too."""
    return {"url": wire.url, **json.loads(wire.body)}


def check_mapped(name: str, fate: Fate, asked: Json, wire: WireRequest, plain: WireRequest | None) -> None:
    assert wire.dropped == ()
    sent = found(body_of(wire), fate.to or name)
    assert sent
    if plain:
        assert found(body_of(plain), fate.to or name) != sent, "it stood there anyway"
    if fate.to:
        assert not found(asked, fate.to) or found(asked, fate.to) != sent


def check_emulated(name: str, fate: Fate, asked: Json, wire: WireRequest, plain: WireRequest | None) -> None:
    assert wire.dropped == ()
    assert plain is not None
    sent, without = json.loads(wire.body), json.loads(plain.body)
    if not fate.to:
        assert sent == without or found(sent, name) == found(asked, name), "nothing tells the upstream of it"
        return
    assert found(sent, fate.to)
    assert found(sent, fate.to) != found(without, fate.to)


def check_dropped(name: str, fate: Fate, asked: Json, wire: WireRequest, plain: WireRequest | None) -> None:
    assert wire.dropped == (name,)
    assert plain is not None
    assert plain.dropped == ()
    assert json.loads(wire.body) == json.loads(plain.body)


CHECKS: Final[Mapping[str, Any]] = {
    "forwarded": check_forwarded,
    "mapped": check_mapped,
    "emulated": check_emulated,
    "dropped": check_dropped,
}


def refused_beside(fates: Column, dialect: str, name: str) -> bool:
    """Whether the example holds something else that the dialect refuses."""
    own = {name} if "[" not in name else set()
    return any(fates[one].what == "refused" for one in example_of(dialect, name).asked.keys() - own if one in fates)


@pytest.mark.parametrize(
    ("dialect", "name"),
    [
        (dialect, name)
        for dialect, adapter in DIALECTS.items()
        for name in NEUTRAL
        if not refused_beside(adapter.fates, dialect, name)
    ],
)
def test_a_value_that_asks_for_nothing_is_neither_named_nor_refused(dialect: str, name: str) -> None:
    asked = request(example_of(dialect, name).asked)
    *way, last = re.findall(r"\[\]|[^.\[\]]+", name)
    for place in found(asked, "".join(f".{step}" if step != "[]" else step for step in way).lstrip(".")) or [asked]:
        if isinstance(place, dict) and last in place:
            place[last] = NEUTRAL[name]
    assert not any(asks(name, value) for value in found(asked, name))
    assert translated(dialect, asked).dropped == ()

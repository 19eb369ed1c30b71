"""Every row's quirks at work: what its members say is what a request to it, and an answer of it, comes to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import pytest

from polymux.app import table
from polymux.errors import Failure
from polymux.providers.base import Asked
from polymux.providers.dialects import DIALECTS
from polymux.providers.openai import OpenAI
from polymux.providers.openai_errors import failure_of
from polymux.providers.quirks import bend
from polymux.providers.table import Row
from polymux.types import Deployment

TABLE: Final = table()
CHAT: Final = {name: row for name, row in TABLE.items() if isinstance(DIALECTS[row.dialect], OpenAI)}
ODD: Final = {"tool_choice": "required", "n": 2, "temperature": 7.0, "top_p": -1.0, "max_tokens": 10**9, "top_k": 99}


def deployment(name: str, row: Row) -> Deployment:
    return Deployment(f"{name}/m", name, "m", row.dialect, row.base_url, quirks=row.quirks)


def cases(member: str, rows: Mapping[str, Row] = TABLE) -> list[Any]:
    """A case for each thing that a row's quirk of this kind names."""
    return [
        pytest.param(row, thing, id=f"{name}-{thing}")
        for name, row in rows.items()
        for thing in getattr(row.quirks, member)
    ]


@pytest.mark.parametrize(("row", "path"), cases("drop"))
def test_what_is_dropped_is_not_sent_and_told(row: Row, path: str) -> None:
    name, inside, inner = path.partition("[].")
    fields: dict[str, Any] = {name: [nested(inner)] if inside else "asked"}
    assert path in bend(fields, row.quirks)
    assert "asked" not in json.dumps(fields)


def nested(path: str) -> Any:
    name, _, inner = path.partition(".")
    value = nested(inner) if inner else "asked"
    return {name.removesuffix("[]"): [value] if name.endswith("[]") else value}


@pytest.mark.parametrize(("row", "name"), cases("rename"))
def test_what_is_renamed_is_sent_by_the_other_name(row: Row, name: str) -> None:
    fields: dict[str, Any] = {name: 1}
    assert bend(fields, row.quirks) == ()
    assert fields == {row.quirks.rename[name]: 1}


@pytest.mark.parametrize(("row", "name"), cases("only"))
def test_what_is_not_among_the_values_is_left_out_and_told(row: Row, name: str) -> None:
    for value in row.quirks.only[name]:
        fields = {name: value}
        assert bend(fields, row.quirks) == ()
        assert fields == {name: value}
    fields = {name: ODD[name]}
    assert bend(fields, row.quirks) == (name,)
    assert fields == {}


@pytest.mark.parametrize(("row", "name"), cases("clamp"))
def test_what_is_out_of_range_is_brought_to_its_border_and_told(row: Row, name: str) -> None:
    low, high = row.quirks.clamp[name]
    fields = {name: ODD[name]}
    assert bend(fields, row.quirks) == (name,)
    assert fields == {name: high if ODD[name] > high else low}


@pytest.mark.parametrize(("row", "name"), cases("nonempty"))
def test_what_is_empty_is_left_out(row: Row, name: str) -> None:
    place, _, inner = name.partition("[].")
    fields: dict[str, Any] = {place: [{"role": "assistant", inner: []}] if inner else []}
    assert bend(fields, row.quirks) == ()
    assert fields == ({place: [{"role": "assistant"}]} if inner else {})


@pytest.mark.parametrize(("row", "role"), cases("roles"))
def test_a_role_goes_by_its_name_there(row: Row, role: str) -> None:
    fields = {"messages": [{"role": role, "content": "a"}, {"role": "user", "content": "b"}]}
    assert bend(fields, row.quirks) == ()
    assert [message["role"] for message in fields["messages"]] == [row.quirks.roles[role], "user"]


@pytest.mark.parametrize(("row", "name"), cases("set"))
def test_what_a_row_sets_is_sent(row: Row, name: str) -> None:
    fields: dict[str, Any] = {}
    bend(fields, row.quirks)
    assert fields[name] == row.quirks.set[name]


@pytest.mark.parametrize("name", [name for name, row in CHAT.items() if row.quirks.repair])
def test_answers_are_mended(name: str) -> None:
    row = CHAT[name]
    choices = [{"message": {"content": "a", "reasoning": "r"}, "finish_reason": "stop"}]
    asked = Asked("public", 7, deployment(name, row))
    answer = DIALECTS[row.dialect].read(json.dumps({"choices": choices}).encode(), asked)
    assert (answer.choices[0].message.content, answer.choices[0].message.reasoning_content) == ("a", "r")


@pytest.mark.parametrize("name", [name for name, row in CHAT.items() if row.quirks.tags])
def test_reasoning_in_tags_is_told_apart(name: str) -> None:
    row = CHAT[name]
    choices = [{"message": {"content": "<think>r</think>a"}, "finish_reason": "stop"}]
    asked = Asked("public", 7, deployment(name, row))
    answer = DIALECTS[row.dialect].read(json.dumps({"choices": choices}).encode(), asked)
    assert (answer.choices[0].message.content, answer.choices[0].message.reasoning_content) == ("a", "r")


@pytest.mark.parametrize(("row", "code"), cases("faults"))
def test_a_status_inside_a_200_means_what_the_row_says(row: Row, code: str) -> None:
    *path, last = row.quirks.fault.split(".")
    told: Any = {"message": "no", "status_msg": "no", last: int(code)}
    for name in reversed(path):
        told = {name: told}
    said = {"message": "no", "code": code}
    status = row.quirks.faults[code]
    expected = failure_of(status, {}, json.dumps({"error": said}).encode())
    with pytest.raises(Failure, match="no") as found:
        DIALECTS[row.dialect].read(json.dumps(told).encode(), Asked("m", 7, deployment("p", row)))
    assert (found.value.kind, found.value.status) == (expected.kind, expected.status)


def test_a_status_of_http_inside_a_200_needs_no_table() -> None:
    to = deployment("fastgpt", TABLE["fastgpt"])
    for code, kind in ((429, "upstream_rate_limited"), (514, "upstream_unavailable"), (7, "upstream_unavailable")):
        with pytest.raises(Failure, match="no") as found:
            OpenAI().read(json.dumps({"code": code, "message": "no"}).encode(), Asked("m", 7, to))
        assert found.value.kind == kind


@pytest.mark.parametrize("name", [name for name, row in CHAT.items() if row.quirks.fault])
def test_a_success_inside_a_200_is_one(name: str) -> None:
    row = CHAT[name]
    path, _, last = row.quirks.fault.rpartition(".")
    choices = [{"message": {"content": "a"}, "finish_reason": "stop"}]
    answer = {"choices": choices, **({path: {last: 0}} if path else {last: 0})}
    read = DIALECTS[row.dialect].read(json.dumps(answer).encode(), Asked("m", 7, deployment(name, row)))
    assert read.choices[0].message.content == "a"


def test_every_kind_of_quirk_has_a_row_that_needs_it() -> None:
    for member in (
        "drop",
        "rename",
        "only",
        "clamp",
        "nonempty",
        "roles",
        "repair",
        "tags",
        "fault",
        "faults",
        "thinking",
    ):
        assert any(getattr(row.quirks, member) for row in TABLE.values()), member
    assert not all(row.quirks.stream_usage for row in TABLE.values())

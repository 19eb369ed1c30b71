"""JSON Schemas as programs write them (Zod, Pydantic, MCP servers) become what Google takes, in both forms."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from tests.providers.gemini_rules import json_schema_faults, schema_faults

from polymux.errors import Failure
from polymux.providers.gemini_schema import Allowance, convert, convert_parameters

Json = dict[str, Any]


class Node(BaseModel):
    name: str = Field(min_length=1, description="what it is called")
    kind: str | None = None
    children: list[Node] = []


class Order(BaseModel):
    root: Node
    lines: dict[str, int] = {}
    pair: tuple[int, str] = (1, "a")
    owner: Node | None = Field(None, description="who")


def obj(**properties: Any) -> Json:
    return {"type": "object", "properties": properties}


def wide(schema: Json) -> Json:
    return convert(schema, Allowance(), wide=True)[0]


def narrow(schema: Json) -> Json:
    return convert(schema, Allowance(), wide=False)[0]


def faults(schema: Json) -> list[str]:
    """What is wrong with both forms of a schema of parameters."""
    plain, _ = convert_parameters(schema, Allowance(), wide=True)
    subset, _ = convert_parameters(schema, Allowance(), wide=False)
    found = [] if plain is None else list(json_schema_faults(plain))
    return found + ([] if subset is None else list(schema_faults(subset, "parameters")))


SCHEMAS: dict[str, Json] = {
    "pydantic": Order.model_json_schema(),
    "zod": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "mode": {"anyOf": [{"type": "string", "const": "a"}, {"type": "string", "const": "b"}]},
            "count": {"type": "integer", "exclusiveMinimum": 0, "maximum": 9007199254740991},
            "when": {"type": "string", "format": "date-time"},
            "mail": {"type": "string", "format": "email", "pattern": "^.+@.+$"},
            "record": {"type": "object", "propertyNames": {"type": "string"}, "additionalProperties": {}},
            "either": {"oneOf": [obj(a={"type": "string"}), obj(b={"type": "number"})]},
            "nothing": {"type": "null"},
            "any": {},
            "all": True,
        },
        "required": ["mode", "ghost"],
        "additionalProperties": False,
    },
    "mcp": {
        "type": "object",
        "properties": {
            "headers": {"type": "object"},
            "actions": {"type": "array", "items": {"$ref": "#/properties/headers"}},
            "ids": {"type": ["array", "string"], "items": {"type": "string"}},
            "free": {"type": "array"},
            "level": {"enum": [1, 2, 3]},
            "flag": {"enum": [True]},
            "maybe": {"enum": ["x", None]},
            "odd": {"if": {"type": "string"}, "then": {"minLength": 1}, "type": "string"},
            "never": {"not": {}, "type": "string"},
        },
    },
    "old": {
        "definitions": {"a b": {"type": "string", "enum": ["x"]}, "p/q": {"type": "boolean"}},
        "properties": {
            "first": {"$ref": "#/definitions/a b"},
            "second": {"$ref": "#/definitions/p~1q"},
            "pair": {"type": "array", "items": [{"type": "string"}, {"type": "integer"}]},
            "gone": {"$ref": "#/definitions/nowhere"},
            "outside": {"$ref": "https://example.org/schema.json"},
        },
    },
    "merged": {
        "allOf": [obj(a={"type": "string"}), {"$ref": "#/$defs/b"}, {"required": ["a"]}],
        "$defs": {"b": {"allOf": [obj(b={"type": "integer"}), {"properties": {"a": {"minLength": 2}}}]}},
    },
    "union": {"anyOf": [obj(a={"type": "string"}), {**obj(b={"type": "string"}), "required": ["b"]}]},
    "itself": {"type": "object", "properties": {"inner": {"$ref": "#"}, "list": {"items": {"$ref": "#"}}}},
    "mutual": {
        "$ref": "#/$defs/a",
        "$defs": {"a": obj(b={"$ref": "#/$defs/b"}), "b": obj(a={"$ref": "#/$defs/a"}, b={"$ref": "#/$defs/b"})},
    },
    "nothing": {},
    "no properties": {"type": "object", "properties": {}},
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_both_forms_are_taken(name: str) -> None:
    before = copy.deepcopy(SCHEMAS[name])
    assert faults(SCHEMAS[name]) == []
    assert SCHEMAS[name] == before


@pytest.mark.parametrize("name", ["nothing", "no properties"])
def test_a_function_without_parameters_has_none(name: str) -> None:
    assert convert_parameters(SCHEMAS[name], Allowance(), wide=True) == (None, False)
    assert convert_parameters(SCHEMAS[name], Allowance(), wide=False) == (None, False)


def test_a_function_that_takes_anything_cannot_be_told_in_the_subset() -> None:
    free = {"type": "object", "additionalProperties": {"type": "string"}}
    assert convert_parameters(free, Allowance(), wide=True) == (free, False)
    assert convert_parameters(free, Allowance(), wide=False) == (None, True)


@pytest.mark.parametrize(
    ("given", "as_json_schema", "subset"),
    [
        ({"type": "string"}, {"type": "string"}, {"type": "STRING"}),
        ({"const": "x"}, {"enum": ["x"]}, {"type": "STRING", "enum": ["x"]}),
        ({"type": ["string", "null"]}, {"type": ["string", "null"]}, {"type": "STRING", "nullable": True}),
        (
            {"anyOf": [{"type": "integer"}, {"type": "null"}], "description": "d"},
            {"anyOf": [{"type": "integer"}, {"type": "null"}], "description": "d"},
            {"type": "INTEGER", "nullable": True, "description": "d"},
        ),
        (
            {"type": ["string", "integer"]},
            {"type": ["string", "integer"]},
            {"anyOf": [{"type": "STRING"}, {"type": "INTEGER"}]},
        ),
        (
            {"oneOf": [{"type": "string"}, {"type": "boolean"}]},
            {"anyOf": [{"type": "string"}, {"type": "boolean"}]},
            {"anyOf": [{"type": "STRING"}, {"type": "BOOLEAN"}]},
        ),
        ({"enum": ["a", None]}, {"enum": ["a", None]}, {"type": "STRING", "enum": ["a"], "nullable": True}),
        ({"allOf": [{"type": "string"}], "default": "x"}, *2 * ({"type": "string", "default": "x"},)),
        (
            {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10},
            {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 10},
            {"type": "INTEGER", "minimum": 1, "maximum": 9},
        ),
        (
            {"type": "array", "items": {"type": "string"}, "minItems": 1},
            {"type": "array", "items": {"type": "string"}, "minItems": 1},
            {"type": "ARRAY", "items": {"type": "STRING"}, "minItems": 1},
        ),
        (
            {**obj(a={"type": "string"}), "required": ["a"], "additionalProperties": False, "$id": "x"},
            {**obj(a={"type": "string"}), "required": ["a"], "additionalProperties": False},
            {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}, "required": ["a"]},
        ),
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_what_loses_nothing(given: Json, as_json_schema: Json, subset: Json) -> None:
    if subset.get("default"):
        subset = {**subset, "type": "STRING"}
    assert convert(given, Allowance(), wide=True) == (as_json_schema, False)
    assert convert(given, Allowance(), wide=False) == (subset, False)


@pytest.mark.parametrize(
    ("given", "subset"),
    [
        ({"type": "string", "format": "uri"}, {"type": "STRING"}),
        ({"enum": [1, 2]}, {"type": "INTEGER", "description": "One of [1, 2]."}),
        ({"type": "number", "exclusiveMinimum": 0.5}, {"type": "NUMBER", "minimum": 0.5}),
        ({"type": "array"}, {"type": "ARRAY", "items": {"type": "STRING"}}),
        ({"type": "object", "additionalProperties": {"type": "string"}}, {"type": "OBJECT"}),
        ({"type": "string", "uniqueItems": True}, {"type": "STRING"}),
        ({}, {"type": "STRING", "nullable": True}),
    ],
    ids=lambda value: json.dumps(value)[:40],
)
def test_what_the_subset_cannot_say_is_lost_there_alone(given: Json, subset: Json) -> None:
    assert convert(given, Allowance(), wide=True) == (given, False)
    assert convert(given, Allowance(), wide=False) == (subset, True)


@pytest.mark.parametrize("keyword", ["not", "if", "contains", "propertyNames", "patternProperties", "dependentSchemas"])
def test_what_gemini_does_not_know_is_lost(keyword: str) -> None:
    schema = {"type": "string", keyword: {"$ref": "#/$defs/x"}}
    assert convert(schema, Allowance(), wide=True) == ({"type": "string"}, True)
    assert convert(schema, Allowance(), wide=False) == ({"type": "STRING"}, True)


def test_a_schema_that_contains_itself_stays_a_reference_or_is_cut_off() -> None:
    assert wide(SCHEMAS["itself"]) == {
        "type": "object",
        "properties": {"inner": {"$ref": "#/$defs/s0"}, "list": {"items": {"$ref": "#/$defs/s0"}}},
        "$defs": {
            "s0": {
                "type": "object",
                "properties": {"inner": {"$ref": "#/$defs/s0"}, "list": {"items": {"$ref": "#/$defs/s0"}}},
            }
        },
    }
    assert narrow(SCHEMAS["itself"])["properties"]["inner"] == {"type": "OBJECT"}


def test_what_is_merged_is_one_object() -> None:
    assert wide(SCHEMAS["merged"]) == {
        "type": "object",
        "properties": {"a": {"type": "string", "minLength": 2}, "b": {"type": "integer"}},
        "required": ["a"],
    }


def test_parameters_are_one_object_in_the_subset() -> None:
    found, lost = convert_parameters(SCHEMAS["union"], Allowance(), wide=False)
    assert found == {"type": "OBJECT", "properties": {"a": {"type": "STRING"}, "b": {"type": "STRING"}}}
    assert lost


@pytest.mark.parametrize("form", [wide, narrow])
def test_references_that_double_with_every_step_are_refused(form: Callable[[Json], Json]) -> None:
    defs = {f"s{n}": obj(a={"$ref": f"#/$defs/s{n + 1}"}, b={"$ref": f"#/$defs/s{n + 1}"}) for n in range(40)}
    with pytest.raises(Failure) as caught:
        form({"$ref": "#/$defs/s0", "$defs": {**defs, "s40": {"type": "string"}}})
    assert caught.value.kind == "invalid_value"


def test_what_is_merged_again_and_again_is_refused() -> None:
    """Few schemas, and yet more work with every step: a request must not hold up the others."""
    many = {"allOf": [{"required": [str(n)]} for n in range(9000)]}
    defs: Json = {f"s{n}": {"allOf": [{"$ref": f"#/$defs/s{n + 1}"}] * 2} for n in range(200)}
    defs["s200"] = obj(**{f"p{n}": {"type": "string"} for n in range(200)})
    for schema in (obj(a=many), {"$ref": "#/$defs/s0", "$defs": defs}):
        with pytest.raises(Failure, match="too large"):
            wide(schema)


@pytest.mark.parametrize("form", [wide, narrow])
def test_what_is_required_is_a_name(form: Callable[[Json], Json]) -> None:
    odd = {**obj(a={"type": "string"}), "required": [{"a": 1}, "a", 5], "allOf": [{"required": [["a"]]}]}
    assert form(odd)["required"] == ["a"]


def test_the_schemas_of_a_request_have_one_allowance() -> None:
    allowance, schema = Allowance(), obj(**{f"p{n}": {"type": "string"} for n in range(30_000)})
    convert(schema, allowance, wide=True)
    with pytest.raises(Failure, match="too large"):
        convert(schema, allowance, wide=True)


def test_the_same_schema_is_written_the_same_way() -> None:
    """In the order it was given: caches of prompts depend on it."""
    given = {"maximum": 3, "description": "d", "type": "integer", "minimum": 1, "title": "t"}
    assert list(narrow(given)) == ["maximum", "description", "minimum", "title", "type"]


KEYWORDS = (
    *("type", "properties", "items", "$ref", "$defs", "allOf", "anyOf", "oneOf", "enum", "const", "required", "a"),
    *("format", "additionalProperties", "prefixItems", "exclusiveMinimum", "description"),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["a", "string", "object", "#", "#/$defs/a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYWORDS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@given(st.dictionaries(st.sampled_from(["type", "properties", "$ref", "allOf", "anyOf", "$defs"]), VALUES, max_size=4))
def test_no_schema_whatever_breaks_it(schema: Json) -> None:
    """Nonsense becomes something or is refused; it is neither followed without end nor changed."""
    before = copy.deepcopy(schema)
    for is_wide in (True, False):
        try:
            json.dumps(convert_parameters(schema, Allowance(), wide=is_wide))
        except Failure:
            assert "$ref" in json.dumps(schema)
    assert schema == before

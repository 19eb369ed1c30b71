"""JSON Schema -> what Gemini takes of it, in either of two forms.

wide: JSON Schema for `parametersJsonSchema` and `responseJsonSchema`. narrow: the subset of OpenAPI 3.0 for
`parameters` and `responseSchema`, where one unknown keyword refuses the whole request. In both, references are replaced
by what they point at (a schema that contains itself stays a reference where it is wide, and is cut off where it is
narrow), `allOf` is merged, `oneOf` becomes `anyOf`, and `const` an enum of one.
Sources: the Gemini API reference (Schema, FunctionDeclaration) and guide (Structured output).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from polymux.errors import Failure

Json = dict[str, Any]

_MOST: Final = 1_000_000  # steps for the schemas of a request: they can double with every reference that is followed
_SCHEMA: Final = 20  # steps that one costs, beside what is merged into it
_NULL: Final = "null"

# Keywords that say nothing of a value, or nothing once references are followed.
_ASIDE: Final = frozenset(
    {"$schema", "$id", "$anchor", "$comment", "$defs", "definitions", "examples", "deprecated", "readOnly", "writeOnly"}
)
# Keywords with schemas inside that Gemini does not know: their references would point nowhere.
_UNKNOWN: Final = frozenset(
    {"not", "if", "then", "else", "contains", "propertyNames", "patternProperties", "dependentSchemas", "dependencies"}
    | {"unevaluatedItems", "unevaluatedProperties", "contentSchema", "$dynamicRef", "$recursiveRef"}
)
_INNER: Final = frozenset({"type", "enum", "const", "properties", "required", "items", "prefixItems", "anyOf", "oneOf"})
_NARROW: Final = frozenset(
    {"title", "description", "nullable", "default", "minItems", "maxItems", "minProperties", "maxProperties"}
    | {"minimum", "maximum", "minLength", "maxLength", "pattern"}
)
_FORMATS: Final = frozenset({"enum", "date-time", "float", "double", "int32", "int64"})
_BOUNDS: Final[Mapping[str, tuple[str, int]]] = MappingProxyType(
    {"exclusiveMinimum": ("minimum", 1), "exclusiveMaximum": ("maximum", -1)}
)


class Allowance:
    """What is left of the steps that all schemas of a request may take together."""

    def __init__(self) -> None:
        self._left = _MOST

    def take(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise Failure("invalid_value", "a JSON Schema is too large once its references are followed")


def convert(schema: Json, allowance: Allowance, *, wide: bool) -> tuple[Json, bool]:
    """The schema in one of the forms, and whether it says less than it did. Raises `Failure` for one that grows
    without measure when its references are followed."""
    work = _Conversion(schema, allowance, wide)
    return work.whole(), work.lost


def convert_parameters(schema: Json, allowance: Allowance, *, wide: bool) -> tuple[Json | None, bool]:
    """The same for what a function takes, which must be an object; None for one without any property."""
    found, lost = convert(schema, allowance, wide=wide)
    if wide:
        found = {"type": "object", **found}
    elif found.get("type") != "OBJECT":
        found, lost = _united(found), True
    if not any(found.get(name) for name in ("properties", "anyOf", "additionalProperties", "$ref")):
        return None, isinstance(schema.get("additionalProperties"), dict)
    return found, lost


def _united(schema: Json) -> Json:
    """One object with the properties of all that a narrow schema may be."""
    branches = [branch for branch in schema.get("anyOf", ()) if branch.get("type") == "OBJECT"]
    properties = {name: value for branch in branches for name, value in branch.get("properties", {}).items()}
    required = [name for name in properties if all(name in branch.get("required", ()) for branch in branches)]
    found: Json = {"type": "OBJECT", "properties": properties}
    return found | ({"required": required} if required else {})


class _Conversion:
    def __init__(self, root: Json, allowance: Allowance, wide: bool) -> None:
        self.root, self.wide = root, wide
        self.lost = False
        self._steps = allowance.take
        self._kept: dict[str, str] = {}  # pointers of schemas that contain themselves -> their names
        self._due: deque[str] = deque()  # those that are still to be converted

    def whole(self) -> Json:
        found = self.node(self.root, ("#",))
        kept: Json = {}
        while self._due:
            pointer = self._due.popleft()
            kept[self._kept[pointer]] = self.node(self._at(pointer), (pointer,))
        return found | {"$defs": kept} if kept else found

    def node(self, schema: Any, within: tuple[str, ...]) -> Json:
        """One schema; `within`: the references that led to it."""
        if not isinstance(schema, dict):
            self.lost |= schema is False
            schema = {}
        schema, within = self._flat(schema, within)
        if "$ref" in schema:
            return self._again(schema)
        return self._wide(schema, within) if self.wide else self._narrow(schema, within)

    # ---- references and allOf

    def _flat(self, schema: Json, within: tuple[str, ...]) -> tuple[Json, tuple[str, ...]]:
        """The schema with its reference and its `allOf` merged into it. A reference that is left leads to itself."""
        self._steps(_SCHEMA + len(within))
        out = {name: value for name, value in schema.items() if name not in ("$ref", "allOf")}
        parts = [one for one in _list(schema.get("allOf")) if isinstance(one, dict)]
        if isinstance(pointer := schema.get("$ref"), str):
            if pointer in within:
                return out | {"$ref": pointer}, within
            within = (*within, pointer)
            target = self._at(pointer)
            parts.insert(0, target if isinstance(target, dict) else {})
        led = within
        for part in parts:
            found, deeper = self._flat(part, within)
            self._steps(len(led))
            led = tuple(dict.fromkeys((*led, *deeper)))
            self._merge(out, found)
        return out, led

    def _merge(self, out: Json, part: Json) -> None:
        for name, value in part.items():
            held = out.get(name)
            if isinstance(held, list | dict) and isinstance(value, list | dict):
                self._steps(len(held) + len(value))
            if name not in out:
                out[name] = value
            elif name == "required":
                out[name] = list(dict.fromkeys([*_names(held), *_names(value)]))
            elif name == "properties" and isinstance(held, dict) and isinstance(value, dict):
                both = {key: {"allOf": [held[key], value[key]]} for key in held.keys() & value.keys()}
                out[name] = held | value | both
            elif held != value and name not in ("title", "description", "default", *_ASIDE):
                self.lost = True

    def _at(self, pointer: str) -> Any:
        """What a reference within the document points at."""
        found: Any = self.root
        for step in pointer.removeprefix("#").split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and step.isdecimal() and len(step) < 9 and int(step) < len(found):
                found = found[int(step)]
            elif isinstance(found, dict) and step in found:
                found = found[step]
            else:
                self.lost = True
                return {}
        self.lost |= not pointer.startswith("#")
        return found if pointer.startswith("#") else {}

    def _again(self, schema: Json) -> Json:
        pointer = schema["$ref"]
        if self.wide:
            if pointer not in self._kept:
                self._kept[pointer] = f"s{len(self._kept)}"
                self._due.append(pointer)
            return {"$ref": f"#/$defs/{self._kept[pointer]}"}  # nothing may stand beside it
        self.lost = True
        target = self._at(pointer)
        text = schema.get("description") or (target.get("description") if isinstance(target, dict) else None)
        return {"type": "OBJECT"} | ({"description": text} if text else {})

    # ---- wide

    def _wide(self, schema: Json, within: tuple[str, ...]) -> Json:
        out = {name: value for name, value in schema.items() if name not in _ASIDE | _UNKNOWN | _INNER}
        self.lost |= not _UNKNOWN.isdisjoint(schema)
        for name in ("type", "enum"):
            if name in schema:
                out[name] = schema[name]
        if "const" in schema:
            out["enum"] = [schema["const"]]
        if branches := self._branches(schema):
            out["anyOf"] = [self.node(branch, within) for branch in branches]
        if isinstance(given := schema.get("properties"), dict):
            out["properties"] = {name: self.node(value, within) for name, value in given.items()}
        if required := [name for name in _names(schema.get("required")) if name in out.get("properties", {})]:
            out["required"] = required
        items = schema.get("items")
        if tuple_of := _list(schema.get("prefixItems")) or _list(items):
            out["prefixItems"] = [self.node(one, within) for one in tuple_of]
        if isinstance(items, dict | bool):
            out["items"] = self.node(items, within) if isinstance(items, dict) else items
        if isinstance(schema.get("additionalProperties"), dict):
            out["additionalProperties"] = self.node(schema["additionalProperties"], within)
        return out

    def _branches(self, schema: Json) -> list[Any]:
        either, one = _list(schema.get("anyOf")), _list(schema.get("oneOf"))
        self.lost |= bool(either and one)
        return either or one

    # ---- narrow

    def _narrow(self, schema: Json, within: tuple[str, ...]) -> Json:
        types = schema.get("type")
        kinds = [one for one in (types if isinstance(types, list) else [types]) if isinstance(one, str)]
        rest = {name: value for name, value in schema.items() if name not in ("anyOf", "oneOf", "type")}
        branches = self._branches(schema)
        nullable = _NULL in kinds or any(isinstance(one, dict) and one.get("type") == _NULL for one in branches)
        kinds = [one for one in kinds if one != _NULL]
        choices = [one for one in branches if not (isinstance(one, dict) and one.get("type") == _NULL)]
        if choices:
            beside = rest | ({"type": kinds[0]} if len(kinds) == 1 else {})
            several = [{"allOf": [one, beside]} if isinstance(one, dict) else beside for one in choices]
        else:
            several = [{**rest, "type": kind} for kind in kinds]
        if len(several) == 1 and (choices or len(kinds) == 1):
            found = self.node(several[0], within) if choices else self._one(several[0], within)
        elif several:
            found = {"anyOf": [self.node(one, within) for one in several]}
        else:
            found = self._one(rest, within)
        if nullable:
            for one in found.get("anyOf", [found]):
                one["nullable"] = True
        return found

    def _one(self, schema: Json, within: tuple[str, ...]) -> Json:
        """A schema of one type."""
        out: Json = {name: value for name, value in schema.items() if name in _NARROW}
        self.lost |= not schema.keys() <= _NARROW | _ASIDE | _INNER | {"format", "additionalProperties", *_BOUNDS}
        self.lost |= isinstance(schema.get("additionalProperties"), dict) or "prefixItems" in schema
        self._enum(schema, out)
        kind = schema.get("type") or _kind(schema, out)
        if kind == _NULL or not kind:
            self.lost |= not kind
            kind, out["nullable"] = "string", True
        out["type"] = kind.upper()
        self._bounds(schema, out)
        if kind == "object":
            self._properties(schema, out, within)
        elif kind == "array":
            self._items(schema, out, within)
        return out

    def _enum(self, schema: Json, out: Json) -> None:
        values = [schema["const"]] if "const" in schema else _list(schema.get("enum"))
        if None in values:
            out["nullable"] = True
        given = [value for value in values if value is not None]
        if given and all(isinstance(value, str) for value in given):
            out["enum"] = given
        elif given:  # only texts can be listed
            self.lost = True
            out["description"] = f"{out.get('description', '')} One of {given}.".strip()
            schema.setdefault("type", _type_of(given[0]))

    def _bounds(self, schema: Json, out: Json) -> None:
        if "format" in schema:
            if isinstance(schema["format"], str) and schema["format"] in _FORMATS:
                out["format"] = schema["format"]
            else:
                self.lost = True
        for name, (inclusive, step) in _BOUNDS.items():
            bound = schema.get(name)
            if isinstance(bound, int) and not isinstance(bound, bool) and out["type"] == "INTEGER":
                out.setdefault(inclusive, bound + step)
            elif name in schema:
                self.lost = True
                if isinstance(bound, float | int) and not isinstance(bound, bool):
                    out.setdefault(inclusive, bound)

    def _properties(self, schema: Json, out: Json, within: tuple[str, ...]) -> None:
        given = schema.get("properties")
        found = {name: self.node(one, within) for name, one in given.items()} if isinstance(given, dict) else {}
        if not found:  # an object without properties can hold nothing there
            self.lost = True
            return
        out["properties"] = found
        if required := [name for name in _names(schema.get("required")) if name in found]:
            out["required"] = required
        if len(found) > 1:
            out["propertyOrdering"] = list(found)

    def _items(self, schema: Json, out: Json, within: tuple[str, ...]) -> None:
        items = schema.get("items")
        several = _list(schema.get("prefixItems")) or _list(items)
        if several:
            self.lost = True
            out["items"] = self.node({"anyOf": several}, within)
        elif isinstance(items, dict):
            out["items"] = self.node(items, within)
        else:
            self.lost = True
            out["items"] = {"type": "STRING"}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _names(value: Any) -> list[str]:
    return [one for one in _list(value) if isinstance(one, str)]


def _kind(schema: Json, out: Json) -> str | None:
    """The type of a schema that does not say it."""
    if "properties" in schema:
        return "object"
    if "items" in schema or "prefixItems" in schema:
        return "array"
    return "string" if "enum" in out else None


def _type_of(value: Any) -> str:
    """The type of a number or of what else is listed in an enum."""
    if isinstance(value, bool):
        return "boolean"
    return {int: "integer", float: "number", list: "array", dict: "object"}.get(type(value), "string")

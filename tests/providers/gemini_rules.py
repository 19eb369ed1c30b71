"""What Google refuses of a request to generateContent, as far as its reference says so. Gives a complaint, or "".

Sources: the Gemini API reference (generateContent, Schema, FunctionDeclaration), the guides to function calling,
thinking and thought signatures, and error messages that users have reported.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

Json = dict[str, Any]

# Object -> its members; a name in parentheses is a type below, others are plain values.
SHAPES: Final[Mapping[str, Mapping[str, str]]] = {
    "request": {
        "contents": "[content]",
        "systemInstruction": "content",
        "tools": "[tool]",
        "toolConfig": "toolConfig",
        "generationConfig": "config",
        "safetySettings": "",
        "cachedContent": "",
        "labels": "",
        "serviceTier": "",
        "store": "",
    },
    "content": {"role": "", "parts": "[part]"},
    "part": {
        **dict.fromkeys(
            ("text", "thought", "thoughtSignature", "videoMetadata", "mediaResolution", "partMetadata"), ""
        ),
        "inlineData": "blob",
        "fileData": "file",
        "functionCall": "call",
        "functionResponse": "response",
    },
    "blob": {"mimeType": "", "data": ""},
    "file": {"fileUri": "", "mimeType": ""},
    "call": {"name": "", "args": "", "id": ""},
    "response": {"name": "", "response": "", "id": "", "parts": "", "willContinue": "", "scheduling": ""},
    "tool": {"functionDeclarations": "[function]", "googleSearch": "", "codeExecution": "", "urlContext": ""},
    "function": dict.fromkeys(
        ("name", "description", "parameters", "parametersJsonSchema", "response", "responseJsonSchema", "behavior"), ""
    ),
    "toolConfig": {"functionCallingConfig": "calling", "retrievalConfig": ""},
    "calling": {"mode": "", "allowedFunctionNames": ""},
    "config": {
        **dict.fromkeys(("temperature", "topP", "topK", "candidateCount", "maxOutputTokens", "stopSequences"), ""),
        **dict.fromkeys(("responseLogprobs", "logprobs", "presencePenalty", "frequencyPenalty", "seed"), ""),
        **dict.fromkeys(("responseMimeType", "responseSchema", "responseJsonSchema", "responseModalities"), ""),
        **dict.fromkeys(("mediaResolution", "speechConfig", "imageConfig"), ""),
        "thinkingConfig": "thinking",
    },
    "thinking": {"includeThoughts": "", "thinkingBudget": "", "thinkingLevel": ""},
}
DATA: Final = ("text", "inlineData", "fileData", "functionCall", "functionResponse")
NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")
KEYWORDS: Final = frozenset(
    {"type", "format", "title", "description", "nullable", "enum", "items", "minItems", "maxItems", "properties"}
    | {"required", "propertyOrdering", "minProperties", "maxProperties", "minimum", "maximum", "minLength", "maxLength"}
    | {"pattern", "default", "example", "anyOf"}
)
TYPES: Final = ("STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT")


def complaint(body: Json, model: str) -> str:
    """The first thing that is wrong with a request."""
    return next(_faults(body, model), "")


def _faults(body: Json, model: str) -> Iterator[str]:
    yield from _shape(body, "request", "")
    yield from _turns(body.get("contents") or [])
    if _third(model):
        yield from _signatures(body.get("contents") or [])
    for part in (body.get("systemInstruction") or {}).get("parts", ()):
        if "text" not in part:
            yield "system_instruction: only text is supported"
    functions = [one for tool in body.get("tools", ()) for one in tool.get("functionDeclarations", ())]
    yield from _functions(functions, body)
    yield from _config(body.get("generationConfig") or {}, model, bool(functions))


def _shape(value: Any, shape: str, where: str) -> Iterator[str]:
    if shape.startswith("["):
        if not isinstance(value, list) or not value:
            yield f"{where}: should be a list that is not empty"
            return
        for n, one in enumerate(value):
            yield from _shape(one, shape[1:-1], f"{where}[{n}]")
        return
    if not isinstance(value, dict):
        yield f"{where}: should be an object"
        return
    for name, inner in value.items():
        if name not in SHAPES[shape]:
            yield f"Invalid JSON payload received. Unknown name \"{name}\" at '{where}': Cannot find field."
        elif inner is None:
            yield f"{where}.{name}: null"
        elif SHAPES[shape][name]:
            yield from _shape(inner, SHAPES[shape][name], f"{where}.{name}".lstrip("."))


def _turns(contents: Sequence[Json]) -> Iterator[str]:
    """Roles in turn, from the user; every call answered at once, and nothing else answered."""
    if not contents or contents[0].get("role") != "user":
        yield "contents: should begin with role user"
    for before, content in zip([{}, *contents], contents, strict=False):
        role, parts = content.get("role"), content.get("parts") or []
        if role not in ("user", "model") or role == before.get("role"):
            yield "contents: roles should alternate between user and model"
        for part in parts:
            yield from _part(part, role)
        asked = [part["functionCall"] for part in before.get("parts", ()) if "functionCall" in part]
        given = [part["functionResponse"] for part in parts if "functionResponse" in part]
        if [(one["name"], one.get("id")) for one in asked] != [(one["name"], one.get("id")) for one in given]:
            yield "Please ensure that function response parts are those of the function call parts of the turn before"


def _part(part: Json, role: Any) -> Iterator[str]:
    if len([name for name in DATA if name in part]) != 1:
        yield "part: exactly one data member"
    if part.get("text") == "" and "thoughtSignature" not in part:
        yield "part: text is empty"
    if "functionCall" in part and (role != "model" or not isinstance(part["functionCall"].get("args"), dict)):
        yield "function_call: role model, args an object"
    if "functionResponse" in part:
        response = part["functionResponse"].get("response")
        if role != "user" or not isinstance(response, dict):
            yield "function_response: role user, response an object"
        if _has_key(response, "$ref"):
            yield "The referenced name in function_response.response does not match to a display_name"
    if "inlineData" in part and not _is_base64(part["inlineData"]["data"]):
        yield "inline_data: Base64 decoding failed"
    if "thoughtSignature" in part and not _is_base64(part["thoughtSignature"]):
        yield "Invalid value at 'thought_signature' (TYPE_BYTES), Base64 decoding failed"


def _signatures(contents: Sequence[Json]) -> Iterator[str]:
    """In the current turn (since the user last said something) the first call of every step must be signed."""
    begins = [n for n, one in enumerate(contents) if any("functionResponse" not in part for part in one["parts"])]
    start = max((n for n in begins if contents[n]["role"] == "user"), default=0)
    for content in contents[start:]:
        calls = [part for part in content["parts"] if "functionCall" in part]
        if calls and not calls[0].get("thoughtSignature"):
            yield "Function call is missing a thought_signature in functionCall parts"


def _functions(functions: Sequence[Json], body: Json) -> Iterator[str]:
    names = [one.get("name") for one in functions]
    for one in functions:
        if not NAME.fullmatch(one.get("name") or ""):
            yield "function_declarations: Invalid function name"
        if {"parameters", "parametersJsonSchema"} <= one.keys():
            yield "parameters and parameters_json_schema are mutually exclusive"
        if "parameters" in one:
            if one["parameters"].get("type") != "OBJECT":
                yield "parameters: should be an OBJECT"
            yield from schema_faults(one["parameters"], "parameters")
        if "parametersJsonSchema" in one:
            yield from json_schema_faults(one["parametersJsonSchema"])
    if len(set(names)) < len(names):
        yield "Duplicate function declaration found"
    if functions and len(body["tools"]) > 1:
        yield "Built-in tools and Function Calling cannot be combined"
    calling = (body.get("toolConfig") or {}).get("functionCallingConfig", {})
    if calling and not functions:
        yield "Function calling config is set without function_declarations"
    if calling.get("mode", "AUTO") not in ("AUTO", "ANY", "NONE", "VALIDATED"):
        yield "mode: Invalid value"
    if calling.get("allowedFunctionNames") and calling["mode"] not in ("ANY", "VALIDATED"):
        yield "Allowed function names should be set only when function calling mode is ANY"


def schema_faults(schema: Any, where: str) -> Iterator[str]:
    """Of the subset of OpenAPI."""
    if not isinstance(schema, dict):
        yield f"{where}: should be an object"
        return
    yield from (f"Unknown name \"{name}\" at '{where}': Cannot find field." for name in schema.keys() - KEYWORDS)
    if "anyOf" in schema:
        if schema.keys() != {"anyOf"}:
            yield f"{where}: when using any_of, it must be the only field set"
        for branch in schema["anyOf"]:
            yield from schema_faults(branch, f"{where}.anyOf")
        return
    if schema.get("type") not in TYPES:
        yield f"{where}.type: should be one of {TYPES}"
    if "enum" in schema and not (schema["type"] == "STRING" and all(isinstance(one, str) for one in schema["enum"])):
        yield f"{where}.enum: only allowed for STRING type"
    if schema.get("format") not in (None, "enum", "date-time", "float", "double", "int32", "int64"):
        yield f"{where}.format: not supported"
    properties = schema.get("properties", {})
    if "properties" in schema and not properties:
        yield f"{where}.properties: should be non-empty for OBJECT type"
    for name, inner in properties.items():
        yield from schema_faults(inner, f"{where}.properties[{name}]")
    for named in ("required", "propertyOrdering"):
        if not set(schema.get(named, ())) <= properties.keys():
            yield f"{where}.{named}: property is not defined"
    if schema.get("type") == "ARRAY":
        if "items" not in schema:
            yield f"{where}.items: missing field"
        else:
            yield from schema_faults(schema["items"], f"{where}.items")


def json_schema_faults(schema: Any) -> Iterator[str]:
    """References lead to what is there, and nothing stands beside them."""
    for one in _schemas(schema):
        if "$ref" in one:
            name = one["$ref"].removeprefix("#/$defs/")
            if name not in schema.get("$defs", {}):
                yield f"reference to undefined schema at {one['$ref']}"
            if one.keys() - {"$ref", "description", "default"}:
                yield "a schema with a ref cannot have any other fields set"
        for skipped in ("allOf", "oneOf", "const", "definitions"):
            if skipped in one:
                yield f"{skipped}: is not supported"
        if not set(one.get("required", ())) <= one.get("properties", {}).keys():
            yield "required: property is not defined"


def _schemas(schema: Any) -> Iterator[Json]:
    """A schema and those within it."""
    if not isinstance(schema, dict):
        return
    yield schema
    for name in ("properties", "$defs"):
        for one in (schema.get(name) or {}).values():
            yield from _schemas(one)
    for name in ("items", "additionalProperties"):
        yield from _schemas(schema.get(name))
    for name in ("anyOf", "prefixItems"):
        for one in schema.get(name) or ():
            yield from _schemas(one)


def _config(config: Json, model: str, has_functions: bool) -> Iterator[str]:
    thinking = config.get("thinkingConfig", {})
    third = _third(model)
    if {"thinkingBudget", "thinkingLevel"} <= thinking.keys():
        yield "thinking_budget and thinking_level cannot be set together"
    if "thinkingLevel" in thinking and not third:
        yield "Thinking level is not supported for this model"
    if "thinkingBudget" in thinking and not -1 <= thinking["thinkingBudget"] <= 32_768:
        yield "The thinking budget is invalid"
    if {"responseSchema", "responseJsonSchema"} <= config.keys():
        yield "response_schema and response_json_schema are mutually exclusive"
    if {"responseSchema", "responseJsonSchema"} & config.keys() and config.get(
        "responseMimeType"
    ) != "application/json":
        yield "response_schema is only supported with application/json"
    if "responseSchema" in config:
        yield from schema_faults(config["responseSchema"], "response_schema")
    if "responseJsonSchema" in config:
        yield from json_schema_faults(config["responseJsonSchema"])
    if has_functions and config.get("responseMimeType") == "application/json" and not third:
        yield "Function calling with a response mime type: 'application/json' is unsupported"
    if "logprobs" in config and not config.get("responseLogprobs"):
        yield "logprobs: response_logprobs must be set"
    if len(config.get("stopSequences", ())) > 5:
        yield "stop_sequences: at most 5"
    if not -(2**31) <= config.get("seed", 0) < 2**31:
        yield "seed: Value out of range"


def _third(model: str) -> bool:
    """Of the third generation or a later one."""
    return re.search(r"gemini-[12]", model) is None


def _is_base64(text: str) -> bool:
    plain = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _has_key(value: Any, key: str) -> bool:
    if isinstance(value, dict):
        return key in value or any(_has_key(one, key) for one in value.values())
    return isinstance(value, list) and any(_has_key(one, key) for one in value)

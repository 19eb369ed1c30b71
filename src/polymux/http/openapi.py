"""Our own OpenAPI 3.1 document: the route table, the pivot's types and the table of errors, told to machines.

What the code knows comes from the code; what a route is for stands in `OPERATIONS`, and a row without an entry there
is a fault (tests/http/test_openapi.py). Source: OpenAPI Specification 3.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from polymux import __version__
from polymux.errors import KINDS
from polymux.schema.chat import ChatRequest, ChatResponse, Chunk

if TYPE_CHECKING:
    from polymux.http.routes import Row

Json = dict[str, Any]

REF: Final = "#/components/schemas/{name}"
ANYWHERE: Final = ("bad_request", "request_timeout", "request_too_large", "headers_too_large", "internal_error")
KEYED: Final = ("invalid_api_key",)
WAITS: Final = (429, 503)  # statuses that come with `retry-after`


class Operation(msgspec.Struct, frozen=True):
    """What the route table does not say of a row.

    answers: content type -> the name of a schema. takes: the schema of the body, "" = none. errors: kinds beside those
    that any request can end with. sent: a provider's own 4xx is passed on. security: schemes of which one is needed, ""
    for none.
    """

    id: str
    summary: str
    answers: Mapping[str, str]
    takes: str = ""
    errors: tuple[str, ...] = ()
    sent: bool = False
    security: tuple[str, ...] = ()


_CLIENT: Final = ("bearer", "x-api-key", "api-key")
_ADMIN: Final = ("admin",)
_ADMINISTERED: Final = ("invalid_api_key", "admin_key_not_set")
_ELSEWHERE: Final = ("not_found", "method_not_allowed", "admin_key_not_set", "invalid_configuration")  # not of calls
_JSON: Final = "application/json"

OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "POST /chat/completions": Operation(
            "createChatCompletion",
            "A chat completion, whole or streamed. Unlisted members are passed on or named in x-polymux-dropped.",
            {_JSON: "ChatResponse", "text/event-stream": "Event"},
            takes="ChatRequest",
            errors=tuple(name for name in KINDS if name not in _ELSEWHERE),
            sent=True,
            security=_CLIENT,
        ),
        "GET /models": Operation(
            "listModels", "The models that the key may use.", {_JSON: "ModelList"}, errors=KEYED, security=_CLIENT
        ),
        "GET /models/*": Operation(
            "getModel",
            "One model. Slashes in its id may come escaped or not.",
            {_JSON: "Model"},
            errors=(*KEYED, "model_not_found", "model_not_allowed"),
            security=_CLIENT,
        ),
        "GET /health": Operation("getHealth", "The process lives.", {_JSON: "Status"}),
        "GET /ready": Operation("getReady", "Requests are taken.", {_JSON: "Status"}, errors=("overloaded",)),
        "GET /openapi.json": Operation("getDescription", "This document.", {_JSON: "Description"}),
        "POST /admin/api/reload": Operation(
            "reload",
            "Read the configuration anew, on every worker.",
            {_JSON: "Reloaded"},
            errors=(*_ADMINISTERED, "invalid_configuration"),
            security=_ADMIN,
        ),
        "GET /metrics": Operation(
            "getMetrics",
            "The state of the gateway in Prometheus' format. From other machines it wants the administrator's key.",
            {"text/plain": "Text", "application/openmetrics-text": "Text"},
            errors=_ADMINISTERED,
            security=(*_ADMIN, ""),
        ),
        "GET /": Operation("getPage", "A status page for people.", {"text/html": "Text"}),
    }
)

_TEXT: Final = MappingProxyType({"type": "string"})
_MODEL: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "type": "object",
        "required": ["id", "object", "created", "owned_by"],
        "properties": {"id": _TEXT, "object": {"const": "model"}, "created": {"type": "integer"}, "owned_by": _TEXT},
    }
)
_OWN: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "Model": _MODEL,
        "ModelList": {
            "type": "object",
            "required": ["object", "data"],
            "properties": {
                "object": {"const": "list"},
                "data": {"type": "array", "items": {"$ref": REF.format(name="Model")}},
            },
        },
        "Status": {"type": "object", "required": ["status"], "properties": {"status": _TEXT}},
        "Reloaded": {"type": "object", "required": ["data"], "properties": {"data": {"type": "object"}}},
        "Description": {"type": "object", "required": ["openapi", "info", "paths"]},
        "Text": _TEXT,
        "Event": {
            "type": "object",
            "required": ["data"],
            "description": "A server-sent event: a chunk, a failure in midstream, or the end of a complete answer.",
            "properties": {
                "data": {
                    "type": "string",
                    "anyOf": [
                        {"const": "[DONE]"},
                        {"contentMediaType": _JSON, "contentSchema": {"$ref": REF.format(name="Chunk")}},
                        {"contentMediaType": _JSON, "contentSchema": {"$ref": REF.format(name="Error")}},
                    ],
                }
            },
        },
        "Error": {
            "type": "object",
            "required": ["error"],
            "properties": {
                "error": {
                    "type": "object",
                    "required": ["message", "type", "param", "code"],
                    "properties": {
                        "message": _TEXT,
                        "type": _TEXT,
                        "param": {"type": ["string", "null"], "description": "The member of the request at fault."},
                        "code": {"type": ["string", "null"]},
                    },
                }
            },
        },
    }
)
_SCHEMES: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "bearer": {"type": "http", "scheme": "bearer"},
        "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
        "admin": {"type": "http", "scheme": "bearer", "description": "The administrator's key."},
    }
)


@cache
def document() -> bytes:
    """The document as JSON; made when it is first asked for."""
    from polymux.http.routes import TABLE  # here, for the table names the handler that calls this

    return msgspec.json.encode(describe(TABLE), enc_hook=dict)  # a mapping proxy is no dict


def describe(table: Iterable[Row]) -> Json:
    """The document of a route table. Raises `KeyError` for a row without an entry in `OPERATIONS`."""
    paths: dict[str, Json] = {}
    for row in table:
        path = f"{'/v1' if row.client else ''}{row.path.replace('/*', '/{id}')}"
        operation = OPERATIONS[f"{row.method} {row.path}"]
        paths.setdefault(path, {})[row.method.lower()] = _operation(operation, path)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Polymux",
            "version": __version__,
            "summary": "One OpenAI-compatible endpoint in front of every model.",
            "description": "Paths under /v1 are served without that prefix as well.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": _schemas(), "securitySchemes": _SCHEMES},
    }


def _operation(operation: Operation, path: str) -> Json:
    out: Json = {
        "operationId": operation.id,
        "summary": operation.summary,
        "security": [{name: []} if name else {} for name in operation.security],
        "responses": {"200": _answer("The answer.", operation.answers), **_errors(operation)},
    }
    if path.endswith("/{id}"):
        schema = {"type": "string", "minLength": 1}
        out["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": schema}]
    if operation.takes:
        out["requestBody"] = {"required": True, "content": {_JSON: {"schema": _ref(operation.takes)}}}
    return out


def _errors(operation: Operation) -> Json:
    """A response for each status, with the codes that it may carry."""
    codes: dict[int, list[str]] = {}
    for name in dict.fromkeys((*ANYWHERE, *operation.errors)):
        kind = KINDS[name]
        if kind.code and kind.code not in codes.setdefault(kind.status, []):
            codes[kind.status].append(kind.code)
    out = {
        str(status): _answer(f"code: {', '.join(found)}", {_JSON: "Error"}, status)
        for status, found in sorted(codes.items())
    }
    return out | ({"4XX": _answer("As the provider sent it.", {_JSON: "Error"})} if operation.sent else {})


def _answer(description: str, contents: Mapping[str, str], status: int = 200) -> Json:
    headers: Json = {"x-request-id": {"schema": _TEXT, "required": True}}
    if status in WAITS:
        headers["retry-after"] = {"schema": {"type": "integer"}, "required": True, "description": "Seconds."}
    if status == 401:
        headers["www-authenticate"] = {"schema": _TEXT, "required": True}
    content = {kind: {"schema": _ref(name)} for kind, name in contents.items()}
    return {"description": description, "headers": headers, "content": content}


def _schemas() -> Json:
    _, found = msgspec.json.schema_components([ChatRequest, ChatResponse, Chunk], ref_template=REF)
    members = found["ChatRequest"]["properties"]  # what the surface wants beyond the types
    members["model"]["minLength"] = members["messages"]["minItems"] = 1
    return {**found, **_OWN}


def _ref(name: str) -> Json:
    return {"$ref": REF.format(name=name)}

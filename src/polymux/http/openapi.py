"""Our own OpenAPI 3.1 document: the route table, the pivot's types and the table of errors, told to machines.

What the code knows comes from the code; what a route is for stands in `OPERATIONS`, and a row without an entry there
is a fault (tests/http/test_openapi.py). Source: OpenAPI Specification 3.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType, NoneType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from polymux import __version__
from polymux.admin.api import LIMIT, MOST
from polymux.admin.keys import AuditList, KeyList, WithSecret
from polymux.admin.lists import DeploymentList, ServedModelList
from polymux.errors import KINDS
from polymux.schema.chat import ChatRequest, ChatResponse, Chunk
from polymux.schema.completions import Completion, CompletionRequest
from polymux.schema.embeddings import EmbeddingRequest, EmbeddingResponse
from polymux.store import fields
from polymux.store.sums import BY, UsageList
from polymux.store.talks import Conversation, ConversationList
from polymux.types import Record

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
    for none. status: of the answer when all is well. paged: it takes `limit` and `after`. query: what else it takes.
    """

    id: str
    summary: str
    answers: Mapping[str, str]
    takes: str = ""
    errors: tuple[str, ...] = ()
    sent: bool = False
    security: tuple[str, ...] = ()
    status: int = 200
    paged: bool = False
    query: tuple[str, ...] = ()


_CLIENT: Final = ("bearer", "x-api-key", "api-key")
_ADMIN: Final = ("admin",)
_ADMINISTERED: Final = ("invalid_api_key", "admin_key_not_set")
_STORED: Final = (*_ADMINISTERED, "unsupported_parameter", "overloaded")  # it asks the database
_CHANGES: Final = (*_STORED, "invalid_json", "invalid_type", "invalid_value", "conflict")
_ELSEWHERE: Final = (  # not of calls
    *("not_found", "method_not_allowed", "admin_key_not_set", "invalid_configuration", "conflict"),
)
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
        "POST /completions": Operation(
            "createCompletion",
            "The continuation of a text, whole or streamed. Models that only chat are asked in a chat.",
            {_JSON: "Completion", "text/event-stream": "CompletionEvent"},
            takes="CompletionRequest",
            errors=tuple(name for name in KINDS if name not in _ELSEWHERE),
            sent=True,
            security=_CLIENT,
        ),
        "POST /embeddings": Operation(
            "createEmbedding",
            "Embeddings, as numbers or as base64 of little-endian float32 values.",
            {_JSON: "EmbeddingResponse"},
            takes="EmbeddingRequest",
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
        "GET /admin/api/keys": Operation(
            "listKeys",
            "The keys of the configuration, which are read-only, then those of the database, the oldest first.",
            {_JSON: "KeyList"},
            errors=(*_STORED, "invalid_value"),
            security=_ADMIN,
            paged=True,
        ),
        "POST /admin/api/keys": Operation(
            "createKey",
            "A new key. Its secret is in this answer alone.",
            {_JSON: "WithSecret"},
            takes="NewKey",
            errors=(*_CHANGES, "missing_required_parameter"),
            security=_ADMIN,
            status=201,
        ),
        "GET /admin/api/keys/*": Operation(
            "getKey",
            "One key, by its id or name.",
            {_JSON: "Shown"},
            errors=(*_STORED, "not_found"),
            security=_ADMIN,
        ),
        "PATCH /admin/api/keys/*": Operation(
            "updateKey",
            "Change the members that are given.",
            {_JSON: "Shown"},
            takes="KeyChange",
            errors=(*_CHANGES, "not_found"),
            security=_ADMIN,
        ),
        "DELETE /admin/api/keys/*": Operation(
            "revokeKey",
            "Delete a key. What it used stays in the ledger.",
            {},
            errors=(*_STORED, "not_found", "conflict"),
            security=_ADMIN,
            status=204,
        ),
        "POST /admin/api/keys/*/rotate": Operation(
            "rotateKey",
            "A new secret, in this answer alone; the old one is good for a while. The body may be left out.",
            {_JSON: "WithSecret"},
            takes="Rotation",
            errors=(*_CHANGES, "not_found"),
            security=_ADMIN,
        ),
        "GET /admin/api/conversations": Operation(
            "listConversations",
            "The conversations that are kept, the newest first, without what was said. `key` is an id or a name.",
            {_JSON: "ConversationList"},
            errors=(*_STORED, "invalid_value"),
            security=_ADMIN,
            paged=True,
            query=("key", "model", "tenant", "since", "until"),
        ),
        "GET /admin/api/conversations/*": Operation(
            "getConversation",
            "A conversation by the id of its call: request and answer, redacted, and what a function model has logged.",
            {_JSON: "Conversation"},
            errors=(*_STORED, "not_found"),
            security=_ADMIN,
        ),
        "DELETE /admin/api/conversations/*": Operation(
            "deleteConversation",
            "Delete a conversation for good. Its usage record stays.",
            {},
            errors=(*_STORED, "not_found"),
            security=_ADMIN,
            status=204,
        ),
        "GET /admin/api/audit": Operation(
            "listAudit",
            "Who changed what about the keys, and who deleted conversations, the newest first.",
            {_JSON: "AuditList"},
            errors=(*_STORED, "invalid_value"),
            security=_ADMIN,
            paged=True,
        ),
        "GET /admin/api/usage": Operation(
            "getUsage",
            "What was used and what it cost, summed up. A span is exact to the second; days and hours are UTC.",
            {_JSON: "UsageList"},
            errors=(*_STORED, "invalid_value"),
            security=_ADMIN,
            query=("by", "since", "until"),
        ),
        "GET /admin/api/usage/records": Operation(
            "listRecords",
            "A record for each call, in the order in which they came. `after` may be the id of any record.",
            {_JSON: "RecordList"},
            errors=(*_STORED, "invalid_value"),
            security=_ADMIN,
            paged=True,
        ),
        "GET /admin/api/calls/*": Operation(
            "getCall",
            "What became of a call: every attempt, tokens, cost and times, and the calls that a function model made.",
            {_JSON: "CallRecord"},
            errors=(*_STORED, "not_found"),
            security=_ADMIN,
        ),
        "GET /admin/api/models": Operation(
            "listServedModels",
            "Every public name, and the deployments behind it.",
            {_JSON: "ServedModelList"},
            errors=(*_ADMINISTERED, "unsupported_parameter"),
            security=_ADMIN,
        ),
        "GET /admin/api/deployments": Operation(
            "listDeployments",
            "Every deployment, and the public names that it serves.",
            {_JSON: "DeploymentList"},
            errors=(*_ADMINISTERED, "unsupported_parameter"),
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

_TYPES: Final[Mapping[type, str]] = MappingProxyType(
    {str: "string", int: "integer", float: "number", bool: "boolean", list: "array", NoneType: "null"}
)
_TEXT: Final = MappingProxyType({"type": "string"})
_MOMENT: Final = MappingProxyType(
    {"type": "string", "description": 'Such as "7d" (ago), "2026-11-21", "2026-11-21T12:00:00Z", or Unix seconds.'}
)
_QUERY: Final = MappingProxyType(
    {
        "by": {"type": "string", "enum": [*BY], "default": ""},
        **dict.fromkeys(("since", "until"), _MOMENT),
        **dict.fromkeys(("key", "model", "tenant"), _TEXT),
    }
)
_NUMBER: Final = MappingProxyType({"type": "integer"})
_TEXTS: Final = MappingProxyType({"type": "array", "items": _TEXT})
_MODEL: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "type": "object",
        "required": ["id", "object", "created", "owned_by"],
        "properties": {
            "id": _TEXT,
            "object": {"const": "model"},
            "created": _NUMBER,
            "owned_by": _TEXT,
            # of a single model only, as far as they are known
            "serves": _TEXTS,
            "context_length": _NUMBER,
            "max_output_tokens": _NUMBER,
            "input_modalities": _TEXTS,
            "capabilities": _TEXTS,
            "supported_parameters": _TEXTS,
        },
    }
)


def _event(chunk: str) -> Json:
    """A server-sent event. chunk: the schema of what most of them hold."""
    return {
        "type": "object",
        "required": ["data"],
        "description": "A server-sent event: a chunk, a failure in midstream, or the end of a complete answer.",
        "properties": {
            "data": {
                "type": "string",
                "anyOf": [
                    {"const": "[DONE]"},
                    {"contentMediaType": _JSON, "contentSchema": {"$ref": REF.format(name=chunk)}},
                    {"contentMediaType": _JSON, "contentSchema": {"$ref": REF.format(name="Error")}},
                ],
            }
        },
    }


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
        "Event": _event("Chunk"),
        "CompletionEvent": _event("Completion"),
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
        "responses": {str(operation.status): _answer("The answer.", operation.answers), **_errors(operation)},
    }
    parameters: list[Json] = []
    if "{id}" in path:
        parameters.append({"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}})
    if operation.paged:
        rows = {"type": "integer", "minimum": 1, "maximum": MOST, "default": LIMIT}
        cursor = {"type": "string", "description": "`next` of the answer before."}
        parameters += [
            {"name": name, "in": "query", "schema": schema} for name, schema in (("limit", rows), ("after", cursor))
        ]
    parameters += [{"name": name, "in": "query", "schema": _QUERY[name]} for name in operation.query]
    if parameters:
        out["parameters"] = parameters
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
    return {"description": description, "headers": headers, **({"content": content} if content else {})}


def _schemas() -> Json:
    _, found = msgspec.json.schema_components(
        [
            *(ChatRequest, ChatResponse, Chunk, CompletionRequest, Completion, EmbeddingRequest, EmbeddingResponse),
            *(KeyList, WithSecret, AuditList, ServedModelList, DeploymentList, UsageList, Record),
            *(ConversationList, Conversation),
        ],
        ref_template=REF,
    )
    members = found["ChatRequest"]["properties"]  # what the surface wants beyond the types
    members["model"]["minLength"] = members["messages"]["minItems"] = 1
    for name in ("CompletionRequest", "EmbeddingRequest"):
        found[name]["properties"]["model"]["minLength"] = 1
    record = found.pop("Record")
    return {**found, **_OWN, **_bodies(), **_records(record)}


def _records(record: Json) -> Json:
    """A usage record as it is told: attempts are a number in lists, and what they are in the answer of one call."""
    members = {name: schema for name, schema in record["properties"].items() if name != "tries"}
    told = {**record, "title": "UsageRecord", "properties": members, "required": [*members]}
    full = {"attempts": record["properties"]["tries"], "children": {"type": "array", "items": _ref("UsageRecord")}}
    listed = {"data": {"type": "array", "items": _ref("UsageRecord")}, "next": {"type": ["string", "null"]}}
    return {
        "UsageRecord": told,
        "CallRecord": {**told, "title": "CallRecord", "properties": members | full, "required": [*members, "children"]},
        "RecordList": {"type": "object", "required": [*listed], "properties": listed},
    }


def _bodies() -> Json:
    """What the admin API takes: strict, so that a slip is told."""
    members = {name: _member(field) for name, field in fields.FIELDS.items()}
    overlap = {"type": ["string", "number"], "description": "Such as 24h, or seconds; 0 = none."}
    body: Json = {"type": "object", "additionalProperties": False}
    return {
        "NewKey": {**body, "properties": members, "required": ["name"]},
        "KeyChange": {**body, "properties": members},
        "Rotation": {**body, "properties": {"overlap": overlap}},
    }


def _member(field: fields.Field) -> Json:
    types = [_TYPES[type] for type in field.types]
    schema: Json = {"type": types[0] if len(types) == 1 else types, "description": field.expected}
    if int in field.types and len(types) == 1:
        schema |= {"minimum": 0, "maximum": fields.MOST}
    return schema | ({"items": _TEXT} if list in field.types else {})


def _ref(name: str) -> Json:
    return {"$ref": REF.format(name=name)}

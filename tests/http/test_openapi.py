"""The OpenAPI document: valid, complete, and nothing more than what is served."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec
import pytest
import schemathesis
from jsonschema_rs import ValidationError

from polymux import __version__
from polymux.errors import KINDS
from polymux.http import handlers
from polymux.http.openapi import OPERATIONS, describe, document
from polymux.http.routes import TABLE, Row
from polymux.schema.chat import ChatRequest, ChatResponse, Chunk
from support.gateway import Gateway

DOCUMENT: Final[dict[str, Any]] = json.loads(document())
KEYED: Final = [{"bearer": []}, {"x-api-key": []}, {"api-key": []}]


def operations(found: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(method, path): one for path, methods in found["paths"].items() for method, one in methods.items()}


def references(value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*map(references, value))
    if not isinstance(value, dict):
        return set()
    own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
    return own.union(*map(references, value.values()))


def test_the_document_is_valid() -> None:
    schemathesis.openapi.from_dict(DOCUMENT).validate()
    broken = DOCUMENT | {"paths": {"/x": {"get": {"responses": []}}}}
    with pytest.raises(ValidationError):
        schemathesis.openapi.from_dict(broken).validate()


def test_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    names = {name.rpartition("/")[2] for name in references(DOCUMENT)}
    assert names == set(DOCUMENT["components"]["schemas"])


def test_every_row_of_the_table_is_in_it_and_nothing_else() -> None:
    served = {
        (row.method.lower(), ("/v1" if row.client else "") + row.path.replace("/*", "/{id}"), row.client)
        for row in TABLE
    }
    assert set(operations(DOCUMENT)) == {(method, path) for method, path, _ in served}
    assert set(OPERATIONS) == {f"{row.method} {row.path}" for row in TABLE}
    for method, path, client in served:
        assert (operations(DOCUMENT)[method, path]["security"] == KEYED) is client, path


def test_a_row_without_words_is_a_fault() -> None:
    with pytest.raises(KeyError, match="GET /novelty"):
        describe([Row("GET", "/novelty", handlers.health)])


def test_the_types_are_those_of_the_pivot() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for cls in (ChatRequest, ChatResponse, Chunk):
        members = set(schemas[cls.__name__]["properties"]) - {"object"}
        assert members == {field.encode_name for field in msgspec.structs.fields(cls)}
    assert "additionalProperties" not in schemas["ChatRequest"]  # unknown members are allowed
    assert schemas["ChatRequest"]["required"] == ["model", "messages"]


def test_the_errors_of_a_route_are_those_of_the_table() -> None:
    chat = operations(DOCUMENT)["post", "/v1/chat/completions"]["responses"]
    for name, kind in KINDS.items():
        if name in ("not_found", "method_not_allowed", "admin_key_not_set", "invalid_configuration", "conflict"):
            continue
        told = chat[str(kind.status)]
        assert kind.code in told["description"], name
        assert told["content"]["application/json"]["schema"]["$ref"].endswith("/Error")
        assert ("retry-after" in told["headers"]) is (kind.status in (429, 503))
    assert "4XX" in chat
    assert set(operations(DOCUMENT)["get", "/health"]["responses"]) == {"200", "400", "408", "413", "431", "500"}


def test_it_is_made_once() -> None:
    assert document() is document()
    assert DOCUMENT["info"]["version"] == __version__


def test_it_is_served_without_a_key_to_pages_of_any_origin(gateway: Gateway) -> None:
    gateway_key, path = "", "/openapi.json"
    answer = gateway.get(path, authorization=gateway_key, origin="https://docs.example")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.body == document()

"""Errors in all the shapes that OpenAI-shaped servers have."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymux.errors import KINDS
from polymux.providers.openai_errors import failure_of, in_band

Json = Any
NO_REASON = "the upstream answered with status 400 and gave no reason"


@pytest.mark.parametrize(
    ("body", "message", "type_", "code", "param"),
    [
        ({"error": {"message": "m", "type": "t", "code": "c", "param": "p"}}, "m", "t", "c", "p"),
        ({"error": {"message": "m", "type": None, "code": None}}, "m", "invalid_request_error", None, None),
        ({"error": {"message": "m", "code": 400, "status": "S"}}, "m", "S", "400", None),
        ({"error": "m"}, "m", "invalid_request_error", None, None),
        ({"error": "m", "error_type": "t"}, "m", "t", None, None),
        ([{"error": {"message": "m"}}], "m", "invalid_request_error", None, None),
        ([{"error": "m"}, {"error": "n"}], "m", "invalid_request_error", None, None),
        ({"object": "error", "message": "m", "type": "t", "code": 4}, "m", "t", "4", None),
        ({"detail": "m"}, "m", "invalid_request_error", None, None),
        ({"detail": [{"msg": "m"}]}, "m", "invalid_request_error", None, None),
        ({"msg": "m"}, "m", "invalid_request_error", None, None),
        ({"error": {"message": {"a": 1}}}, '{"a":1}', "invalid_request_error", None, None),
        ({"error": {"message": "m", "type": {"a": 1}, "code": [1]}}, "m", "invalid_request_error", None, None),
        ("m", "m", "invalid_request_error", None, None),
        ({"error": {}}, NO_REASON, "invalid_request_error", None, None),
        ({"error": None}, NO_REASON, "invalid_request_error", None, None),
        ([], NO_REASON, "invalid_request_error", None, None),
        (5, NO_REASON, "invalid_request_error", None, None),
        (None, NO_REASON, "invalid_request_error", None, None),
    ],
)
def test_every_shape_is_read(body: Json, message: str, type_: str, code: str | None, param: str | None) -> None:
    failure = failure_of(400, {}, json.dumps(body).encode())
    assert (failure.kind, failure.status, failure.message) == ("upstream_rejected", 400, message)
    assert (failure.type, failure.code, failure.param) == (type_, code, param)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "upstream_rejected"),
        (401, "upstream_auth_failed"),
        (402, "upstream_auth_failed"),
        (403, "upstream_auth_failed"),
        (404, "upstream_rejected"),
        (408, "upstream_timeout"),
        (409, "upstream_rejected"),
        (413, "upstream_rejected"),
        (422, "upstream_rejected"),
        (429, "upstream_rate_limited"),
        (500, "upstream_unavailable"),
        (501, "upstream_unavailable"),
        (502, "upstream_unavailable"),
        (503, "upstream_overloaded"),
        (504, "upstream_timeout"),
        (522, "upstream_timeout"),
        (524, "upstream_timeout"),
        (529, "upstream_overloaded"),
        (599, "upstream_unavailable"),
    ],
)
def test_the_status_decides(status: int, kind: str) -> None:
    failure = failure_of(status, {"retry-after": "7"}, b'{"error": {"message": "m"}}')
    assert failure.kind == kind
    assert failure.status == (status if kind == "upstream_rejected" else KINDS[kind].status)
    assert failure.retry_after == (None if kind == "upstream_rejected" else 7.0)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": "context_length_exceeded", "message": "m"}, "context_length_exceeded"),
        ({"type": "exceed_context_size_error", "message": "m"}, "context_length_exceeded"),
        ({"message": "This model's maximum context length is 5"}, "context_length_exceeded"),
        ({"message": "the request exceeds the available context size"}, "context_length_exceeded"),
        ({"message": "Prompt is too long: 5 tokens"}, "context_length_exceeded"),
        ({"message": "too many input tokens"}, "context_length_exceeded"),
        ({"message": "the context of your question is unclear"}, "upstream_rejected"),
        ({"code": "content_filter", "message": "m"}, "content_filter"),
        ({"message": "API key not valid. Please pass a valid API key."}, "upstream_auth_failed"),
        ({"message": "reason: API_KEY_INVALID"}, "upstream_auth_failed"),
        ({"message": "m", "code": "Arrearage"}, "upstream_auth_failed"),
    ],
)
def test_what_a_bad_request_means(error: Json, kind: str) -> None:
    failure = failure_of(400, {}, json.dumps({"error": error}).encode())
    assert failure.kind == kind
    if kind == "context_length_exceeded":
        assert failure.param == "messages"
    assert failure_of(500, {}, json.dumps({"error": error}).encode()).kind == "upstream_unavailable"


@pytest.mark.parametrize(
    "error",
    [
        {"type": "insufficient_quota", "code": "insufficient_quota"},
        {"type": "insufficient_quota", "code": "credit_balance_exhausted"},
        {"code": "billing_hard_limit_reached"},
        {"code": "billing_not_active"},
        {"type": "exceeded_current_quota_error"},
        {"code": 1113},
    ],
)
def test_money_spent_is_no_rate_limit(error: Json) -> None:
    """To wait does not help: as with a refused key, another provider must be asked, and the operator told."""
    body = json.dumps({"error": {"message": "m", **error}}).encode()
    for failure in (failure_of(429, {"retry-after": "7"}, body), in_band({"message": "m", **error})):
        assert (failure.kind, failure.should_retry, failure.row.retry) == ("upstream_auth_failed", False, "next")
    assert failure_of(503, {}, body).kind == "upstream_overloaded"


def test_secrets_and_length_are_cut() -> None:
    text = "Incorrect API key provided: sk-proj-abcdef0123456789. " + "x" * 5000
    for failure in (failure_of(401, {}, json.dumps({"error": {"message": text}}).encode()), in_band({"message": text})):
        assert "abcdef0123456789" not in failure.message
        assert len(failure.message) <= 2000


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        ({"message": "m"}, "upstream_unavailable", 502),
        ("m", "upstream_unavailable", 502),
        ({"message": "m", "code": 429}, "upstream_rate_limited", 429),
        ({"message": "m", "code": "429"}, "upstream_rate_limited", 429),
        ({"message": "m", "code": "rate_limit_exceeded"}, "upstream_rate_limited", 429),
        ({"message": "m", "type": "rate_limit_error"}, "upstream_rate_limited", 429),
        ({"message": "m", "code": 404}, "upstream_rejected", 404),
        ({"message": "m", "code": 503}, "upstream_overloaded", 503),
        ({"message": "m", "code": "context_length_exceeded"}, "context_length_exceeded", 400),
        ({"message": "m", "code": 200}, "upstream_unavailable", 502),
        ({"message": "m", "code": 4040}, "upstream_unavailable", 502),
        ({"message": "m", "code": "²"}, "upstream_unavailable", 502),
        ({"message": "m", "code": "9" * 5000}, "upstream_unavailable", 502),
        ({"message": "m", "code": ["x"]}, "upstream_unavailable", 502),
        ({"message": "m", "code": True}, "upstream_unavailable", 502),
    ],
)
def test_an_error_inside_a_success(error: Json, kind: str, status: int) -> None:
    failure = in_band(error)
    assert (failure.kind, failure.status, failure.message) == (kind, status, "m")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 700) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "message", "code", "type", "param", "detail", "status"]), inner)
    ),
    max_leaves=6,
)


@settings(derandomize=True, deadline=None, max_examples=500)
@given(JSON, st.integers(400, 599))
def test_no_error_breaks_the_reading_of_errors(body: Json, status: int) -> None:
    for failure in (failure_of(status, {}, json.dumps(body).encode()), in_band(body)):
        assert failure.kind in KINDS
        assert failure.message
        assert 400 <= failure.status < 600
        assert isinstance(failure.param, str | None)
        assert isinstance(failure.code, str | None)
        assert isinstance(failure.type, str)


@pytest.mark.parametrize(
    ("status", "error", "known"),
    [
        (404, {"message": "The model `m` does not exist.", "code": "model_not_found", "param": None}, False),
        (404, {"message": "The model `m` does not exist.", "type": "NotFoundError", "code": 404}, False),
        (400, {"message": "Model Not Exist"}, False),
        (400, {"message": "The model `m` has been decommissioned", "code": "model_decommissioned"}, False),
        (400, {"message": "no such model", "code": "1211"}, False),
        (404, {"message": "model 'm' not found, try pulling it first"}, False),
        (404, {"message": "there is nothing at this path"}, True),
        (400, {"message": "the model does what it likes; the tool was not even asked"}, True),
        (422, {"message": "the model does not exist"}, True),
        (400, {"message": "The model 'gpt-5.2' is no longer available"}, False),
        (400, {"message": "The model could not read the image: file not found"}, True),
        (400, {"message": "Unknown parameter for model gpt-5.2: 'x' is unknown"}, True),
    ],
)
def test_a_model_that_is_not_there_is_looked_for_elsewhere(status: int, error: dict[str, object], known: bool) -> None:
    failure = failure_of(status, {}, json.dumps({"error": error}).encode())
    assert failure.kind == ("upstream_rejected" if known else "upstream_model_not_found")
    assert failure.row.retry == ("no" if known else "next")
    assert (failure.status, failure.param) == (status, None if known else "model")
    assert failure.code == (str(error["code"]) if "code" in error else None if known else "model_not_found")

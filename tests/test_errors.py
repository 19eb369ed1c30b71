"""The table of failures, held against what INTERFACE promises."""

from __future__ import annotations

import pytest

from polymux.errors import KINDS, Failure

PROMISED = {
    "invalid_api_key": (401, "authentication_error", "invalid_api_key"),
    "model_not_allowed": (403, "permission_error", "model_not_allowed"),
    "model_not_found": (404, "invalid_request_error", "model_not_found"),
    "invalid_json": (400, "invalid_request_error", "invalid_json"),
    "invalid_type": (400, "invalid_request_error", "invalid_type"),
    "missing_required_parameter": (400, "invalid_request_error", "missing_required_parameter"),
    "request_too_large": (413, "invalid_request_error", "request_too_large"),
    "rate_limit_exceeded": (429, "rate_limit_error", "rate_limit_exceeded"),
    "upstream_rate_limited": (429, "rate_limit_error", "upstream_rate_limited"),
    "context_length_exceeded": (400, "invalid_request_error", "context_length_exceeded"),
    "unsupported_parameter": (400, "invalid_request_error", "unsupported_parameter"),
    "unsupported_operation": (400, "invalid_request_error", "unsupported_operation"),
    "method_not_allowed": (405, "invalid_request_error", "method_not_allowed"),
    "headers_too_large": (431, "invalid_request_error", "headers_too_large"),
    "request_timeout": (408, "invalid_request_error", "request_timeout"),
    "overloaded": (503, "server_error", "overloaded"),
    "internal_error": (500, "server_error", "internal_error"),
    "budget_exceeded": (402, "insufficient_quota", "budget_exceeded"),
    "upstream_auth_failed": (502, "upstream_error", "upstream_auth_failed"),
    "upstream_unavailable": (502, "upstream_error", "upstream_unavailable"),
    "upstream_overloaded": (503, "upstream_error", "upstream_unavailable"),
    "upstream_timeout": (504, "upstream_error", "upstream_timeout"),
    "upstream_truncated": (502, "upstream_error", "upstream_truncated"),
}


@pytest.mark.parametrize("kind", PROMISED)
def test_the_client_is_told_what_is_promised(kind: str) -> None:
    failure = Failure(kind, "m")
    assert (failure.status, failure.type, failure.code) == PROMISED[kind]
    assert (str(failure), failure.message, failure.param, failure.retry_after) == ("m", "m", None, None)


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_consistent(kind: str) -> None:
    row = KINDS[kind]
    assert 400 <= row.status < 600
    assert row.retry in ("no", "next", "any")
    assert row.fault in ("client", "gateway", "upstream")
    assert (row.type == "upstream_error") == (row.fault == "upstream" and row.status != 429)
    if row.retry == "any":
        assert row.fault == "upstream", "trying again helps only against the provider's faults"
    if row.fault == "upstream":
        assert row.retry != "no", "another deployment may do better"


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        KINDS["x"] = KINDS["invalid_json"]


def test_what_the_provider_sent_is_passed_on() -> None:
    failure = Failure("upstream_rejected", "m", param="p", sent=(422, "t", "c"))
    assert (failure.status, failure.type, failure.code, failure.param) == (422, "t", "c", "p")


def test_what_the_provider_left_out_comes_from_the_row() -> None:
    failure = Failure("upstream_rejected", "m", sent=(404, None, None))
    assert (failure.status, failure.type, failure.code) == (404, "invalid_request_error", None)


@pytest.mark.parametrize("kind", KINDS)
def test_clients_are_told_not_to_retry_where_it_is_pointless(kind: str) -> None:
    expected = False if kind in ("budget_exceeded", "upstream_auth_failed") else None
    assert Failure(kind, "m").should_retry is expected


def test_an_unknown_kind_is_a_fault_of_ours() -> None:
    with pytest.raises(KeyError):
        Failure("no_such_kind", "m")

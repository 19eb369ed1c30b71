"""The route table: which row serves an address, however it is written."""

from __future__ import annotations

import pytest

from polymux.http.routes import HOT, TABLE, match


@pytest.mark.parametrize(
    ("target", "path", "rest"),
    [
        (b"/v1/chat/completions", "/chat/completions", "completions"),
        (b"/chat/completions", "/chat/completions", "completions"),
        (b"/v1/v1/chat/completions", "/chat/completions", "completions"),
        (b"//v1///chat//completions//", "/chat/completions", "completions"),
        (b"/v1/chat/completions?api-version=1&x=/models", "/chat/completions", "completions"),
        (b"/v1/models", "/models", ""),
        (b"/models/", "/models", ""),
        (b"/v1/models/gpt-4o", "/models/*", "gpt-4o"),
        (b"/v1/models/v1", "/models/*", "v1"),
        (b"/v1/models/corp/meta/llama%203:8b", "/models/*", "corp/meta/llama 3:8b"),
        (b"/v1/models/corp%2Fmeta%2fllama", "/models/*", "corp/meta/llama"),
        (b"/v1/models/%E5%97%AF", "/models/*", "嗯"),
        (b"/v1/models/a%3Fb", "/models/*", "a?b"),
        (b"/admin/api/keys/key_0123", "/admin/api/keys/*", "key_0123"),
        (b"/admin/api/keys/a%2Fb/rotate/", "/admin/api/keys/*/rotate", "a/b"),
        (b"/admin/api/keys/", "/admin/api/keys", ""),
        (b"/health", "/health", ""),
        (b"/v1/ready/", "/ready", ""),
        (b"/", "/", ""),
        (b"/v1", "/", ""),
        (b"//", "/", ""),
        (b"", "/", ""),
        (b"/?x", "/", ""),
    ],
)
def test_an_address_finds_its_row(target: bytes, path: str, rest: str) -> None:
    found = match(target)
    assert {row.path for row in found.rows} == {path}
    if "*" in path:
        assert found.rest == rest


@pytest.mark.parametrize(
    "target",
    [
        b"/nowhere",
        b"/v1/chat",
        b"/v1/chat/completions/more",
        b"/v2/models",
        b"/V1/models",
        b"*",
        b"/models%2fx",
        b"/admin",
        b"/admin/api/models/x",
        b"\xff",
    ],
)
def test_other_addresses_find_none(target: bytes) -> None:
    assert match(target).rows == ()


def test_a_method_has_one_row_per_path() -> None:
    pairs = [(row.method, row.path) for row in TABLE]
    assert len(set(pairs)) == len(pairs)


def test_hot_addresses_are_those_of_the_table() -> None:
    for (method, target), row in HOT.items():
        assert row in match(target).rows
        assert row.method == method
    assert HOT["POST", b"/v1/chat/completions"] is HOT["POST", b"/chat/completions"]


def test_only_surfaces_are_for_browsers_of_other_origins() -> None:
    others = {row.path for row in TABLE if not row.client}
    admin = {row.path for row in TABLE if row.path.startswith("/admin")}
    assert "/admin/api/keys/*/rotate" in admin < others
    assert others - admin == {"/health", "/ready", "/metrics", "/openapi.json", "/"}

"""What is taken out of JSON, and what stays: a table of texts for each rule, and JSON around them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymux.wire.redact import RULES, TOO_DEEP, Redactor, expression, is_expression, without_media

STEADY = settings(derandomize=True, deadline=None)
EMAIL = Redactor(["email"])


@pytest.mark.parametrize(
    ("rule", "text", "clean"),
    [
        ("email", "write to a.b+c@ex-ample.co.uk, please", "write to [email], please"),
        ("email", "我的邮箱是alice@example.com请联系", "我的邮箱是[email]请联系"),
        ("email", "a@b and @you and x@y.", "a@b and @you and x@y."),
        ("card", "4111 1111 1111 1111, 4111-1111-1111-1112", "[card], 4111-1111-1111-1112"),
        ("card", "12 4111111111111111 and 1234 4111 1111 1111 1111", "12 [card] and 1234 [card]"),
        ("card", "378282246310005, 3782 822463 10005", "[card], [card]"),
        ("card", "0000000000000000 and 12345678901234567890123", "0000000000000000 and 12345678901234567890123"),
        ("card", "４１１１１１１１１１１１１１１１", "[card]"),
        ("iban", "DE89 3704 0044 0532 0130 00 PLEASE PAY", "[iban] PLEASE PAY"),
        ("iban", "gb29nwbk60161331926819; GB29NWBK60161331926818", "[iban]; GB29NWBK60161331926818"),
        ("ip", "1.2.3.4:80, fe80::1. 2001:db8::8a2e:370:7334", "[ip]:80, [ip]. [ip]"),
        ("ip", "999.1.1.1 12:34:56 a::b std::vector v1.2.3.4", "999.1.1.1 12:34:56 a::b std::vector v1.2.3.4"),
        ("phone", "+49 (0)30 1234567, 0044 20 7946 0958", "[phone], [phone]"),
        ("phone", "13800138000 和 138-0013-8000，010-12345678", "[phone] 和 [phone]，[phone]"),
        ("phone", "(415) 555-2671, 415.555.2671, 1-415-555-2671", "[phone], [phone], [phone]"),
        ("phone", "2026-11-21 12:34, 1700000000, 128.113800138000", "2026-11-21 12:34, 1700000000, 128.113800138000"),
        ("cn-id", "11010519491231002X, 11010519491231002x", "[cn-id], [cn-id]"),
        ("cn-id", "110105194912310021, 110105194913310021", "110105194912310021, 110105194913310021"),
        ("us-ssn", "078-05-1120, 000-12-3456, 1078-05-1120", "[us-ssn], 000-12-3456, 1078-05-1120"),
        ("/ACME-[0-9]+/", "order ACME-123 of ACME", "order [redacted] of ACME"),
        ("/(?i)tom|jerry/", "Tom and JERRY", "[redacted] and [redacted]"),
    ],
)
def test_a_rule(rule: str, text: str, clean: str) -> None:
    assert Redactor([rule]).text(text) == clean
    assert Redactor().text(text) == text
    assert Redactor([rule]).text(clean) == clean


def test_rules_go_from_the_certain_to_the_likely() -> None:
    """Whatever order they are written in."""
    text = "4111 1111 1111 1111, 11010519491231002X, 13800138000, a@b.cc"
    clean = "[card], [cn-id], [phone], [email]"
    assert Redactor(sorted(RULES)).text(text) == Redactor(sorted(RULES, reverse=True)).text(text) == clean


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("sk-abcdefghijklmnop", "sk-a…"),
        ("Authorization: Bearer abcdefghijklmnopqrstuvwx", "Authorization: Bearer abcd…"),
        ("it is cnry/admin+Q7 or cnry\\/admin+Q7 or cnry%2Fadmin%2BQ7", "it is … or … or …"),
    ],
)
def test_secrets_are_hidden_whatever_the_rules_are(text: str, clean: str) -> None:
    redactor = Redactor((), ["cnry/admin+Q7"])
    assert redactor.hide(text) == redactor.text(text) == redactor.json({"a": [text]})["a"][0] == clean


@pytest.mark.parametrize(
    ("value", "clean"),
    [
        ({"a": ["x@y.cc", {"b": "to x@y.cc"}]}, {"a": ["[email]", {"b": "to [email]"}]}),
        ({"x@y.cc": 1}, {"[email]": 1}),
        # JSON within a text, with its own escapes
        ({"arguments": '{"to": "x\\u0040y.cc"}'}, {"arguments": '{"to":"[email]"}'}),
        ({"arguments": '{"to":  "nobody"}'}, {"arguments": '{"to":  "nobody"}'}),
        ({"arguments": '{"to": "x@y.cc"'}, {"arguments": '{"to": "[email]"'}),
        # a name makes a secret of what it names
        ({"api_key": "0123456789abcdef0123"}, {"api_key": "0123…"}),
        ({"passwords": ["0123456789abcdef0123"]}, {"passwords": ["0123…"]}),
        ({"sk-abcdefghijklmnop": "text"}, {"sk-a…": "text"}),
    ],
)
def test_json(value: Any, clean: Any) -> None:
    assert EMAIL.json(value) == clean


@pytest.mark.parametrize(
    ("value", "clean"),
    [
        ({"url": "data:image/png;base64,iVBORw0KGgo="}, {"url": "[image/png, 9 bytes]"}),
        ("![it](data:image/svg+xml,%3Csvg%3E) is", "![it]([image/svg+xml, 9 bytes]) is"),
        ({"url": "https://example.com/a.png"}, {"url": "https://example.com/a.png"}),
        (
            {"input_audio": {"data": "QUJD" * 25, "format": "wav"}},
            {"input_audio": {"data": "[wav, 75 bytes]", "format": "wav"}},
        ),
        (
            {"source": {"media_type": "image/gif", "data": "QUJD" * 25}},
            {"source": {"media_type": "image/gif", "data": "[image/gif, 75 bytes]"}},
        ),
        ({"b64_json": "QUJD" * 25}, {"b64_json": "[base64, 75 bytes]"}),
        ({"data": "QUJD"}, {"data": "QUJD"}),
        ({"data": "words " * 25 + "!"}, {"data": "words " * 25 + "!"}),
        ({"embedding": [0.1, 0.2]}, {"embedding": "[2 numbers]"}),
        ({"embedding": "QUJD" * 25}, {"embedding": "[100 characters]"}),
        # what is no text
        (
            {"n": 1, "t": 0.5, "b": True, "z": None, "big": 10**40},
            {"n": 1, "t": 0.5, "b": True, "z": None, "big": 10**40},
        ),
    ],
)
def test_media_leave_a_word_of_what_they_were(value: Any, clean: Any) -> None:
    assert without_media(value) == clean


def test_a_number_may_be_what_a_rule_names() -> None:
    clean = Redactor(["card", "phone"]).json({"phone": 13800138000, "card": 4111111111111111, "n": 13, "t": 1e15})
    assert clean == {"phone": "[phone]", "card": "[card]", "n": 13, "t": 1e15}


def test_names_of_members_are_safe_from_expressions() -> None:
    """Who hides a word in what is said does not want requests without a `content`."""
    assert Redactor(["/content/"]).json({"content": "my content"}) == {"content": "my [redacted]"}


def test_what_is_nested_too_deeply_is_left_out() -> None:
    deep: Any = "x@y.cc"
    for _ in range(5000):
        deep = [deep]
    assert EMAIL.json(deep) == TOO_DEEP
    assert "x@y.cc" not in str(EMAIL.json({"arguments": "[" * 900 + '"x@y.cc"' + "]" * 900}))


def test_a_text_of_brackets_does_not_take_the_rest_with_it() -> None:
    assert EMAIL.json({"a": "[" * 5000, "b": "x@y.cc"}) == {"a": TOO_DEEP, "b": "[email]"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [("/(/", "not a regular expression: "), ("/a*/", "matches the empty text"), ("/x{99999999999}/", "not a regular")],
)
def test_bad_expressions(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        expression(text)


@pytest.mark.parametrize(("text", "is_one"), [("/a/", True), ("//", False), ("/", False), ("a", False), ("/a", False)])
def test_what_is_an_expression(text: str, is_one: bool) -> None:
    assert is_expression(text) is is_one


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@STEADY
@given(JSON)
def test_without_anything_to_take_out_nothing_changes(value: Any) -> None:
    assert json.dumps(Redactor(["us-ssn"]).json(value)) == json.dumps(value)


@STEADY
@given(JSON, st.lists(st.text(), max_size=3))
def test_a_known_secret_is_found_wherever_it_stands(value: Any, around: list[str]) -> None:
    """Also within the JSON of a text."""
    secret = "cnry/secret+Q7"
    value = {"value": value, "text": secret.join(["", *around, ""]), "inner": json.dumps({"a": [secret], "b": around})}
    assert secret not in json.dumps(Redactor((), [secret]).json(value))

"""The top level of a JSON object: what is kept as it came, and what is refused."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polymux.wire.splice import NotJson, Repeated, build, parse

STEADY = settings(derandomize=True, deadline=None)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=8)


def escaped(text: str) -> str:
    """The same JSON string, every character as an escape."""
    units = text.encode("utf-16-be", "surrogatepass").hex()
    return '"' + "".join(f"\\u{units[n : n + 4]}" for n in range(0, len(units), 4)) + '"'


@STEADY
@given(OBJECTS, st.sampled_from([None, 1]), st.booleans())
def test_what_is_parsed_and_built_is_the_same_object_in_the_same_order(value, indent, ascii_only) -> None:
    body = json.dumps(value, indent=indent, ensure_ascii=ascii_only).encode()
    fields = parse(body)
    assert list(fields) == list(value)
    assert json.loads(build(fields)) == value
    assert list(json.loads(build(fields))) == list(value)


@STEADY
@given(OBJECTS, TEXT, VALUES)
def test_setting_and_dropping_a_member_leaves_the_others(value, name, new) -> None:
    body = json.dumps(value).encode()
    fields = parse(body)
    fields[name] = new
    assert json.loads(build(fields)) == value | {name: new}
    del fields[name]
    assert json.loads(build(fields)) == {key: held for key, held in value.items() if key != name}


@STEADY
@given(OBJECTS.filter(bool), st.data())
def test_a_key_that_stands_twice_is_refused_however_it_is_written(value, data) -> None:
    key = data.draw(st.sampled_from(list(value)))
    again = data.draw(st.sampled_from([escaped(key), json.dumps(key), json.dumps(key, ensure_ascii=False)]))
    members = [f"{json.dumps(name)}: {json.dumps(held)}" for name, held in value.items()]
    members.insert(data.draw(st.integers(0, len(members))), f"{again}: 1")
    with pytest.raises(Repeated) as found:
        parse(("{" + ",".join(members) + "}").encode())
    assert found.value.key == key


@pytest.mark.parametrize(
    "again", ['"model"', '"mod\\u0065l"', '"\\u006dodel"', '"\\u006D\\u006F\\u0064\\u0065\\u006C"']
)
def test_the_model_cannot_be_named_twice(again: str) -> None:
    with pytest.raises(Repeated, match="'model'") as found:
        parse(f'{{"model": "cheap", "messages": [], {again}: "dear"}}'.encode())
    assert found.value.key == "model"


def test_an_escaped_key_is_known_by_its_decoded_name_and_written_plainly() -> None:
    fields = parse(b'{"mod\\u0065l": "a"}')
    assert list(fields) == ["model"]
    assert build(fields | {"model": "b"}) == b'{"model":"b"}'


@pytest.mark.parametrize("blank", ["", " ", "  ", "\n"])
@given(value=st.dictionaries(TEXT, VALUES, min_size=1, max_size=4), data=st.data())
def test_a_key_that_stands_twice_is_refused_whatever_is_between(blank: str, value, data) -> None:
    again = data.draw(st.sampled_from(sorted(value)))
    members = [*value.items(), (again, data.draw(VALUES))]
    written = ",".join(
        f"{json.dumps(k, ensure_ascii=False)}:{json.dumps(v, separators=(',', ':'))}" for k, v in members
    )
    with pytest.raises(Repeated):
        parse(f"{{{written}}}".encode())


def test_keys_may_repeat_further_down() -> None:
    assert build(parse(b'{"a": {"b": 1, "b": 2}}')) == b'{"a":{"b": 1, "b": 2}}'


@pytest.mark.parametrize(
    "raw",
    [
        "1.0",
        "-0.0",
        "1e2",
        "12345678901234567890123456789",
        "0.1000000000000000055511151231257827",
        '"\\u00e9\\/"',
        '"日本\U0001f600"',
        "[ 1,  2 ]",
        '{"z": 1, "a": {"a": null}}',
        "null",
    ],
)
def test_values_keep_every_byte(raw: str) -> None:
    fields = parse(f'{{ "a" : {raw} , "b":1}}\n'.encode())
    assert bytes(fields["a"]) == raw.encode()
    assert build(fields) == f'{{"a":{raw},"b":1}}'.encode()


NOT_OBJECTS = {
    "empty": b"",
    "blank": b" \n",
    "a list": b'[{"a": 1}]',
    "a string": b'"a"',
    "null": b"null",
    "cut": b'{"a": 1',
    "text after it": b'{"a": 1} x',
    "a second object": b"{}{}",
    "a comma too many": b'{"a": 1,}',
    "single quotes": b"{'a': 1}",
    "a key that is no string": b"{1: 1}",
    "a wrong literal": b'{"a": tru}',
    "NaN": b'{"a": NaN}',
    "a leading zero": b'{"a": 01}',
    "a control character": b'{"a": "\n"}',
    "a byte-order mark": b"\xef\xbb\xbf{}",
    "a key that is no UTF-8": b'{"\xff": 1}',
    "a value that is no UTF-8": b'{"a": ["\xff"]}',
    "a surrogate in UTF-8": b'{"a": "\xed\xa0\x80"}',
    "UTF-8 cut short far behind": b'{"a": "' + b"\xe4\xbd\xa0" * 500_000 + b'\xe4\xbd"}',
    "half a surrogate pair in a value": b'{"a": ["\\ud83d"]}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "gzip": b"\x1f\x8b\x08\x00",
    "half a surrogate pair in a key": b'{"\\ud800": 1}',
    "a form": b"model=a&stream=true",
    "too deep": b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("name", NOT_OBJECTS)
def test_what_is_no_json_object_is_refused_without_quoting_it(name: str) -> None:
    with pytest.raises(NotJson) as found:
        parse(NOT_OBJECTS[name])
    assert str(found.value)
    assert "true" not in str(found.value)


@STEADY
@given(st.binary() | st.text(alphabet='{}[]":,\\u06d1 ax').map(str.encode))
def test_any_bytes_are_an_object_or_refused(body: bytes) -> None:
    try:
        fields = parse(body)
    except (NotJson, Repeated):
        return
    assert isinstance(read(body.decode()), dict)
    assert all(isinstance(value, msgspec.Raw) for value in fields.values())


def read(text: str) -> dict[str, object]:
    """JSON as RFC 8259 has it, with each key once at the top. Raises ValueError."""
    tops: list[list[str]] = []

    def pairs(found: list[tuple[str, object]]) -> dict[str, object]:
        tops.append([key for key, _ in found])  # the outermost comes last
        return dict(found)

    def refuse(name: str) -> object:
        raise ValueError(name)

    value = json.loads(text, object_pairs_hook=pairs, parse_constant=refuse)
    json.dumps(value, ensure_ascii=False).encode()  # no half of a surrogate pair
    if not isinstance(value, dict) or len(set(tops[-1])) < len(tops[-1]):
        raise ValueError("no object, or a key twice")
    return value


@settings(derandomize=True, deadline=None, max_examples=400)
@given(OBJECTS, st.booleans(), st.data())
def test_a_damaged_object_is_read_as_the_standard_library_reads_it(value, ascii_only, data) -> None:
    """The same verdict, and the same members."""
    body = bytearray(json.dumps(value | {"text": "\u4f60\U0001f600"}, ensure_ascii=ascii_only).encode())
    for _ in range(data.draw(st.integers(0, 2))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 2))] = data.draw(st.sampled_from(DAMAGE))
    try:
        expected = read(body.decode())
    except ValueError:
        expected = None
    try:
        fields = parse(bytes(body))
    except (NotJson, Repeated):
        assert expected is None
        return
    assert expected is not None
    assert list(fields) == list(expected)
    assert json.loads(build(fields)) == expected


DAMAGE = [
    b"",
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"0",
    b"-",
    b"1e5",
    b".",
    b" ",
    b"\0",
    b"\xff",
    b"\n",
    b"NaN",
]
DAMAGE += [
    b"\\u",
    b"\\ud83d",
    b"\\ude00",
    b"\\n",
    b"null",
    b"tru",
    b"\xe4\xbd",
    b"\xef\xbb\xbf",
    b'"text":1,',
    b"\xc2\xa0",
]


REASONS = {
    "empty": "it is empty",
    "blank": "it is empty",
    "a list": "must be a JSON object",
    "a byte-order mark": "byte-order mark",
    "UTF-16": "UTF-16",
    "gzip": "compressed",
    "a value that is no UTF-8": "not UTF-8",
    "UTF-8 cut short far behind": "not UTF-8",
    "half a surrogate pair in a value": "half a surrogate pair",
    "half a surrogate pair in a key": "half a surrogate pair",
    "too deep": "too deep",
}


@pytest.mark.parametrize("name", REASONS)
def test_the_reason_is_told_in_plain_words(name: str) -> None:
    with pytest.raises(NotJson, match=REASONS[name]):
        parse(NOT_OBJECTS[name])


def test_long_text_beyond_ascii_is_read_across_every_step() -> None:
    text = "é你😀" * 400_000
    assert bytes(parse(json.dumps({"a": text}, ensure_ascii=False).encode())["a"]).decode() == f'"{text}"'


def test_plain_values_are_built_beside_raw_ones() -> None:
    assert (
        build({"a": msgspec.Raw(b"[1,\t2]"), "b": {"c": True}, "d": "ü"})
        == '{"a":[1,\t2],"b":{"c":true},"d":"ü"}'.encode()
    )

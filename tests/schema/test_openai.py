"""What a gateway looks at in an OpenAI-shaped answer, leniently."""

from __future__ import annotations

import msgspec
import pytest

from polymux.schema.openai import Glance, LooseGlance, ModelList, OpeningDelta, Whole


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"choices":null,"usage":null,"error":null}',
        b'{"choices":[{}],"new":1}',
        b'{"choices":[{"delta":5,"finish_reason":{"a":1},"index":"x"}],"usage":[1]}',
        b'{"error":"text"}',
    ],
)
def test_a_passing_chunk_is_read_however_odd_it_is(body: bytes) -> None:
    assert isinstance(msgspec.json.decode(body, type=LooseGlance), LooseGlance)


@pytest.mark.parametrize("kind", [Glance, LooseGlance])
@pytest.mark.parametrize("body", [b"[1]", b'"x"', b'{"choices":5}', b'{"choices":[5]}', b"{", b"data"])
def test_what_is_no_chunk_is_refused(body: bytes, kind: type) -> None:
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(body, type=kind)


def test_the_members_that_are_looked_at() -> None:
    chunk = msgspec.json.decode(
        b'{"choices":[{"finish_reason":"stop","usage":{"a":1}}],"usage":{"b":2},"error":{"c":3}}',
        type=LooseGlance,
    )
    assert (chunk.choices[0].finish_reason, chunk.choices[0].usage) == ("stop", {"a": 1})
    assert (chunk.usage, chunk.error) == ({"b": 2}, {"c": 3})


@pytest.mark.parametrize(
    ("member", "content"),
    [(name, True) for name in OpeningDelta.__struct_fields__] + [("role", False), ("obfuscation", False)],
)
def test_what_counts_as_content(member: str, content: bool) -> None:
    assert msgspec.convert({member: "a"}, OpeningDelta).has_content() is content
    assert msgspec.convert({member: ""}, OpeningDelta).has_content() is False
    assert msgspec.convert({member: None}, OpeningDelta).has_content() is False


def test_a_whole_answer() -> None:
    whole = msgspec.json.decode(
        b'{"choices":[{"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"prompt_tokens_details":{"cached_tokens":2}}}',
        type=Whole,
    )
    assert (whole.usage.prompt_tokens, whole.usage.prompt_tokens_details.cached_tokens) == (1, 2)
    with pytest.raises(msgspec.ValidationError):  # what is not as OpenAI writes it is mended elsewhere
        msgspec.json.decode(b'{"choices":[],"usage":{"prompt_tokens":"1"}}', type=Whole)


def test_a_list_of_models() -> None:
    found = msgspec.json.decode(b'{"object":"list","data":[{"id":"a","created":1.5},{"id":"b/c"}]}', type=ModelList)
    assert [entry.id for entry in found.data] == ["a", "b/c"]

"""The forms of an embeddings request, and what is left out of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from polymux.schema.embeddings import EmbeddingObject, EmbeddingRequest, EmbeddingResponse, EmbeddingUsage


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1, 2], [3]], [[1, 2], [3]]),
        (["a"], ["a"]),
        ([[1]], [[1]]),
    ],
)
def test_what_is_to_be_embedded_one_by_one(given: Any, inputs: list[Any]) -> None:
    assert EmbeddingRequest("m", given).inputs() == inputs
    assert msgspec.convert({"model": "m", "input": given}, EmbeddingRequest).inputs() == inputs


@pytest.mark.parametrize("given", [None, 5, True, {}, [None], [1.5], [["a"]], [True], [[[1]]]])
def test_what_is_no_input(given: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"model": "m", "input": given}, EmbeddingRequest)


def test_only_what_was_given_is_sent_on() -> None:
    request = EmbeddingRequest("m", ["a"], dimensions=4)
    assert msgspec.to_builtins(request) == {"model": "m", "input": ["a"], "dimensions": 4}


def test_an_answer_has_the_objects_of_the_protocol() -> None:
    answer = EmbeddingResponse([EmbeddingObject(0, [0.5])], "m", EmbeddingUsage(1, 1))
    assert msgspec.to_builtins(answer) == {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
        "model": "m",
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
    }

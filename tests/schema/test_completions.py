"""The forms of a completions request and of its answer."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from polymux.schema.chat import TokenUsage
from polymux.schema.completions import Completion, CompletionChoice, CompletionRequest


@pytest.mark.parametrize("prompt", ["a", ["a", "b"], [1, 2], [[1], [2]], None])
def test_every_form_of_a_prompt(prompt: Any) -> None:
    assert msgspec.convert({"model": "m", "prompt": prompt}, CompletionRequest).prompt == prompt


@pytest.mark.parametrize("body", [{"model": "m"}, {"model": "m", "prompt": 5}, {"model": "m", "prompt": {}}])
def test_what_is_no_prompt(body: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(body, CompletionRequest)


def test_answers_and_events_have_one_form() -> None:
    event = Completion("i", 1, "m", [CompletionChoice("a")])
    choice = {"text": "a", "index": 0, "logprobs": None, "finish_reason": None}
    head = {"object": "text_completion", "id": "i", "created": 1, "model": "m"}
    assert msgspec.to_builtins(event) == {**head, "choices": [choice]}
    event.usage = TokenUsage(1, 2, 3)
    assert msgspec.to_builtins(event)["usage"] == {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}

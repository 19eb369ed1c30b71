import msgspec
import pytest

from polymux.schema.gemini import (
    Blob,
    Content,
    FunctionCall,
    GenerateRequest,
    GenerationConfig,
    Part,
    Reply,
    ThinkingConfig,
)


def test_a_request_says_only_what_is_set_in_googles_spelling() -> None:
    config = GenerationConfig(max_output_tokens=5, thinking_config=ThinkingConfig(thinking_budget=0))
    request = GenerateRequest([Content([Part("hi")], "user")], generation_config=config)
    assert msgspec.to_builtins(request) == {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "generationConfig": {"maxOutputTokens": 5, "thinkingConfig": {"thinkingBudget": 0}},
    }
    assert msgspec.to_builtins(Part(inline_data=Blob("image/png", "AA=="))) == {
        "inlineData": {"mimeType": "image/png", "data": "AA=="}
    }


def test_an_empty_text_with_a_signature_is_kept() -> None:
    assert msgspec.json.encode(Part("", thought_signature="s")) == b'{"text":"","thoughtSignature":"s"}'


def test_arguments_are_sent_as_written() -> None:
    """Numbers that a decoder would round keep their digits."""
    call = FunctionCall("f", msgspec.Raw(b'{"n": 1.10, "big": 123456789012345678901234567890}'))
    assert b'"args":{"n": 1.10, "big": 123456789012345678901234567890}' in msgspec.json.encode(call)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"candidates":null,"usageMetadata":null,"promptFeedback":null,"responseId":null,"error":null,"new":[1]}',
        b'{"candidates":[{"content":null,"finishReason":null,"index":null,"tokenCount":3}]}',
        b'{"candidates":[{"content":{"parts":null}}]}',
        b'{"candidates":[{"content":{"parts":[{"text":null,"thought":null,"functionCall":{"name":null}}]}}]}',
        b'{"candidates":[{"content":{"parts":[{"executableCode":{"code":"x"}}]},"groundingMetadata":{}}]}',
    ],
)
def test_members_may_be_null_or_unknown(body: bytes) -> None:
    assert isinstance(msgspec.json.decode(body, type=Reply), Reply)

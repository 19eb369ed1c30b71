import msgspec
import pytest

from polymux.schema.anthropic import (
    Base64Source,
    Event,
    ImageBlock,
    MessagesRequest,
    OutputDetails,
    Reply,
    TextBlock,
    ToolChoice,
    ToolUseBlock,
    Turn,
    Usage,
)


def test_a_request_says_only_what_is_set() -> None:
    request = MessagesRequest("claude", 16, [Turn("user", [TextBlock("hi")])])
    assert msgspec.to_builtins(request) == {
        "model": "claude",
        "max_tokens": 16,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    }


def test_blocks_carry_their_type() -> None:
    image = ImageBlock(Base64Source("image/png", "AA=="))
    assert msgspec.to_builtins(image) == {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": "AA=="},
    }
    assert msgspec.json.encode(ToolChoice("auto")) == b'{"type":"auto"}'


def test_a_call_input_is_sent_as_written() -> None:
    """Numbers that a decoder would round keep their digits."""
    block = ToolUseBlock("t1", "f", msgspec.Raw(b'{"n": 1.10, "big": 123456789012345678901234567890}'))
    assert b'"input":{"n": 1.10, "big": 123456789012345678901234567890}' in msgspec.json.encode(block)


@pytest.mark.parametrize(
    ("later", "result"),
    [
        (Usage(), Usage(3, 4, 5, 6)),
        (Usage(output_tokens=60), Usage(3, 4, 5, 60)),
        (Usage(0, 0, 0, 0), Usage(0, 0, 0, 0)),
        (Usage(output_tokens_details=OutputDetails(2)), Usage(3, 4, 5, 6, OutputDetails(2))),
    ],
)
def test_later_usage_replaces_only_what_it_says(later: Usage, result: Usage) -> None:
    assert Usage(3, 4, 5, 6).updated(later) == result


def test_members_and_blocks_of_the_future_are_skipped() -> None:
    event = msgspec.json.decode(b'{"type":"new","index":3,"more":{"a":[1]},"delta":{"type":"x","y":1}}', type=Event)
    assert (event.type, event.index, event.delta and event.delta.type) == ("new", 3, "x")
    reply = msgspec.json.decode(b'{"type":"message","content":[{"type":"hologram","text":7}],"new":1}', type=Reply)
    assert reply.content is not None
    assert bytes(reply.content[0]) == b'{"type":"hologram","text":7}'

from __future__ import annotations

import msgspec

from polymux.schema.dify import Answer, ChatRequest, File, RunRequest


def test_a_question_says_only_what_is_set() -> None:
    assert msgspec.to_builtins(ChatRequest({}, "u", "streaming", "Hi")) == {
        "inputs": {},
        "user": "u",
        "response_mode": "streaming",
        "query": "Hi",
        "auto_generate_name": False,
    }
    files = [File("image", "local_file", upload_file_id="f")]
    assert msgspec.to_builtins(RunRequest({"a": "b"}, "u", "streaming", files)) == {
        "inputs": {"a": "b"},
        "user": "u",
        "response_mode": "streaming",
        "files": [{"type": "image", "transfer_method": "local_file", "upload_file_id": "f"}],
    }


def test_what_an_app_sends_may_be_null_or_new() -> None:
    got = msgspec.json.decode(
        b'{"event":"message_end","answer":null,"new":1,"metadata":{"usage":null,"retriever_resources":null}}',
        type=Answer,
    )
    assert got.answer is None
    assert got.metadata
    assert got.metadata.usage is None

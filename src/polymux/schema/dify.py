"""Dify's service API on the wire: the requests of its apps, their answers, whole and in events.

Source: Dify's service API documentation and the types of its server. What an app sends is decoded leniently: every
member has a default, may be null, and unknown ones are skipped. Request members at their default are left out.
"""

from __future__ import annotations

from typing import Any

import msgspec

Json = dict[str, Any]


class _Wire(msgspec.Struct, omit_defaults=True):
    pass


# ---- requests --------------------------------------------------------------------------------------------------


class File(_Wire):
    """type: image | document | audio | video | custom. transfer_method: remote_url (url) | local_file (an upload)."""

    type: str
    transfer_method: str
    url: str = ""
    upload_file_id: str = ""


class _Asking(msgspec.Struct):
    """What every app is asked with. `user` scopes conversations, files and stopping."""

    inputs: Json
    user: str
    response_mode: str


class RunRequest(_Asking, omit_defaults=True):
    """To a completion or a workflow app."""

    files: list[File] = []


class ChatRequest(_Asking, omit_defaults=True):
    """To a chat, agent or chatflow app. Without a conversation_id a conversation begins."""

    query: str = msgspec.field(default_factory=str)  # never left out
    conversation_id: str = ""
    files: list[File] = []
    auto_generate_name: bool = msgspec.field(default_factory=bool)  # a title costs a call of a model


class StopRequest(msgspec.Struct):
    user: str


# ---- answers ---------------------------------------------------------------------------------------------------


class Upload(_Wire):
    id: str = ""


class Past(_Wire):
    """Messages of a conversation."""

    data: list[Upload] = []


class Usage(_Wire):
    prompt_tokens: int | float | None = None
    completion_tokens: int | float | None = None
    total_tokens: int | float | None = None


class Resource(_Wire):
    """A piece of a knowledge base that the answer rests on."""

    dataset_id: str | None = None
    dataset_name: str | None = None
    document_id: str | None = None
    document_name: str | None = None
    segment_id: str | None = None
    content: str | None = None


class Metadata(_Wire):
    usage: Usage | None = None
    retriever_resources: list[Resource] | None = None


class Progress(_Wire):
    """What a workflow says of its run, or of what it puts out. status: succeeded | failed | stopped | paused |
    partial-succeeded."""

    text: str | None = None
    reasoning: str | None = None
    status: str | None = None
    outputs: Json | None = None
    error: str | None = None
    total_tokens: int | float | None = None
    form_content: str | None = None


class Answer(_Wire):
    """An event of a stream, or an answer whole: `event` says which of the members are meant."""

    event: str | None = None
    task_id: str | None = None
    message_id: str | None = None
    conversation_id: str | None = None
    workflow_run_id: str | None = None
    answer: str | None = None
    metadata: Metadata | None = None
    data: Progress | None = None
    # of an agent's step, sent again as it grows
    id: str | None = None
    thought: str | None = None
    tool: str | None = None
    tool_input: str | None = None
    observation: str | None = None
    # of a file
    type: str | None = None
    url: str | None = None
    belongs_to: str | None = None
    # of an error
    code: Any = None
    message: Any = None
    status: Any = None

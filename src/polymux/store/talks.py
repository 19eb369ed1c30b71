"""What can be asked of the conversation log, and what is told; without the database, as commands know it at once."""

from __future__ import annotations

from typing import Any

import msgspec

from polymux.store.sums import END


class Wanted(msgspec.Struct, frozen=True):
    """Which conversations: "" = of all. key: an id or a name. since, until: Unix seconds; the second is not in it."""

    key: str = ""
    model: str = ""
    tenant: str = ""
    since: float = 0.0
    until: float = float(END)


class Talk(msgspec.Struct, frozen=True):
    """A conversation, but for what was said. Members as in a usage record. cut: parts were left out, for its size or
    because they could not be read."""

    id: str
    at: float
    key_id: str
    key_name: str
    tenant: str
    surface: str
    model: str
    provider: str
    upstream_model: str
    status: int
    error_code: str | None
    stream: bool
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    parent_id: str
    cut: bool


class Conversation(Talk, frozen=True):
    """All of it. request, response: as the client sent and got it, redacted; what was streamed is in one piece. notes:
    what the function model has logged."""

    request: Any = None
    response: Any = None
    notes: list[str] | None = None


class ConversationList(msgspec.Struct, frozen=True):
    """The newest first. next: the cursor of those before them, if there are some."""

    data: list[Talk]
    next: str | None

"""What becomes of a request's parameters, dialect by dialect: the rows of one table and the words of its cells.

A row is a parameter of the pivot (`schema.chat.ChatRequest`), written as a path (`messages[].name`) or, where one value
of it has a fate of its own, as path=value (`tool_choice=allowed_tools`). A column is a dialect's `FATES`, which says of
every row what happens to it. The columns make the tests and the page docs/en/parameters.md; no cell is silent.
Source of the rows: OpenAI's API description (chat completions), and the extensions that the pivot declares.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal

import msgspec


class Fate(msgspec.Struct, frozen=True):
    """A cell.

    what: `forwarded` (the value unchanged), `mapped` (the same meaning in another form; a value that has none there is
    named as dropped), `emulated` (Polymux brings it about), `dropped` (named in `WireRequest.dropped`, and so refused
    on a strict route) or `refused` (on every route: without it the answer would not be what was asked for).
    to: the path of the wire's body that it becomes; "" = the same path, or none.
    """

    what: Literal["forwarded", "mapped", "emulated", "dropped", "refused"]
    to: str = ""


Column = Mapping[str, Fate]

FORWARDED: Final = Fate("forwarded")
EMULATED: Final = Fate("emulated")
DROPPED: Final = Fate("dropped")
REFUSED: Final = Fate("refused")

MESSAGES: Final = (
    "messages",
    "messages[].role",
    "messages[].role=developer",
    "messages[].role=function",
    "messages[].content",
    "messages[].content[].text",
    "messages[].content[].refusal",
    "messages[].content[].image_url",
    "messages[].content[].image_url.url",
    "messages[].content[].image_url.detail",
    "messages[].content[].input_audio",
    "messages[].content[].file",
    "messages[].content[].file.file_id",
    "messages[].content[].file.file_data",
    "messages[].content[].file.filename",
    "messages[].content[].cache_control",
    "messages[].content[].prompt_cache_breakpoint",
    "messages[].name",
    "messages[].refusal",
    "messages[].tool_calls",
    "messages[].tool_calls[].id",
    "messages[].tool_calls[].function",
    "messages[].tool_calls[].custom",
    "messages[].tool_calls[].extra_content",
    "messages[].tool_call_id",
    "messages[].function_call",
    "messages[].audio",
    "messages[].reasoning_content",
    "messages[].reasoning",
    "messages[].reasoning_details",
    "messages[].cache_control",
)

PARAMETERS: Final = (
    "model",
    *MESSAGES,
    "audio",
    "cache_control",
    "frequency_penalty",
    "function_call",
    "functions",
    "keep_alive",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "metadata",
    "modalities",
    "moderation",
    "n",
    "num_ctx",
    "options",
    "parallel_tool_calls",
    "prediction",
    "presence_penalty",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning_effort",
    "response_format",
    "response_format=json_object",
    "response_format.json_schema",
    "response_format.json_schema.name",
    "response_format.json_schema.description",
    "response_format.json_schema.schema",
    "response_format.json_schema.strict",
    "safety_identifier",
    "seed",
    "service_tier",
    "stop",
    "store",
    "stream",
    "stream_options",
    "stream_options.include_usage",
    "stream_options.include_obfuscation",
    "temperature",
    "thinking",
    "tool_choice",
    "tool_choice=function",
    "tool_choice=custom",
    "tool_choice=allowed_tools",
    "tools",
    "tools[].function",
    "tools[].function.name",
    "tools[].function.description",
    "tools[].function.parameters",
    "tools[].function.strict",
    "tools[].custom",
    "tools[].custom.name",
    "tools[].custom.description",
    "tools[].custom.format",
    "tools[].cache_control",
    "top_k",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
    "web_search_options",
)

# Parameters of one kind of server: a column that does not list them drops them.
EXTENSIONS: Final = ("keep_alive", "num_ctx", "options")

# The parameters of the other surfaces, which have columns of their own: `Embedding.embedding_fates` of a dialect, and
# `surfaces.completions.FATES`, completions that become a chat.
EMBEDDINGS: Final = ("model", "input", "input=tokens", "dimensions", "encoding_format", "user")
COMPLETIONS: Final = (
    *("model", "prompt", "prompt=several", "prompt=tokens", "best_of", "echo", "frequency_penalty", "logit_bias"),
    *("logprobs", "max_tokens", "n", "presence_penalty", "seed", "stop", "stream", "stream_options"),
    *("stream_options.include_usage", "stream_options.include_obfuscation", "suffix", "temperature", "top_p", "user"),
)

# Values that ask for nothing, so that nothing is lost without them: neither refused nor named as dropped.
NEUTRAL: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "frequency_penalty": 0,
        "logit_bias": {},
        "logprobs": False,
        "messages[].content[].image_url.detail": "auto",
        "metadata": {},
        "modalities": ["text"],
        "n": 1,
        "parallel_tool_calls": True,
        "presence_penalty": 0,
        "service_tier": "auto",
        "store": False,
        "stream_options.include_obfuscation": False,
        "tools[].custom.format": {"type": "text"},
        "tools[].function.strict": False,
        "top_logprobs": 0,
        "verbosity": "medium",
    }
)


def asks(name: str, value: Any) -> bool:
    """Whether this value of a parameter asks for anything, so that its loss is to be told."""
    return value is not None and value != NEUTRAL.get(name)


def column(cells: Mapping[str, Fate], rest: Fate | None = None, rows: tuple[str, ...] = PARAMETERS) -> Column:
    """A dialect's column in the order of the rows; `rest` is the fate of those without a cell of their own.

    Raises ValueError for a row without a cell and a cell without a row.
    """
    missing = [] if rest else [name for name in rows if name not in cells and name not in EXTENSIONS]
    foreign = [name for name in cells if name not in rows]
    if missing or foreign:
        raise ValueError(f"no fate for {missing}, and fates for what is no parameter: {foreign}")
    return MappingProxyType({name: cells.get(name) or rest or DROPPED for name in rows})


def ordered(names: Collection[str]) -> tuple[str, ...]:
    """Names of rows in the order of the table."""
    return tuple(name for name in PARAMETERS if name in names) if names else ()

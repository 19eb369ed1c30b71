"""Chat completions request -> Ollama's `/api/chat`: the parameters. The conversation is in `ollama_turns`. And an
embeddings request -> `/api/embed`.

Source: Ollama's API documentation (chat, structured outputs, thinking, embed) and its Go types (api/types.go).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from polymux.errors import Failure
from polymux.providers.embeddings import texts
from polymux.providers.fates import asks, ordered
from polymux.providers.ollama_fates import FATES
from polymux.providers.ollama_turns import conversation
from polymux.providers.quirks import bend
from polymux.providers.reasoning import effort_of
from polymux.schema.chat import ChatRequest, CustomDef, FunctionDef, JsonSchema, Tool
from polymux.schema.embeddings import EmbeddingRequest
from polymux.schema.ollama import ChatRequest as Wire
from polymux.schema.ollama import EmbedRequest, Function
from polymux.schema.ollama import Tool as WireTool
from polymux.types import Deployment

# What is judged by its name alone: the parameters of the top level that have no form here.
_JUDGED: Final = tuple(
    (name, fate.what == "refused")
    for name, fate in FATES.items()
    if fate.what in ("dropped", "refused")
    and name in ChatRequest.__struct_fields__
    and name not in ("tool_choice", "function_call", "parallel_tool_calls")
)
# The parameters that are options of the model, and their names there.
_OPTIONS: Final = tuple(
    (name, fate.to.removeprefix("options."))
    for name, fate in FATES.items()
    if fate.to.startswith("options.") and fate.what == "forwarded"
)
_MEMBERS: Final = frozenset(Wire.__struct_fields__)  # what else a row sets is an option

_THINK: Final[Mapping[str, bool | str]] = MappingProxyType(
    {
        "none": False,
        "minimal": "low",
        "low": "low",
        "medium": "medium",
        "high": "high",
        "xhigh": "high",  # servers before "max" refuse what they do not know
        "max": "max",
    }
)
_NO_PARAMETERS: Final[Mapping[str, Any]] = MappingProxyType({"type": "object", "properties": {}})
_FREE_INPUT: Final[Mapping[str, Any]] = MappingProxyType(
    {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
)

_encode = msgspec.json.Encoder().encode


def body(request: ChatRequest, to: Deployment) -> tuple[bytes, tuple[str, ...]]:
    """The body to send, with what the provider's row says, and the names of what it lacks, in the order of the table.

    Members and options share one space of names in the row: `set = { keep_alive = "1h", num_ctx = 16384 }`.
    Raises `Failure` for what has no form here: n > 1, images by their address, other content, malformed values.
    """
    lost: set[str] = set()
    wire = _wire(request, to.model, lost)
    options = _options(request, lost)
    fields = {**options, **_given(wire)}
    lost |= {name for member in bend(fields, to.quirks) for name in _askers(member, request)}
    members = {name: value for name, value in fields.items() if name in _MEMBERS}
    return _with_options(members, fields), ordered(lost)


def embed_body(request: EmbeddingRequest, to: Deployment) -> tuple[bytes, tuple[str, ...]]:
    """The same for embeddings: of what the row says, all that has a meaning there. Raises `Failure` for tokens."""
    asked = _given(EmbedRequest(to.model, texts(request), request.dimensions))
    fields = dict(asked)
    lost = [name for name in bend(fields, to.quirks) if name in asked]
    members = {name: value for name, value in fields.items() if name in EmbedRequest.__struct_fields__}
    return _with_options(members, fields), (*lost, *(("user",) if request.user else ()))


def _given(wire: msgspec.Struct) -> dict[str, Any]:
    return {name: value for name in wire.__struct_fields__ if (value := getattr(wire, name)) is not None}


def _with_options(members: dict[str, Any], fields: dict[str, Any]) -> bytes:
    options = {name: value for name, value in fields.items() if name not in _MEMBERS and name not in members}
    return _encode({**members, "options": options} if options else members)


def _askers(member: str, request: ChatRequest) -> list[str]:
    """The parameters of this request that became a member or an option; none where it is only our own."""
    return [
        name
        for name in ChatRequest.__struct_fields__
        if (FATES[name].to or name).rpartition(".")[2] == member and getattr(request, name) is not None
    ]


def _wire(ask: ChatRequest, model: str, lost: set[str]) -> Wire:
    for name, refused in _JUDGED:
        if asks(name, getattr(ask, name)):
            if refused:
                raise Failure("unsupported_parameter", f"this model does not take '{name}'", param=name)
            lost.add(name)
    if ask.stream_options and asks("stream_options.include_obfuscation", ask.stream_options.include_obfuscation):
        lost.add("stream_options.include_obfuscation")
    return Wire(
        model,
        conversation(ask.messages, lost),
        bool(ask.stream),
        tools=_tools(ask, lost) or None,
        think=_think(ask, lost),
        format=_format(ask),
        keep_alive=ask.keep_alive,
        logprobs=ask.logprobs or None,
        top_logprobs=ask.top_logprobs or None,
    )


def _options(ask: ChatRequest, lost: set[str]) -> dict[str, Any]:
    """Parameters that are options here, and the client's own `options`, which they go before."""
    own = dict(ask.options or {})
    given: dict[str, Any] = {}
    for name, option in _OPTIONS:
        if (value := getattr(ask, name)) is None:
            continue
        if given.setdefault(option, value) != value:  # max_tokens beside another max_completion_tokens
            lost.add(name)
    if ask.stop is not None:
        given["stop"] = [ask.stop] if isinstance(ask.stop, str) else ask.stop
    if any(own[name] != value for name, value in given.items() if name in own):
        lost.add("options")
    return {**own, **given}


def _think(ask: ChatRequest, lost: set[str]) -> bool | str | None:
    """An effort goes before `thinking` in Anthropic's form, which counts as dropped unless it says the same."""
    effort, own = ask.reasoning_effort, effort_of(ask.thinking) if ask.thinking else None
    if ask.thinking and (own is None or (effort not in (None, own) and ask.thinking != {"type": "adaptive"})):
        lost.add("thinking")
    chosen = effort or own
    if chosen is not None and chosen not in _THINK:
        raise Failure("invalid_value", f"unknown effort '{chosen}'", param="reasoning_effort")
    return None if chosen is None else _THINK[chosen]


def _format(ask: ChatRequest) -> str | dict[str, Any] | None:
    form = ask.response_format
    if form is None or form.type == "text":
        return None
    if form.type not in ("json_object", "json_schema"):
        raise Failure("invalid_value", f"unknown type '{form.type}'", param="response_format.type")
    return (_titled(form.json_schema) if form.json_schema else None) or "json"


def _titled(form: JsonSchema) -> dict[str, Any] | None:
    """The schema with its name and description inside, for an API that has no other place for them."""
    words = {"title": form.name, "description": form.description}
    return {**{word: text for word, text in words.items() if text}, **form.schema} if form.schema else None


# ---- tools -----------------------------------------------------------------------------------------------------


def _tools(ask: ChatRequest, lost: set[str]) -> list[WireTool]:
    tools = [_tool(tool, n, lost) for n, tool in enumerate(ask.tools or ())]
    tools += [_function(function, lost) for function in ask.functions or ()]
    if tools and ask.parallel_tool_calls is False:
        lost.add("parallel_tool_calls")
    return _chosen(ask, tools, lost)


def _tool(tool: Tool, n: int, lost: set[str]) -> WireTool:
    if tool.cache_control:
        lost.add("tools[].cache_control")
    if tool.function:
        return _function(tool.function, lost)
    if tool.custom:
        return _custom(tool.custom, lost)
    raise Failure("invalid_value", f"a tool of type '{tool.type}' is not known", param=f"tools[{n}]")


def _function(function: FunctionDef, lost: set[str]) -> WireTool:
    if asks("tools[].function.strict", function.strict):
        lost.add("tools[].function.strict")
    schema = {**_NO_PARAMETERS, **(function.parameters or {})}
    return WireTool(Function(function.name, schema, function.description))


def _custom(custom: CustomDef, lost: set[str]) -> WireTool:
    if asks("tools[].custom.format", custom.format):
        lost.add("tools[].custom.format")
    return WireTool(Function(custom.name, dict(_FREE_INPUT), custom.description))


def _chosen(ask: ChatRequest, tools: list[WireTool], lost: set[str]) -> list[WireTool]:
    """A choice is nothing that the server knows: what it leaves out is not sent, and a forced call is told as lost."""
    name = "tool_choice" if ask.tool_choice is not None else "function_call"
    if name == "tool_choice" and ask.function_call is not None:
        lost.add("function_call")
    match getattr(ask, name):
        case None | "auto":
            return tools
        case "none":
            return []
        case "required":
            lost.add(name)
        case {"type": "function" | "custom" as kind, **rest} if _named(rest.get(kind)) and name == "tool_choice":
            lost.add(f"{name}={kind}")
        case dict() as called if _named(called) and name == "function_call":
            lost.add(name)
        case {"type": "allowed_tools", "allowed_tools": {"mode": "auto" | "required" as mode, "tools": [*some]}}:
            if mode == "required":
                lost.add(name)
            allowed = {_named(tool.get(tool.get("type"))) or _named(tool) for tool in some if isinstance(tool, dict)}
            return [tool for tool in tools if tool.function.name in allowed]
        case _:
            raise Failure("invalid_value", f"'{name}' has a value that is not known", param=name)
    return tools


def _named(tool: Any) -> str:
    """The name in the description of a tool, "" for none."""
    match tool:
        case {"name": str(name)}:
            return name
    return ""

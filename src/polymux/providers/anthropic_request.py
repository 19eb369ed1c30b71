"""Chat completions request -> Anthropic Messages request: the parameters. The conversation is in `anthropic_turns`.

Source: Anthropic's API reference (Messages, Extended thinking, Structured outputs).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from polymux.errors import Failure
from polymux.providers.anthropic_fates import FATES
from polymux.providers.anthropic_turns import NOTHING, Recalled, conversation
from polymux.providers.fates import asks, ordered
from polymux.providers.reasoning import BUDGETS, effort_of
from polymux.schema.anthropic import (
    MessagesRequest,
    Metadata,
    OutputConfig,
    OutputFormat,
    TextBlock,
    Tool,
    ToolChoice,
    ToolUseBlock,
    UserLocation,
    WebSearchTool,
)
from polymux.schema.chat import ChatRequest, FunctionDef, JsonSchema
from polymux.types import Deployment

# What is judged by its name alone: the parameters of the top level that have no form here.
_JUDGED: Final = tuple(
    (name, fate.what == "refused")
    for name, fate in FATES.items()
    if fate.what in ("dropped", "refused") and name in ChatRequest.__struct_fields__
)


class Generation(msgspec.Struct, frozen=True):
    """What the models up to `until` take.

    thinking: the types that switch it on, first the one to ask for: "enabled" (a number of tokens), "adaptive" (an
    effort). sampling: "any", "one" (temperature or top_p) or "" (default values only). schemas: structured output.
    hides: reasoning is left out unless asked for.
    """

    thinking: tuple[str, ...]
    sampling: str
    schemas: bool
    hides: bool = False
    until: tuple[int, int] = (99, 99)

    @property
    def efforts(self) -> bool:
        return self.thinking[:1] == ("adaptive",)


_NEWEST: Final = Generation(("adaptive",), "", True, hides=True)  # 4.7 on, and every Claude not known yet
_GENERATIONS: Final = (
    Generation((), "any", False, until=(3, 6)),
    Generation(("enabled",), "any", False, until=(4, 0)),
    Generation(("enabled",), "one", True, until=(4, 5)),
    Generation(("adaptive", "enabled"), "one", True, until=(4, 6)),
    _NEWEST,
)
COMPATIBLE: Final = Generation(("enabled", "adaptive"), "any", True)  # other vendors' models behind this protocol

_VERSION: Final = re.compile(r"claude-v?(?:[a-z]+-)?(\d{1,2})(?!\d)(?:[-.](\d{1,2})(?!\d))?")
_NO_SAMPLING_SINCE: Final = "2026-10-21"  # the API version that removed temperature, top_p and top_k


def generation(model: str) -> Generation:
    """What the model behind an upstream name takes, by the version in the name ("claude-sonnet-4-5-20250929": 4.5)."""
    if "claude" not in model.lower():
        return COMPATIBLE
    found = _VERSION.search(model.lower())
    if not found:
        return _NEWEST
    version = int(found[1]), int(found[2] or 0)
    return next(row for row in _GENERATIONS if version <= row.until)


_EFFORTS: Final[Mapping[str, str]] = MappingProxyType(
    {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "max"}
)
_LEAST: Final = 1024  # tokens: the smallest budget, and what is kept for the answer itself
_LARGEST: Final = 32_000  # max_tokens that every model with a budget takes

_DEFAULT_SAMPLING: Final[Mapping[str, float]] = MappingProxyType({"temperature": 1, "top_p": 1})

_TIERS: Final[Mapping[str, Any]] = MappingProxyType({"auto": "auto", "default": "standard_only"})
_CHOICES: Final[Mapping[str, Any]] = MappingProxyType({"none": "none", "auto": "auto", "required": "any"})

_JSON_ONLY: Final = "Answer with one valid JSON object and nothing else: no explanation, no code fence."
_NO_PARAMETERS: Final[Mapping[str, Any]] = MappingProxyType({"type": "object", "properties": {}})
_FREE_INPUT: Final[Mapping[str, Any]] = MappingProxyType(
    {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
)


_encode = msgspec.json.Encoder().encode


def translate(
    request: ChatRequest, to: Deployment, recalled: Recalled = NOTHING
) -> tuple[MessagesRequest, tuple[str, ...]]:
    """The wire request and the names of what it lacks, in the order of the table. `recalled`: remembered reasoning.

    Raises `Failure` for what has no form here: n > 1, logprobs, content of an unknown kind, malformed choices.
    """
    return _Translation(request, to, recalled).run()


class _Translation:
    """One request on its way. Each step reads `ask` and writes `wire`; `dropped` gathers what was lost."""

    def __init__(self, request: ChatRequest, to: Deployment, recalled: Recalled) -> None:
        self.ask = request
        self.kind = generation(to.model)
        self.dropped: set[str] = set()
        self.sampling = self.kind.sampling
        if dict(to.headers).get("anthropic-version", "") >= _NO_SAMPLING_SINCE:
            self.sampling = ""
        system, turns = conversation(request.messages, self.dropped, recalled)
        limit = request.max_tokens if request.max_completion_tokens is None else request.max_completion_tokens
        self.limited = limit is not None
        if request.max_tokens not in (None, limit):
            self.dropped.add("max_tokens")
        self.wire = MessagesRequest(to.model, to.quirks.max_tokens if limit is None else limit, turns, system)

    def run(self) -> tuple[MessagesRequest, tuple[str, ...]]:
        self._judge()
        self._plain()
        self._tools()
        self._tool_choice()
        self._response_format()
        self._thinking()
        self._sampling()
        return self.wire, ordered(self.dropped)

    def _judge(self) -> None:
        for name, refused in _JUDGED:
            if asks(name, getattr(self.ask, name)):
                if refused:
                    raise Failure("unsupported_parameter", f"this model does not take '{name}'", param=name)
                self.dropped.add(name)
        options = self.ask.stream_options
        if options and asks("stream_options.include_obfuscation", options.include_obfuscation):
            self.dropped.add("stream_options.include_obfuscation")

    def _plain(self) -> None:
        ask, wire = self.ask, self.wire
        wire.stream = bool(ask.stream)
        wire.cache_control = ask.cache_control
        if user := ask.safety_identifier or ask.user:
            wire.metadata = Metadata(user)
            if ask.user not in (None, user):
                self.dropped.add("user")
        if ask.service_tier is not None:
            wire.service_tier = _TIERS.get(ask.service_tier)
            if wire.service_tier is None:
                self.dropped.add("service_tier")
        stop = [ask.stop] if isinstance(ask.stop, str) else ask.stop or []
        wire.stop_sequences = [text for text in stop if text.strip()]
        if len(wire.stop_sequences) < len(stop):
            self.dropped.add("stop")

    def _tools(self) -> None:
        tools: list[Tool | WebSearchTool] = []
        for n, tool in enumerate(self.ask.tools or ()):
            if tool.function:
                wire = self._function(tool.function)
            elif tool.custom:
                wire = Tool(tool.custom.name, dict(_FREE_INPUT), tool.custom.description)
                if asks("tools[].custom.format", tool.custom.format):
                    self.dropped.add("tools[].custom.format")
            else:
                raise Failure("invalid_value", f"a tool of type '{tool.type}' is not known", param=f"tools[{n}]")
            wire.cache_control = tool.cache_control
            tools.append(wire)
        tools += [self._function(function) for function in self.ask.functions or ()]
        if self.ask.web_search_options is not None:
            tools.append(_web_search(self.ask.web_search_options))
            if self.ask.web_search_options.get("search_context_size") not in (None, "medium"):
                self.dropped.add("web_search_options")
        self.wire.tools = tools

    def _function(self, function: FunctionDef) -> Tool:
        schema = {**_NO_PARAMETERS, **(function.parameters or {})}
        strict = True if function.strict and self.kind.schemas else None
        if function.strict and not strict:
            self.dropped.add("tools[].function.strict")
        return Tool(function.name, schema, function.description, strict)

    def _tool_choice(self) -> None:
        name = "tool_choice" if self.ask.tool_choice is not None else "function_call"
        asked = getattr(self.ask, name)
        choice = None if asked is None else self._choice(asked, name)
        if name == "tool_choice" and self.ask.function_call is not None:
            self.dropped.add("function_call")
        if not self.wire.tools:
            return  # a choice among no tools is an error at Anthropic and means nothing
        if self.ask.parallel_tool_calls is False:
            choice = choice or ToolChoice("auto")
            if choice.type != "none":
                choice.disable_parallel_tool_use = True
        self.wire.tool_choice = choice

    def _choice(self, asked: str | dict[str, Any], name: str) -> ToolChoice:
        match asked:
            case str() if asked in _CHOICES:
                return ToolChoice(_CHOICES[asked])
            case {"type": "function", "function": {"name": str(tool)}}:
                return ToolChoice("tool", tool)
            case {"type": "custom", "custom": {"name": str(tool)}}:
                return ToolChoice("tool", tool)
            case {"name": str(tool)} if name == "function_call":
                return ToolChoice("tool", tool)
            case {"type": "allowed_tools", "allowed_tools": {"mode": "auto" | "required" as mode, "tools": [*tools]}}:
                allowed = {_tool_name(tool) for tool in tools}
                self.wire.tools = [tool for tool in self.wire.tools if tool.name in allowed]
                return ToolChoice(_CHOICES[mode])
        raise Failure("invalid_value", f"'{name}' has a value that is not known", param=name)

    def _response_format(self) -> None:
        form = self.ask.response_format
        if form is None or form.type == "text":
            return
        if form.type not in ("json_object", "json_schema"):
            raise Failure("invalid_value", f"unknown type '{form.type}'", param="response_format.type")
        schema = _titled(form.json_schema) if form.json_schema else None
        if schema and self.kind.schemas:
            self.wire.output_config = OutputConfig(format=OutputFormat(schema))
            return
        text = _JSON_ONLY
        if schema:
            text += f" It must be valid against this JSON Schema: {msgspec.json.encode(schema).decode()}"
        self.wire.system = [*self.wire.system, TextBlock(text)]

    def _thinking(self) -> None:
        """Thinking in a form that the model takes; `thinking` in Anthropic's own goes before `reasoning_effort`."""
        ask, wire, effort = self.ask, self.wire, self.ask.reasoning_effort or ""
        if effort not in ("", "none", *_EFFORTS):
            raise Failure("invalid_value", f"unknown effort '{effort}'", param="reasoning_effort")
        own = ask.thinking or {}
        if own and self._takes(own):
            wire.thinking = dict(own)
            budget = own.get("budget_tokens")
            self._make_room(budget if isinstance(budget, int) else 0)
        else:
            effort = effort or effort_of(own) or ""
            wire.thinking = self._from_effort(effort)
            if wire.thinking and "display" in own:
                wire.thinking["display"] = own["display"]
            own = {}
        if self.kind.efforts and effort in _EFFORTS:
            wire.output_config = wire.output_config or OutputConfig()
            wire.output_config.effort = _EFFORTS[effort]
        elif ask.reasoning_effort in _EFFORTS and (own or not wire.thinking):
            self.dropped.add("reasoning_effort")
        self._settle_thinking()

    def _takes(self, thinking: dict[str, Any]) -> bool:
        """Whether the model takes this `thinking`; what is no known way to switch it on is for the API to judge."""
        kind, known = thinking.get("type"), self.kind.thinking
        return bool(known) and (kind in known or kind not in ("enabled", "adaptive"))

    def _settle_thinking(self) -> None:
        """What thinking cannot stand beside, and what is told of it when it gives way."""
        ask, wire = self.ask, self.wire
        asked = "thinking" if ask.thinking else "reasoning_effort"
        if self._is_thinking() and wire.tool_choice and wire.tool_choice.type in ("any", "tool"):
            # Both together are an error. A client relies on the call it forces more than on the reasoning before it.
            wire.thinking = {"type": "disabled"} if self.kind.efforts else None
            self.dropped.add(asked)
        if wire.thinking and wire.thinking.get("type") == "enabled" and self._lacks_reasoning():
            wire.thinking = None
            self.dropped.add(asked)
        if wire.thinking and self._is_thinking() and self.kind.hides:
            wire.thinking.setdefault("display", "summarized")
        if ask.thinking and not self._is_thinking() and effort_of(ask.thinking) != "none":
            self.dropped.add("thinking")

    def _is_thinking(self) -> bool:
        thinking = self.wire.thinking
        return thinking is not None and thinking.get("type") != "disabled"

    def _from_effort(self, effort: str) -> dict[str, Any] | None:
        """`thinking` for an effort. A budget must fit in max_tokens, which is raised only if the client set none."""
        wire = self.wire
        if effort == "none" and self.kind.efforts:
            return {"type": "disabled"}
        if effort not in _EFFORTS or not self.kind.thinking:
            return None
        budget = BUDGETS[effort]
        self._make_room(min(budget, _LARGEST - wire.max_tokens))
        if self.kind.efforts:
            return {"type": "adaptive"}
        if wire.max_tokens <= _LEAST:
            return None
        return {"type": "enabled", "budget_tokens": max(_LEAST, min(budget, wire.max_tokens - _LEAST))}

    def _make_room(self, tokens: int) -> None:
        """Thinking counts against max_tokens: a limit that is only our default grows by it."""
        if not self.limited:
            self.wire.max_tokens += max(tokens, 0)

    def _lacks_reasoning(self) -> bool:
        """Is an answer to tool calls due whose own reasoning the client did not bring back? That is an error there."""
        turns = self.wire.messages
        last = next((turn.content for turn in reversed(turns) if turn.role == "assistant"), None)
        pending = last and turns[-1].role == "user" and any(isinstance(block, ToolUseBlock) for block in last)
        return bool(last and pending and not isinstance(last[0], dict))

    def _sampling(self) -> None:
        """Temperature, top_p and top_k, as far as the model, the API version and thinking allow them."""
        ask, wire = self.ask, self.wire
        if ask.temperature is not None:
            wire.temperature = min(max(ask.temperature, 0.0), 1.0)
            if wire.temperature != ask.temperature:
                self.dropped.add("temperature")
        wire.top_p, wire.top_k = ask.top_p, ask.top_k
        if not self.sampling:
            self._without("temperature", "top_p", "top_k")
        elif self._is_thinking():
            self._without("temperature", "top_k")
            if wire.top_p is not None and wire.top_p < 0.95:
                self._without("top_p")
        elif self.sampling == "one" and None not in (wire.temperature, wire.top_p):
            self._without("temperature" if wire.temperature == 1 else "top_p")

    def _without(self, *names: str) -> None:
        for name in names:
            setattr(self.wire, name, None)
            if getattr(self.ask, name) not in (None, _DEFAULT_SAMPLING.get(name)):
                self.dropped.add(name)


def _titled(form: JsonSchema) -> dict[str, Any] | None:
    """The schema with its name and description inside, for an API that has no other place for them."""
    words = {"title": form.name, "description": form.description}
    return {**{word: text for word, text in words.items() if text}, **form.schema} if form.schema else None


def _web_search(options: dict[str, Any]) -> WebSearchTool:
    match options.get("user_location"):
        case {"approximate": dict() as place}:
            known = {name: place[name] for name in UserLocation.__struct_fields__ if isinstance(place.get(name), str)}
            return WebSearchTool("web_search", UserLocation(**known))
    return WebSearchTool("web_search")


def _tool_name(tool: Any) -> str | None:
    match tool:
        case {"function": {"name": str(name)}} | {"custom": {"name": str(name)}} | {"name": str(name)}:
            return name
    return None

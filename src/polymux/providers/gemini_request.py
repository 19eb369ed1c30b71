"""Chat completions request -> generateContent: the parameters. The conversation is in `gemini_turns`.

Source: the Gemini API reference (generateContent) and guide (Function calling, Structured output, Thinking).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal
from urllib.parse import quote

import msgspec

from polymux.errors import Failure
from polymux.providers.fates import asks, ordered
from polymux.providers.gemini_fates import FATES
from polymux.providers.gemini_schema import Allowance, convert, convert_parameters
from polymux.providers.gemini_thinking import generation, thinking
from polymux.providers.gemini_turns import conversation
from polymux.schema.chat import ChatRequest, FunctionDef, JsonSchema
from polymux.schema.gemini import (
    Content,
    FunctionCallingConfig,
    FunctionDeclaration,
    GenerateRequest,
    GenerationConfig,
    Json,
    Part,
    Tool,
    ToolConfig,
)
from polymux.types import Deployment

# What is judged by its name alone: the parameters of the top level that have no form here.
_JUDGED: Final = tuple(
    (name, fate.what == "refused")
    for name, fate in FATES.items()
    if fate.what in ("dropped", "refused") and name in ChatRequest.__struct_fields__
)

_NO_JSON_SCHEMA: Final = "googleapis.com/v1"  # Google's own version that does not have it
_MOST_STOPS: Final = 5
_SEEDS: Final = 1 << 31  # seeds are 32 bits there, and 64 at OpenAI
_TIERS: Final[Mapping[str, str]] = MappingProxyType(
    {"default": "standard", "standard": "standard", "flex": "flex", "priority": "priority"}
)
_MODES: Final[Mapping[str, Literal["AUTO", "ANY", "NONE"]]] = MappingProxyType(
    {"none": "NONE", "auto": "AUTO", "required": "ANY"}
)
_JSON: Final = "application/json"
_JSON_ONLY: Final = "Answer with one valid JSON object and nothing else: no explanation, no code fence."
_FREE_INPUT: Final[Mapping[str, Any]] = MappingProxyType(
    {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
)
_encode = msgspec.json.Encoder().encode


def address(to: Deployment, method: str) -> str:
    """The URL of a method of the deployment's model. Names are the clients' to invent: nothing in them is a path,
    but for the collection that a model may be of."""
    collection, slash, name = to.model.rpartition("/")
    if not slash or collection not in ("models", "tunedModels"):
        collection, name = "models", to.model
    return f"{to.base_url}/{collection}/{quote(name, safe='')}:{method}"


def translate(
    request: ChatRequest, to: Deployment, signatures: Mapping[str, str]
) -> tuple[GenerateRequest, tuple[str, ...]]:
    """The wire request and the names of what it lacks, in the order of the table. signatures: call id -> thought
    signature. Raises `Failure` for what has no form here: content of an unknown kind, malformed choices."""
    return _Translation(request, to, signatures).run()


class _Translation:
    """One request on its way. Each step reads `ask` and writes `wire`; `dropped` gathers what was lost."""

    def __init__(self, request: ChatRequest, to: Deployment, signatures: Mapping[str, str]) -> None:
        self.ask = request
        self.kind = generation(to.model)
        self.quirks = to.quirks
        self.newer = not to.base_url.endswith(_NO_JSON_SCHEMA)
        self.dropped: set[str] = set()
        self.system, contents = conversation(request.messages, signatures, self.dropped, self.kind)
        self.wire = GenerateRequest(contents)
        self.config = GenerationConfig()
        self.functions: list[FunctionDeclaration] = []
        self.allowance = Allowance()  # for schemas

    def run(self) -> tuple[GenerateRequest, tuple[str, ...]]:
        self._judge()
        self._sampling()
        self._limits()
        self._tools()
        self._tool_choice()
        self._web_search()
        self._response_format()
        self.config.thinking_config = thinking(self.ask, self.kind, self.dropped)
        if self.functions:
            self.wire.tools.append(Tool(self.functions))
        if self.config != GenerationConfig():
            self.wire.generation_config = self.config
        if self.system:
            self.wire.system_instruction = Content(self.system)
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

    def _sampling(self) -> None:
        ask, config = self.ask, self.config
        config.temperature, config.top_p, config.top_k = ask.temperature, ask.top_p, ask.top_k
        config.presence_penalty = ask.presence_penalty or None
        config.frequency_penalty = ask.frequency_penalty or None
        if ask.seed is not None:
            config.seed = ask.seed if -_SEEDS <= ask.seed < _SEEDS else ask.seed % _SEEDS
        if ask.n is not None and ask.n != 1:
            config.candidate_count = ask.n
        config.response_logprobs = bool(ask.logprobs or ask.top_logprobs)
        config.logprobs = ask.top_logprobs or None

    def _limits(self) -> None:
        ask, config = self.ask, self.config
        config.max_output_tokens = ask.max_tokens if ask.max_completion_tokens is None else ask.max_completion_tokens
        if ask.max_tokens not in (None, config.max_output_tokens):
            self.dropped.add("max_tokens")
        stop = [ask.stop] if isinstance(ask.stop, str) else ask.stop or []
        config.stop_sequences = [text for text in stop if text][:_MOST_STOPS]
        if len(config.stop_sequences) < len(stop):
            self.dropped.add("stop")
        if ask.service_tier not in (None, "auto"):
            self.wire.service_tier = _TIERS.get(ask.service_tier or "")
            if self.wire.service_tier is None:
                self.dropped.add("service_tier")
        if asks("modalities", ask.modalities):
            asked = ask.modalities or []
            # the models that speak do nothing else; those that draw also write
            config.response_modalities = ["AUDIO"] if "audio" in asked else [kind.upper() for kind in asked]

    # ---- tools

    def _tools(self) -> None:
        for n, tool in enumerate(self.ask.tools or ()):
            if tool.function:
                self.functions.append(self._function(tool.function))
            elif tool.custom:
                free = FunctionDef(tool.custom.name, tool.custom.description, dict(_FREE_INPUT))
                self.functions.append(self._function(free))
                if asks("tools[].custom.format", tool.custom.format):
                    self.dropped.add("tools[].custom.format")
            else:
                raise Failure("invalid_value", f"a tool of type '{tool.type}' is not known", param=f"tools[{n}]")
            if tool.cache_control:
                self.dropped.add("tools[].cache_control")
        self.functions += [self._function(function) for function in self.ask.functions or ()]

    def _function(self, function: FunctionDef) -> FunctionDeclaration:
        made = FunctionDeclaration(function.name, function.description)
        wide = self._takes("parametersJsonSchema")
        schema, lost = convert_parameters(function.parameters or {}, self.allowance, wide=wide)
        if wide:
            made.parameters_json_schema = schema
        else:
            made.parameters = schema
        if lost:
            self.dropped.add("tools[].function.parameters")
        if function.strict and not self.kind.modern:
            self.dropped.add("tools[].function.strict")
        return made

    def _takes(self, member: str) -> bool:
        """Whether JSON Schema may be sent in its own member, or only the subset."""
        return self.newer and member not in self.quirks.drop

    def _tool_choice(self) -> None:
        name = "tool_choice" if self.ask.tool_choice is not None else "function_call"
        asked = getattr(self.ask, name)
        choice = FunctionCallingConfig("AUTO") if asked is None else self._choice(asked, name)
        if name == "tool_choice" and self.ask.function_call is not None:
            self.dropped.add("function_call")
        strict = any(tool.function and tool.function.strict for tool in self.ask.tools or ())
        if choice.mode == "AUTO" and strict and self.kind.modern:
            choice.mode = "VALIDATED"
        if self.functions and (asked is not None or choice.mode != "AUTO"):
            self.wire.tool_config = ToolConfig(choice)

    def _choice(self, asked: str | Json, name: str) -> FunctionCallingConfig:
        match asked:
            case str() if asked in _MODES:
                return FunctionCallingConfig(_MODES[asked])
            case {"type": "allowed_tools", "allowed_tools": {"mode": "auto" | "required" as mode, "tools": [*tools]}}:
                allowed = {_tool_name(tool) for tool in tools}
                self.functions = [function for function in self.functions if function.name in allowed]
                return FunctionCallingConfig(_MODES[mode])
            case dict() if (tool := _tool_name(asked)) and (name == "function_call" or "name" not in asked):
                return FunctionCallingConfig("ANY", [tool])
        raise Failure("invalid_value", f"'{name}' has a value that is not known", param=name)

    def _web_search(self) -> None:
        options = self.ask.web_search_options
        if options is None:
            return
        if self.functions:  # one request cannot have both
            self.dropped.add("web_search_options")
            return
        self.wire.tools.append(Tool(google_search={}))
        if options.get("user_location") or options.get("search_context_size") not in (None, "medium"):
            self.dropped.add("web_search_options")

    # ---- structured output

    def _response_format(self) -> None:
        form = self.ask.response_format
        if form is None or form.type == "text":
            return
        if form.type not in ("json_object", "json_schema"):
            raise Failure("invalid_value", f"unknown type '{form.type}'", param="response_format.type")
        schema = _titled(form.json_schema) if form.json_schema else None
        if self.functions and not self.kind.modern:  # these models refuse functions beside it
            text = _JSON_ONLY
            if schema:
                text += f" It must be valid against this JSON Schema: {_encode(schema).decode()}"
            self.system.append(Part(text))
            return
        self.config.response_mime_type = _JSON
        if not schema:
            return
        wide = self._takes("responseJsonSchema")
        found, lost = convert(schema, self.allowance, wide=wide)
        if wide:
            self.config.response_json_schema = found
        else:
            self.config.response_schema = found
        if lost:
            self.dropped.add("response_format.json_schema.schema")


def _titled(form: JsonSchema) -> Json | None:
    """The schema with its name and description inside, for an API that has no other place for them."""
    words = {"title": form.name, "description": form.description}
    return {**{word: text for word, text in words.items() if text}, **form.schema} if form.schema else None


def _tool_name(tool: Any) -> str | None:
    match tool:
        case {"function": {"name": str(name)}} | {"custom": {"name": str(name)}} | {"name": str(name)}:
            return name
    return None

"""One request for every row of the table of parameters: what asks for it, and the same without it."""

from __future__ import annotations

import base64
import copy
import re
from dataclasses import dataclass, field
from typing import Any, Final

Json = Any

HI: Final = {"role": "user", "content": "hi"}
TOOL: Final = {"type": "function", "function": {"name": "f"}}
CUSTOM: Final = {"type": "custom", "custom": {"name": "g"}}
SCHEMA: Final = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
FORMAT: Final = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
MARK: Final = {"type": "ephemeral"}
PDF: Final = "data:application/pdf;base64," + base64.b64encode(b"%PDF-1.4").decode()
IMAGE: Final = {"url": "https://llm.example/a.png"}
CALL: Final = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
RESULT: Final = {"role": "tool", "tool_call_id": "c1", "content": "r"}
SIGNED: Final = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}


@dataclass(frozen=True)
class Example:
    """Members of a request: `asked` has the parameter, `plain` is the same without it (None: it cannot be left out)."""

    asked: dict[str, Json]
    plain: dict[str, Json] | None = field(default_factory=dict)


def message(**members: Json) -> dict[str, Json]:
    return {"messages": [{**HI, **members}]}


def part(type_: str, value: Json, **more: Json) -> dict[str, Json]:
    """A message that ends with one content part."""
    said = {"type": "text", "text": "hi"}
    return {"messages": [{"role": "user", "content": [said, {"type": type_, type_: value, **more}]}]}


def assistant(*then: Json, **members: Json) -> dict[str, Json]:
    return {"messages": [HI, {"role": "assistant", **members}, *then]}


def called(**members: Json) -> dict[str, Json]:
    """A call of a tool and its result; `members` change the call."""
    return assistant(RESULT, content="a", tool_calls=[{**CALL, **members}]) | {"tools": [TOOL]}


def form(**members: Json) -> dict[str, Json]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, **members}}}


def function(**members: Json) -> dict[str, Json]:
    return {"tools": [{"type": "function", "function": {"name": "f", **members}}]}


def custom(**members: Json) -> dict[str, Json]:
    return {"tools": [{"type": "custom", "custom": {"name": "g", **members}}]}


def top(name: str, value: Json, **beside: Json) -> Example:
    return Example({name: value, **beside}, beside)


SAID: Final = part("text", "hi")
TURN: Final = assistant(HI, content="a")
PLAIN_CALL: Final = called()

EXAMPLES: Final[dict[str, Example]] = {
    "model": Example({}, None),
    "messages": Example({}, None),
    "messages[].role": Example(TURN, None),
    "messages[].role=developer": Example({"messages": [{"role": "developer", "content": "be brief"}, HI]}),
    "messages[].role=function": Example(
        assistant(
            {"role": "function", "name": "f", "content": "r"},
            content="a",
            function_call={"name": "f", "arguments": "{}"},
        )
    ),
    "messages[].content": Example({}, None),
    "messages[].content[].text": Example(SAID),
    "messages[].content[].refusal": Example(assistant(HI, content=[{"type": "refusal", "refusal": "no"}])),
    "messages[].content[].image_url": Example(part("image_url", IMAGE)),
    "messages[].content[].image_url.url": Example(part("image_url", IMAGE)),
    "messages[].content[].image_url.detail": Example(
        part("image_url", {**IMAGE, "detail": "low"}), part("image_url", IMAGE)
    ),
    "messages[].content[].input_audio": Example(part("input_audio", {"data": "AAAA", "format": "wav"})),
    "messages[].content[].file": Example(part("file", {"file_data": PDF})),
    "messages[].content[].file.file_id": Example(part("file", {"file_id": "file-1"})),
    "messages[].content[].file.file_data": Example(part("file", {"file_data": PDF})),
    "messages[].content[].file.filename": Example(
        part("file", {"file_data": PDF, "filename": "a.pdf"}), part("file", {"file_data": PDF})
    ),
    "messages[].content[].cache_control": Example(part("text", "hi", cache_control=MARK), SAID),
    "messages[].content[].prompt_cache_breakpoint": Example(
        part("text", "hi", prompt_cache_breakpoint={"mode": "explicit"}), SAID
    ),
    "messages[].name": Example(message(name="alice")),
    "messages[].refusal": Example(assistant(HI, refusal="no")),
    "messages[].tool_calls": Example(PLAIN_CALL),
    "messages[].tool_calls[].id": Example(PLAIN_CALL, None),
    "messages[].tool_calls[].function": Example(PLAIN_CALL),
    "messages[].tool_calls[].custom": Example(
        assistant(
            RESULT,
            content="a",
            tool_calls=[{"id": "c1", "type": "custom", "custom": {"name": "g", "input": "x"}}],
        )
    ),
    "messages[].tool_calls[].extra_content": Example(
        called(extra_content={"google": {"thought_signature": "x"}}), PLAIN_CALL
    ),
    "messages[].tool_call_id": Example(PLAIN_CALL),
    "messages[].function_call": Example(
        assistant(
            {"role": "function", "name": "f", "content": "r"},
            content="a",
            function_call={"name": "f", "arguments": '{"a":1}'},
        ),
        TURN,
    ),
    "messages[].audio": Example(assistant(HI, content="a", audio={"id": "audio_1"}), TURN),
    "messages[].reasoning_content": Example(assistant(HI, content="a", reasoning_content="hm"), TURN),
    "messages[].reasoning": Example(assistant(HI, content="a", reasoning="hm"), TURN),
    "messages[].reasoning_details": Example(assistant(HI, content="a", reasoning_details=[SIGNED]), TURN),
    "messages[].cache_control": Example(message(cache_control=MARK)),
    "audio": top("audio", {"voice": "v", "format": "wav"}),
    "cache_control": top("cache_control", MARK),
    "frequency_penalty": top("frequency_penalty", 0.5),
    "function_call": top("function_call", {"name": "f"}, functions=[{"name": "f"}]),
    "functions": top("functions", [{"name": "f"}]),
    "keep_alive": top("keep_alive", "10m"),
    "logit_bias": top("logit_bias", {"1": 1}),
    "logprobs": top("logprobs", True),
    "max_completion_tokens": top("max_completion_tokens", 77),
    "max_tokens": top("max_tokens", 77),
    "metadata": top("metadata", {"a": "b"}),
    "modalities": top("modalities", ["text", "audio"]),
    "moderation": top("moderation", {"model": "m"}),
    "n": top("n", 2),
    "num_ctx": top("num_ctx", 16384),
    "options": top("options", {"min_p": 0.1}),
    "parallel_tool_calls": top("parallel_tool_calls", False, tools=[TOOL]),
    "prediction": top("prediction", {"type": "content", "content": "x"}),
    "presence_penalty": top("presence_penalty", 1.5),
    "prompt_cache_key": top("prompt_cache_key", "k"),
    "prompt_cache_options": top("prompt_cache_options", {"mode": "implicit"}),
    "prompt_cache_retention": top("prompt_cache_retention", "24h"),
    "reasoning_effort": top("reasoning_effort", "low"),
    "response_format": top("response_format", FORMAT),
    "response_format=json_object": top("response_format", {"type": "json_object"}),
    "response_format.json_schema": top("response_format", FORMAT),
    "response_format.json_schema.name": Example(form(name="answer"), form()),
    "response_format.json_schema.description": Example(form(description="d"), form()),
    "response_format.json_schema.schema": Example(form()),
    "response_format.json_schema.strict": Example(form(strict=True), form()),
    "safety_identifier": top("safety_identifier", "s"),
    "seed": top("seed", 0),
    "service_tier": top("service_tier", "default"),
    "stop": top("stop", ["END"]),
    "store": top("store", True),
    "stream": top("stream", True),
    "stream_options": top("stream_options", {"include_obfuscation": False}, stream=True),
    "stream_options.include_usage": top("stream_options", {"include_usage": True}, stream=True),
    "stream_options.include_obfuscation": top("stream_options", {"include_obfuscation": True}, stream=True),
    "temperature": top("temperature", 0.5),
    "thinking": top("thinking", {"type": "enabled", "budget_tokens": 2000}),
    "tool_choice": top("tool_choice", "required", tools=[TOOL]),
    "tool_choice=function": top("tool_choice", TOOL, tools=[TOOL]),
    "tool_choice=custom": top("tool_choice", CUSTOM, tools=[CUSTOM]),
    "tool_choice=allowed_tools": top(
        "tool_choice",
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [TOOL]}},
        tools=[TOOL, CUSTOM],
    ),
    "tools": top("tools", [TOOL]),
    "tools[].function": top("tools", [TOOL]),
    "tools[].function.name": top("tools", [TOOL]),
    "tools[].function.description": Example(function(description="d"), function()),
    "tools[].function.parameters": Example(function(parameters=SCHEMA), function()),
    "tools[].function.strict": Example(function(strict=True), function()),
    "tools[].custom": top("tools", [CUSTOM]),
    "tools[].custom.name": top("tools", [CUSTOM]),
    "tools[].custom.description": Example(custom(description="d"), custom()),
    "tools[].custom.format": Example(
        custom(format={"type": "grammar", "grammar": {"syntax": "regex", "definition": "a+"}}), custom()
    ),
    "tools[].cache_control": Example({"tools": [{**TOOL, "cache_control": MARK}]}, {"tools": [TOOL]}),
    "top_k": top("top_k", 5),
    "top_logprobs": top("top_logprobs", 3),
    "top_p": top("top_p", 0.5),
    "user": top("user", "u"),
    "verbosity": top("verbosity", "low"),
    "web_search_options": top("web_search_options", {}),
}


def request(members: dict[str, Json], model: str = "public") -> dict[str, Json]:
    """A whole request."""
    return copy.deepcopy({"model": model, "messages": [HI], **members})


def found(body: Json, path: str) -> list[Json]:
    """The values at a path such as `messages[].content[].text`; what stands after `=` is no part of it."""
    values = [body]
    for step in re.findall(r"\[\]|[^.\[\]]+", path.partition("=")[0]):
        if step == "[]":
            values = [one for value in values if isinstance(value, list) for one in value]
        else:
            values = [value[step] for value in values if isinstance(value, dict) and step in value]
    return values

"""What the scripted provider refuses, as real ones do. Pure: a request body in, the complaint out (None = fine).

Sources: OpenAI's API description; Anthropic's Messages reference (roles, tool_result order, top-level members).
"""

from __future__ import annotations

from typing import Any, Final

_NUMBERS: Final = ("temperature", "top_p", "presence_penalty", "frequency_penalty")
_CHOICES: Final = 128  # at most
_NUMBERS_OF_A_VECTOR: Final = 4096  # at most
_INTEGERS: Final = ("max_tokens", "max_completion_tokens", "n", "seed", "top_logprobs")
_ANTHROPIC_MEMBERS: Final = frozenset(
    (
        "model",
        "max_tokens",
        "messages",
        "system",
        "stream",
        "stop_sequences",
        "temperature",
        "top_p",
        "top_k",
        "tools",
        "tool_choice",
        "thinking",
        "output_config",
        "metadata",
        "service_tier",
        "speed",
        "cache_control",
        "container",
        "inference_geo",
        "diagnostics",
    )
)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def openai(body: Any) -> tuple[str, str, str] | None:
    """(message, param, code) of the first fault of a chat completions request."""
    if not isinstance(body, dict):
        return "We could not parse the JSON body of your request.", "", "invalid_json"
    if not isinstance(body.get("model"), str):
        return "you must provide a model parameter", "model", "missing_required_parameter"
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return "Missing required parameter: 'messages'.", "messages", "missing_required_parameter"
    return _wrong_types(body) or _openai_tools(messages)


def completions(body: Any) -> tuple[str, str, str] | None:
    """(message, param, code) of the first fault of a completions request."""
    return _plain(body, "prompt") or _wrong_types(body)


def embeddings(body: Any) -> tuple[str, str, str] | None:
    """(message, param, code) of the first fault of an embeddings request."""
    if fault := _plain(body, "input"):
        return fault
    given = body["input"]
    if given in ("", []) or not isinstance(given, str | list) or (isinstance(given, list) and "" in given):
        return "'$.input' is invalid.", "input", ""
    size = body.get("dimensions")
    if size is not None and not (isinstance(size, int) and 1 <= size <= _NUMBERS_OF_A_VECTOR):
        return f"Invalid 'dimensions': expected a value from 1 to {_NUMBERS_OF_A_VECTOR}.", "dimensions", ""
    if body.get("encoding_format", "float") not in ("float", "base64"):
        return "encoding_format must be 'float' or 'base64'.", "encoding_format", "invalid_value"
    return None


def _plain(body: Any, wanted: str) -> tuple[str, str, str] | None:
    if not isinstance(body, dict):
        return "We could not parse the JSON body of your request.", "", "invalid_json"
    for name in ("model", wanted):
        if name not in body:
            return f"you must provide a {name} parameter", name, "missing_required_parameter"
    return None


def _wrong_types(body: dict[str, Any]) -> tuple[str, str, str] | None:
    for name in _NUMBERS:
        if body.get(name) is not None and not _is_number(body[name]):
            return f"Invalid type for '{name}': expected a decimal.", name, "invalid_type"
    for name in _INTEGERS:
        if body.get(name) is not None and (not isinstance(body[name], int) or isinstance(body[name], bool)):
            return f"Invalid type for '{name}': expected an integer.", name, "invalid_type"
    if not 1 <= (body.get("n") or 1) <= _CHOICES:
        return f"Invalid 'n': expected a value from 1 to {_CHOICES}.", "n", "integer_out_of_range"
    if body.get("stream_options") is not None and not body.get("stream"):
        return "The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options", ""
    return None


def _openai_tools(messages: list[dict[str, Any]]) -> tuple[str, str, str] | None:
    pending: set[str] = set()
    for position, message in enumerate(messages):
        if message["role"] == "tool":
            if message.get("tool_call_id") not in pending:
                text = "messages with role 'tool' must be a response to a preceding message with 'tool_calls'."
                return text, f"messages.[{position}].role", ""
            pending.discard(message["tool_call_id"])
        elif pending:
            return f"tool_call_ids did not have response messages: {sorted(pending)}", f"messages.[{position}]", ""
        else:
            pending = {call["id"] for call in message.get("tool_calls") or ()}
    return None


def anthropic(body: Any) -> str | None:
    """The message of the first fault of a Messages request."""
    if not isinstance(body, dict):
        return "The request body is not valid JSON"
    for name in body:
        if name not in _ANTHROPIC_MEMBERS:
            return f"{name}: Extra inputs are not permitted"
    limit = body.get("max_tokens")
    if not isinstance(limit, int) or isinstance(limit, bool):
        return "max_tokens: Field required"
    if limit < 1:
        return "max_tokens: Input should be greater than or equal to 1"
    temperature = body.get("temperature")
    if temperature is not None and not (_is_number(temperature) and 0 <= temperature <= 1):
        return "temperature: Input should be between 0 and 1"
    for position, tool in enumerate(body.get("tools") or ()):
        if not isinstance(tool.get("name"), str) or ("input_schema" not in tool and "type" not in tool):
            return f"tools.{position}.custom.input_schema: Field required"
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return "messages: at least one message is required"
    return _turns(messages) or _anthropic_tools(messages)


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _turns(messages: list[dict[str, Any]]) -> str | None:
    if messages[0].get("role") != "user":
        return 'messages: first message must use the "user" role'
    previous = ""
    for position, message in enumerate(messages):
        if set(message) != {"role", "content"}:
            return f"messages.{position}: Extra inputs are not permitted"
        if message["role"] not in ("user", "assistant"):
            return f"messages.{position}.role: role '{message['role']}' is not supported on this model"
        if message["role"] == previous:
            return f'messages.{position}: roles must alternate between "user" and "assistant"'
        previous = message["role"]
        if any(block["type"] == "text" and not block["text"] for block in _blocks(message)):
            return "messages: text content blocks must be non-empty"
    if previous == "assistant" and str(_blocks(messages[-1])[-1].get("text", "")).endswith((" ", "\n")):
        return "messages: final assistant content cannot end with trailing whitespace"
    return None


def _anthropic_tools(messages: list[dict[str, Any]]) -> str | None:
    open_ids: set[str] = set()
    for position, message in enumerate(messages):
        kinds = [block["type"] for block in _blocks(message)]
        answered = {b["tool_use_id"] for b in _blocks(message) if b["type"] == "tool_result"}
        if answered != open_ids:
            return f"messages.{position}: `tool_use` ids were found without `tool_result` blocks immediately after"
        if kinds[: kinds.count("tool_result")] != ["tool_result"] * kinds.count("tool_result"):
            return f"messages.{position}: `tool_result` blocks must come first"
        open_ids = {b["id"] for b in _blocks(message) if b["type"] == "tool_use"}
        for block in _blocks(message):
            if block["type"] == "tool_use" and not isinstance(block["input"], dict):
                return f"messages.{position}: tool_use.input: Input should be a valid dictionary"
    return "messages: `tool_use` ids without `tool_result` blocks" if open_ids else None

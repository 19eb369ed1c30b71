"""Chat messages -> Gemini's contents: system apart, roles in turn, results behind the calls they answer.

Source: the Gemini API guide (Text generation, Function calling, File input methods, Thought signatures).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from polymux.errors import Failure
from polymux.providers.fates import asks
from polymux.providers.gemini_thinking import Generation
from polymux.schema.chat import FileRef, ImageURL, InputAudio, Message, ToolCall
from polymux.schema.chat import Part as ChatPart
from polymux.schema.gemini import Blob, Content, FileData, FunctionCall, FunctionResponse, Part

_DATA_URI: Final = re.compile(r"data:([^;,]*)[^,]*;base64,", re.IGNORECASE)
_FILES: Final = "https://generativelanguage.googleapis.com/v1beta/"  # where the Files API keeps what is uploaded
_PDF_BASE64: Final = "JVBERi"  # "%PDF" and what must follow, for files that come without a data URI
_DETAIL: Final = "messages[].content[].image_url.detail"
_RECALLED: Final = 256  # calls whose signature is looked up: the API asks for those of the current turn
_OPENING: Final = "."  # a conversation must open with something from the user
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_ENCRYPTED: Final = "reasoning.encrypted"
FORMAT: Final = "google-gemini-v1"  # of reasoning details, in OpenRouter's words

# Ending of a name -> type, of the files that the models take.
_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {name: f"image/{name}" for name in ("png", "jpeg", "webp", "heic", "heif", "gif")}
    | {name: f"audio/{name}" for name in ("wav", "mp3", "aiff", "aac", "ogg", "flac")}
    | {name: f"video/{name}" for name in ("mp4", "mpeg", "webm")}
    | {name: f"text/{name}" for name in ("html", "css", "csv", "xml", "rtf")}
    | {"jpg": "image/jpeg", "mpg": "video/mpeg", "mov": "video/quicktime", "pdf": "application/pdf"}
    | {"txt": "text/plain", "md": "text/markdown", "json": "application/json"}
)

_MEANT: Final[Mapping[str, str]] = MappingProxyType({"image/jpg": "image/jpeg"})  # what clients call it -> its name

# The value that Google documents for calls that none of its models made.
UNSIGNED: Final = "skip_thought_signature_validator"

_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_any = msgspec.json.Decoder().decode


def unsigned_calls(messages: Sequence[Message]) -> list[str]:
    """The ids of the calls whose signature the client has not kept, of a long conversation the last ones."""
    calls = [call for message in messages for call in message.tool_calls or ()]
    unsigned = dict.fromkeys(call.id for call in calls if call.id and not signature_of(call.extra_content))
    return list(unsigned)[-_RECALLED:]


def signature_of(extra: Mapping[str, Any] | None) -> str:
    """The signature in a call's `extra_content`, where Google's own OpenAI-compatible layer has it; "" = none."""
    for vendor in ("google", "vertex"):
        match (extra or {}).get(vendor):
            case {"thought_signature": str(text)} if _is_base64(text):
                return text
    return ""


def conversation(
    messages: Sequence[Message], signatures: Mapping[str, str], lost: set[str], kind: Generation
) -> tuple[list[Part], list[Content]]:
    """The system instruction and the contents. What they lack is added to `lost`, by its name in the table of
    parameters. Raises `Failure` for content that has no form here.

    signatures: call id -> what is remembered. kind: what the model takes.
    """
    talk = _Conversation(signatures, lost, kind)
    for n, message in enumerate(messages):
        talk.add(message, f"messages[{n}]")
    return talk.system, talk.finished()


class _Conversation:
    def __init__(self, signatures: Mapping[str, str], lost: set[str], kind: Generation) -> None:
        self.signatures, self.lost, self.kind = signatures, lost, kind
        self.system: list[Part] = []
        self.contents: list[Content] = []
        self._names: dict[str, list[str]] = {}  # id of a call -> its function; of those that share it, one by one
        self._legacy = ""  # id of the last call that came as `function_call`, which has none

    def add(self, message: Message, where: str) -> None:
        if message.name and message.role not in ("tool", "function"):  # there it only repeats the call's
            self.lost.add("messages[].name")
        if message.cache_control:
            self.lost.add("messages[].cache_control")
        match message.role:
            case "system" | "developer":
                parts = self._content(message, where)
                if any(part.text is None for part in parts):
                    raise Failure("unsupported_content", "a system message can hold text only", param=where)
                self.system += parts
            case "user":
                self._extend("user", self._content(message, where))
            case "assistant":
                self._add_assistant(message, where)
            case "tool" | "function":
                self._add_result(message, where)

    def finished(self) -> list[Content]:
        """The contents in the order the protocol wants."""
        contents = self.contents
        if not contents or contents[0].role != "user":
            contents.insert(0, Content([Part(_OPENING)], "user"))
        for before, content in zip([None, *contents], contents, strict=False):
            if content.role == "user":
                content.parts.sort(key=_call_order(before))  # stable: what is no result stays as it was
            elif self.kind.modern:
                first = next((part for part in content.parts if part.function_call), None)
                if first is not None and not first.thought_signature:
                    first.thought_signature = UNSIGNED
        return contents

    def _extend(self, role: Literal["user", "model"], parts: Sequence[Part]) -> None:
        if not parts:
            return
        if self.contents and self.contents[-1].role == role:
            self.contents[-1].parts.extend(parts)
        else:
            self.contents.append(Content(list(parts), role))

    def _add_assistant(self, message: Message, where: str) -> None:
        if message.audio:
            what = "this model does not know what was said in audio before"
            raise Failure("unsupported_content", what, param=f"{where}.audio")
        parts = self._content(message, where)
        if message.refusal:
            parts.append(Part(message.refusal))
        parts += self._signed(message)
        self._names |= {call.id: [] for call in message.tool_calls or ()}
        for n, call in enumerate(message.tool_calls or ()):
            parts.append(self._call(call, f"{where}.tool_calls[{n}]"))
        if message.function_call:
            self._legacy = f"call_legacy_{len(self._names)}"
            self._names[self._legacy] = [message.function_call.name]
            args = _arguments(message.function_call.arguments)
            parts.append(Part(function_call=FunctionCall(message.function_call.name, args, self._legacy)))
        self._extend("model", parts)

    def _signed(self, message: Message) -> list[Part]:
        """The signature behind a text, as Google sends it in streams: on an empty part."""
        given = message.reasoning_details or []
        found = [one["data"] for one in given if _is_signature(one)]
        if len(found) < len(given):
            self.lost.add("messages[].reasoning_details")
        told = {"reasoning_content": message.reasoning_content, "reasoning": message.reasoning}
        if not found:
            self.lost.update(f"messages[].{name}" for name, text in told.items() if text)
        return [Part("", thought_signature=signature) for signature in found]

    def _call(self, call: ToolCall, where: str) -> Part:
        signature = signature_of(call.extra_content)
        if call.extra_content and not signature:
            self.lost.add("messages[].tool_calls[].extra_content")
        if call.function:
            name, args = call.function.name, _arguments(call.function.arguments)
        elif call.custom:
            name, args = call.custom.name, msgspec.Raw(msgspec.json.encode({"input": call.custom.input}))
        else:
            raise Failure("invalid_value", f"a call of type '{call.type}' is not known", param=where)
        self._names[call.id].append(name)
        signature = signature or self.signatures.get(call.id, "")
        return Part(function_call=FunctionCall(name, args, call.id or None), thought_signature=signature or None)

    def _add_result(self, message: Message, where: str) -> None:
        call = self._legacy if message.role == "function" else message.tool_call_id or ""
        names = self._names.get(call) or [message.name or ""]
        name = names.pop(0) if len(names) > 1 else names[0]
        if not name:
            raise Failure("invalid_value", "a result without a call before it", param=f"{where}.tool_call_id")
        parts = self._content(message, where)
        text = "".join(part.text for part in parts if part.text)
        response = FunctionResponse(name, _response(text), call or None)
        self._extend("user", [Part(function_response=response), *(part for part in parts if part.text is None)])

    def _content(self, message: Message, where: str) -> list[Part]:
        """A message's content without empty texts, which the API refuses."""
        if isinstance(message.content, str):
            return [Part(message.content)] if message.content else []
        parts = []
        for n, given in enumerate(message.content or ()):
            for name in ("cache_control", "prompt_cache_breakpoint"):
                if getattr(given, name):
                    self.lost.add(f"messages[].content[].{name}")
            if part := self._part(given, f"{where}.content[{n}]"):
                parts.append(part)
        return parts

    def _part(self, part: ChatPart, where: str) -> Part | None:
        match part.type:
            case "text" | "refusal":
                text = part.text or part.refusal
                return Part(text) if text else None
            case "image_url" if part.image_url is not None:
                if isinstance(part.image_url, ImageURL) and asks(_DETAIL, part.image_url.detail):
                    self.lost.add(_DETAIL)
                url = part.image_url if isinstance(part.image_url, str) else part.image_url.url
                return self._media(url, where)
            case "input_audio" if part.input_audio is not None:
                return _audio(part.input_audio)
            case "file" if part.file is not None:
                return self._file(part.file, where)
        raise Failure("unsupported_content", f"this model does not take content of type '{part.type}'", param=where)

    def _media(self, url: str, where: str) -> Part:
        """An image, or whatever else a URL leads to: clients send sound and films in the same place."""
        if found := _DATA_URI.match(url):
            kind = found[1].lower() or "text/plain"
            return Part(inline_data=Blob(_MEANT.get(kind, kind), url[found.end() :]))
        own = url.startswith(("gs://", _FILES))
        if own or (self.kind.fetches and url.startswith(("https://", "http://"))):
            return Part(file_data=FileData(url, _type_of(url)))
        what = "this model does not fetch from the web; send the content as a base64 data URI"
        raise Failure("unsupported_content", what, param=where)

    def _file(self, file: FileRef, where: str) -> Part:
        if file.filename:
            self.lost.add("messages[].content[].file.filename")
        data, given = file.file_data, file.file_id or ""
        if data:
            if _DATA_URI.match(data) or "://" in data[:16]:
                return self._media(data, where)
            kind = _type_of(file.filename or "")
            if data.startswith(_PDF_BASE64):
                kind = "application/pdf"
            if kind:
                return Part(inline_data=Blob(kind, data))
            raise Failure("unsupported_content", "a file must be a base64 data URI, with its type", param=where)
        if given.startswith(("https://", "gs://")):
            return Part(file_data=FileData(given))
        if given.startswith("files/"):
            return Part(file_data=FileData(_FILES + given))
        what = "files uploaded elsewhere are not known to this model; send the content as file_data"
        raise Failure("unsupported_content", what, param=where)


def _type_of(name: str) -> str | None:
    """The type that a file's name or URL tells."""
    try:
        return _TYPES.get(urlsplit(name).path.rpartition(".")[2].lower())
    except ValueError:  # no URL
        return None


def _audio(audio: InputAudio) -> Part:
    return Part(inline_data=Blob(f"audio/{audio.format.lower()}", audio.data))


def _call_order(before: Content | None) -> Callable[[Part], int]:
    """A sort key for a user's parts: results as `before` called for them, then everything else."""
    calls = [part.function_call.id for part in (before.parts if before else ()) if part.function_call]
    places = {call: n for n, call in enumerate(calls)}

    def place(part: Part) -> int:
        if not part.function_response:
            return len(calls) + 1
        return places.get(part.function_response.id, len(calls))

    return place


def _is_base64(text: str) -> bool:
    """Whether it is what Google can read: other vendors' signatures are refused with the whole request."""
    return len(text.rstrip("=")) % 4 != 1 and _BASE64.fullmatch(text) is not None


def _is_signature(detail: Mapping[str, Any]) -> bool:
    match detail:
        case {"type": kind, "format": form, "data": str(text)}:
            return (kind, form) == (_ENCRYPTED, FORMAT) and _is_base64(text)
    return False


def detail_of(signature: str) -> dict[str, Any]:
    """A signature that belongs to a text, as a client may keep it and send it back."""
    return {"type": _ENCRYPTED, "format": FORMAT, "data": signature}


def _arguments(arguments: str) -> msgspec.Raw:
    """A call's arguments as an object. Text that is none is wrapped, so that the model sees its own mistake."""
    if arguments.strip() in ("", "null"):
        return msgspec.Raw(b"{}")
    try:
        _object(arguments)
    except (msgspec.DecodeError, RecursionError):
        return msgspec.Raw(msgspec.json.encode({"_raw": arguments}))
    return msgspec.Raw(arguments.encode())


def _response(text: str) -> msgspec.Raw:
    """A result as an object. `$ref` is Google's own word there, so that a text in which it is a key stays a text."""
    try:
        if not _refers(_any(text)):
            _object(text)
            return msgspec.Raw(text.encode())
    except (msgspec.MsgspecError, RecursionError):
        pass
    return msgspec.Raw(msgspec.json.encode({"result": text}))


def _refers(value: Any) -> bool:
    if isinstance(value, dict):
        return "$ref" in value or any(map(_refers, value.values()))
    return isinstance(value, list) and any(map(_refers, value))

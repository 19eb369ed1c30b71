"""Chat completions request -> what a Dify app is asked: its variables, the text, the files, and whose it is.

A conversation goes on at Dify, so its apps are told what is new; who begins one there with a history tells it as text.
Source: Dify's service API documentation (chat, completion and workflow apps; file upload).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final

import msgspec

from polymux.errors import Failure
from polymux.providers.base import Asked
from polymux.providers.dify_fates import FATES
from polymux.providers.fates import asks
from polymux.schema.chat import ChatRequest, FileRef, ImageURL, Message, Part, ToolCall
from polymux.schema.dify import File

CHATS: Final = ("chat", "agent", "chatflow")  # apps that have conversations
KINDS: Final = (*CHATS, "completion", "workflow")

_JUDGED: Final = tuple(
    (name, fate.what == "refused")
    for name, fate in FATES.items()
    if fate.what in ("dropped", "refused") and name in ChatRequest.__struct_fields__
)
_IN_MESSAGES: Final = ("name", "audio", "cache_control", "reasoning_content", "reasoning", "reasoning_details")
_IN_PARTS: Final = ("cache_control", "prompt_cache_breakpoint")
_PART: Final = "messages[].content[]."
_DETAIL: Final = "messages[].content[].image_url.detail"
_EXTRA: Final = "messages[].tool_calls[].extra_content"

_SYSTEM: Final = ("system", "developer")
_PLACE: Final = re.compile(r"\{(query|system|history|user)\}")  # what a variable's text may hold
_THOUGHT: Final = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_EARLIER: Final = "Earlier in this conversation:"
_NOW: Final = "The user now says:"
_JSON_ONLY: Final = "Answer with one valid JSON object and nothing else: no explanation, no code fence."

_DATA_URI: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[^;,]*)*;base64,", re.IGNORECASE)
# Names of files by type, for what comes without one: Dify judges a file by its name.
_ENDINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "image/jpeg": "jpg",
        "image/svg+xml": "svg",
        "audio/mpeg": "mp3",
        "audio/x-wav": "wav",
        "audio/mp4": "m4a",
        "text/plain": "txt",
        "text/markdown": "md",
        "application/msword": "doc",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    }
)
_SPOKEN: Final[Mapping[str, str]] = MappingProxyType({"mp3": "audio/mpeg"})  # formats of input_audio
_DOCUMENTS: Final = frozenset(
    {
        *("txt", "md", "mdx", "markdown", "pdf", "html", "htm", "xlsx", "xls", "vtt", "properties", "doc", "docx"),
        *("csv", "eml", "msg", "ppt", "pptx", "xml", "epub"),
    }
)


class Upload(msgspec.Struct, frozen=True):
    """A file that has to be sent to Dify before it can be named. type: as `schema.dify.File` has it."""

    type: str
    name: str
    media_type: str
    data: bytes


class Thread(msgspec.Struct):
    """A conversation as the client tells it, up to an answer: by it the one at Dify is found again.

    Names are digests of whose it is, and of all that was said: nobody finds another's, an edited one is another. One
    that began with other variables is another's too: an app may know by them who asks.
    """

    owner: str  # how the names begin
    said: bytes  # the digest so far
    long: bool = False  # there is an answer in it

    def name(self) -> str:
        return f"{self.owner}/{self.said.hex()}"

    def add(self, role: str, text: str, files: Sequence[str] = ()) -> None:
        """A message. Blanks at its ends and the form of its content do not matter, clients change them; nor does the
        thinking that an app tells as text, which many leave out."""
        text = _THOUGHT.sub("", text, 1) if role == "assistant" else text
        self.said = sha256(self.said + msgspec.json.encode([role, text.strip(), files])).digest()
        self.long = self.long or role == "assistant"

    def follow(self, messages: Sequence[Message]) -> None:
        for message in messages:
            role = "system" if message.role in _SYSTEM else message.role
            files = [sha256(place.encode()).hexdigest() for part in _parts(message) if (place := _place(part))]
            calls = [_called(call) for call in message.tool_calls or ()]
            self.add(role, "\n".join([_plain(message), *calls]), files)

    def copy(self) -> Thread:
        return Thread(self.owner, self.said, self.long)

    def then(self, answer: str) -> Thread:
        """The conversation with an answer to it."""
        thread = self.copy()
        thread.add("assistant", answer)
        return thread


class Turn(msgspec.Struct):
    """What an app is asked. before: the conversation that it continues; so_far: with what is asked now.

    fresh: how to say it where a conversation begins; going_on: where Dify has the rest of it. dropped: what is lost of
    the request; dropped_fresh: what more is lost if a conversation begins.
    """

    kind: str
    user: str
    streamed: bool
    inputs: dict[str, Any]
    before: Thread
    so_far: Thread
    fresh: str
    going_on: str
    files: list[File | Upload]
    dropped: set[str]
    dropped_fresh: set[str]


def turn_of(request: ChatRequest, asked: Asked) -> Turn:
    """Raises `Failure` for what has no form here: tools, several answers, files that are none, unknown content."""
    kind, app = asked.to.model, asked.to.app
    if kind not in KINDS:
        text = f"{kind!r} is no kind of app; the provider's models may be {', '.join(KINDS)}"
        raise Failure("invalid_configuration", text)
    dropped = _judged(request)
    order = _order(request, kind, dropped)
    user = request.user or request.safety_identifier or f"polymux-{asked.caller}".rstrip("-")
    if request.safety_identifier not in (None, user):
        dropped.add("safety_identifier")
    old, new = _split(request.messages)
    files = _files(new, len(old))
    whose = [kind, user, request.metadata] if request.metadata else [kind, user]
    said = sha256(msgspec.json.encode(whose, order="sorted")).digest()
    before = Thread(f"dify/{asked.to.provider}/{asked.caller}", said)
    before.follow(old)
    so_far = before.copy()
    so_far.follow(new)
    texts = _texts(old, new, user)
    inputs = dict(request.metadata or {}) | {name: _filled(text, texts) for name, text in app.inputs.items()}
    placed = {place for text in app.inputs.values() for place in _PLACE.findall(text)}
    system, later = ("", "") if "system" in placed else (texts["system"], _system(new))
    history = texts["history"] if kind in CHATS and "history" not in placed else ""
    fresh, going_on = _whole(system, history, texts["query"], order), _whole(later, "", texts["query"], order)
    dropped, dropped_fresh = dropped | _lost(new), _lost(old) | _unsent(old)
    if kind not in CHATS:
        if "query" not in placed:
            inputs["query"] = fresh
        if "history" not in placed:  # its messages are not sent at all
            dropped, dropped_fresh = dropped | ({"messages"} if old else set()), set()
    return Turn(
        kind, user, bool(request.stream), inputs, before, so_far, fresh, going_on, files, dropped, dropped_fresh
    )


def _judged(request: ChatRequest) -> set[str]:
    """The parameters of the top level that are lost. Raises `Failure` for those without which the answer would not be
    what was asked for."""
    dropped = set()
    for name, refused in _JUDGED:
        if not asks(name, getattr(request, name)) or (name in _CHOICES and not (request.tools or request.functions)):
            continue
        if refused:
            text = f"an app does not take '{name}'" + ("; its tools are its own" if name in _TOOLS else "")
            raise Failure("unsupported_parameter", text, param=name)
        dropped.add(name)
    options = request.stream_options
    if options and asks("stream_options.include_obfuscation", options.include_obfuscation):
        dropped.add("stream_options.include_obfuscation")
    return dropped


_CHOICES: Final = ("tool_choice", "function_call", "parallel_tool_calls")  # they mean nothing without tools
_TOOLS: Final = ("tools", "functions", *_CHOICES)


# ---- the conversation ------------------------------------------------------------------------------------------


def _split(messages: list[Message]) -> tuple[list[Message], list[Message]]:
    """What was answered already, and what is asked now."""
    asking = [n for n, message in enumerate(messages) if message.role != "assistant"]
    answers = [n for n, message in enumerate(messages[: asking[-1] if asking else 0]) if message.role == "assistant"]
    at = answers[-1] + 1 if answers else 0
    return messages[:at], messages[at:]


def _texts(old: list[Message], new: list[Message], user: str) -> dict[str, str]:
    """What the places in a variable's text stand for."""
    return {
        "system": "\n\n".join(filter(None, [_system(old), _system(new)])),
        "history": "\n".join(_line(message) for message in old if message.role not in _SYSTEM),
        "query": _asked(new),
        "user": user,
    }


def _asked(new: list[Message]) -> str:
    """The text of the turn: what the user says as it stands, anything else with its role."""
    said = [message for message in new if message.role not in _SYSTEM]
    lines = [_said(message) if message.role == "user" else _line(message) for message in said]
    text = "\n\n".join(filter(None, lines))
    if not text.strip() and not _system(new):
        raise Failure("invalid_value", "there is no text in 'messages' to ask", param="messages")
    return text


def _system(messages: list[Message]) -> str:
    return "\n\n".join(filter(None, (_plain(message) for message in messages if message.role in _SYSTEM)))


def _whole(system: str, history: str, query: str, order: str) -> str:
    told = [system, f"{_EARLIER}\n{history}\n\n{_NOW}" if history else ""]
    before = "\n\n".join(filter(None, told))
    joint = "\n" if history else "\n\n"
    return "\n\n".join(filter(None, [joint.join(filter(None, [before, query])), order]))


def _order(request: ChatRequest, kind: str, dropped: set[str]) -> str:
    """What a wish for JSON comes to."""
    form = request.response_format
    if form is None or form.type == "text":
        return ""
    if form.type not in ("json_object", "json_schema"):
        raise Failure("invalid_value", f"unknown type '{form.type}'", param="response_format.type")
    if kind not in CHATS:
        dropped.add("response_format")
        return ""
    schema = msgspec.json.encode(form.json_schema).decode() if form.json_schema else ""
    return f"{_JSON_ONLY} It must be valid against the schema in this object: {schema}" if schema else _JSON_ONLY


def _filled(text: str, texts: Mapping[str, str]) -> str:
    return _PLACE.sub(lambda found: texts[found[1]], text)


# ---- messages as text ------------------------------------------------------------------------------------------


def _parts(message: Message) -> list[Part]:
    return message.content if isinstance(message.content, list) else []


def _plain(message: Message) -> str:
    """The text of a message."""
    if isinstance(message.content, str):
        return message.content
    texts = [part.text or part.refusal or "" for part in _parts(message)]
    return "\n\n".join(filter(None, [*texts, message.refusal or ""]))


def _said(message: Message) -> str:
    """The same, or what stands for files that are all it has."""
    return _plain(message) or " ".join(f"[{_label(part)}]" for part in _parts(message) if _place(part))


def _line(message: Message) -> str:
    """A message of the history."""
    source = message.tool_call_id or (message.name if message.role == "function" else "")
    who = f"{message.role} ({source})" if source else message.role
    calls = [*(_called(call) for call in message.tool_calls or ()), _legacy(message)]
    files = [f"[{_label(part)}]" for part in _parts(message) if _place(part)]
    return f"{who}: " + " ".join(filter(None, [_plain(message), *files, *calls]))


def _called(call: ToolCall) -> str:
    if call.custom:
        return f"[called {call.custom.name} ({call.id}) with {call.custom.input}]"
    function = call.function
    return f"[called {function.name} ({call.id}) with {function.arguments}]" if function else ""


def _legacy(message: Message) -> str:
    call = message.function_call
    return f"[called {call.name} with {call.arguments}]" if call else ""


def _lost(messages: Sequence[Message]) -> set[str]:
    """What these messages hold that has no form here."""
    lost = set()
    for message in messages:
        lost |= {f"messages[].{name}" for name in _IN_MESSAGES if getattr(message, name)}
        if message.role == "function":
            lost.discard("messages[].name")  # of the function, it is told
        lost |= {_EXTRA for call in message.tool_calls or () if call.extra_content}
        for part in _parts(message):
            lost |= {_PART + name for name in _IN_PARTS if getattr(part, name)}
            if isinstance(part.image_url, ImageURL) and asks(_DETAIL, part.image_url.detail):
                lost.add(_DETAIL)
    return lost


def _unsent(messages: Sequence[Message]) -> set[str]:
    """The kinds of files in earlier messages: they are told of, and not sent again."""
    return {_PART + part.type for message in messages for part in _parts(message) if _place(part)}


# ---- files -----------------------------------------------------------------------------------------------------


def _place(part: Part) -> str:
    """Where a part's file is, or its content; "" for a part that is none."""
    if part.image_url is not None:
        return part.image_url if isinstance(part.image_url, str) else part.image_url.url
    if part.file is not None:
        return part.file.file_data or part.file.file_id or ""
    return part.input_audio.data if part.input_audio else ""


def _label(part: Part) -> str:
    name = part.file.filename if part.file else None
    return name or {"image_url": "image", "input_audio": "audio"}.get(part.type, "file")


def _files(messages: Sequence[Message], first: int) -> list[File | Upload]:
    """The files of messages, of which the first has this number in the request."""
    found = []
    for n, message in enumerate(messages, first):
        for m, part in enumerate(_parts(message)):
            if file := _file(part, f"messages[{n}].content[{m}]"):
                found.append(file)
    return found


def _file(part: Part, where: str) -> File | Upload | None:
    match part.type:
        case "text" | "refusal":
            return None
        case "image_url" if part.image_url is not None:
            return _named(_place(part), "image", "", where)
        case "input_audio" if part.input_audio is not None:
            kind = part.input_audio.format
            media_type = _SPOKEN.get(kind, f"audio/{kind}")
            return Upload("audio", f"audio.{kind}", media_type, _decoded(part.input_audio.data, where))
        case "file" if part.file is not None:
            return _attached(part.file, where)
    raise Failure("unsupported_content", f"an app does not take content of type '{part.type}'", param=where)


def _attached(file: FileRef, where: str) -> File | Upload:
    if not file.file_data:
        text = "files uploaded elsewhere are not known to Dify; send the content as file_data"
        raise Failure("unsupported_content", text, param=where)
    return _named(file.file_data, "", file.filename or "", where)


def _named(place: str, kind: str, name: str, where: str) -> File | Upload:
    """A file by its URL, or its content in a data URI or bare base64."""
    if place.startswith(("https://", "http://")):
        ending = (name or place.partition("?")[0]).rpartition(".")[2].lower()
        return File(kind or ("document" if ending in _DOCUMENTS else "custom"), "remote_url", url=place)
    uri = _DATA_URI.match(place)
    media_type = (uri[1] or "" if uri else "").lower()
    data = _decoded(place[uri.end() :] if uri else place, where)
    if not media_type:
        media_type = "application/pdf" if data.startswith(b"%PDF") else "application/octet-stream"
    family, _, subtype = media_type.partition("/")
    ending = name.rpartition(".")[2].lower() if "." in name else _ENDINGS.get(media_type, subtype)
    if not kind:
        kind = family if family in ("image", "audio", "video") else "document" if ending in _DOCUMENTS else "custom"
    return Upload(kind, name or f"{kind}.{ending}", media_type, data)


def _decoded(text: str, where: str) -> bytes:
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if not data:
        text = "a file must be an http(s) URL, or its content in base64 or a base64 data URI"
        raise Failure("unsupported_content", text, param=where)
    return data

"""The contract of a dialect, upstream side. Everything here is pure: bytes and values in, bytes and values out."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from typing import Any, Final, Protocol, runtime_checkable

import msgspec

from polymux.errors import Failure
from polymux.providers.fates import Column
from polymux.schema.chat import ChatRequest, ChatResponse, Chunk, TokenUsage
from polymux.schema.embeddings import EmbeddingRequest, EmbeddingResponse
from polymux.types import Call, Deployment, Usage, WireRequest

NOWHERE: Final = Deployment("", "", "", "")


class Asked(msgspec.Struct):
    """One attempt, as far as a dialect needs to know of it.

    model: public name. created: Unix seconds. caller: id of the client's key.
    remembered: what later requests of the same tenant can recall, filled by the dialect; the engine keeps it (LARGEST
    bytes of a value) for a month, unless it is recalled and put again.
    task: the upstream's name for what is under way, told by the reader for `Stopping.stop`.
    thread: digest of the conversation so far, where the dialect needs one (`providers.replay`).
    carried: what the dialect's flow tells its own readers and its `stop`.
    """

    model: str
    created: int
    to: Deployment = NOWHERE
    caller: str = ""
    remembered: dict[str, bytes] = {}
    task: str = ""
    thread: bytes = b""
    carried: Any = None


class Recall(msgspec.Struct, frozen=True):
    """Yielded by a flow to ask for what is remembered by these names; those that are come back as a mapping. Names
    begin with the dialect's, and name the provider and the caller where the value is theirs.

    once: they are forgotten; of all who ask for a value at the same time, in whatever worker, one gets it.
    """

    names: tuple[str, ...]
    once: bool = False


Flow = Generator[WireRequest | Recall, Any, WireRequest]  # sent in: a WireReply, or what was recalled


class Reader(Protocol):
    """Reads one streamed answer; owns all state of it. One per attempt.

    Chunks carry the upstream's answer id (invented where there is none) and the public model name given at birth.
    Order of what comes out: role once and first, content, one finish per choice, then one usage chunk with
    `choices: []`, last, where usage is known.
    """

    @property
    def done(self) -> bool:
        """The end mark was seen; nothing of use follows."""
        ...

    @property
    def usage(self) -> TokenUsage | None:
        """What the upstream has said of it so far."""
        ...

    def feed(self, event: str, data: bytes) -> Sequence[Chunk]:
        """Take one decoded event (name or "", payload). Unknown events give nothing. Raises `Failure` for an
        error event."""
        ...

    def close(self) -> Sequence[Chunk]:
        """The upstream's body has ended. Raises `Truncated` when the answer's end mark was not seen."""
        ...


class Adapter(Protocol):
    """One wire dialect."""

    @property
    def fates(self) -> Column:
        """What becomes of every request parameter: this dialect's column of the table."""
        ...

    def flow(self, request: ChatRequest, asked: Asked) -> Flow:
        """Translate a request. Preparatory exchanges (an upload, a token) are yielded and their replies sent in, and
        so is what is to be recalled; the main request is returned with the names of the parameters it had to drop.
        Raises `Failure` for what cannot be translated at all."""
        ...

    def read(self, body: bytes, asked: Asked) -> ChatResponse:
        """A whole answer. Raises `Failure` for an error inside a success, `Truncated` for an answer that lacks its
        end mark."""
        ...

    def reader(self, asked: Asked) -> Reader: ...

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> Failure:
        """What an answer with an error status means. Header names are lower case."""
        ...

    def models(self, to: Deployment) -> WireRequest:
        """The request that lists the provider's models (`to.model` is not used)."""
        ...

    def read_models(self, body: bytes) -> Sequence[str]: ...


@runtime_checkable
class Stopping(Protocol):
    """A dialect whose upstream goes on when its connection is closed, until it is told to stop."""

    def stop(self, asked: Asked) -> WireRequest | None:
        """None = nothing is under way that could be stopped."""
        ...


@runtime_checkable
class Embedding(Protocol):
    """A dialect whose upstreams make embeddings. Its providers say so in their rows: `serves`."""

    @property
    def embedding_fates(self) -> Column:
        """What becomes of every parameter of an embeddings request (`fates.EMBEDDINGS`)."""
        ...

    def embed(self, request: EmbeddingRequest, asked: Asked) -> Flow:
        """Translate a request, as `Adapter.flow` does. The wire is asked for numbers or for base64, as it likes: who
        called sees to it that the client gets what it wants. Raises `Failure` for what cannot be translated at all,
        such as tokens where text is wanted (`embeddings.texts`)."""
        ...

    def read_embeddings(self, body: bytes, asked: Asked) -> EmbeddingResponse:
        """The answer. Raises `Failure` for an error inside a success."""
        ...


class Lane(Protocol):
    """A stream of the client's own dialect on its way through: upstream bytes in, client bytes out."""

    @property
    def content(self) -> bool:
        """The first content has passed."""
        ...

    @property
    def usage(self) -> Usage: ...

    @property
    def failed(self) -> Failure | None:
        """The error event that ended the answer; what came before it has been given out."""
        ...

    @property
    def done(self) -> bool:
        """The end mark was seen; nothing of use follows."""
        ...

    @property
    def events(self) -> int:
        """How many have been given out."""
        ...

    def feed(self, data: bytes) -> bytes: ...

    def close(self) -> bytes:
        """The end of the client's stream. Raises `failed`, or `Truncated` when the answer was not complete."""
        ...


@runtime_checkable
class Relaying(Protocol):
    """A dialect that some surfaces speak too: such calls need no translation."""

    @property
    def relays(self) -> Collection[str]:
        """The names of these surfaces (`Call.surface`)."""
        ...

    def relay(self, call: Call, to: Deployment) -> WireRequest: ...

    def replay(self, call: Call, asked: Asked) -> Flow:
        """The same for rows that want reasoning of earlier turns back (`Quirks.replay`): with what is remembered."""
        ...

    def relay_reader(self, call: Call, to: Deployment) -> Lane: ...

    def noting(self, lane: Lane, asked: Asked) -> Lane:
        """The same lane, which sees to it that the answer's reasoning is remembered."""
        ...

    def note(self, body: bytes, asked: Asked) -> None:
        """The same for a buffered answer, as the client gets it."""
        ...

    def relay_whole(self, body: bytes, call: Call, to: Deployment) -> tuple[bytes, Usage]:
        """A buffered answer and what it used. Raises `Failure` for an error inside a success."""
        ...

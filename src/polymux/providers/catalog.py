"""The catalogue: what the models of a provider cost, how much they take, and what they are able to do.

`catalog.json` is generated from models.dev (MIT, catalog.LICENSE.txt) by `modelsdev`; nothing is read at import.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final

import msgspec

SCHEMA: Final = 1

# gpt-4o-2024-08-06, claude-opus-4-5@20251101, gemini-2.0-flash-001: a fixed version of the name before it.
_FIXED: Final = re.compile(r"([-@]20\d\d(-?)(0[1-9]|1[0-2])\2(0[1-9]|[12]\d|3[01])|-00[1-9])$")
# claude-3-5-sonnet-latest, claude-opus-4-6@default: the newest version of the name before it.
_NEWEST: Final = re.compile(r"([-@]latest|@default)$")
_FREE: Final = ":free"  # OpenRouter's mark for a variant of a model that costs nothing


class Rates(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """US dollars per million tokens, exact. None = not given: the tokens cost what the others of their side cost.

    cache_read, cache_write, input_audio: of the prompt. cache_write_1h: what is kept for an hour. reasoning,
    output_audio: of the answer. thinking: the whole answer, if there was reasoning.
    """

    input: Decimal | None = None
    output: Decimal | None = None
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    reasoning: Decimal | None = None
    thinking: Decimal | None = None
    input_audio: Decimal | None = None
    output_audio: Decimal | None = None


class Tier(Rates, frozen=True):
    """What changes for a whole request when its prompt has more than `above` tokens."""

    above: int = 0


class ListPrice(Rates, frozen=True):
    """Input and output are given, always. Tiers: the lowest first."""

    tiers: tuple[Tier, ...] = ()


class Model(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An entry. Limits are in tokens, None = not known; `max_input` only where it is less than the context.

    abilities: of tools, image, audio, video, pdf (in prompts), reasoning, structured (output by a schema). What is not
    named may only be unknown. price: None = unknown, which is not the same as a price of zero.
    """

    context: int | None = None
    max_input: int | None = None
    max_output: int | None = None
    abilities: tuple[str, ...] = ()
    price: ListPrice | None = None


FREE: Final = Model(price=ListPrice(Decimal(0), Decimal(0)))


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """catalog.json. date: when the source was taken, YYYY-MM-DD. sha256: of the source."""

    schema: int
    source: str
    date: str
    sha256: str
    providers: dict[str, msgspec.Raw]


class _Schema(msgspec.Struct):
    schema: int


_models = msgspec.json.Decoder(dict[str, Model]).decode


class Catalog:
    """The entries by provider, as the catalogue calls it, and model. A provider is decoded when first asked for."""

    def __init__(self, file: File) -> None:
        self.date, self.source, self.sha256 = file.date, file.source, file.sha256
        self._raw = file.providers
        self._indexes: dict[str, _Index] = {}

    @property
    def providers(self) -> tuple[str, ...]:
        return tuple(self._raw)

    def models(self, provider: str) -> Mapping[str, Model]:
        """Empty for a provider that is not here. Raises ValueError for a broken file."""
        try:
            return _models(self._raw[provider]) if provider in self._raw else {}
        except msgspec.ValidationError as error:
            raise ValueError(f"catalog: {provider}: {error}") from None

    def find(self, provider: str, model: str) -> Model | None:
        """The entry for a provider's model, by the name of it that the upstream knows."""
        if provider not in self._indexes:
            self._indexes[provider] = _Index(self.models(provider))
        return self._indexes[provider].find(model.casefold())


class _Index:
    """A provider's entries, found by other spellings of their names too. Nothing is guessed: what differs in anything
    but the case, the vendor before the name or the version after it is another model."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._listed = {name.casefold(): model for name, model in models.items()}
        self._newest = {_FIXED.sub("", name): self._listed[name] for name in sorted(self._listed)}

    def find(self, name: str) -> Model | None:
        if found := self._listed.get(name):
            return found
        if name.endswith(_FREE):
            paid = self.find(name.removesuffix(_FREE))
            return paid and msgspec.structs.replace(paid, price=FREE.price)
        return next(filter(None, map(self._versions, _spellings(name))), None)

    def _versions(self, name: str) -> Model | None:
        if _FIXED.search(name):  # its siblings may have had other prices
            return self._listed.get(name) or self._listed.get(_FIXED.sub("", name))
        plain = _NEWEST.sub("", name)
        return self._listed.get(name) or self._listed.get(plain) or self._newest.get(plain)


def _spellings(name: str) -> Iterator[str]:
    """`a/b/c`, `b/c`, `c`."""
    yield name
    while "/" in name:
        name = name.partition("/")[2]
        yield name


def read(text: bytes) -> Catalog:
    """The catalogue of a JSON text. Raises ValueError when it is none, or is made for another version."""
    try:
        schema = msgspec.json.decode(text, type=_Schema).schema
        if schema != SCHEMA:
            raise ValueError(f"catalog: schema {schema}, this version reads {SCHEMA}")
        return Catalog(msgspec.json.decode(text, type=File))
    except msgspec.MsgspecError as error:
        raise ValueError(f"catalog: {error}") from None


def newest(bundled: Catalog, own: Catalog | None) -> Catalog:
    """The user's own catalogue, unless that of the package is newer."""
    return bundled if own is None or own.date < bundled.date else own


def write(source: str, date: str, sha256: str, providers: Mapping[str, Mapping[str, Model]]) -> bytes:
    """catalog.json: sorted, a model a line, so that a change can be reviewed."""
    encode = msgspec.json.Encoder(decimal_format="string", order="deterministic").encode
    tables = [
        encode(name)
        + b":{\n"
        + b",\n".join(encode(model) + b":" + encode(models[model]) for model in sorted(models))
        + b"\n}"
        for name, models in sorted(providers.items())
    ]
    head = b"".join(
        encode(name) + b":" + encode(value) + b",\n"
        for name, value in (("schema", SCHEMA), ("source", source), ("date", date), ("sha256", sha256))
    )
    return b"{\n" + head + b'"providers":{\n' + b",\n".join(tables) + b"\n}\n}\n"

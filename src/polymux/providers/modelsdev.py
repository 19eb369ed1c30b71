"""models.dev's JSON becomes our catalogue. Its prices are US dollars per million tokens, too; where they mean something
else than ours, that is set right here. Source: https://models.dev (api.json), and the vendors' pages named below.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final, TypeVar

import msgspec

from polymux.providers.catalog import ListPrice, Model, Rates, Tier, write

T = TypeVar("T")
SOURCE: Final = "https://models.dev/api.json"
STEP: Final = Decimal("0.000001")  # the finest price; what differs from one by less than _NOISE is a float's noise
_NOISE: Final = Decimal("1e-9")
_MOST: Final = 10**7  # dollars per million tokens; a configuration cannot give more either

# Their names -> ours. What is not here and not the tiers is a charge that no usage tells the extent of.
_RATES: Final[Mapping[str, str]] = MappingProxyType(
    {name: name for name in Rates.__struct_fields__ if name not in ("thinking", "cache_write_1h")}
    | {"cache_input": "cache_read", "cached_input": "cache_read", "cached_write": "cache_write"}
)
_TIERS: Final = ("tiers", "context_over_200k")  # the second is an older form, and repeats the first
_READS: Final = ("image", "audio", "video", "pdf")

# Charged by what its price does not say: the model that is chosen in its turn; seconds of audio.
_OTHERWISE: Final = frozenset({"model-router", "whisper-large-v3", "whisper-large-v3-turbo"})
# Alibaba charges the whole answer at the other price when the model thought ("thinking mode: CoT + output").
_THINKING: Final = frozenset({"alibaba", "alibaba-cn"})
# OpenRouter's price for a write to Gemini's cache is that of keeping it, on top of reading it ("Prompt caching").
_ON_TOP: Final = ("openrouter", "google/")
# Anthropic: five minutes cost 1.25 times the input price, an hour twice as much as input ("Prompt caching"). The source
# has the former only.
_FIVE_MINUTES: Final = Decimal("1.25")


class _Limit(msgspec.Struct, frozen=True):
    context: int = 0
    input: int = 0
    output: int = 0


class _Modalities(msgspec.Struct, frozen=True):
    input: tuple[str, ...] = ()
    output: tuple[str, ...] = ()


class _Size(msgspec.Struct, frozen=True):
    size: int
    type: str = "context"


Cost = Mapping[str, msgspec.Raw]  # prices by name, still JSON


class _Model(msgspec.Struct):
    cost: dict[str, msgspec.Raw] = {}
    limit: _Limit = _Limit()
    modalities: _Modalities = _Modalities()
    tool_call: bool = False
    reasoning: bool = False
    structured_output: bool = False


class _Provider(msgspec.Struct):
    models: dict[str, msgspec.Raw]


class Unpriced(Exception):
    """Why a model's price cannot be told by its tokens alone."""


class Converted(msgspec.Struct, frozen=True):
    """catalog.json, and which models got no price, and why: `provider/model: reason`."""

    text: bytes
    unpriced: tuple[str, ...]


def convert(text: bytes, date: str, only: Collection[str] = ()) -> Converted:
    """date: when the text was taken, YYYY-MM-DD. only: the providers to take; none named = all. Raises ValueError
    naming what is wrong with the text."""
    try:
        providers = msgspec.json.decode(text, type=dict[str, _Provider])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"this is not models.dev's JSON: {error}") from None
    tables: dict[str, dict[str, Model]] = {}
    unpriced: list[str] = []
    for provider, found in providers.items():
        if only and provider not in only:
            continue
        models = {name: _model(provider, name, raw, unpriced) for name, raw in found.models.items()}
        tables[provider] = {name: model for name, model in models.items() if model != Model()}
    if not any(model.price for models in tables.values() for model in models.values()):
        raise ValueError("this is not models.dev's JSON: there is no price in it")
    return Converted(write(SOURCE, date, hashlib.sha256(text).hexdigest(), tables), tuple(sorted(unpriced)))


def _model(provider: str, name: str, raw: msgspec.Raw, unpriced: list[str]) -> Model:
    try:
        model = msgspec.json.decode(raw, type=_Model)
        price = _price(provider, name, model)
    except msgspec.ValidationError as error:
        raise ValueError(f"{provider}/{name}: {error}") from None
    except Unpriced as reason:
        unpriced.append(f"{provider}/{name}: {reason}")
        price = None
    limit = model.limit
    abilities = [one for one in model.modalities.input if one in _READS]
    flags = {"tools": model.tool_call, "reasoning": model.reasoning, "structured": model.structured_output}
    return Model(
        limit.context or None,
        limit.input if 0 < limit.input < limit.context else None,
        limit.output or None,
        tuple(sorted([*abilities, *(flag for flag, has in flags.items() if has)])),
        price,
    )


def _price(provider: str, name: str, model: _Model) -> ListPrice | None:
    cost = {key: value for key, value in model.cost.items() if key not in _TIERS}
    if not cost:
        return None
    if strange := sorted(set(cost) - set(_RATES)):
        raise Unpriced(f"it is charged by {', '.join(strange)} too")
    if name.rpartition("/")[2] in _OTHERWISE:
        raise Unpriced("it is not charged by tokens")
    if not {"input", "output"} <= cost.keys():
        raise Unpriced("its input or output price is missing")
    if "reasoning" in cost and _exact(cost["reasoning"]) == _exact(cost["output"]):
        del cost["reasoning"]  # as any other output, also above a tier
    base = _rates(provider, name, cost)
    if not base["input"] and not base["output"] and model.modalities.output != ("text",):
        raise Unpriced("a zero beside something else than text says nothing")
    tiers = []
    for above, changed in _tiers(model.cost):
        rates = _rates(provider, name, {**cost, **changed})
        if different := {key: value for key, value in rates.items() if base.get(key) != value}:
            tiers.append(Tier(**different, above=above))
    return ListPrice(**base, tiers=tuple(sorted(tiers, key=lambda tier: tier.above)))


def _tiers(cost: Cost) -> Iterator[tuple[int, Cost]]:
    """From how many tokens on, and what they change."""
    tiers = _decode(cost["tiers"], list[dict[str, msgspec.Raw]]) if "tiers" in cost else []
    for tier in tiers:
        size = _decode(tier.pop("tier", msgspec.Raw(b"{}")), _Size)
        if size.type != "context":
            raise Unpriced(f"it has tiers by {size.type}")
        if strange := sorted(set(tier) - set(_RATES)):
            raise Unpriced(f"above {size.size} tokens it is charged by {', '.join(strange)} too")
        yield size.size, tier
    if not tiers and "context_over_200k" in cost:
        yield 200_000, _decode(cost["context_over_200k"], dict[str, msgspec.Raw])


def _rates(provider: str, name: str, cost: Cost) -> dict[str, Decimal]:
    """Ours of theirs, with what their way of writing leaves out."""
    rates = {_RATES[key]: _exact(value) for key, value in cost.items()}
    for key in ("cache_read", "cache_write"):  # a zero beside a price means: no price of its own
        if rates["input"] and rates.get(key) == 0:
            del rates[key]
    if "cache_write" in rates and provider == _ON_TOP[0] and name.lstrip("~").startswith(_ON_TOP[1]):
        rates["cache_write"] += rates["input"]
    if "claude" in name.casefold() and rates.get("cache_write") == rates["input"] * _FIVE_MINUTES:
        rates["cache_write_1h"] = rates["input"] * 2
    if provider in _THINKING and "reasoning" in rates:
        rates["thinking"] = rates.pop("reasoning")
    return rates


def _exact(raw: msgspec.Raw) -> Decimal:
    """A price in steps of `STEP`, written without an exponent or needless zeros."""
    price = _decode(raw, Decimal)
    if not (price.is_finite() and 0 <= price < _MOST and abs(price.quantize(STEP) - price) <= _NOISE):
        raise Unpriced(f"{price} is no price in steps of {STEP}")
    return Decimal(format(price.quantize(STEP).normalize(), "f"))


def _decode(raw: msgspec.Raw, kind: type[T]) -> T:
    return msgspec.json.decode(raw, type=kind)

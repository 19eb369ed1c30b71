"""Usage x price -> exact money. The only place where money is computed.

Money is whole picodollars (10**-12 US dollars), in Python's integers: one token at a price of so many dollars per
million tokens, in steps of 0.000001, costs a whole number of them. So there is nothing to round: sums are exact in any
order, and 64 bits hold nine million dollars. It is written as a decimal string of dollars (`usd`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

import msgspec

from polymux import config
from polymux.config import Config
from polymux.providers.catalog import FREE, Catalog, ListPrice, Model, Rates
from polymux.providers.table import FUNCTIONS, Row
from polymux.types import Usage

PER_DOLLAR: Final = 10**12
_PER_TOKEN: Final = PER_DOLLAR // 10**6  # picodollars per token, for a dollar per million
_MANY: Final = 10_000  # prices to remember; a client may make up names of models that a provider might have


class Step(msgspec.Struct, frozen=True, gc=False):
    """The prices for prompts of more than `above` tokens, in picodollars per token.

    All but input and output are differences to what the tokens cost already, as a part of those: a cached token costs
    input + cached. `text`: the prices that were given, for the record.
    """

    above: int
    input: int
    output: int
    cached: int
    written: int
    written_1h: int  # on top of `written`
    reasoning: int
    audio_input: int
    audio_output: int
    text: str
    thought: Step | None = None  # in place of this one, if there was reasoning


class Price(msgspec.Struct, frozen=True, gc=False):
    """What a model costs: for all prompts, and for long ones, the lowest first."""

    base: Step
    tiers: tuple[Step, ...] = ()


class Cost(msgspec.Struct, frozen=True, gc=False):
    """amount: picodollars. prices: those used, as in `input=2.5 output=10 cache_read=1.25 from=catalog:2026-07-02`, US
    dollars per million tokens; a kind of tokens that is not named has cost what its side, input or output, costs."""

    amount: int
    prices: str


def cost(price: Price, usage: Usage) -> Cost:
    """What a request costs. The prompt as a whole decides on the tier, cached tokens included.

    Counts that contradict each other, such as more cached tokens than input, count as if beside each other: what an
    upstream reports twice may be charged twice, but nothing is charged less than nothing.
    """
    tokens, answer = usage.input, usage.output
    cached, written, reasoning = usage.cached, usage.cache_write, usage.reasoning
    if cached + written > tokens:
        tokens += cached + written
    step = price.base
    for tier in price.tiers:
        if tokens > tier.above:
            step = tier
    if reasoning > answer:
        answer += reasoning
    if reasoning and step.thought is not None:
        step = step.thought
    amount = tokens * step.input + answer * step.output
    if cached or written:
        amount += cached * step.cached + written * step.written
        if usage.cache_write_1h:
            amount += min(usage.cache_write_1h, written) * step.written_1h
    if reasoning:
        amount += reasoning * step.reasoning
    if usage.audio_input:
        amount += min(usage.audio_input, tokens - cached - written) * step.audio_input
    if usage.audio_output:
        amount += min(usage.audio_output, answer - reasoning) * step.audio_output
    return Cost(amount, step.text)


def usd(amount: int) -> str:
    """Picodollars as dollars, exact, without needless zeros: "0.0125", "3", "0"."""
    whole, rest = divmod(amount, PER_DOLLAR)
    return f"{whole}.{rest:012d}".rstrip("0") if rest else str(whole)


def picodollars(text: str) -> int:
    """The inverse of `usd`. Raises ValueError for what is no such amount."""
    whole, point, rest = text.partition(".")
    if not (whole.isdecimal() and (rest.isdecimal() or not point) and len(rest) <= 12):
        raise ValueError(f"{text!r} is no amount in steps of 0.000000000001")
    return int(whole) * PER_DOLLAR + int(rest.ljust(12, "0"))


# ---- from given prices to what is computed with ------------------------------------------------------------------


def compiled(given: ListPrice, source: str) -> Price:
    """`source` says where the price is from. Raises ValueError for one that is finer than 0.000001."""
    own = _named(given)
    tiers = (_step(own | _named(tier), tier.above, source) for tier in given.tiers)
    return Price(_step(own, 0, source), tuple(tiers))


def _named(rates: Rates | config.Price, names: Iterable[str] = Rates.__struct_fields__) -> dict[str, Decimal]:
    return {name: value for name in names if (value := getattr(rates, name)) is not None}


def _step(given: Mapping[str, Decimal], above: int, source: str) -> Step:
    rates = {name: value for name, value in given.items() if name != "thinking"}
    thought = {**rates, "output": given["thinking"]} if "thinking" in given else None
    prices = {name: _per_token(value) for name, value in rates.items()}
    into, out = prices["input"], prices["output"]
    written = prices.get("cache_write", into)
    words = [f"{name}={value:f}" for name, value in rates.items()] + ([f"above={above}"] if above else [])
    return Step(
        above,
        into,
        out,
        cached=prices.get("cache_read", into) - into,
        written=written - into,
        written_1h=prices.get("cache_write_1h", written) - written,
        reasoning=prices.get("reasoning", out) - out,
        audio_input=prices.get("input_audio", into) - into,
        audio_output=prices.get("output_audio", out) - out,
        text=" ".join([*words, f"from={source}"]),
        thought=_step(thought, above, source) if thought else None,
    )


def _per_token(price: Decimal) -> int:
    amount = int(price * _PER_TOKEN)
    if amount != price * _PER_TOKEN:
        raise ValueError(f"{price} is finer than 0.000001 dollars per million tokens")
    return amount


def overridden(below: ListPrice | None, given: config.Price) -> ListPrice | None:
    """A price of the configuration laid over the next best.

    With input and output it stands for itself, for prompts of any size. Without, what it gives replaces what is
    below, in every tier; None if there is still no input or no output.
    """
    own = _named(given, given.__struct_fields__)
    if "input" in own and "output" in own:
        return msgspec.structs.replace(ListPrice(), **own)
    if below is None:
        return None
    tiers = tuple(msgspec.structs.replace(tier, **own) for tier in below.tiers)
    return msgspec.structs.replace(below, **own, tiers=tiers)


class Prices:
    """The prices of a configuration: of the route, else of the provider's model, else of the catalogue. What runs on
    one's own machines is free."""

    def __init__(self, given: Config, catalog: Catalog, table: Mapping[str, Row]) -> None:
        self._config, self._catalog, self._table = given, catalog, table
        self._known: dict[tuple[str, str, str], Price | None] = {}

    def find(self, route: str, provider: str, upstream: str) -> Price | None:
        """What a deployment costs when it is called by the public name `route`; None = unknown. Remembered: it takes
        no longer than looking into a dictionary."""
        key = (route, provider, upstream)
        try:
            return self._known[key]
        except KeyError:
            if len(self._known) >= _MANY:
                self._known.clear()
            found = self._known[key] = self._found(route, provider, upstream)
            return found

    def entry(self, provider: str, upstream: str) -> Model | None:
        """What the catalogue says of a provider's model; None = it is not there."""
        preset = self._preset(provider)
        row = self._table.get(preset)
        return self._catalog.find(row.catalog if row and row.catalog else preset, upstream)

    def _preset(self, provider: str) -> str:
        one = self._config.providers.get(provider)
        return one.preset if one else provider

    def _found(self, route: str, provider: str, upstream: str) -> Price | None:
        one, model = self._config.providers.get(provider), self._config.models.get(route)
        preset, listed = self._preset(provider), self.entry(provider, upstream)
        row = self._table.get(preset)
        own = preset == FUNCTIONS or (row is not None and row.group == "local")
        price = FREE.price if own else listed.price if listed else None
        source = "own" if own else f"catalog:{self._catalog.date}"
        overrides = (
            ("provider", _of_model(one, route, upstream) if one else None),
            ("route", model.price if model else None),
        )
        for whose, given in overrides:
            if given is not None and given != config.Price():
                source = whose if given.input is not None and given.output is not None else f"{whose},{source}"
                price = overridden(price, given)
        return compiled(price, source) if price else None


def _of_model(provider: config.Provider, route: str, upstream: str) -> config.Price | None:
    """What the provider's table says: by the public name that is asked for, else by any that means this model."""
    names = [route, route.removeprefix(f"{provider.name}/")]
    names += [public for public, model in (provider.models or {}).items() if model == upstream]
    return next((provider.price[name] for name in [*names, upstream] if name in provider.price), None)

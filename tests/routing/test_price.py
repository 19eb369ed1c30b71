"""Money: vendors' usage and what it costs by hand; and what holds for any usage and any price.

`prices.json` is an excerpt of models.dev of 2026-07-02 (MIT, src/polymux/providers/catalog.LICENSE.txt): prices that
stay as they are when the catalogue is renewed.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.routing.usages import ROWS, Row, openai

from polymux import config
from polymux.app import table
from polymux.config import Config, ConfigError, load
from polymux.providers.catalog import Catalog, ListPrice, Rates, Tier, read
from polymux.providers.modelsdev import convert
from polymux.providers.openai_repair import usage_of
from polymux.routing.price import PER_DOLLAR, Cost, Price, Prices, compiled, cost, overridden, picodollars, usd
from polymux.types import NO_USAGE, Usage

CATALOG: Final = read(convert(Path(__file__).with_name("prices.json").read_bytes(), "2026-07-02").text)
TABLE: Final = table()
PRICES: Final = Prices(Config(), CATALOG, TABLE)


def dollars(text: str) -> Decimal:
    """`86*2.5 + 300*10`: tokens x dollars per million."""
    products = [part.split("*") for part in text.split(" + ")]
    return sum((Decimal(tokens) * Decimal(price) for tokens, price in products), Decimal(0)) / 10**6


# ---- vendors' payloads -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.preset}: {row.case}")
def test_what_a_vendors_usage_costs(row: Row) -> None:
    price = PRICES.find("any", row.preset, row.model)
    if row.cost is None:
        assert price is None
        return
    assert price is not None
    assert usd(cost(price, row.read(row.payload)).amount) == row.cost
    assert Decimal(row.cost) == dollars(row.sum)


@pytest.mark.parametrize(
    "row", [row for row in ROWS if row.read is openai], ids=lambda row: f"{row.preset}: {row.case}"
)
def test_the_reader_of_answers_counts_as_the_table_does(row: Row) -> None:
    read, told = usage_of(row.payload), row.read(row.payload)
    for name in ("input", "output", "cached", "cache_write", "reasoning"):
        assert getattr(read, name) == getattr(told, name), name


def test_the_table_is_wide() -> None:
    kinds = Counter("unknown" if row.cost is None else "free" if row.cost == "0" else "paid" for row in ROWS)
    assert kinds["paid"] >= 30
    assert kinds["free"] >= 4
    assert kinds["unknown"] >= 5
    assert len({row.preset for row in ROWS}) >= 12


def test_without_usage_nothing_is_charged() -> None:
    price = PRICES.find("any", "openai", "gpt-4o")
    assert price is not None
    assert cost(price, NO_USAGE).amount == 0


@pytest.mark.parametrize(
    ("model", "prompt", "prices"),
    [
        ("gpt-4o", 1, "input=2.5 output=10 cache_read=1.25 from=catalog:2026-07-02"),
        ("gpt-4o-2024-05-13", 1, "input=5 output=15 from=catalog:2026-07-02"),
        ("gpt-5.4", 272_000, "input=2.5 output=15 cache_read=0.25 from=catalog:2026-07-02"),
        ("gpt-5.4", 272_001, "input=5 output=22.5 cache_read=0.5 above=272000 from=catalog:2026-07-02"),
    ],
)
def test_the_prices_used_go_with_the_cost(model: str, prompt: int, prices: str) -> None:
    price = PRICES.find("any", "openai", model)
    assert price is not None
    assert cost(price, Usage(prompt)).prices == prices


def test_prices_of_ones_own_machine_say_so() -> None:
    price = PRICES.find("meow", "functions", "meow")
    assert price is not None
    assert cost(price, Usage(5, 5)).prices == "input=0 output=0 from=own"


# ---- whose price holds -------------------------------------------------------------------------------------------

CONFIG: Final = """
[providers.corp]
preset = "openai-compatible"
base_url = "https://llm.corp.example/v1"
api_key = "k"
models = { small = "m-1", tiny = "m-1", big = "m-2" }
price = { small = { input = "1", output = "2" }, big = { input = "3" } }

[providers.second]
preset = "openai"
api_key = "k"
price = { "gpt-4o" = { cache_read = "2" }, "gpt-5.4" = { output = "20", cache_write = "7" } }

[models.smart]
deployments = [{ provider = "second", model = "gpt-4o" }, { provider = "corp", model = "m-1" }]
price = { input = "7.25", output = "9" }

[models.partly]
deployments = [{ provider = "second", model = "gpt-4o" }]
price = { output = "8" }

[models.empty]
deployments = [{ provider = "second", model = "gpt-4o" }]
price = {}
"""


@pytest.mark.parametrize(
    ("route", "provider", "upstream", "prices"),
    [
        ("smart", "second", "gpt-4o", "input=7.25 output=9 from=route"),
        ("smart", "corp", "m-1", "input=7.25 output=9 from=route"),
        ("partly", "second", "gpt-4o", "input=2.5 output=8 cache_read=2 from=route,provider,catalog:2026-07-02"),
        ("empty", "second", "gpt-4o", "input=2.5 output=10 cache_read=2 from=provider,catalog:2026-07-02"),
        ("gpt-4o", "second", "gpt-4o", "input=2.5 output=10 cache_read=2 from=provider,catalog:2026-07-02"),
        ("gpt-4o-mini", "second", "gpt-4o-mini", "input=0.15 output=0.6 cache_read=0.075 from=catalog:2026-07-02"),
        ("small", "corp", "m-1", "input=1 output=2 from=provider"),
        ("corp/small", "corp", "m-1", "input=1 output=2 from=provider"),
        ("tiny", "corp", "m-1", "input=1 output=2 from=provider"),
        ("big", "corp", "m-2", None),  # an input price alone prices nothing
        ("other", "corp", "gpt-4o", None),
        ("openai/gpt-4o", "openai", "gpt-4o", "input=2.5 output=10 cache_read=1.25 from=catalog:2026-07-02"),
    ],
)
def test_the_route_comes_before_the_provider_before_the_catalogue(
    route: str, provider: str, upstream: str, prices: str | None
) -> None:
    found = Prices(load(CONFIG, {}), CATALOG, TABLE).find(route, provider, upstream)
    assert (found and cost(found, Usage(1, 1)).prices) == prices


@pytest.mark.parametrize("preset", [*(name for name, row in TABLE.items() if row.group == "local"), "functions"])
def test_ones_own_machine_sends_no_bill(preset: str) -> None:
    found = PRICES.find("any", preset, "anything:70b")
    assert found is not None
    assert cost(found, Usage(10, 10)) == Cost(0, "input=0 output=0 from=own")


def test_a_row_says_by_which_name_the_catalogue_has_its_provider() -> None:
    assert PRICES.entry("openai", "gpt-4o") is not None
    other = {"named": msgspec.structs.replace(TABLE["openai"], catalog="openai")}
    assert Prices(Config(), CATALOG, other).entry("named", "gpt-4o") == PRICES.entry("openai", "gpt-4o")
    assert Prices(Config(), CATALOG, {}).entry("named", "gpt-4o") is None
    assert Prices(load(CONFIG, {}), CATALOG, TABLE).entry("second", "gpt-4o") == PRICES.entry("openai", "gpt-4o")


def test_what_an_override_gives_holds_above_a_tier_too() -> None:
    found = Prices(load(CONFIG, {}), CATALOG, TABLE).find("gpt-5.4", "second", "gpt-5.4")
    assert found is not None
    told = cost(found, Usage(300_000, 1000, 100_000, 50_000))
    words = "input=5 output=20 cache_read=0.5 cache_write=7 above=272000 from=provider,catalog:2026-07-02"
    assert told.prices == words
    assert usd(told.amount) == "1.17"  # 150000*5 + 100000*0.5 + 50000*7 + 1000*20


def test_an_override_of_both_has_no_tiers_and_no_cache_of_the_catalogue() -> None:
    below = ListPrice(Decimal(1), Decimal(2), Decimal("0.1"), tiers=(Tier(Decimal(9), above=10),))
    given = config.Price(Decimal(0), Decimal(0))
    assert overridden(below, given) == ListPrice(Decimal(0), Decimal(0))


def test_a_price_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    prices = Prices(Config(), CATALOG, TABLE)
    first, unknown = prices.find("a", "openai", "gpt-4o"), prices.find("a", "openai", "gpt-99")
    monkeypatch.setattr(Catalog, "find", None)
    assert prices.find("a", "openai", "gpt-4o") is first
    assert prices.find("a", "openai", "gpt-99") is unknown is None


def test_names_that_a_client_makes_up_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polymux.routing.price._MANY", 10)
    prices = Prices(Config(), CATALOG, TABLE)
    for number in range(100):
        assert prices.find(f"openai/x{number}", "openai", f"x{number}") is None
    assert len(prices._known) <= 10


def test_the_finest_price_of_a_configuration_is_exact_and_a_finer_one_is_a_fault() -> None:
    finest = load(CONFIG.replace('input = "1"', 'input = "0.000001"'), {})
    found = Prices(finest, CATALOG, TABLE).find("small", "corp", "m-1")
    assert found is not None
    assert usd(cost(found, Usage(1)).amount) == "0.000000000001"
    with pytest.raises(ConfigError):
        load(CONFIG.replace('input = "1"', 'input = "0.0000001"'), {})


def test_a_price_finer_than_the_unit_is_refused() -> None:
    with pytest.raises(ValueError, match="finer than"):
        compiled(ListPrice(Decimal("0.0000001"), Decimal(1)), "x")


# ---- amounts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0, "0"), (1, "0.000000000001"), (PER_DOLLAR, "1"), (12_500_000_000, "0.0125"), (10 * PER_DOLLAR, "10")],
)
def test_an_amount_in_dollars(amount: int, text: str) -> None:
    assert (usd(amount), picodollars(text)) == (text, amount)


@pytest.mark.parametrize("text", ["", ".", "1.", ".5", "-1", "1e3", "0.0000000000001", "1,5", " 1"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match="no amount"):
        picodollars(text)


@given(st.integers(0, 10**24))
def test_writing_an_amount_loses_nothing(amount: int) -> None:
    assert picodollars(usd(amount)) == amount
    assert Decimal(usd(amount)) * PER_DOLLAR == amount
    assert "e" not in usd(amount).lower()


# ---- what holds for all ------------------------------------------------------------------------------------------

DOLLARS: Final = st.integers(0, 10**9).map(lambda steps: Decimal(steps) / 10**6)
MAYBE: Final = {name: st.none() | DOLLARS for name in Rates.__struct_fields__}
BASE: Final = MAYBE | {"input": DOLLARS, "output": DOLLARS}
TIERS: Final = st.lists(st.builds(Tier, **MAYBE, above=st.integers(1, 3000)), max_size=3, unique_by=lambda t: t.above)
FLAT: Final = st.builds(ListPrice, **BASE)
TIERED: Final = st.builds(ListPrice, **BASE, tiers=TIERS.map(lambda t: tuple(sorted(t, key=lambda one: one.above))))


@st.composite
def usages(draw: Any) -> Usage:
    """Counts that fit together."""
    few = st.integers(0, 1000)
    text, cached, minutes, hour, audio = (draw(few) for _ in range(5))
    said, reasoning, spoken = (draw(few) for _ in range(3))
    return Usage(
        text + cached + minutes + hour + audio,
        said + reasoning + spoken,
        cached,
        minutes + hour,
        reasoning,
        cache_write_1h=hour,
        audio_input=audio,
        audio_output=spoken,
    )


COUNTS: Final = [name for name in Usage.__struct_fields__ if name != "source"]


def together(one: Usage, other: Usage) -> Usage:
    return Usage(**{name: getattr(one, name) + getattr(other, name) for name in COUNTS})


def by_hand(price: ListPrice, usage: Usage) -> Decimal:
    """Each kind of tokens at its price, in decimals: the long way round."""
    rates = {name: getattr(price, name) for name in Rates.__struct_fields__}
    for tier in price.tiers:
        if usage.input > tier.above:
            rates = {name: getattr(price, name) for name in rates}
            rates |= {name: value for name in rates if (value := getattr(tier, name)) is not None}

    def rate(*names: str) -> Decimal:
        return next(rates[name] for name in names if rates[name] is not None)

    if usage.reasoning:
        rates["output"] = rate("thinking", "output")
    minutes = usage.cache_write - usage.cache_write_1h
    parts = (
        (usage.input - usage.cached - usage.cache_write - usage.audio_input, rate("input")),
        (usage.cached, rate("cache_read", "input")),
        (minutes, rate("cache_write", "input")),
        (usage.cache_write_1h, rate("cache_write_1h", "cache_write", "input")),
        (usage.audio_input, rate("input_audio", "input")),
        (usage.output - usage.reasoning - usage.audio_output, rate("output")),
        (usage.reasoning, rate("reasoning", "output")),
        (usage.audio_output, rate("output_audio", "output")),
    )
    return sum((tokens * price for tokens, price in parts), Decimal(0)) / 10**6


def amount(price: ListPrice, usage: Usage) -> int:
    return cost(compiled(price, "test"), usage).amount


@given(TIERED, usages())
def test_it_is_the_sum_of_the_kinds_of_tokens_to_the_last_digit(price: ListPrice, usage: Usage) -> None:
    assert Decimal(usd(amount(price, usage))) == by_hand(price, usage)


@given(FLAT, usages(), usages())
def test_two_requests_cost_what_one_with_all_their_tokens_costs(price: ListPrice, one: Usage, other: Usage) -> None:
    price = msgspec.structs.replace(price, thinking=None)  # depends on the request
    assert amount(price, one) + amount(price, other) == amount(price, together(one, other))


@given(FLAT, st.lists(usages(), max_size=20), st.randoms(use_true_random=False))
def test_sums_of_records_are_equal_in_any_order(price: ListPrice, some: list[Usage], random: Any) -> None:
    texts = [usd(amount(price, usage)) for usage in some]
    total = sum(amount(price, usage) for usage in some)
    random.shuffle(texts)
    assert sum(map(picodollars, texts)) == total
    assert sum(map(Decimal, texts), Decimal(0)) == Decimal(usd(total))


@given(FLAT, usages(), st.sampled_from(["input", "output"]), st.integers(1, 1000))
def test_more_tokens_never_cost_less(price: ListPrice, usage: Usage, side: str, more: int) -> None:
    larger = msgspec.structs.replace(usage, **{side: getattr(usage, side) + more})
    assert amount(price, larger) >= amount(price, usage)


@given(TIERED, st.builds(Usage, **dict.fromkeys(COUNTS, st.integers(0, 5000))))
def test_counts_that_contradict_each_other_cost_no_less_than_nothing(price: ListPrice, usage: Usage) -> None:
    assert amount(price, usage) >= 0


def test_cached_tokens_beside_the_input_are_added() -> None:
    price = PRICES.find("any", "openai", "gpt-4o")
    assert price is not None
    assert usd(cost(price, Usage(100, 0, 1000)).amount) == "0.0015"  # 100*2.5 + 1000*1.25


@given(TIERED, usages())
def test_a_record_can_be_computed_again_from_the_prices_it_keeps(price: ListPrice, usage: Usage) -> None:
    told = cost(compiled(price, "test"), usage)
    rates = dict(word.split("=") for word in told.prices.split())
    assert rates.pop("from") == "test"
    rates.pop("above", None)
    again: Price = compiled(ListPrice(**{name: Decimal(value) for name, value in rates.items()}), "again")
    assert cost(again, usage).amount == told.amount

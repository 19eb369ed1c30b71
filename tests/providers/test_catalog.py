"""The catalogue: the file of the package, and finding a model in it by the names that it goes by."""

from __future__ import annotations

from decimal import Decimal
from importlib import resources
from typing import Final

import msgspec
import pytest

from polymux.app import table
from polymux.providers.catalog import (
    FREE,
    Catalog,
    File,
    ListPrice,
    Model,
    Tier,
    newest,
    read,
    write,
)

PACKAGE: Final = resources.files("polymux.providers")
ABILITIES: Final = {"tools", "image", "audio", "video", "pdf", "reasoning", "structured"}


def bundled() -> Catalog:
    return read(PACKAGE.joinpath("catalog.json").read_bytes())


def catalog(date: str = "2026-07-02", **models: Model) -> Catalog:
    """One provider, `p`; `__` in a name is a `-`."""
    return read(write("test", date, "0", {"p": {name.replace("__", "-"): model for name, model in models.items()}}))


def priced(dollars: str) -> Model:
    return Model(price=ListPrice(Decimal(dollars), Decimal(dollars)))


# ---- the file of the package -------------------------------------------------------------------------------------


def test_the_file_is_small_sorted_and_says_where_it_is_from() -> None:
    text = PACKAGE.joinpath("catalog.json").read_bytes()
    found = bundled()
    assert len(text) < 400_000
    assert found.source == "https://models.dev/api.json"
    assert found.date >= "2026-07-02"
    assert len(found.sha256) == 64
    everything = {provider: found.models(provider) for provider in found.providers}
    assert write(found.source, found.date, found.sha256, everything) == text


def test_its_licence_is_beside_it() -> None:
    licence = PACKAGE.joinpath("catalog.LICENSE.txt").read_text("utf-8")
    assert licence.startswith("MIT License")
    assert "models.dev" in licence


def test_every_entry_is_sound() -> None:
    found = bundled()
    models = [model for provider in found.providers for model in found.models(provider).values()]
    assert len(models) > 1000
    for model in models:
        assert set(model.abilities) <= ABILITIES
        assert all(limit is None or limit > 0 for limit in (model.context, model.max_input, model.max_output))
        if model.price:
            assert model.price.input is not None
            assert model.price.output is not None
            above = [tier.above for tier in model.price.tiers]
            assert above == sorted(set(above))


def test_every_preset_has_prices_or_a_reason_to_have_none() -> None:
    found = bundled()
    for preset, row in table().items():
        listed = (row.catalog or preset) in found.providers
        assert listed or row.catalog == "none" or row.group in ("local", "generic"), f"{preset}: give it a `catalog`"
        assert row.catalog != preset, f"{preset}: its catalog is its name anyway"


# ---- names -------------------------------------------------------------------------------------------------------

LISTED: Final = {
    "gpt-4o": "1",
    "gpt-4o-2024-05-13": "2",
    "sonnet-20240620": "3",
    "sonnet-20241022": "4",
    "opus@20250805": "5",
    "flash": "6",
    "meta/Llama-4": "7",
    "free-one:free": "0",
    "embedding-001": "8",
}


@pytest.mark.parametrize(
    ("asked", "price"),
    [
        ("gpt-4o", "1"),
        ("GPT-4o", "1"),
        ("gpt-4o-2024-05-13", "2"),
        ("gpt-4o-2024-08-06", "1"),
        ("gpt-4o-20240806", "1"),
        ("gpt-4o-latest", "1"),
        ("openai/gpt-4o", "1"),
        ("accounts/openai/models/gpt-4o-2024-08-06", "1"),
        ("sonnet", "4"),
        ("sonnet-latest", "4"),
        ("sonnet-20240620", "3"),
        ("sonnet-20230101", None),  # the prices of its siblings need not be its own
        ("opus@default", "5"),
        ("opus", "5"),
        ("models/flash-001", "6"),
        ("embedding-001", "8"),
        ("embedding", "8"),
        ("META/llama-4", "7"),
        ("llama-4", None),  # whose?
        ("gpt-4o:free", "0"),
        ("free-one:free", "0"),
        ("free-one", None),
        ("gpt-4o:nitro", None),
        ("gpt-4o-mini", None),
        ("gpt-4", None),
        ("ft:gpt-4o-2024-08-06:org::x", None),
        ("gpt-4o-2024-13-06", None),
        ("", None),
        ("/", None),
    ],
)
def test_a_model_is_found_by_the_names_it_goes_by(asked: str, price: str | None) -> None:
    found = read(write("test", "2026-07-02", "0", {"p": {name: priced(dollars) for name, dollars in LISTED.items()}}))
    model = found.find("p", asked)
    assert (model and model.price and str(model.price.input)) == price


def test_a_free_variant_keeps_the_limits() -> None:
    model = Model(1000, None, 100, ("tools",), ListPrice(Decimal(5), Decimal(5), tiers=(Tier(Decimal(9), above=9),)))
    assert catalog(m=model).find("p", "m:free") == Model(1000, None, 100, ("tools",), FREE.price)


def test_a_model_without_a_price_is_not_free() -> None:
    found = catalog(known=Model(context=9), free=priced("0"))
    known, free = found.find("p", "known"), found.find("p", "free")
    assert known is not None
    assert known.price is None
    assert free is not None
    assert free.price is not None
    assert found.find("nobody", "known") is None


# ---- the format --------------------------------------------------------------------------------------------------


def test_what_is_written_can_be_read() -> None:
    price = ListPrice(Decimal("0.1"), Decimal(15), Decimal("0.000001"), tiers=(Tier(output=Decimal("0.3"), above=7),))
    model = Model(10, 8, 5, ("pdf", "tools"), price)
    text = write("test", "2026-07-02", "ab", {"b": {"y": model, "x": Model(1)}, "a": {}})
    found = read(text)
    assert (found.source, found.date, found.sha256, found.providers) == ("test", "2026-07-02", "ab", ("a", "b"))
    assert found.models("b") == {"x": Model(1), "y": model}
    assert b'"price":{"input":"0.1","output":"15","cache_read":"0.000001","tiers":[{"output":"0.3","above":7}]}' in text
    assert [line[:4] for line in text.splitlines() if b'"context"' in line] == [b'"x":', b'"y":']


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "catalog: "),
        (b"[]", "catalog: "),
        (b"{}", "missing required field `schema`"),
        (b'{"schema":2}', "schema 2, this version reads 1"),
        (b'{"schema":1}', "missing required field"),
        (b'{"schema":1,"source":"","date":"","sha256":"","providers":{},"more":1}', "unknown field `more`"),
        (b"\xff", "catalog: "),
    ],
)
def test_what_is_no_catalogue_is_refused(text: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read(text)


@pytest.mark.parametrize("model", ['{"context":"x"}', '{"price":{"input":"a"}}', '{"colour":1}', "7"])
def test_a_broken_provider_is_named_when_it_is_asked_for(model: str) -> None:
    raw = {"good": msgspec.Raw(b'{"m":{}}'), "bad": msgspec.Raw(b'{"m":' + model.encode() + b"}")}
    found = Catalog(File(1, "test", "2026-07-02", "0", raw))
    assert found.find("good", "m") == Model()
    with pytest.raises(ValueError, match="catalog: bad: "):
        found.find("bad", "m")


def test_the_newer_catalogue_is_used_and_ones_own_of_the_same_day() -> None:
    old, same, new = catalog("2026-07-01"), catalog("2026-07-02"), catalog("2026-07-03")
    package = catalog("2026-07-02")
    assert newest(package, None) is package
    assert newest(package, old) is package
    assert newest(package, same) is same
    assert newest(package, new) is new

"""models.dev's JSON as our catalogue: what is taken over, what is set right, what gets no price."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any, Final

import pytest

from polymux.providers.catalog import ListPrice, Model, read
from polymux.providers.modelsdev import Converted, convert

TEXT: Final = {"input": ["text"], "output": ["text"]}


def entry(cost: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    return {"modalities": TEXT, **({"cost": cost} if cost is not None else {}), **more}


def converted(provider: str = "p", name: str = "m", **model: Any) -> Converted:
    others = {"sound": {"models": {"sound": entry({"input": 1, "output": 2})}}}
    return convert(json.dumps(others | {provider: {"models": {name: model}}}).encode(), "2026-07-02")


def price(cost: dict[str, Any], provider: str = "p", name: str = "m") -> dict[str, Any]:
    """The price that comes of a cost, as text; tiers under what they are above."""
    found = read(converted(provider, name, **entry(cost)).text).models(provider)[name].price
    assert found is not None
    told = {key: str(value) for key in found.__struct_fields__[:-1] if (value := getattr(found, key)) is not None}
    for tier in found.tiers:
        told |= {
            f"{key} {tier.above}": str(value)
            for key in tier.__struct_fields__
            if key != "above" and (value := getattr(tier, key)) is not None
        }
    return told


@pytest.mark.parametrize(
    ("cost", "told"),
    [
        ({"input": 2.5, "output": 10.0, "cache_read": 1.25}, {"input": "2.5", "output": "10", "cache_read": "1.25"}),
        ({"input": 0, "output": 0.0}, {"input": "0", "output": "0"}),
        ({"input": 600, "output": 1e-06}, {"input": "600", "output": "0.000001"}),
        ({"input": 0.049999999999999996, "output": 0.1 + 0.2}, {"input": "0.05", "output": "0.3"}),
        ({"input": 1, "output": 2, "cached_input": 0.1}, {"input": "1", "output": "2", "cache_read": "0.1"}),
        ({"input": 1, "output": 2, "cache_input": 0.1}, {"input": "1", "output": "2", "cache_read": "0.1"}),
        ({"input": 1, "output": 2, "cached_write": 3}, {"input": "1", "output": "2", "cache_write": "3"}),
        ({"input": 1, "output": 2, "cache_read": 0, "cache_write": 0}, {"input": "1", "output": "2"}),
        ({"input": 1, "output": 2, "reasoning": 2}, {"input": "1", "output": "2"}),
        ({"input": 1, "output": 2, "reasoning": 3}, {"input": "1", "output": "2", "reasoning": "3"}),
        (
            {"input": 1, "output": 2, "input_audio": 3, "output_audio": 4},
            {"input": "1", "output": "2", "input_audio": "3", "output_audio": "4"},
        ),
    ],
)
def test_a_price_is_taken_over_exactly(cost: dict[str, Any], told: dict[str, str]) -> None:
    assert price(cost) == told


def test_a_tier_keeps_what_changes() -> None:
    cost = {"input": 1, "output": 2, "reasoning": 2, "cache_read": 0.1}
    high = {"tier": {"size": 400, "type": "context"}, "input": 4, "output": 8, "cache_read": 0.1}
    low = {"tier": {"size": 200}, "input": 2, "output": 4}
    same = {"tier": {"size": 900}, "input": 1, "output": 2}
    base = {"input": "1", "output": "2", "cache_read": "0.1"}
    told = base | {"input 200": "2", "output 200": "4", "input 400": "4", "output 400": "8"}
    assert price({**cost, "tiers": [high, low, same]}) == told
    assert list(price({**cost, "tiers": [high, low]}))[3] == "input 200"


def test_the_older_form_of_a_tier() -> None:
    cost = {"input": 1, "output": 2, "context_over_200k": {"input": 3, "output": 2}}
    assert price(cost) == {"input": "1", "output": "2", "input 200000": "3"}
    tiers = [{"tier": {"size": 500}, "input": 4}]
    assert price({**cost, "tiers": tiers}) == {"input": "1", "output": "2", "input 500": "4"}


def test_an_hour_in_anthropics_cache_costs_twice_the_input() -> None:
    cost = {"input": 5, "output": 25, "cache_write": 6.25}
    tiers = [{"tier": {"size": 200}, "input": 10, "output": 37.5, "cache_write": 12.5}]
    told = price({**cost, "tiers": tiers}, name="anthropic/Claude-X")
    assert (told["cache_write_1h"], told["cache_write_1h 200"]) == ("10", "20")
    assert "cache_write_1h" not in price(cost)
    assert "cache_write_1h" not in price(cost | {"cache_write": 6}, name="claude-x")


def test_geminis_cache_writes_at_openrouter_come_on_top_of_the_input() -> None:
    cost = {
        "input": 2,
        "output": 12,
        "cache_write": 0.375,
        "tiers": [{"tier": {"size": 200}, "input": 4, "output": 18}],
    }
    told = price(cost, "openrouter", "google/gemini")
    assert (told["cache_write"], told["cache_write 200"]) == ("2.375", "4.375")
    assert price(cost, "openrouter", "~google/gemini")["cache_write"] == "2.375"
    assert price(cost, "openrouter", "other/model")["cache_write"] == "0.375"
    assert price(cost, "google", "google/gemini")["cache_write"] == "0.375"


def test_alibabas_other_price_is_for_the_whole_answer() -> None:
    cost = {"input": 0.4, "output": 1.2, "reasoning": 4}
    assert price(cost, "alibaba") == {"input": "0.4", "output": "1.2", "thinking": "4"}
    assert price(cost, "other") == {"input": "0.4", "output": "1.2", "reasoning": "4"}


@pytest.mark.parametrize(
    ("name", "cost", "output", "why"),
    [
        ("m", {"input": 1, "output": 2, "request": 5, "citation": 2}, "text", "charged by citation, request too"),
        ("m", {"input": 1}, "text", "missing"),
        ("m", {"input": -1, "output": -1}, "text", "-1 is no price"),
        ("m", {"input": 0.0000001, "output": 1}, "text", "is no price in steps of 0.000001"),
        ("m", {"input": "NaN", "output": 1}, "text", "NaN is no price"),
        ("m", {"input": 1e40, "output": 1}, "text", "is no price"),
        ("m", {"input": 0, "output": 0}, "image", "says nothing"),
        ("model-router", {"input": 1, "output": 0}, "text", "not charged by tokens"),
        ("openai/whisper-large-v3", {"input": 1, "output": 0}, "text", "not charged by tokens"),
        ("m", {"input": 1, "output": 2, "tiers": [{"tier": {"size": 1, "type": "day"}}]}, "text", "tiers by day"),
        ("m", {"input": 1, "output": 2, "tiers": [{"tier": {"size": 1}, "page": 1}]}, "text", "above 1 .* by page"),
    ],
)
def test_what_tokens_do_not_tell_the_price_of_has_none(name: str, cost: Any, output: str, why: str) -> None:
    modalities = {"input": ["text"], "output": [output]}
    made = converted(name=name, cost=cost, modalities=modalities, tool_call=True)
    assert read(made.text).models("p")[name] == Model(abilities=("tools",))
    (line,) = made.unpriced
    assert line.startswith(f"p/{name}: ")
    assert re.search(why, line)


def test_limits_and_abilities() -> None:
    made = converted(
        limit={"context": 400, "input": 300, "output": 100},
        modalities={"input": ["text", "pdf", "image", "smell"], "output": ["text"]},
        tool_call=True,
        reasoning=True,
        structured_output=True,
        attachment=True,
    )
    model = Model(400, 300, 100, ("image", "pdf", "reasoning", "structured", "tools"))
    assert read(made.text).models("p") == {"m": model}
    assert made.unpriced == ()


def test_a_limit_that_says_nothing_is_left_out() -> None:
    limit = {"context": 400, "input": 400, "output": 0}
    assert read(converted(**entry({"input": 1, "output": 1}), limit=limit).text).models("p") == {
        "m": Model(400, price=ListPrice(Decimal(1), Decimal(1)))
    }
    assert read(converted(limit={"context": 0, "output": 0}).text).models("p") == {}


def test_only_some_providers_are_taken() -> None:
    text = json.dumps({name: {"models": {"m": entry({"input": 1, "output": 1})}} for name in "abc"}).encode()
    assert read(convert(text, "2026-07-02", ("a", "c", "d")).text).providers == ("a", "c")
    assert read(convert(text, "2026-07-02").text).providers == ("a", "b", "c")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not models.dev's JSON"),
        (b"<html>", "not models.dev's JSON"),
        (b"\xff\xfe", "not models.dev's JSON"),
        (b"{}", "there is no price in it"),
        (b'{"p":{"models":{"m":{}}}}', "there is no price in it"),
        (b'{"p":{}}', "not models.dev's JSON"),
        (b'{"p":{"models":{"m":{"cost":7}}}}', "p/m: "),
        (b'{"p":{"models":{"m":{"cost":{"input":"abc","output":1}}}}}', "p/m: "),
        (b'{"p":{"models":{"m":{"cost":{"input":1,"output":[]}}}}}', "p/m: "),
        (b'{"p":{"models":{"m":{"cost":{"input":1,"output":1,"tiers":[{}]}}}}}', "p/m: "),
        (b'{"p":{"models":{"m":{"cost":{"input":1,"output":1,"tiers":7}}}}}', "p/m: "),
        (b'{"p":{"models":{"m":{"limit":{"context":"x"}}}}}', "p/m: "),
    ],
)
def test_what_is_something_else_is_refused(text: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        convert(text, "2026-07-02")

"""The list of models, and what a single one can do."""

from __future__ import annotations

import json

from polymux.providers.catalog import Model
from polymux.providers.dialects import DIALECTS
from polymux.surfaces.models import abilities, model_list, model_object
from polymux.types import Deployment, Quirks


def test_a_model() -> None:
    assert model_object("a/b", "p", 7) == {"id": "a/b", "object": "model", "created": 7, "owned_by": "p"}


def test_the_list_keeps_its_order() -> None:
    listed = json.loads(model_list([("b", "p"), ("a", "q")], 7))
    assert listed == {"object": "list", "data": [model_object("b", "p", 7), model_object("a", "q", 7)]}
    assert json.loads(model_list([], 7)) == {"object": "list", "data": []}


ONE = Deployment(
    "a/m", "a", "m", "openai", serves=("chat", "embeddings"), quirks=Quirks(drop=("seed", "messages[].name"))
)
OTHER = Deployment("b/m", "b", "m", "anthropic")
LARGE = Model(200_000, None, 64_000, ("tools", "image", "reasoning"))
SMALL = Model(8_000, None, None, ("tools", "structured", "audio", "image"))
OPENAI, ANTHROPIC = DIALECTS["openai"].fates, DIALECTS["anthropic"].fates


def test_what_a_model_can_do() -> None:
    found = abilities([ONE], [LARGE], [OPENAI])
    assert found["serves"] == ["chat", "completions", "embeddings"]
    assert (found["context_length"], found["max_output_tokens"]) == (200_000, 64_000)
    assert found["input_modalities"] == ["text", "image"]
    assert found["capabilities"] == ["tools", "reasoning"]
    assert {"temperature", "tools", "logit_bias"} <= set(found["supported_parameters"])
    assert "seed" not in found["supported_parameters"]
    assert not any("." in name or "[" in name or "=" in name for name in found["supported_parameters"])


def test_of_several_deployments_what_all_of_them_can() -> None:
    found = abilities([ONE, OTHER], [LARGE, SMALL], [OPENAI, ANTHROPIC])
    assert found["serves"] == ["chat", "completions"]
    assert found["context_length"] == 8_000
    assert "max_output_tokens" not in found
    assert found["input_modalities"] == ["text", "image"]
    assert found["capabilities"] == ["tools"]
    assert "tools" in found["supported_parameters"]
    assert "logit_bias" not in found["supported_parameters"]


def test_what_is_not_known_of_one_is_left_out() -> None:
    assert abilities([ONE, OTHER], [LARGE, None], [OPENAI]) == {"serves": ["chat", "completions"]}
    assert abilities([OTHER], [None], []) == {"serves": ["chat", "completions"]}

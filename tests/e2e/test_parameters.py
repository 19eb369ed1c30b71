"""The table of parameters as a client sees it: what reaches the provider, the header, and a strict route's refusal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import pytest

from polymux.providers.dialects import DIALECTS
from polymux.providers.fates import PARAMETERS
from support.gateway import KEY, Gateway
from support.parameters import EXAMPLES, found, request
from support.settings import providers
from support.upstream import Upstream

PROVIDERS: Final = {"openai": "corp", "anthropic": "claude"}
MODELS: Final = {"openai": "gpt-5.4-mini", "anthropic": "claude-sonnet-4-5"}
CELLS: Final = [pytest.param(dialect, name, id=f"{dialect}:{name}") for dialect in PROVIDERS for name in PARAMETERS]


@pytest.fixture(scope="module")
def served(scripted: Upstream) -> Iterator[Gateway]:
    """A route to each dialect, and a strict one."""
    config = f'[auth]\nkeys = ["{KEY}"]\n\n[limits]\nrpm = 1000000\n\n{providers(scripted)}\n'
    config = config.replace('preset = "openai-compatible"', 'preset = "openai"')  # which takes no one's signatures
    for dialect, provider in PROVIDERS.items():
        for name, strict in ((dialect, "false"), (f"strict-{dialect}", "true")):
            config += f"[models.{name}]\nstrict = {strict}\n"
            config += f'deployments = [{{ provider = "{provider}", model = "{MODELS[dialect]}" }}]\n\n'
    with Gateway(config) as gateway:
        yield gateway


def sent(upstream: Upstream, dialect: str) -> Any:
    return upstream.wait(MODELS[dialect]).json


@pytest.mark.parametrize(("dialect", "name"), CELLS)
def test_a_client_is_told_the_fate_of_its_parameter(
    dialect: str, name: str, served: Gateway, upstream: Upstream
) -> None:
    fate, asked = DIALECTS[dialect].fates[name], EXAMPLES[name].asked
    answer = served.post(request(asked, dialect))
    strict = served.post(request(asked, f"strict-{dialect}"))
    if fate.what in ("refused", "dropped"):
        error = strict.json()["error"]
        assert strict.status == 400
        assert error["code"] in ("unsupported_parameter", "unsupported_content")
        assert name.startswith(re.sub(r"\[\d+\]", "[]", error["param"]))
    else:
        assert strict.status == 200
    if fate.what == "refused":
        assert answer.status == 400
        return
    assert answer.status == 200
    assert answer.headers.get("x-polymux-dropped") == (name if fate.what == "dropped" else None)
    if fate.what in ("forwarded", "mapped"):
        assert found(sent(upstream, dialect), fate.to or name)


def test_what_no_table_knows_passes_where_nothing_is_translated_and_is_named_elsewhere(
    served: Gateway, upstream: Upstream
) -> None:
    body = {"novelty": {"a": [1]}}
    answer = served.post(request(body, "openai"))
    assert (answer.status, answer.headers.get("x-polymux-dropped")) == (200, None)
    assert sent(upstream, "openai")["novelty"] == {"a": [1]}
    answer = served.post(request(body, "anthropic"))
    assert (answer.status, answer.headers["x-polymux-dropped"]) == (200, "novelty")
    assert "novelty" not in sent(upstream, "anthropic")
    refused = served.post(request(body, "strict-anthropic"))
    assert (refused.status, refused.json()["error"]["param"]) == (400, "novelty")

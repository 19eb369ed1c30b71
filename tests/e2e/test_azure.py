"""A strict Azure OpenAI resource behind a real gateway, asked by the official client: all addresses and credentials."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import openai
import pytest
from openai import OpenAI

from support.azure import KEY, SECRET, Azure
from support.gateway import KEY as GATEWAY_KEY
from support.gateway import PATIENCE, Gateway

HI: Any = [{"role": "user", "content": "Hi"}]
TOKEN: Final = "eyJ0eXAiOiJKV1Qi.eyJuIjoxfQ.static"
WAYS: Final = ("v1", "dated", "static", "app")


@pytest.fixture(scope="module")
def server() -> Iterator[Azure]:
    with Azure() as made:
        made.tokens.append(TOKEN)
        yield made


@pytest.fixture(scope="module")
def gateway(server: Azure) -> Iterator[Gateway]:
    config = f"""
[auth]
keys = ["{GATEWAY_KEY}"]

[limits]
rpm = 0

[providers.v1]
preset = "azure"
base_url = "{server.url}"
api_key = "{KEY}"

[providers.dated]
preset = "azure"
base_url = "{server.url}/openai"
api_key = "{KEY}"
api_version = "2024-10-21"
models = {{ "gpt-at-work" = "my-gpt" }}

[providers.static]
preset = "azure"
base_url = "{server.url}/openai/v1"
api_key = "{TOKEN}"

[providers.app]
preset = "azure"
base_url = "{server.url}"

[providers.app.oauth]
tenant_id = "my-tenant"
client_id = "app"
client_secret = "{SECRET}"
token_url = "{server.url}/{{tenant_id}}/oauth2/v2.0/token"

[providers.stranger]
preset = "azure"
base_url = "{server.url}"
oauth = {{ client_id = "app", client_secret = "another~secret.9876543210", token_url = "{server.token_url}" }}
models = ["my-gpt"]
"""
    with Gateway(config, arguments=["--debug"]) as made:
        yield made


@pytest.fixture
def client(gateway: Gateway, server: Azure) -> Iterator[OpenAI]:
    with OpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0, timeout=20) as made:
        yield made


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stream", [False, True])
def test_every_way_in(client: OpenAI, server: Azure, way: str, stream: bool) -> None:
    server.clear()
    model = "dated/gpt-at-work" if way == "dated" else f"{way}/my-gpt"
    if stream:
        with client.chat.completions.create(
            model=model, messages=HI, stream=True, stream_options={"include_usage": True}
        ) as chunks:
            read = list(chunks)
        assert read[-1].usage is not None
        del read[-1]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in read) == "Hello.", "each chunk has a choice"
        assert len({chunk.id for chunk in read}) == 1
        assert (read[0].model_extra or {})["prompt_filter_results"]
        notes = [(chunk.choices[0].model_extra or {}).get("content_filter_offsets") for chunk in read]
        assert {"check_offset": 5} in notes
    else:
        answer = client.chat.completions.create(model=model, messages=HI)
        assert answer.choices[0].message.content == "Hello."
        assert (answer.model_extra or {})["prompt_filter_results"]
    (seen,) = [one for one in server.requests if one.path.partition("?")[0].endswith("/chat/completions")]
    address = "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21"
    assert seen.path == (address if way == "dated" else "/openai/v1/chat/completions")
    assert seen.json["model"] == "my-gpt"
    assert (seen.header("api-key"), seen.header("authorization")) == (
        (KEY, None) if way in ("v1", "dated") else (None, f"Bearer {TOKEN if way == 'static' else server.tokens[1]}")
    )


def test_one_token_serves_all_requests(client: OpenAI, server: Azure) -> None:
    for _ in range(3):
        client.chat.completions.create(model="app/my-gpt", messages=HI)
    assert len(server.tokens) == 2, "the static one, and the app's"


def test_an_app_that_is_refused(client: OpenAI, gateway: Gateway) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="stranger/my-gpt", messages=HI)
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_auth_failed")
    assert "invalid_client" in caught.value.message
    for secret in (SECRET, "another~secret", KEY, *("eyJ0eXAiOiJKV1Qi.eyJuIjoxfQ",)):
        assert secret not in caught.value.message
        assert secret not in gateway.log()


@pytest.mark.parametrize(
    ("model", "error", "status", "code"),
    [
        ("v1/filtered", openai.BadRequestError, 400, "content_filter"),
        ("v1/nope", openai.NotFoundError, 404, "model_not_found"),
        ("app/nope", openai.NotFoundError, 404, "model_not_found"),
        ("v1/busy", openai.RateLimitError, 429, "upstream_rate_limited"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors(
    client: OpenAI, model: str, error: type[openai.APIStatusError], status: int, code: str, stream: bool
) -> None:
    with pytest.raises(error) as caught:
        client.chat.completions.create(model=model, messages=HI, stream=stream)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    if status == 429:
        assert caught.value.response.headers["retry-after"] == "6"


def test_deployments_are_listed(client: OpenAI) -> None:
    wanted = {"v1/my-gpt", "static/my-gpt", "app/my-gpt", "stranger/my-gpt", "gpt-at-work"}
    patience = time.monotonic() + PATIENCE
    while not wanted <= {model.id for model in client.models.list()}:
        assert time.monotonic() < patience


@pytest.mark.parametrize("way", WAYS)
def test_embeddings(client: OpenAI, server: Azure, way: str) -> None:
    server.clear()
    model = "dated/gpt-at-work" if way == "dated" else f"{way}/my-gpt"
    made = client.embeddings.create(model=model, input=["a", "b"], encoding_format="float")
    assert [one.embedding for one in made.data] == [[1.0, 0.5], [1.0, 0.5]]
    (seen,) = [one for one in server.requests if one.path.partition("?")[0].endswith("/embeddings")]
    assert seen.json["model"] == "my-gpt"

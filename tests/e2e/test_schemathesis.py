"""Schemathesis: requests made from the OpenAPI document, good and bad, and the answers held against it.

All of its checks but two. `positive_data_acceptance`: a request of the right types may still mean nothing, or more than
a model takes. `negative_data_rejection` on the relay lane, where the provider judges types.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from support.gateway import KEY, Gateway
from support.taking import Taking

pytestmark = pytest.mark.system  # takes half a minute

ADMIN: Final = "admin-0123456789abcdef"
CONFIG: Final = """
[auth]
admin_key = "{admin}"
keys = ["{key}"]

[limits]
rpm = 1000000

[defaults]
retries = 0

[providers.plain]
preset = "openai-compatible"
base_url = "{url}/v1"
api_key = "none"
models = ["any"]

[providers.other]
preset = "anthropic-compatible"
base_url = "{url}"
api_key = "none"
models = ["any"]
"""
FUNCTIONS: Final = """
from polymux import model


@model("function")
def function(messages):
    yield "o"
    yield "k"
"""
SETTINGS: Final = f"""
[auth.openapi.bearer]
bearer = "{KEY}"

[auth.openapi.admin]
bearer = "{ADMIN}"
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Gateway]:
    with Taking() as provider:
        config = CONFIG.format(admin=ADMIN, key=KEY, url=provider.url)
        with Gateway(config, arguments=("--functions", "models.py"), files={"models.py": FUNCTIONS}) as gateway:
            yield gateway
            assert gateway.get("/health").status == 200
            gateway.stop()
            assert "Traceback" not in gateway.log(), gateway.log()


def narrowed(document: dict[str, Any], model: str) -> dict[str, Any]:
    """The document with the one model that exists, so that not every request ends at its name."""
    for name in ("ChatRequest", "CompletionRequest", "EmbeddingRequest"):
        document["components"]["schemas"][name]["properties"]["model"] = {"const": model}
    for parameter in document["paths"]["/v1/models/{id}"]["get"]["parameters"]:
        parameter["schema"] = {"const": model}
    return document


@pytest.mark.parametrize(
    ("model", "left_out"),
    [
        ("function", "positive_data_acceptance"),
        ("other/any", "positive_data_acceptance"),
        ("plain/any", "positive_data_acceptance,negative_data_rejection"),
    ],
)
def test_answers_are_as_the_document_says(running: Gateway, tmp_path: Path, model: str, left_out: str) -> None:
    document, config = tmp_path / "openapi.json", tmp_path / "schemathesis.toml"
    document.write_text(json.dumps(narrowed(running.get("/openapi.json").json(), model)), "utf-8")
    config.write_text(SETTINGS, "utf-8")
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", str(document)]
    command += ["--url", running.url, "--phases", "examples,coverage,fuzzing", "--exclude-checks", left_out]
    command += ["--seed", "1", "--max-examples", "30", "--continue-on-failure", "--no-color"]
    done = subprocess.run(command, cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]

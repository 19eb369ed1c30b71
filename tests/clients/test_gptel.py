"""gptel's requests and its way of reading answers, from batch Emacs (`gptel.el`)."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support.gateway import Gateway
from support.scripts import PARIS, TOKYO
from support.upstream import Upstream

pytestmark = pytest.mark.system

PROBE = Path(__file__).parent / "gptel.el"
WAYS = ["curl-stream", "curl", "url"]
PROVIDERS = ["corp", "claude"]


def ask(gateway: Gateway, keys: Path, model: str, way: str, key: str | None = None) -> Any:
    """One request; the key comes from a file and ends in line ends, as a key function's value may."""
    keys.write_text(gateway.key + "\n\n" if key is None else key, encoding="ascii")
    url = f"{gateway.base_url}/chat/completions"
    command = ["emacs", "--batch", "-Q", "-l", str(PROBE), url, model, str(keys), way]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_text(gateway: Gateway, upstream: Upstream, tmp_path: Path, provider: str, way: str) -> None:
    seen = ask(gateway, tmp_path / "key", f"{provider}/text", way)
    assert (seen["status"], seen["text"], seen["calls"]) == (200, "Hello, 世界!", [])
    assert seen["usage"]["total_tokens"] == 18
    assert seen["done"] is (way == "curl-stream")
    assert "Grüße, 世界" in upstream.wait("text").body.decode()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_tools(gateway: Gateway, upstream: Upstream, tmp_path: Path, provider: str, way: str) -> None:
    seen = ask(gateway, tmp_path / "key", f"{provider}/tools", way)
    calls = [(call[0], call[1], json.loads(call[2])) for call in seen["calls"]]
    assert calls == [(use.id, use.name, dict(use.arguments)) for use in (PARIS, TOKYO)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_reasoning(gateway: Gateway, upstream: Upstream, tmp_path: Path, provider: str, way: str) -> None:
    seen = ask(gateway, tmp_path / "key", f"{provider}/reasoning", way)
    assert (seen["reasoning"], seen["text"]) == ("First think. ", "Then speak.")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("key", ["nothing\n", "\n", "first line\nsecond line\n"])
def test_a_wrong_key_is_explained(gateway: Gateway, tmp_path: Path, way: str, key: str) -> None:
    """Also one of two lines, the second of which is no header: the answer is a readable error."""
    seen = ask(gateway, tmp_path / "key", "echo", way, key)
    assert seen["status"] in (400, 401)
    assert seen["error"]["message"]


@pytest.mark.parametrize("way", WAYS)
def test_an_error_of_the_provider_is_readable(gateway: Gateway, upstream: Upstream, tmp_path: Path, way: str) -> None:
    seen = ask(gateway, tmp_path / "key", "corp/status-429", way)
    assert seen["status"] == 429
    assert seen["error"]["code"] == "upstream_rate_limited"

"""The official Node SDK, installed from the lock file beside it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from support.gateway import Gateway
from support.scripts import PARIS, TOKYO
from support.upstream import Upstream

HERE = Path(__file__).parent / "node"
CALLS = [[use.id, use.name, dict(use.arguments)] for use in (PARIS, TOKYO)]


@pytest.mark.system
def test_the_node_sdk(gateway: Gateway, upstream: Upstream, tmp_path: Path) -> None:
    for name in ("package.json", "package-lock.json", "client.mjs"):
        shutil.copy(HERE / name, tmp_path)
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    command = ["node", "client.mjs", gateway.base_url, gateway.key]
    begun, lines = 0, []
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as node:
        assert node.stdout is not None
        for line in node.stdout:
            lines.append(line)
            if line == "begun\n":
                begun += 1
                upstream.wait("errorlater", begun).release()
    assert node.returncode == 0
    seen = json.loads(lines[-1])
    assert {"echo", "meow"} <= set(seen["models"])
    assert seen["retrieved"] == "corp/meta/llama 3:8b"
    for provider in ("corp", "claude"):
        assert seen[provider] == {
            "text": "Hello, 世界!",
            "provider": provider,
            "pieces": ["Hel", "lo, ", "世界", "!"],
            "total": 18,
            "calls": CALLS,
            "failed": ["RateLimitError", 429, "upstream_rate_limited", True],
            "broken": ["APIError", "upstream_unavailable"],
        }
    assert seen["unauthorized"] == ["AuthenticationError", "invalid_api_key"]
    upstream.wait("huge-64").wait_gone()

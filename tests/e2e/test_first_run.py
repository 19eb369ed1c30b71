"""The first minute: no configuration at all, a key that appears once, a command that works when pasted."""

from __future__ import annotations

import json
import re
import stat
import subprocess
from pathlib import Path

import pytest

from support.gateway import Gateway
from support.raw import ask, build
from support.settings import FUNCTIONS
from support.upstream import KEY as UPSTREAM_KEY
from support.upstream import Upstream

GENERATED = re.compile(r"sk-pmx-[A-Za-z0-9]{32}\b")
FILES = {"models.py": FUNCTIONS}
ARGUMENTS = ("--functions", "models.py")


def curl_of(log: str) -> str:
    """The curl command of the banner, continuation lines joined."""
    lines = log.splitlines()
    at = next(number for number, line in enumerate(lines) if line.lstrip().startswith("curl "))
    command = lines[at].strip()
    while command.endswith("\\"):
        at += 1
        command = command[:-1] + lines[at].strip()
    return command


def test_a_key_is_made_shown_once_and_kept(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Gateway(None, arguments=ARGUMENTS, files=FILES, data=data) as first:
        shown = set(GENERATED.findall(first.log()))
        assert len(shown) == 1
        first.key = shown.pop()
        kept = data / "first-run.key"
        assert kept.read_text(encoding="ascii").strip() == first.key
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert first.chat("echo", "Hi").json()["choices"][0]["message"]["content"] == "Hi"
        assert ask(first.url, build("GET", "/v1/models", {})).status == 401
    with Gateway(None, arguments=ARGUMENTS, files=FILES, data=data, key=first.key) as second:
        assert first.key not in second.log()
        assert second.said(f"$(cat {kept})")
        assert second.chat("echo", "Hi").status == 200


@pytest.mark.system
@pytest.mark.parametrize("again", [False, True])
def test_the_curl_command_of_the_banner_works_as_it_stands(tmp_path: Path, again: bool) -> None:
    data = tmp_path / "data"
    for _ in range(1 + again):
        with Gateway(None, arguments=ARGUMENTS, files=FILES, data=data) as gateway:
            command = curl_of(gateway.log())
            done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    answer = done.stdout.decode()
    assert "error" not in answer
    assert '"choices"' in answer or '"data"' in answer


def test_a_provider_is_on_when_its_key_is_in_the_environment(upstream: Upstream, tmp_path: Path) -> None:
    environment = {"OPENAI_API_KEY": UPSTREAM_KEY, "OPENAI_BASE_URL": f"{upstream.url}/v1", "API_KEYS": "sk-a, sk-b"}
    with Gateway(None, environment=environment, data=tmp_path / "data", key="sk-b") as gateway:
        answer = gateway.chat("openai/text")
        assert answer.status == 200
        assert answer.headers["x-polymux-provider"] == "openai"
        listed = {model["id"] for model in gateway.get("/v1/models").json()["data"]}
        assert any(name.endswith("meta/llama 3:8b") for name in listed)
        assert UPSTREAM_KEY not in gateway.log()
        assert json.loads(upstream.wait("text").body)["model"] == "text"

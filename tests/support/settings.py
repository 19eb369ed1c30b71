"""Config texts and function models that several test files start a gateway with."""

from __future__ import annotations

from support.upstream import KEY as UPSTREAM_KEY
from support.upstream import Upstream

FUNCTIONS = """
from polymux import model


@model("echo")
def echo(messages):
    return messages[-1]["content"]


@model("meow")
def meow(messages):
    yield "喵"
    yield "!"
"""


def providers(upstream: Upstream) -> str:
    """Config of the two providers, `corp` (OpenAI) and `claude` (Anthropic), both on the scripted one."""
    return f"""
[providers.corp]
preset = "openai-compatible"
base_url = "{upstream.url}/v1"
api_key = "{UPSTREAM_KEY}"
headers = {{ "x-team" = "search" }}

[providers.claude]
preset = "anthropic-compatible"
base_url = "{upstream.url}"
api_key = "{UPSTREAM_KEY}"
"""

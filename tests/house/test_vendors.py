"""Rule 3: no vendor's name in code outside the places that speak to vendors; comments and docstrings may name one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Final

import pytest
from tests.house.source import Source, faults, hold, package

PLACES: Final = ("providers/", "schema/", "surfaces/", "mock/", "cli/connect")
# In a sentence for users this is the protocol's name, not a vendor's.
PROTOCOL: Final = re.compile("OpenAI(?=-compatible| client| SDK| 客户端)|(?<=兼容 )OpenAI")
VENDORS: Final = re.compile(
    "openai|anthropic|claude|gemini|vertex|dify|ollama|bedrock|azure|mistral|deepseek|groq|dashscope|qwen|moonshot|kimi|zhipu"
    "|openrouter|fireworks|perplexity|lm_?studio|vllm|(?<![a-z])(?:gpt|grok|xai|zai|cohere)(?![a-z])",
    re.IGNORECASE,
)


def vendors(source: Source) -> Iterator[str]:
    if source.path.startswith(PLACES):
        return
    if found := VENDORS.search(source.path):
        yield f"1 the file is named after {found[0]}"
    prose = {id(node.value) for node in source.nodes(ast.Expr) if isinstance(node, ast.Expr) and literal(node.value)}
    for node in ast.walk(source.tree):
        if id(node) not in prose:
            for text in words(node):
                if found := VENDORS.search(PROTOCOL.sub("", text)):
                    yield f"{getattr(node, 'lineno', 1)} names {found[0]} in {text!r:.60}"


def literal(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def words(node: ast.AST) -> Iterator[str]:
    """The identifiers and string literals that a node itself holds."""
    for _, value in ast.iter_fields(node):
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str):
                yield item
            elif isinstance(item, bytes):
                yield item.decode("latin-1")


def test_vendors_are_named_in_their_places() -> None:
    hold(vendors, package())


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("engine.py", "if provider == 'openai': ..."),
        ("engine.py", "x = f'{a} by Anthropic'"),
        ("engine.py", "x = 'openai-compatible'"),
        ("engine.py", "x = b'gpt-4o'"),
        ("engine.py", "from polymux.providers.gemini import Gemini"),
        ("http/serve.py", "def to_dify(): ..."),
        ("http/serve.py", "call(ollama=1)"),
        ("http/serve.py", "x.azure_key"),
        ("cli/serve.py", "def f(deepseek): ..."),
        ("wire/openai.py", ""),
    ],
)
def test_a_vendor_in_code_is_seen(path: str, text: str) -> None:
    assert faults(vendors, [Source(path, text)])


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("engine.py", '"""As OpenAI does."""\nx = 1  # Anthropic does not\ndef f():\n    """Dify."""'),
        ("providers/openai.py", "NAME = 'openai'"),
        ("cli/connect.py", "NAME = 'openai'"),
        ("cli/serve.py", "TEXT = 'The OpenAI-compatible endpoint.'"),
        ("engine.py", "incoherent = maxai = 'vertical'"),
    ],
)
def test_a_vendor_in_prose_or_in_its_place_is_fine(path: str, text: str) -> None:
    assert not faults(vendors, [Source(path, text)])

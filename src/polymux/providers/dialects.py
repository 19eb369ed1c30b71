"""The dialects by name: what the column `dialect` of providers.toml may say."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from polymux.providers.anthropic import Anthropic
from polymux.providers.azure import Azure
from polymux.providers.base import Adapter
from polymux.providers.dify import Dify
from polymux.providers.gemini import Gemini
from polymux.providers.ollama import Ollama
from polymux.providers.openai import OpenAI

DIALECTS: Final[Mapping[str, Adapter]] = MappingProxyType(
    {
        "openai": OpenAI(),
        "anthropic": Anthropic(),
        "azure": Azure(),
        "ollama": Ollama(),
        "dify": Dify(),
        "gemini": Gemini(),
    }
)

"""What `polymux mock` says when it is up: its address, and a configuration that reaches it when pasted."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from polymux.mock.faults import FAULTS
from polymux.mock.provider import HEADER, PREFIX, Options

_PRESETS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {"openai": ("openai-compatible", "/v1"), "anthropic": ("anthropic-compatible", "")}
)


def faults() -> str:
    """All faults, a line each."""
    width = max(map(len, FAULTS))
    return "\n".join(f"  {name:{width}}  {fault.sentence}" for name, fault in FAULTS.items())


def config(url: str, options: Options) -> str:
    """A configuration with a provider for each dialect: `mock-openai`, `mock-anthropic`."""
    tables = []
    for dialect in options.dialects:
        preset, path = _PRESETS[dialect]
        lines = [f"[providers.mock-{dialect}]", f'preset = "{preset}"', f'base_url = "{url}{path}"']
        tables.append("\n".join([*lines, f'api_key = "{options.key or "any"}"']))
    return "\n\n".join(tables) + "\n"


def banner(url: str, options: Options) -> str:
    """The address, the configuration, and how to ask for a fault."""
    behaviour = f"has the fault {options.fault!r}: {FAULTS[options.fault].sentence}" if options.fault else "behaves"
    return "\n".join(
        [
            f"The mock provider is running at {url} and {behaviour}   (Ctrl-C stops it)",
            "",
            "  In polymux.toml:",
            "",
            *("    " + line if line else "" for line in config(url, options).splitlines()),
            "",
            f"  Then call mock-{options.dialects[0]}/NAME by any name. A call gets a fault by the model's name, mock-"
            f"{options.dialects[0]}/{PREFIX}stall,",
            f"  or by the header '{HEADER}: stall'. 'polymux mock --fault list' names the {len(FAULTS)} faults.",
            "",
        ]
    )

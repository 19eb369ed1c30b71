"""How a credential is shown to a provider: a table of header forms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

Headers = tuple[tuple[str, str], ...]

SCHEMES: Final[Mapping[str, Callable[[str], Headers]]] = MappingProxyType(
    {
        "bearer": lambda key: (("authorization", f"Bearer {key}"),),
        "optional": lambda key: (("authorization", f"Bearer {key}"),) if key else (),
        "x-api-key": lambda key: (("x-api-key", key),),
        "api-key": lambda key: (("api-key", key),),
    }
)

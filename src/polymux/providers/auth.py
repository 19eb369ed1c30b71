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
        "api-key": lambda key: (("authorization", f"Bearer {key}"),) if _is_token(key) else (("api-key", key),),
        "x-goog-api-key": lambda key: (("x-goog-api-key", key),),
    }
)


def _is_token(key: str) -> bool:
    """Whether it is a JSON web token, such as Entra ID's, and no key: three parts, the first an object in base64."""
    return key.startswith("eyJ") and key.count(".") == 2

"""Where catalogues are: the one in the package, and the user's own in the data directory."""

from __future__ import annotations

import os
import secrets
from importlib import resources
from pathlib import Path
from typing import Final

from polymux.providers.catalog import Catalog, newest, read

NAME: Final = "catalog.json"


def bundled() -> Catalog:
    """What this version came with."""
    return read(resources.files("polymux.providers").joinpath(NAME).read_bytes())


def current(data_dir: Path) -> Catalog:
    """The one in use: the user's own, unless this version came with a newer one. Raises ValueError for a file that is
    no catalogue, and OSError for one that cannot be read."""
    path = data_dir / NAME
    try:
        own = read(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        own = None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return newest(bundled(), own)


def keep(data_dir: Path, text: bytes) -> Path:
    """Make a catalogue the user's own (mode 0600), whole or not at all. Raises OSError."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = data_dir / NAME
    made = data_dir / f".{NAME}-{secrets.token_hex(8)}"
    try:
        with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        made.replace(path)
    finally:
        made.unlink(missing_ok=True)
    return path

"""Builds src/polymux/providers/catalog.json: `python tools/catalog.py MODELS_DEV_JSON DATE [PROVIDER ...]`.

MODELS_DEV_JSON: a file saved from https://models.dev/api.json (MIT; its licence is kept beside the catalogue).
DATE: when it was saved, YYYY-MM-DD. PROVIDER: one to add; those that are in the catalogue stay. Prints which
models got no price, and why; read the diff before a commit.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Final

from polymux.providers.catalog import read
from polymux.providers.modelsdev import convert

CATALOG: Final = Path(__file__).resolve().parents[1] / "src" / "polymux" / "providers" / "catalog.json"


def main(arguments: Sequence[str], to: Path = CATALOG) -> int:
    """The exit status: 1 for what is no catalogue, 2 for a wrong command line."""
    try:
        source, taken, *more = arguments
        date.fromisoformat(taken)
    except ValueError:
        sys.stderr.write("usage: python tools/catalog.py MODELS_DEV_JSON YYYY-MM-DD [PROVIDER ...]\n")
        return 2
    try:
        kept = read(to.read_bytes()).providers if to.exists() else ()
        converted = convert(Path(source).read_bytes(), taken, {*kept, *more})
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{source}: {error}\n")
        return 1
    to.write_bytes(converted.text)
    sys.stdout.write("".join(f"no price: {line}\n" for line in converted.unpriced))
    sys.stdout.write(f"wrote {to.name}, {len(converted.text)} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The seams: what is in memory or in files implements them, and nothing more is asked of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polymux.store import base
from polymux.store.journal import Journal
from polymux.store.memory import LocalCounters, LocalMemory, StaticKeys


def members(seam: Any) -> set[str]:
    return {name for name, value in vars(seam).items() if callable(value) and not name.startswith("_")}


@pytest.mark.parametrize(
    ("seam", "implementation"),
    [
        (base.Keys, StaticKeys),
        (base.Counters, LocalCounters),
        (base.Ledger, Journal),
        (base.Memory, LocalMemory),
    ],
)
def test_a_seam_is_implemented_and_has_no_backdoor(seam: type, implementation: type) -> None:
    assert members(seam)
    assert members(implementation) == members(seam)


def test_the_seams_are_enough(tmp_path: Path) -> None:
    """Typed as the seams, used as the engine uses them."""
    keys: base.Keys = StaticKeys([])
    counters: base.Counters = LocalCounters(lambda: 0.0)
    ledger: base.Ledger = Journal(tmp_path)
    memory: base.Memory = LocalMemory(lambda: 0.0)
    assert keys.find("nobody") is None
    assert counters.admit("rpm:a", 1).admitted
    assert memory.get("default", "nothing") is None
    ledger.close()

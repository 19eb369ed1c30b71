"""Bytes that others wrote, damaged at random: every reader takes them, or says that it cannot; nothing else comes out.

The same targets run for as long as one likes, led by coverage, in tools/fuzz.py.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fuzz.targets import OF_A_DIALECT, TARGETS, seeds

from polymux.providers.dialects import DIALECTS

PIECES = st.sampled_from(
    [
        *(b"", b"\0", b"\n", b"\r", b"\n\n", b"data: ", b"event: ", b":", b'"', b"{", b"}", b"[", b"]", b",", b"\\"),
        *(b"null", b"true", b"-1", b"1e999", b"9" * 30, b'""', b"{}", b"[]", b"[{}]", b"\xff", b"\\ud800"),
        *(b"[DONE]", b'"error":', b"\xef\xbb\xbf", b"KEY"),
    ]
)
STEADY = settings(
    derandomize=True, deadline=None, max_examples=150, suppress_health_check=[HealthCheck.large_base_example]
)


@st.composite
def damaged(draw: st.DrawFn, name: str) -> bytes:
    """A seed with pieces overwritten, put in, cut out or doubled; or anything."""
    body = bytearray(draw(st.sampled_from(seeds(name)) | st.binary(max_size=200)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(body)))
        end = at + draw(st.integers(0, 40))
        body[at:end] = draw(PIECES | st.binary(max_size=4) | st.just(bytes(body[at:end] * 2)))
    return (
        bytes([draw(st.integers(0, 255))]) + bytes(body[1:]) if name.startswith(("stream", "events")) else bytes(body)
    )


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_what_is_declared_comes_out(name: str) -> None:
    @STEADY
    @given(damaged(name))
    def run(data: bytes) -> None:
        TARGETS[name](data)

    run()


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_has_seeds_and_takes_them(name: str) -> None:
    found = seeds(name)
    assert found
    for seed in found:
        TARGETS[name](seed)


def test_every_dialect_is_fuzzed() -> None:
    assert len(TARGETS) == 3 + len(DIALECTS) * len(OF_A_DIALECT)


FOUND = [  # by tools/fuzz.py; each raised something else once
    (
        "stream-anthropic",
        b'\0data: {"type":"message_start","message":{"id":"m"}}\n\n'
        b'data: {"type":"content_block_start","index":0,"content_block":'
        b'{"type":"thinking","thinking":"","signature":"s","x":"\xff"}}\n\n'
        b'data: {"type":"content_block_stop","index":0}\n\n',
    ),
    (
        "whole-anthropic",
        b'{"content":[{"type":"tool_use","id":"a","name":"b","input":{"a":"\xff"}}],"stop_reason":"tool_use"}',
    ),
]


@pytest.mark.parametrize(("name", "data"), FOUND, ids=[name for name, _ in FOUND])
def test_what_was_found_once_holds(name: str, data: bytes) -> None:
    TARGETS[name](data)

"""Whatever bytes come, in whatever pieces, the thin start says what the real server says."""

from __future__ import annotations

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from support.client_streams import streams
from support.thin_here import Judged

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "120"))


@settings(max_examples=EXAMPLES)
@given(parts=streams)
def test_any_stream_is_answered_as_by_the_real_server(judged: Judged, parts: list[bytes]) -> None:
    judged.compare(parts)


@settings(max_examples=EXAMPLES // 4)
@given(parts=streams, cut=st.integers(0, 400), pieces=st.integers(1, 5))
def test_a_client_that_leaves_at_any_byte_hears_nothing_else(
    judged: Judged, parts: list[bytes], cut: int, pieces: int
) -> None:
    whole = b"".join(parts)
    said = whole[: max(len(whole) - cut, 0)]
    expected = [line for answers in judged.expected(*parts) for line in answers]
    thin = judged.thin()
    size = len(said) // pieces + 1
    for start in range(0, len(said), size):
        thin.say(said[start : start + size])
    for line in thin.end():
        assert line in expected or b"Connection closed" in line, line

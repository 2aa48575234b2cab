"""Whatever bytes come, in whatever pieces, the thin start says what the real server says."""

from __future__ import annotations

import os

from hypothesis import given, settings
from hypothesis import strategies as st

from support.thin_here import Judged
from support.client_streams import streams

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "120"))


@settings(max_examples=EXAMPLES)
@given(parts=streams)
def test_any_stream_is_answered_as_by_the_real_server(judged: Judged, parts: list[bytes]) -> None:
    expected = judged.expected(*parts)
    thin = judged.thin()
    try:
        for part, answers in zip(parts, expected, strict=False):
            thin.say(part)
            found = thin.out.taken(len(answers), limit_s=5)
            assert sorted(found) == sorted(answers), part
    finally:
        rest = thin.end()
    assert sorted(rest) == sorted(expected[-1])

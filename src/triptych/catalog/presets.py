"""Size tables: the pixels of a word such as "2K", by ratio. Data only."""

from __future__ import annotations

from collections.abc import Mapping

from triptych.core.offers import Size

PRESETS: Mapping[str, Mapping[str, Size]] = {
    "1K": {
        "1:1": (1024, 1024),
        "4:3": (1152, 864),
        "3:4": (864, 1152),
        "16:9": (1280, 720),
        "9:16": (720, 1280),
        "3:2": (1248, 832),
        "2:3": (832, 1248),
        "21:9": (1512, 648),
    },
    "2K": {
        "1:1": (2048, 2048),
        "4:3": (2304, 1728),
        "3:4": (1728, 2304),
        "16:9": (2848, 1600),
        "9:16": (1600, 2848),
        "3:2": (2496, 1664),
        "2:3": (1664, 2496),
        "21:9": (3136, 1344),
    },
    "3K": {
        "1:1": (3072, 3072),
        "4:3": (3456, 2592),
        "3:4": (2592, 3456),
        "16:9": (4096, 2304),
        "9:16": (2304, 4096),
        "3:2": (3744, 2496),
        "2:3": (2496, 3744),
        "21:9": (4704, 2016),
    },
    "4K": {
        "1:1": (4096, 4096),
        "4:3": (4704, 3520),
        "3:4": (3520, 4704),
        "16:9": (5504, 3040),
        "9:16": (3040, 5504),
        "3:2": (4992, 3328),
        "2:3": (3328, 4992),
        "21:9": (6240, 2656),
    },
}
"""Sizes by word and ratio: 2K to 4K as the origin documents them for 5.0 lite; 1K, for 4.0, by the same ratios."""


def rows(*words: str) -> dict[str, Mapping[str, Size]]:
    """Return the named rows of `PRESETS`, for an offer's `Sizes`."""
    return {word: PRESETS[word] for word in words}


def _with_turned(square: int, **portrait: Size) -> dict[str, Size]:
    """Return sizes by ratio from the portrait ones, named `r9_16`; each is added in landscape too."""
    row = {"1:1": (square, square)}
    for name, (width, height) in portrait.items():
        short, long = name[1:].split("_")
        row |= {f"{short}:{long}": (width, height), f"{long}:{short}": (height, width)}
    return row


SINGLE: Mapping[str, Mapping[str, Size]] = {
    "1K": _with_turned(
        1024, r2_3=(832, 1248), r3_4=(864, 1152), r4_5=(896, 1120), r9_16=(800, 1424), r9_21=(672, 1568)
    ),
    "1.5K": _with_turned(
        1536, r2_3=(1248, 1872), r3_4=(1344, 1792), r4_5=(1344, 1680), r9_16=(1152, 2048), r9_21=(1008, 2352)
    ),
    "2K": _with_turned(
        2048, r2_3=(1664, 2496), r3_4=(1776, 2368), r4_5=(1792, 2240), r9_16=(1584, 2816), r9_21=(1344, 3136)
    ),
}
"""Sizes of the models that make one image per request, from a reseller's table for 5.0 pro and flash (2026-10). It
includes the few sizes published for 5.5."""

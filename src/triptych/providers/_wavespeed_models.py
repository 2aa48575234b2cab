"""The models of WaveSpeedAI: their families, parameters, sizes and prices (docs/providers/wavespeed.md#models)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from triptych.catalog import presets
from triptych.core.offers import Offer, Operation, Size, Sizes
from triptych.providers import _offers as offering
from triptych.providers._offers import Family, LayersOffer


@dataclass(frozen=True, slots=True)
class WaveSpeedFamily(Family):
    """A family on WaveSpeedAI's model pages."""

    priced_by: str = "the provider's model pages"
    max_references: int = 10
    no_params: Mapping[str, str] = field(default_factory=lambda: offering.NO_SEED)
    by_ratio: bool = False
    """The request carries `aspect_ratio` and `resolution` in place of `size`."""


_RATIOS = ("1:1", "1:2", "2:1", "1:3", "3:1", "2:3", "3:2", "3:4", "4:3", "4:5", "5:4", "9:16", "16:9", "9:21", "21:9")
_TIERS_PX = {"1K": 1024**2, "1.5K": 1536**2, "2K": 2048**2, "3K": 3840 * 2160}


def _by_ratio(*words: str) -> Sizes:
    """Return the sizes of these tiers, one for each ratio, and no others.

    The pixels are the origin's where it has the ratio. The others are inferred from the tier's area, and 3K's area
    (about 8 MP) from its only published size, 3840x2160.
    """
    return Sizes(presets={word: {ratio: _pixels(word, ratio) for ratio in _RATIOS} for word in words}, exact=True)


def _pixels(word: str, ratio: str) -> Size:
    if found := presets.SINGLE.get(word, {}).get(ratio):
        return found
    wide, high = (int(side) for side in ratio.split(":"))
    width, height = (
        round(math.sqrt(_TIERS_PX[word] * one / other) / 16) * 16 for one, other in ((wide, high), (high, wide))
    )
    return width, height


_PRO_PROMPT = {"prompt_optimization": offering.prompt_optimization("prompt_optimization_mode", fast=True)}
_NO_BACKGROUND = {**offering.NO_SEED, "background": "its documented fields do not have it; seedream-5.5's do"}
_LAYERS_NOTE = "a layer job is charged for its largest number of images, however many it returns."
_PNG_LAYERS = LayersOffer(17, formats=("png",), default_format="png", note=_LAYERS_NOTE)
"""The layers of 5.0 pro and flash; with JPEG they lose their alpha channel."""

FAMILIES: Mapping[str, WaveSpeedFamily] = {
    "seedream-5.0-lite": WaveSpeedFamily(
        "bytedance/seedream-v5.0-lite",
        "0.035",
        offering.sized("2K", "3K", "4K", min_area=3_686_400),
        "the provider's documentation",
        formats=("png", "jpeg"),
    ),
    "seedream-4.5": WaveSpeedFamily("bytedance/seedream-v4.5", "0.04", offering.sized("2K", "4K", min_area=3_686_400)),
    "seedream-4.0": WaveSpeedFamily(
        "bytedance/seedream-v4", "0.027", offering.sized("1K", "2K", "4K", min_area=921_600)
    ),
    "seedream-5.5": WaveSpeedFamily(
        "bytedance/seedream-v5.5",
        by_ratio=True,
        params={"background": offering.BACKGROUND},
        layers=LayersOffer(100, formats=(), note=_LAYERS_NOTE),
        priced_by="the origin's list price; 3K is assumed at twice 2K. The provider's price call counts",
        **{
            **offering.V5_5,
            "sizes": _by_ratio("1K", "1.5K", "2K", "3K"),
            "above": ((offering.AREA_BOUND, "0.035"), (4_624_220, "0.07")),
        },
    ),
    "seedream-5.0-pro": WaveSpeedFamily(
        "bytedance/seedream-v5.0-pro",
        by_ratio=True,
        params=_PRO_PROMPT,
        no_params=_NO_BACKGROUND,
        layers=replace(_PNG_LAYERS, params=_PRO_PROMPT),
        priced_by="a layer job's price for 17 images; references as at the origin",
        **{**offering.V5_PRO, "sizes": _by_ratio("1K", "1.5K", "2K")},
    ),
    "seedream-5.0-flash": WaveSpeedFamily(
        "bytedance/seedream-v5.0-flash",
        by_ratio=True,
        no_params=_NO_BACKGROUND,
        layers=_PNG_LAYERS,
        priced_by="a layer job's price for 17 images",
        **{**offering.V5_FLASH, "sizes": _by_ratio("1K", "1.5K", "2K"), "usd": "0.027"},
    ),
}


def offers() -> tuple[Offer, ...]:
    """Return the offers; an edit may leave its size to the model, which follows the first reference."""
    follows = (Operation.EDIT, Operation.EDIT_SEQUENTIAL)
    return tuple(
        replace(one, sizes=replace(one.sizes, may_be_left_out=True)) if one.operation in follows else one
        for one in offering.offers("wavespeed", FAMILIES, offering.PATH_TAILS)
    )

"""What a provider sells: an offer is one model for one operation, with its sizes, limits and price.

Frozen values. Money is `Decimal` in US dollars, a size is `(width, height)` in pixels, dates are ISO texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

Size = tuple[int, int]


class Operation(StrEnum):
    """What a model can be asked for; a `-sequential` one answers with several coherent images."""

    GENERATE = "generate"
    GENERATE_SEQUENTIAL = "generate-sequential"
    EDIT = "edit"
    EDIT_SEQUENTIAL = "edit-sequential"

    @property
    def edits(self) -> bool:
        return self in (Operation.EDIT, Operation.EDIT_SEQUENTIAL)

    @property
    def sequential(self) -> bool:
        return self in (Operation.GENERATE_SEQUENTIAL, Operation.EDIT_SEQUENTIAL)


@dataclass(frozen=True, slots=True)
class Price:
    """A list price in parts, with the day it was read and where; `catalog.quote` adds the parts up.

    `usd_per_image` is the price of the smallest size tier. `above` holds the dearer tiers, the smallest area first: an
    output with more than so many pixels costs so much instead. Each reference after the first `free_references` of a
    request costs `usd_per_reference`.
    """

    usd_per_image: Decimal
    as_of: str
    source: str
    above: tuple[tuple[int, Decimal], ...] = ()
    usd_per_reference: Decimal = Decimal(0)
    free_references: int = 0


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """When a model came and goes (ISO dates), and who says so; empty strings where nobody does."""

    released: str = ""
    deprecated: str = ""
    retired: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Sizes:
    """What sizes an offer takes.

    `presets` maps a word ("2K") to its sizes by ratio ("16:9"). With `exact` only the presets' sizes are taken;
    without it any size between the areas (pixels) and within `aspect` (longer side over shorter) is. `default` is the
    preset meant when none is named. With `follows_reference` no size at all means the first reference's own pixels.
    """

    presets: Mapping[str, Mapping[str, Size]]
    exact: bool = False
    min_area: int = 1
    max_area: int = 1 << 62
    max_aspect: float = 16.0
    default: str = "2K"
    follows_reference: bool = False

    def all(self) -> tuple[Size, ...]:
        return tuple(size for by_ratio in self.presets.values() for size in by_ratio.values())


@dataclass(frozen=True, slots=True)
class Offer:
    """One model family, for one operation, as one provider sells it under its own endpoint id."""

    provider: str
    family: str
    operation: Operation
    endpoint: str
    price: Price
    sizes: Sizes
    max_references: int = 0
    max_outputs: int = 1
    max_references_and_outputs: int = 15
    formats: tuple[str, ...] = ()
    """Formats that can be asked for; empty: the model answers in a format of its own choice."""
    default_format: str | None = None
    """The format that is sent when the caller names none; None: no format is sent."""
    transparency: str = ""
    """Whether the model has a setting for a transparent background: "documented", "inferred", or "" for none."""
    inferred_endpoint: bool = False
    """The endpoint id follows the pattern of the provider's other ids; no document names it."""
    max_prompt_chars: int = 4000
    names_count_in_prompt: bool = False
    """The prompt itself has to say how many images are wanted."""
    latency_s: float = 12.0
    """What one image usually takes."""
    aliases: tuple[str, ...] = ()
    lifecycle: Lifecycle = field(default_factory=Lifecycle)


@dataclass(frozen=True, slots=True)
class Quote:
    """What a job will cost, and whether the provider said so (`exact`) or the list price did."""

    usd: Decimal
    exact: bool

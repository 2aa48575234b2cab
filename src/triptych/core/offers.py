"""Offers: one model for one operation at one provider, with its sizes, limits and price.

Frozen values. Money is `Decimal` in US dollars, a size is `(width, height)` in pixels, dates are ISO texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

Size = tuple[int, int]


class Operation(StrEnum):
    """The operations of models; a `-sequential` one returns several coherent images."""

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

    `usd_per_image` is the price of the smallest size tier. `above` has the dearer tiers, the smallest area first: an
    area in pixels, and the price of an output above it. Each reference of a request after the first `free_references`
    costs `usd_per_reference`.
    """

    usd_per_image: Decimal
    as_of: str
    source: str
    above: tuple[tuple[int, Decimal], ...] = ()
    usd_per_reference: Decimal = Decimal(0)
    free_references: int = 0


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The release, deprecation and retirement of a model (ISO dates), and their source; empty if unknown."""

    released: str = ""
    deprecated: str = ""
    retired: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of an offer.

    `presets` maps a word ("2K") to its sizes by ratio ("16:9"). With `exact` only these sizes are valid; otherwise any
    size with an area (pixels) between `min_area` and `max_area` and a ratio of its sides up to `max_aspect`. `default`
    is the preset if the caller names none. With `follows_reference` a request without a size gets the size of its first
    reference.
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
    """The formats that a request may name; empty: the model chooses the format."""
    default_format: str | None = None
    """The format for a request without one; None: no format is sent."""
    transparency: str = ""
    """The evidence for a setting for a transparent background: "documented", "inferred", or "" for no setting."""
    inferred_endpoint: bool = False
    """The endpoint id follows the pattern of the provider's other ids; no document names it."""
    max_prompt_chars: int = 4000
    names_count_in_prompt: bool = False
    """The prompt has to name the number of images."""
    latency_s: float = 12.0
    """The usual seconds for one image."""
    aliases: tuple[str, ...] = ()
    lifecycle: Lifecycle = field(default_factory=Lifecycle)


@dataclass(frozen=True, slots=True)
class Quote:
    """The expected cost of a request; `exact`: from the provider, not from the list price."""

    usd: Decimal
    exact: bool

"""Offers: one model for one operation at one provider, with its sizes, limits and price.

Frozen values. Money is `Decimal` in US dollars, a size is `(width, height)` in pixels, dates are ISO texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Any

Size = tuple[int, int]


class Operation(StrEnum):
    """The operations of models; a `-sequential` one returns several images, `layers` takes a picture apart."""

    GENERATE = "generate"
    GENERATE_SEQUENTIAL = "generate-sequential"
    EDIT = "edit"
    EDIT_SEQUENTIAL = "edit-sequential"
    LAYERS = "layers"

    @property
    def edits(self) -> bool:
        return self in (Operation.EDIT, Operation.EDIT_SEQUENTIAL, Operation.LAYERS)

    @property
    def sequential(self) -> bool:
        return self in (Operation.GENERATE_SEQUENTIAL, Operation.EDIT_SEQUENTIAL)


@dataclass(frozen=True, slots=True)
class Price:
    """A list price in parts, with the day it was read and where; `catalog.quote` adds the parts up.

    `usd_per_image` is the price of the smallest size tier. `above` has the dearer tiers, the smallest area first: an
    area in pixels, and the price of an output above it. Each reference of a request after the first `free_references`
    costs `usd_per_reference`. A megapixel is 1,000,000 pixels of an output, as a fraction. With `unknown`, no
    price is published, and only the provider's price call can quote a request.
    """

    usd_per_image: Decimal
    as_of: str
    source: str
    above: tuple[tuple[int, Decimal], ...] = ()
    usd_per_reference: Decimal = Decimal(0)
    free_references: int = 0
    usd_per_megapixel: Decimal = Decimal(0)
    usd_per_request: Decimal = Decimal(0)
    unknown: bool = False


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
    size with an area (pixels) between `min_area` and `max_area`, a ratio of its sides up to `max_aspect`, and each side
    (pixels) between `min_side` and `max_side`. `default`
    is the preset if the caller names none. With `follows_reference` a request without a size gets the size of its first
    reference. Without presets and with `exact` the model takes no size. With `may_be_left_out` a request may leave the
    size to the model, with "auto" or, if there is no `default`, without a word.
    """

    presets: Mapping[str, Mapping[str, Size]]
    exact: bool = False
    min_area: int = 1
    max_area: int = 1 << 62
    max_aspect: float = 16.0
    min_side: int = 1
    max_side: int = 1 << 31
    default: str = "2K"
    follows_reference: bool = False
    may_be_left_out: bool = False

    def all(self) -> tuple[Size, ...]:
        return tuple(size for by_ratio in self.presets.values() for size in by_ratio.values())


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of a model that a request may set by its name in `params`.

    `schema` is the JSON schema of its values; its `description` is a sentence. `path` is the place of the value in the
    body of the provider's request; without one the provider's flow writes it. `values` has the provider's word for each
    value that it spells differently. `usd_per_image` is what it adds to an image's price; `note` says what else it does
    and goes into the warnings of a job that sets it. `is_image`: the value is an image, and its URL is sent.
    `one_reference` are the values that only a request with exactly one reference takes. With `required` a request has
    to set it.
    """

    schema: Mapping[str, Any]
    path: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    usd_per_image: Decimal = Decimal(0)
    note: str = ""
    is_image: bool = False
    one_reference: tuple[str, ...] = ()
    required: bool = False


@dataclass(frozen=True, slots=True)
class LiveInputs:
    """The properties of a live model's schema that have Triptych's inputs; None: the schema has none for it.

    `image` takes one image as a text, `images` takes a list. A size goes to `size` in pixels, or its sides to `width`
    and `height`, or its ratio to `ratio` and its word to `tier` (`tiers` has the provider's spelling of the words).
    `formats` has the provider's spelling of the formats. `constants` are sent as they are: properties that the schema
    demands and that no request sets.
    """

    path: str
    """The path of the submit."""
    prompt: str | None = None
    image: str | None = None
    images: str | None = None
    count: str | None = None
    size: str | None = None
    size_separator: str = "*"
    width: str | None = None
    height: str | None = None
    ratio: str | None = None
    tier: str | None = None
    tiers: Mapping[str, str] = field(default_factory=dict)
    format: str | None = None
    formats: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)


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
    inferred_endpoint: bool = False
    """The endpoint id follows the pattern of the provider's other ids; no document names it."""
    min_prompt_chars: int = 1
    max_prompt_chars: int = 4000
    names_count_in_prompt: bool = False
    """The prompt has to name the number of images."""
    independent: bool = False
    """Several images of one request are independent, not a set: only a request that names the model uses it."""
    latency_s: float = 12.0
    """The usual seconds for one image."""
    aliases: tuple[str, ...] = ()
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    params: Mapping[str, Param] = field(default_factory=dict)
    """The parameters that a request may set, by Triptych's name or, where it has none, by the provider's."""
    no_params: Mapping[str, str] = field(default_factory=dict)
    """Usual parameters that it does not have, with the reason."""
    title: str = ""
    """The name and description in a provider's catalogue: data from outside, on one line."""
    live: LiveInputs | None = None
    """Set for an offer from a provider's live catalogue; None for one of the built-in table."""
    assumed: str = ""
    """Why its limits and price are assumptions: a warning of each job under it. Such an offer is made for one name."""

    @property
    def in_no_table(self) -> bool:
        """Whether a later process may not find this offer again, so that a job has to keep it."""
        return self.live is not None or bool(self.assumed)


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model of a provider's live catalogue, before its schema is mapped. Everything in it is data from outside.

    `kind` is the provider's category, such as "image-to-image"; `path` the path of its submit. `usd` is the listed
    price of one image, None without one. `schema` is the JSON schema of a request's fields; None: it is read from
    `schema_url`.
    """

    endpoint: str
    title: str
    kind: str
    path: str
    usd: Decimal | None = None
    description: str = ""
    schema: Mapping[str, Any] | None = None
    schema_url: str = ""


@dataclass(frozen=True, slots=True)
class Quote:
    """The expected cost of a request; `exact`: from the provider, not from the list price."""

    usd: Decimal
    exact: bool

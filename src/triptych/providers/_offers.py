"""Make a provider's offers from its table of families, and hold the values that several providers share.

Several providers share this file, so it knows none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from decimal import Decimal
from typing import Any, TypeVar

from triptych.catalog import presets
from triptych.core import errors
from triptych.core.models import ProviderRequest, Reference
from triptych.core.offers import Lifecycle, Offer, Operation, Param, Price, Size, Sizes
from triptych.providers import _reading as read

PRICED_ON = "2026-11-21"
LARGEST_AREA = 16_777_216
FROM_THE_ORIGIN = "the origin's list price; not read at this provider"

AREA_BOUND = 2_601_123
"""The largest output in pixels at the lower price: 1536² times 1.1025 (resellers' price pages, 2026-11-13)."""
FROM_THE_ORIGIN_5_5 = "BytePlus ModelArk's list price as resellers quote it (2026-11-13); not read at this provider"
FROM_THE_ORIGIN_PRO = "BytePlus ModelArk's list price as resellers quote it (2026-09-30); not read at this provider"

NO_SEED = {"seed": "its makers dropped it after Seedream 3.0, so it would do nothing"}
BACKGROUND = Param(
    {
        "type": "string",
        "enum": ["auto", "transparent", "opaque"],
        "description": "The background. With transparent the image is a PNG with an alpha channel.",
    },
    ("background",),
)
"""The background of Seedream 5.5."""
KEPT_BACKGROUND = Param(
    {
        "type": "string",
        "enum": ["opaque", "transparent"],
        "description": "The background. With transparent, an edit keeps the transparency of its one PNG.",
    },
    ("background",),
    note="transparent keeps the transparency that the one PNG already has; it removes no background",
    one_reference=("transparent",),
)
"""The background of Seedream 5.0 pro and flash (docs/providers/README.md#transparent-backgrounds)."""
WATERMARK = Param({"type": "boolean", "description": "Whether the image is marked as made by AI."}, ("watermark",))
WEB_SEARCH_TOOLS = [{"type": "web_search"}]
WEB_SEARCH = Param({"type": "boolean", "description": "Whether the model may search the web first."})
"""The web search of Seedream 5.0 lite; each provider's flow writes its tools."""


def prompt_optimization(*path: str, fast: bool = False) -> Param:
    """Return the parameter for the effort that goes into improving a prompt; with `fast`, it has a fast mode."""
    modes = ["fast", "standard"] if fast else ["standard"]
    return Param({"type": "string", "enum": modes, "description": "How the prompt is improved."}, path)


PATH_TAILS: Mapping[Operation, str] = {
    Operation.GENERATE: "",
    Operation.GENERATE_SEQUENTIAL: "/sequential",
    Operation.EDIT: "/edit",
    Operation.EDIT_SEQUENTIAL: "/edit-sequential",
}
"""The end of an endpoint id by operation, for providers with one endpoint per operation."""


LAYER_SIZES = Sizes(
    presets={"1K": {"1:1": (1024, 1024)}, "1.5K": {"1:1": (1536, 1536)}, "2K": {"1:1": (2048, 2048)}}, exact=True
)
"""The sizes of layer decomposition: tiers alone, each as its square; the shape is the input's."""


@dataclass(frozen=True, slots=True)
class LayersOffer:
    """A family's layer decomposition: one image in, the base and at most `max_outputs` - 1 layers out.

    `tail` follows the family's endpoint id. `usd` and `above` are prices of one returned image, the family's without
    them. `note` says what else it costs or does and goes into the warnings of a job. `inferred`: no document names the
    endpoint id.
    """

    max_outputs: int
    tail: str = "/layer-decomposition"
    usd: str | None = None
    above: tuple[tuple[int, str], ...] | None = None
    priced_by: str | None = None
    sizes: Sizes = LAYER_SIZES
    formats: tuple[str, ...] | None = None
    default_format: str | None = None
    latency_s: float = 120.0
    note: str = ""
    inferred: bool = False
    params: Mapping[str, Param] = field(default_factory=dict)
    """Its parameters besides `layers`."""


@dataclass(frozen=True, slots=True)
class Family:
    """The properties of a family at a provider; a `single` one makes one image per request.

    An `independent` one also makes several images, each independent of the others.
    """

    endpoint: str
    usd: str
    sizes: Sizes
    priced_by: str = FROM_THE_ORIGIN
    max_references: int = 14
    max_outputs: int = 15
    formats: tuple[str, ...] = ()
    single: bool = False
    independent: bool = False
    max_prompt_chars: int = 4000
    latency_s: float = 12.0
    aliases: tuple[str, ...] = ()
    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    above: tuple[tuple[int, str], ...] = ()
    usd_per_reference: str = "0"
    free_references: int = 0
    default_format: str | None = None
    params: Mapping[str, Param] = field(default_factory=dict)
    no_params: Mapping[str, str] = field(default_factory=dict)
    tails: Mapping[Operation, str] | None = None
    inferred: frozenset[Operation] = frozenset()
    layers: LayersOffer | None = None


AnyFamily = TypeVar("AnyFamily", bound=Family)

_BY_OPERATION = {"endpoint", "max_references", "max_outputs"}
_LAYERS_TEXT = "Take one picture apart: its base first, then its layers, each a PNG with an alpha channel."


def offers(
    provider: str, families: Mapping[str, Family], tails: Mapping[Operation, str] | None = None
) -> tuple[Offer, ...]:
    """Return an offer for each operation of each family. With `tails`, each operation has its own endpoint.

    A family's own `tails` replace the provider's. A family's field that `Offer` has too goes into each of its offers.
    A family with `layers` has an offer for layer decomposition too, after the others.
    """
    usual = tuple(
        Offer(
            provider=provider,
            family=name,
            operation=operation,
            endpoint=family.endpoint + ((family.tails or tails)[operation] if tails else ""),
            price=_price(family, operation),
            max_references=family.max_references if operation.edits else 0,
            max_outputs=family.max_outputs if operation.sequential else 1,
            inferred_endpoint=operation in family.inferred,
            names_count_in_prompt=operation.sequential and not family.independent,
            **_common_fields(family),
        )
        for name, family in families.items()
        for operation in tails or PATH_TAILS
        if not (family.single and not family.independent and operation.sequential)
    )
    return (*usual, *(_layers(provider, name, one, one.layers) for name, one in families.items() if one.layers))


def _layers(provider: str, name: str, family: Family, layers: LayersOffer) -> Offer:
    """Return a family's offer for layer decomposition."""
    priced = replace(
        family,
        usd=family.usd if layers.usd is None else layers.usd,
        above=family.above if layers.above is None else layers.above,
        priced_by=layers.priced_by or family.priced_by,
    )
    own = {
        "sizes": layers.sizes,
        "formats": family.formats if layers.formats is None else layers.formats,
        "default_format": layers.default_format,
        "latency_s": layers.latency_s,
        "max_references_and_outputs": 1 + layers.max_outputs,
        "independent": False,
        "params": {
            "layers": Param({"type": "boolean", "description": _LAYERS_TEXT}, note=layers.note),
            **layers.params,
        },
        "no_params": {**family.no_params, "background": "the layers of a picture are transparent and its base is not"},
    }
    return Offer(
        provider=provider,
        family=name,
        operation=Operation.LAYERS,
        endpoint=family.endpoint + layers.tail,
        price=_price(priced, Operation.LAYERS),
        max_references=1,
        max_outputs=layers.max_outputs,
        inferred_endpoint=layers.inferred,
        **{**_common_fields(family), **own},
    )


def _common_fields(family: Family) -> dict[str, Any]:
    """Return the family's fields that its offers have unchanged, those of a provider's own subclass too."""
    names = {one.name for one in fields(Offer)} & {one.name for one in fields(family)}
    return {name: getattr(family, name) for name in names - _BY_OPERATION}


def _price(family: Family, operation: Operation) -> Price:
    return Price(
        usd_per_image=Decimal(family.usd),
        as_of=PRICED_ON,
        source=family.priced_by,
        above=tuple((area, Decimal(usd)) for area, usd in family.above),
        usd_per_reference=Decimal(family.usd_per_reference) if operation.edits else Decimal(0),
        free_references=family.free_references if operation.edits else 0,
    )


def sized(*words: str, min_area: int, max_area: int = LARGEST_AREA) -> Sizes:
    """Return these tiers' sizes that lie within an area in pixels; all other sizes within it are allowed too."""
    rows = {
        word: {ratio: size for ratio, size in row.items() if min_area <= size[0] * size[1] <= max_area}
        for word, row in presets.rows(*words).items()
    }
    return Sizes(presets=rows, min_area=min_area, max_area=max_area)


TIERS_OR_AUTO = replace(LAYER_SIZES, default="", may_be_left_out=True)
"""The sizes of layer decomposition where, without a size, the images have the size of the input."""


def tier(edit: ProviderRequest) -> str:
    """Return the word of the row that a request's size is in; "auto" for a request without a size."""
    return next((word for word, row in edit.offer.sizes.presets.items() if edit.size in row.values()), "auto")


def image_format(edit: ProviderRequest) -> str | None:
    """Return the format to ask for: the request's, or PNG for a transparent background, or the offer's default."""
    transparent = edit.params.get("background") == "transparent"
    return (edit.format or ("png" if transparent else edit.offer.default_format)) if edit.offer.formats else None


def with_auto_size(families: Mapping[str, AnyFamily]) -> dict[str, AnyFamily]:
    """Return the families with sizes that a request may leave to the model, with "auto"."""
    return {
        name: replace(family, sizes=replace(family.sizes, may_be_left_out=True)) for name, family in families.items()
    }


def set_params(body: dict[str, Any], edit: ProviderRequest) -> None:
    """Write a request's parameters into a body, each at its place and in the provider's words.

    An image is written as a URL or a data URI. A parameter without a place is left to the caller.
    """
    for name, value in edit.params.items():
        param = edit.offer.params[name]
        if not param.path:
            continue
        place = body
        for key in param.path[:-1]:
            place = place.setdefault(key, {})
        word = param.values.get(value, value) if isinstance(value, str) else value
        place[param.path[-1]] = read.reference_uri(word) if isinstance(word, Reference) else word


def ratio_and_tier(offer: Offer, size: Size) -> tuple[str, str]:
    """Return the ratio and the word ("2K") of one of an offer's sizes.

    Raises: `errors.OutOfLimits` for a size that is not among them.
    """
    for word, row in offer.sizes.presets.items():
        for ratio, pixels in row.items():
            if pixels == size:
                return ratio, word
    raise errors.OutOfLimits(f"{offer.endpoint} takes no {size[0]}x{size[1]}; list_models shows its sizes.")


def single_sizes() -> Sizes:
    """Return the sizes of the families that make one image per request: 5.5, 5.0 pro and 5.0 flash."""
    return Sizes(presets=presets.SINGLE, min_area=921_600, max_area=4_624_220)


_SINGLE: Mapping[str, Any] = {
    "sizes": single_sizes(),
    "max_references": 10,
    "formats": ("png", "jpeg"),
    "single": True,
}
V5_5: Mapping[str, Any] = {
    **_SINGLE,
    "usd": "0.020",
    "above": ((AREA_BOUND, "0.035"),),
    "usd_per_reference": "0.008",
    "default_format": "png",
    "latency_s": 22.0,
}
"""Seedream 5.5 at its origin; a call takes 12 to 35 s (resellers' measurements, 2026-11-13)."""
V5_PRO: Mapping[str, Any] = {
    **_SINGLE,
    "usd": "0.045",
    "above": ((AREA_BOUND, "0.09"),),
    "usd_per_reference": "0.003",
    "free_references": 1,
    "latency_s": 120.0,
}
"""Seedream 5.0 pro at its origin; a call takes 110 to 130 s (a reseller's measurement)."""
V5_FLASH: Mapping[str, Any] = {**_SINGLE, "usd": "0.018", "latency_s": 15.0}
"""Seedream 5.0 flash at its origin: one price for all sizes, references free."""

"""Turn a provider's table of families into its offers, and hold what many of them say alike.

Several providers share this file, so it knows none of them; what only one of them sends stands in its own file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from triptych import catalog
from triptych.model import Lifecycle, Offer, Operation, Price, Sizes

PRICED_ON = "2026-11-21"
LARGEST_AREA = 16_777_216
FROM_THE_ORIGIN = "the origin's list price (wire notes 1.7); not read at this provider"
FROM_RESELLERS = "resellers' price pages, the highest tier; not read at this provider"

LITE_MAY_END = Lifecycle(
    deprecated="2026-11-24",
    source="a third party's claim about the origin (Volcengine Ark), not confirmed for resellers; wire notes 9",
)
"""The claimed end of Seedream 5.0 lite, as those say it who hand requests on to the origin."""

PATH_TAILS: Mapping[Operation, str] = {
    Operation.GENERATE: "",
    Operation.GENERATE_SEQUENTIAL: "/sequential",
    Operation.EDIT: "/edit",
    Operation.EDIT_SEQUENTIAL: "/edit-sequential",
}
"""What ends an endpoint's name where every operation has an endpoint of its own."""


@dataclass(frozen=True, slots=True)
class Family:
    """What sets a family apart at a provider; a `single` one makes one image per request."""

    endpoint: str
    usd: str
    sizes: Sizes
    priced_by: str = FROM_THE_ORIGIN
    max_references: int = 14
    max_outputs: int = 15
    formats: tuple[str, ...] = ()
    single: bool = False
    max_prompt_chars: int = 4000
    latency_s: float = 12.0
    latency_per_image_s: float = 6.0
    aliases: tuple[str, ...] = ()
    lifecycle: Lifecycle = field(default_factory=Lifecycle)


def offers(
    provider: str, families: Mapping[str, Family], tails: Mapping[Operation, str] | None = None
) -> tuple[Offer, ...]:
    """Return an offer for each operation of each family; with `tails`, each operation has an endpoint of its own."""
    return tuple(
        Offer(
            provider=provider,
            family=name,
            operation=operation,
            endpoint=family.endpoint + (tails[operation] if tails else ""),
            price=Price(Decimal(family.usd), PRICED_ON, family.priced_by),
            sizes=family.sizes,
            max_references=family.max_references if operation.edits else 0,
            max_outputs=family.max_outputs if operation.sequential else 1,
            formats=family.formats,
            max_prompt_chars=family.max_prompt_chars,
            names_count_in_prompt=operation.sequential,
            latency_s=family.latency_s,
            latency_per_image_s=family.latency_per_image_s,
            aliases=family.aliases,
            lifecycle=family.lifecycle,
        )
        for name, family in families.items()
        for operation in tails or Operation
        if not (family.single and operation.sequential)
    )


def sized(*words: str, least: int, most: int = LARGEST_AREA) -> Sizes:
    """Return the named sizes of these words that lie within an area in pixels, and any others within it."""
    rows = {
        word: {ratio: size for ratio, size in row.items() if least <= size[0] * size[1] <= most}
        for word, row in catalog.presets(*words).items()
    }
    return Sizes(presets=rows, min_area=least, max_area=most)


def up_to_4_mp() -> Sizes:
    """Return the sizes of the families that make one image per request."""
    return sized("1K", "2K", least=921_600, most=4_194_304)

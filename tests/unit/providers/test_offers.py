"""Offers made from a provider's table of families."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from decimal import Decimal

from triptych.core.offers import Offer, Operation
from triptych.providers import _offers as offering
from triptych.providers._offers import Family, LayersOffer


@dataclass(frozen=True, slots=True)
class _Own(Family):
    """A family of a provider that adds a field; offers have one of that name."""

    max_references_and_outputs: int = 15


FAMILY = _Own(
    "v9",
    "0.01",
    offering.single_sizes(),
    formats=("png",),
    default_format="png",
    params={"background": offering.BACKGROUND},
    no_params=offering.NO_SEED,
    max_prompt_chars=99,
    latency_s=7.0,
    aliases=("nine",),
    lifecycle=offering.Lifecycle(released="2026-01-01"),
    max_references_and_outputs=11,
)


def test_a_familys_fields_are_its_offers_fields() -> None:
    common = {one.name for one in fields(Offer)} & {one.name for one in fields(_Own)}
    by_operation = {"endpoint", "max_references", "max_outputs"}
    assert len(common - by_operation) == 11
    for offer in offering.offers("nobody", {"nine": FAMILY}, offering.PATH_TAILS):
        assert all(getattr(offer, name) == getattr(FAMILY, name) for name in common - by_operation)


def test_the_operation_decides_id_references_and_count() -> None:
    made = {o.operation: o for o in offering.offers("nobody", {"nine": FAMILY}, offering.PATH_TAILS)}
    assert {operation: (o.endpoint, o.max_references, o.max_outputs) for operation, o in made.items()} == {
        Operation.GENERATE: ("v9", 0, 1),
        Operation.GENERATE_SEQUENTIAL: ("v9/sequential", 0, 15),
        Operation.EDIT: ("v9/edit", 14, 1),
        Operation.EDIT_SEQUENTIAL: ("v9/edit-sequential", 14, 15),
    }


def test_an_independent_family_makes_several_without_naming_them() -> None:
    own = replace(FAMILY, single=True, independent=True)
    (made,) = (o for o in offering.offers("nobody", {"nine": own}) if o.operation is Operation.EDIT_SEQUENTIAL)
    assert (made.max_outputs, made.names_count_in_prompt, made.independent) == (15, False, True)


def test_a_family_with_layers_has_an_offer_for_them() -> None:
    layers = LayersOffer(17, usd="0.02", note="each layer is charged", inferred=True)
    *usual, last = offering.offers("nobody", {"nine": replace(FAMILY, layers=layers)}, offering.PATH_TAILS)
    assert Operation.LAYERS not in {offer.operation for offer in usual}
    assert (last.operation, last.endpoint, last.inferred_endpoint) == (Operation.LAYERS, "v9/layer-decomposition", True)
    assert (last.max_references, last.max_outputs, last.max_references_and_outputs) == (1, 17, 18)
    assert (last.price.usd_per_image, last.default_format) == (Decimal("0.02"), None)
    assert [*last.params] == ["layers"] and last.params["layers"].note == "each layer is charged"
    assert {"seed", "background"} == {*last.no_params}


def test_layers_without_a_price_cost_what_an_image_costs() -> None:
    family = replace(FAMILY, above=((offering.AREA_BOUND, "0.02"),), usd_per_reference="0.001", layers=LayersOffer(100))
    price = offering.offers("nobody", {"nine": family}, offering.PATH_TAILS)[-1].price
    assert (price.usd_per_image, price.above) == (Decimal("0.01"), ((offering.AREA_BOUND, Decimal("0.02")),))
    assert price.usd_per_reference == Decimal("0.001")

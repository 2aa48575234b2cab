"""Offers made from a provider's table of families."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from triptych.core.offers import Offer, Operation
from triptych.providers import _offers as offering
from triptych.providers._offers import Family


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

"""The models of the emulated live catalogues, as a provider lists them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any

from triptych.catalog import live_offers
from triptych.core.offers import ListedModel, Offer

PROVIDERS = ("atlas", "wavespeed")
READ_ON = "2026-11-21"
SOURCE = "the provider's list"


@cache
def entries(provider: str) -> Mapping[str, Mapping[str, Any]]:
    """Return the entries of a provider's catalogue by the model's id."""
    text = files("triptych_emulators").joinpath("catalogue", f"{provider}.json").read_text("utf-8")
    return {entry["model"]: entry for entry in json.loads(text)}


def listed(entry: Mapping[str, Any]) -> ListedModel:
    usd = entry["usd"] and Decimal(entry["usd"])
    return ListedModel(
        entry["model"], entry["title"], entry["kind"], f"/api/v3/{entry['model']}", usd, entry["description"]
    )


def mapped(provider: str, entry: Mapping[str, Any]) -> tuple[Offer, ...]:
    """Return the offers of an entry. Raises: `live_offers.NotMapped`."""
    return live_offers.offers(provider, listed(entry), entry["schema"], as_of=READ_ON, source=SOURCE)


def stand_in(
    properties: Mapping[str, Any],
    required: tuple[str, ...] = (),
    *,
    provider: str = "wavespeed",
    model: str = "new-lab/brush-1/edit",
    kind: str = "image-to-image",
    **keywords: Any,
) -> tuple[Offer, ...]:
    """Return the offers of a model in no table, from its properties alone."""
    schema = {"type": "object", "properties": dict(properties), "required": list(required), **keywords}
    entry = {"model": model, "title": "", "description": "", "kind": kind, "usd": None, "schema": schema}
    return mapped(provider, entry)


def sized(*, required: tuple[str, ...] = (), provider: str = "wavespeed", **properties: Any) -> Offer:
    """Return the one offer of a model that takes an image and these properties."""
    image = {"type": "string", "x-ui-component": "uploader", "x-accept": "image/*"}
    return only(stand_in({"image": image, **properties}, ("image", *required), provider=provider))


def only(found: tuple[Offer, ...]) -> Offer:
    (offer,) = found
    return offer

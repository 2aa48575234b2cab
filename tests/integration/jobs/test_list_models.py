"""`list_models`: the whole list in 4 KB, sizes once, every model and price in it; more when it is narrowed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest

from support.fixtures import Emulator, FakeClock, MakeService
from triptych import catalog
from triptych.core.offers import Operation
from triptych.jobs.service import MODELS_BYTES, Caller, ImageService
from triptych.providers import load, names
from triptych.server import tools
from triptych_emulators import faults, running

pytestmark = pytest.mark.anyio

HOSTED = [name for name in names() if not load(name).offline]
MOST_BYTES = 4096


async def asked(service: ImageService, **given: Any) -> tuple[dict[str, Any], str]:
    """Call the tool as a host does, and return the fields and the text; nothing is larger than it may be."""

    async def opened() -> ImageService:
        return service

    result = await tools.call(opened, "list_models", given, Caller())
    sent = json.loads(result.model_dump_json(by_alias=True, exclude_none=True))
    fields: dict[str, Any] = sent["structuredContent"]
    text: str = sent["content"][0]["text"]
    most = MODELS_BYTES if given else MOST_BYTES
    assert len(json.dumps(fields, ensure_ascii=False).encode()) <= most
    assert len(text.encode()) <= most
    return fields, text


@asynccontextmanager
async def with_all_keys(
    make_service: MakeService, clock: FakeClock, fault: str | None = None, **environ: str
) -> AsyncIterator[ImageService]:
    with ExitStack() as stack:
        apis = [stack.enter_context(running(name, clock=clock.monotonic)) for name in HOSTED]
        for api in apis:
            for known in faults(api.name):
                if (known.op, known.name) in (("models", fault), ("balance", fault)):
                    api.fault(known.op, known.name, times=None)
        async with make_service(*apis, **environ) as service:
            yield service


def told_of(fields: dict[str, Any]) -> set[tuple[str, str]]:
    """Return each model at each provider that the list has a price of."""
    rows = {(row["provider"], row["model"]) for row in fields["models"] if row["usd_per_image"] is not None}
    left = {(p["provider"], model) for p in fields["providers"] for model in p.get("others_usd_per_image", {})}
    return rows | left


def all_models(service: ImageService) -> set[tuple[str, str]]:
    return {(name, o.family) for name, account in service.config.accounts.items() for o in account.provider.offers}


async def test_without_a_key_the_list_names_every_model(make_service: MakeService) -> None:
    async with make_service() as service:
        fields, text = await asked(service)
        assert told_of(fields) == all_models(service)
    assert fields["models"][0]["provider"] == "draft" and fields["models"][0]["usable"]
    assert "set WAVESPEED_API_KEY" in text and "seedream-5.0-lite $0.035" in text


@pytest.mark.parametrize("default", ["", *HOSTED])
async def test_with_all_keys_the_default_provider_comes_first(
    make_service: MakeService, clock: FakeClock, default: str
) -> None:
    async with with_all_keys(make_service, clock, TRIPTYCH_PROVIDER=default) as service:
        fields, text = await asked(service)
        assert told_of(fields) == all_models(service)
    first = {row["provider"] for row in fields["models"][:3]}
    assert first == {fields["default_provider"]} == {default or "atlas"}
    assert all(f"{row['model']} on {row['provider']}: " in text for row in fields["models"])
    assert "more: query, operation or provider" in text
    for provider in fields["providers"]:
        shown = {row["model"] for row in fields["models"] if row["provider"] == provider["provider"]}
        assert not shown & provider.get("others_usd_per_image", {}).keys()


async def test_with_every_list_failing_it_still_fits(make_service: MakeService, clock: FakeClock) -> None:
    async with with_all_keys(make_service, clock, "503") as service:
        fields, _ = await asked(service)
        assert told_of(fields) == all_models(service)
        assert len(fields["warnings"]) > 3
        assert all(row["usable"] for row in fields["models"])


async def test_sizes_are_said_once_for_each_family_and_its_layers(make_service: MakeService) -> None:
    async with make_service() as service:
        for name, account in service.config.accounts.items():
            fields, text = await asked(service, provider=name)
            families = [row["model"] for row in fields["models"]]
            apart = {(offer.family, offer.operation is Operation.LAYERS) for offer in account.provider.offers}
            assert sorted(families) == sorted(family for family, _ in apart)
            assert text.count("sizes ") == len(families)


async def test_a_narrowed_list_has_endpoint_price_limits_and_reason(make_service: MakeService) -> None:
    async with make_service() as service:
        fields, text = await asked(service, query="5.0-lite", provider="atlas")
        offers = catalog.search(service.config.accounts["atlas"].provider.offers, "5.0-lite")
    (row,) = fields["models"]
    assert row["endpoints"] == {offer.operation: offer.endpoint for offer in offers}
    assert (row["max_references"], row["max_outputs"], row["max_references_and_outputs"]) == (14, 15, 15)
    assert (row["usable"], row["why_not"]) == (False, "set ATLASCLOUD_API_KEY")
    assert "up to 14 references, up to 15 images, 15 together" in text
    assert all(offer.endpoint in text for offer in offers)
    assert not any("others_usd_per_image" in provider for provider in fields["providers"])


@pytest.mark.parametrize("operation", ["generate", "generate-sequential", "edit", "edit-sequential"])
async def test_an_operation_shows_its_own_ids_alone(make_service: MakeService, operation: str) -> None:
    async with make_service() as service:
        fields, _ = await asked(service, operation=operation)
    assert fields["models"] and all(list(row["endpoints"]) == [operation] for row in fields["models"])


async def test_an_operation_with_another_live_price_has_its_own_row(make_service: MakeService, atlas: Emulator) -> None:
    async with make_service(atlas) as service:
        fields, text = await asked(service, provider="atlas")
    for row in fields["models"]:
        assert row["price_as_of"] == "live" or not row["usable"]
        assert row["usable"] or row["why_not"] in text

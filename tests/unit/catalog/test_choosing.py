"""Which provider does a job, and where a refused one goes: never where it may have been accepted before."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from support.fixtures import Emulator, FakeClock, Finish, MakeService
from support.jobs import Options, edit_chain, edit_sequence
from triptych.core import errors
from triptych_emulators import running

pytestmark = pytest.mark.anyio

NOW = Options(wait_s=0)


@pytest.fixture
def wavespeed(clock: FakeClock) -> Iterator[Any]:
    with running("wavespeed", latency_s=10.0, max_side=96, clock=clock.monotonic) as emulator:
        yield emulator


@pytest.mark.parametrize("fault", ["401", "402", "404", "429", "503"])
async def test_the_next_provider_does_what_one_refuses(
    make_service: MakeService, atlas: Emulator, wavespeed: Emulator, finish: Finish, coffee: str, fault: str
) -> None:
    atlas.fault("submit", fault, times=None)
    async with make_service(atlas, wavespeed) as service:
        started = await edit_sequence(service, [coffee], "three variants", 3, NOW)
        assert started.provider == "atlas"
        await finish(service)
        job = await service.job(started.job_id or "")
        charged, reserved = service.store.plain.money_since(0)
    assert (job.status, job.provider, job.returned) == ("done", "wavespeed", 3)
    assert job.endpoint == "bytedance/seedream-v5.0-lite/edit-sequential"
    assert any("Atlas Cloud refused" in warning and "wavespeed" in warning for warning in job.warnings)
    assert (len(atlas.accepted), len(wavespeed.accepted)) == (0, 1)
    assert (charged, reserved) == (Decimal("0.105"), 0)


async def test_a_provider_that_was_named_is_the_only_one(
    make_service: MakeService, atlas: Emulator, wavespeed: Emulator, finish: Finish, coffee: str
) -> None:
    atlas.fault("submit", "402", times=None)
    async with make_service(atlas, wavespeed) as service:
        started = await edit_sequence(service, [coffee], "warmer", 1, Options(wait_s=0, provider="atlas"))
        await finish(service)
        job = await service.job(started.job_id or "")
    assert (job.status, job.error.kind if job.error else "") == ("failed", "no_funds")
    assert wavespeed.seen == []


@pytest.mark.parametrize("fault", ["drop", "500", "html-502", "lost-answer"])
async def test_a_job_that_may_have_been_accepted_goes_nowhere_else(
    make_service: MakeService, atlas: Emulator, wavespeed: Emulator, finish: Finish, coffee: str, fault: str
) -> None:
    atlas.fault("submit", fault, times=1)
    async with make_service(atlas, wavespeed) as service:
        started = await edit_sequence(service, [coffee], "warmer", 1, NOW)
        await finish(service)
        assert (await service.job(started.job_id or "")).status in ("uncertain", "done")
    assert wavespeed.accepted == []


async def test_a_request_refused_for_its_content_goes_nowhere_else(
    make_service: MakeService, atlas: Emulator, wavespeed: Emulator, finish: Finish, coffee: str
) -> None:
    atlas.fault("submit", "451", times=None)
    async with make_service(atlas, wavespeed) as service:
        started = await edit_sequence(service, [coffee], "warmer", 1, NOW)
        await finish(service)
        assert (await service.job(started.job_id or "")).status == "failed"
    assert wavespeed.accepted == []


async def test_a_chain_keeps_its_model_when_a_provider_refuses(
    make_service: MakeService, atlas: Emulator, wavespeed: Emulator, finish: Finish, coffee: str
) -> None:
    atlas.fault("submit", "402", times=None)
    async with make_service(atlas, wavespeed) as service:
        started = await edit_chain(service, [coffee], ["warmer", "sepia"], options=NOW)
        await finish(service)
        job = await service.job(started.job_id or "")
    assert (job.status, job.provider, job.returned) == ("done", "wavespeed", 2)
    assert (len(atlas.seen_at("POST", "/api/v1/model/generateImage")), len(wavespeed.accepted)) == (1, 2)


async def test_a_route_above_the_agreed_cost_is_not_taken(
    make_service: MakeService, atlas: Emulator, wavespeed: Emulator, finish: Finish, coffee: str
) -> None:
    atlas.fault("submit", "402", times=None)
    async with make_service(atlas, wavespeed) as service:
        capped = Options(wait_s=0, max_cost_usd=Decimal("0.097"))  # 3 × 0.032 fits, 3 × 0.035 does not
        started = await edit_sequence(service, [coffee], "three variants", 3, capped)
        await finish(service)
        assert (await service.job(started.job_id or "")).status == "failed"
    assert wavespeed.accepted == []


async def test_the_cheapest_is_chosen_by_price(
    make_service: MakeService, atlas: Emulator, wavespeed: Emulator, coffee: str
) -> None:
    cheapest = Options(wait_s=0, provider="cheapest")
    async with make_service(atlas, wavespeed, TRIPTYCH_PROVIDER="wavespeed") as service:
        assert (await edit_sequence(service, [coffee], "warmer", 1, NOW)).provider == "wavespeed"
        assert (await edit_sequence(service, [coffee], "cooler", 3, cheapest)).provider == "atlas"
        # At 2K one image costs the same at both, at 1K it does not: the default stays, or goes.
        for size, provider in (("2K", "wavespeed"), ("1K", "atlas")):
            edit = await edit_sequence(service, [coffee], "warmer", 1, Options(**cheapest, size=size, dry_run=True))
            assert (edit.provider, edit.model) == (provider, "seedream-5.5")


async def test_without_a_named_provider_the_first_able_one_serves(
    make_service: MakeService, atlas: Emulator, wavespeed: Emulator, samples: Path
) -> None:
    many = [str(samples / name) for name in ("coffee.jpg", "cat.jpg", "rocket.jpg", "astronaut.jpg")] * 3
    async with make_service(atlas, wavespeed, TRIPTYCH_PROVIDER="wavespeed") as service:
        result = await edit_sequence(service, many, "one picture of all of them", 1, NOW)
        assert result.provider == "atlas"  # WaveSpeedAI takes ten references
        with pytest.raises(errors.OutOfLimits, match="10"):
            await edit_sequence(service, many, "one picture of all", 1, Options(wait_s=0, provider="wavespeed"))

"""Jobs on Novita through the real worker, against its emulator: one paid call each, and none is ever repeated."""

from __future__ import annotations

from decimal import Decimal

import pytest

from support.fixtures import Emulator, FakeClock, Finish, MakeService
from support.jobs import Options, edit_chain, edit_sequence, edited
from triptych_emulators import running

EMULATED = {"name": "novita", "max_side": 48}

pytestmark = pytest.mark.anyio

LITE = ("POST", "/v3/seedream-5.0-lite")
NOW = Options(wait_s=0, provider="novita")


async def test_a_sequence_is_one_call_with_the_reference_inside(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 3)
    assert (job.status, job.returned, job.cost.charged) == ("done", 3, Decimal("0.105"))
    assert all(image.path and image.url_expires_at for image in job.images)
    (call,) = api.seen_at(*LITE)
    (reference,) = call.json.pop("image")
    assert reference.startswith("data:image/jpeg;base64,")
    assert "3 images" in call.json.pop("prompt") and "x" in call.json.pop("size")
    assert call.json == {
        "watermark": False,
        "sequential_image_generation": "auto",
        "sequential_image_generation_options": {"max_images": 3},
    }
    assert call.headers["authorization"] == "Bearer test-key"
    assert len(api.accepted) == 1 and api.charged_usd == job.cost.charged


async def test_seedream_4_has_its_own_field_names(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(api) as service:
        options = Options(wait_s=0, provider="novita", model="seedream-4.0")
        started = await edit_sequence(service, [coffee], "two seasons", 2, options)
        await finish(service)
        assert (await service.job(started.job_id)).status == "done"
    (call,) = api.seen_at("POST", "/v3/seedream-4.0")
    assert len(call.json["images"]) == 1 and call.json["max_images"] == 2 and "image" not in call.json


async def test_a_chain_hands_each_result_on_as_its_url(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(api) as service:
        started = await edit_chain(service, [coffee], ["warmer", "add snow"], options=NOW)
        await finish(service)
        job = await service.job(started.job_id, every=True)
    assert (job.status, job.returned) == ("done", 2)
    first, second = api.seen_at(*LITE)
    assert first.json["image"][0].startswith("data:") and "sequential_image_generation" not in first.json
    assert second.json["image"] == [job.images[0].url]
    assert len(api.accepted) == 2


async def test_plain_base64_is_sent_where_data_uris_are_refused(
    make_service: MakeService, clock: FakeClock, finish: Finish, coffee: str
) -> None:
    with running("novita", max_side=48, clock=clock.monotonic, inline="plain") as plain:
        async with make_service(plain) as service:
            job = await edited(service, finish, coffee, 3)
            assert job.status == "done"
        assert [call.json["image"][0].startswith("data:") for call in plain.seen_at(*LITE)] == [True, False]
        assert len(plain.accepted) == 1


@pytest.mark.parametrize("fault", ["task-failed", "task-id"])
async def test_an_unclear_response_is_uncertain_and_never_repeated(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str, fault: str
) -> None:
    api.fault("submit", fault)
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 3)
    assert (job.status, job.error and job.error.kind) == ("uncertain", "uncertain")
    assert len(api.seen_at(*LITE)) == 1


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("403", "key_rejected"),
        ("moderated-200", "moderated"),
    ],
)
async def test_a_refusal_has_its_kind_and_frees_the_money(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str, fault: str, kind: str
) -> None:
    api.fault("submit", fault)
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 3)
        assert sum(service.store.plain.money_since(0)) == 0
    assert (job.status, job.error and job.error.kind) == ("failed", kind)
    assert job.error and len(job.error.message) < 1000
    assert api.charged_usd == 0


@pytest.mark.parametrize("fault", ["token-limit", "busy"])
async def test_a_busy_provider_is_asked_again_later(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str, fault: str
) -> None:
    api.fault("submit", fault, times=2)
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 3)
        assert job.status == "done"
    assert len(api.accepted) == 1 and len(api.seen_at(*LITE)) == 3

"""Jobs on ModelArk through the real engine, against its emulator: one paid call each, and nothing that came is lost."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from support.jobs import Options, edit_chain, edit_sequence, edited, ended, generate_sequence
from triptych_emulators import running

EMULATED = {"name": "ark", "max_side": 48}

pytestmark = pytest.mark.anyio

GENERATE = ("POST", "/images/generations")
NOW = Options(wait_s=0, provider="ark")


async def test_a_sequence_is_one_streamed_call_with_the_reference_inside(
    make_service: Any, api: Any, finish: Any, coffee: str
) -> None:
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 3, provider="ark")
    assert (job.status, job.returned, job.cost.charged) == ("done", 3, Decimal("0.105"))
    assert all(image.path and image.url_expires_at for image in job.images)
    (call,) = api.seen_at(*GENERATE)
    (reference,) = call.json.pop("image")
    assert reference.startswith("data:image/jpeg;base64,")
    width, height = call.json.pop("size").split("x")
    assert int(width) * int(height) >= 3_686_400
    assert "3 images" in call.json.pop("prompt")
    assert call.json == {
        "model": "seedream-5-0-260128",
        "response_format": "url",
        "watermark": False,
        "sequential_image_generation": "auto",
        "sequential_image_generation_options": {"max_images": 3},
        "stream": True,
    }
    assert call.headers["authorization"] == "Bearer test-key"
    assert len(api.accepted) == 1


async def test_images_from_a_prompt_alone_come_in_one_call_too(make_service: Any, api: Any, finish: Any) -> None:
    async with make_service(api) as service:
        started = await generate_sequence(service, "two lighthouses", 2, NOW)
        await finish(service)
        job = await service.job(started.job_id)
    assert (job.status, job.returned, len(api.accepted)) == ("done", 2, 1)
    assert "image" not in api.seen_at(*GENERATE)[0].json


async def test_a_chain_hands_each_result_on_as_its_url(make_service: Any, api: Any, finish: Any, coffee: str) -> None:
    async with make_service(api) as service:
        started = await edit_chain(service, [coffee], ["warmer", "add snow"], options=NOW)
        await finish(service)
        job = await service.job(started.job_id, every=True)
    assert (job.status, job.returned) == ("done", 2)
    first, second = api.seen_at(*GENERATE)
    assert first.json["image"][0].startswith("data:") and "stream" not in first.json
    assert second.json["image"] == [job.images[0].url]
    assert len(api.accepted) == 2


async def test_each_image_of_a_stream_is_home_before_the_next_one_is_made(
    make_service: Any, clock: Any, coffee: str
) -> None:
    with running("ark", max_side=48, latency_s=90.0, clock=clock.monotonic) as slow:
        async with make_service(slow) as service, anyio.create_task_group() as tasks:
            started = await edit_sequence(service, [coffee], "three seasons", 3, NOW)
            tasks.start_soon(service.worker.step)
            with anyio.fail_after(60):
                while not slow.works:
                    await anyio.lowlevel.checkpoint()
                for n in (1, 2):
                    clock.advance(30)
                    images = []
                    while not (n <= len(images) and images[n - 1].path):
                        images = (await service.job(started.job_id, every=True)).images
                        await anyio.lowlevel.checkpoint()
                    assert ((await service.job(started.job_id)).status, len(images)) == ("running", n)
                clock.advance(30)
        assert len(slow.accepted) == 1


async def test_a_failed_frame_leaves_the_others(make_service: Any, api: Any, finish: Any, coffee: str) -> None:
    api.fault("submit", "frame-failed", n=2)
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 3, provider="ark")
    assert (job.status, job.returned, job.cost.charged) == ("partial", 2, Decimal("0.070"))
    assert any("OutputImageSensitiveContentDetected" in warning for warning in job.warnings)
    assert job.cost.charged == api.charged_usd


@pytest.mark.parametrize("asked", ["stream-error", "stopped", "stopped, not-streamed", "frame-broken, not-streamed"])
async def test_an_answer_that_ends_in_an_error_is_partial(
    make_service: Any, api: Any, finish: Any, coffee: str, asked: str
) -> None:
    async with make_service(api) as service:
        started = await edit_sequence(service, [coffee], f"four cats [[emulate: {asked}]]", 4, NOW)
        job = await ended(service, finish, started.job_id)
    assert (job.status, job.returned, job.cost.charged) == ("partial", 1, Decimal("0.035")), job.text()
    assert any("is missing" in warning and "InternalServiceError" in warning for warning in job.warnings)
    assert job.cost.charged == api.charged_usd and len(api.accepted) == 1


async def test_a_model_that_makes_fewer_is_done_with_a_warning(
    make_service: Any, api: Any, finish: Any, coffee: str
) -> None:
    api.fault("submit", "fewer", n=3)
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 4, provider="ark")
    assert (job.status, job.returned) == ("done", 1)
    assert job.warnings == ["4 images were requested; 1 returned."]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("what", ["image", "no-image", "no-base64"])
async def test_an_inline_image_that_cannot_be_read_loses_only_its_frame(
    make_service: Any, api: Any, finish: Any, coffee: str, what: str, streamed: bool
) -> None:
    asked = f"inline n=2 what={what}{'' if streamed else ', not-streamed'}"
    async with make_service(api) as service:
        started = await edit_sequence(service, [coffee], f"three cats [[emulate: {asked}]]", 3, NOW)
        job = await ended(service, finish, started.job_id)
    whole = what == "image"
    assert (job.status, job.returned) == (("done", 3) if whole else ("partial", 2)), job.text()
    assert whole or any("/2 is missing" in warning and "decode" in warning for warning in job.warnings)
    assert len(api.accepted) == len(api.seen_at(*GENERATE)) == 1


@pytest.mark.parametrize("charset", ["hex", "utf-7", "undefined", "no-such", "utf-16"])
async def test_a_stream_is_read_as_utf_8_whatever_its_header_says(
    make_service: Any, api: Any, finish: Any, coffee: str, charset: str
) -> None:
    api.fault("submit", "charset", charset=charset)
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 3, provider="ark")
    assert (job.status, job.returned, len(api.accepted)) == ("done", 3, 1), job.text()
    assert len(api.seen_at(*GENERATE)) == 1


@pytest.mark.parametrize("quietly", [False, True])
async def test_a_stream_that_is_cut_is_uncertain_and_keeps_what_came(
    make_service: Any, api: Any, finish: Any, coffee: str, quietly: bool
) -> None:
    api.fault("submit", "cut", after=2, quietly=quietly)
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 4, provider="ark")
    assert (job.status, job.returned) == ("uncertain", 2)
    assert all(image.path for image in job.images)
    assert len(api.accepted) == len(api.seen_at(*GENERATE)) == 1


async def test_frames_of_a_cut_stream_that_could_not_be_fetched_at_first_come_home_too(
    make_service: Any, api: Any, finish: Any, coffee: str
) -> None:
    api.fault("submit", "cut", after=2)
    api.fault("result", "503", times=3)
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 4, provider="ark")
    assert (job.status, job.returned) == ("uncertain", 2)
    assert all(image.path for image in job.images)
    assert len(api.seen_at(*GENERATE)) == 1


@pytest.mark.parametrize(
    "fault", ["lost-answer", "html-502", "broken-json", "empty-body", "500", "504", "code-500-null"]
)
async def test_a_lost_answer_is_uncertain_and_never_sent_again(
    make_service: Any, api: Any, finish: Any, coffee: str, fault: str
) -> None:
    api.fault("submit", fault)
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 3, provider="ark")
    assert (job.status, job.error and job.error.kind) == ("uncertain", "uncertain")
    assert len(api.seen_at(*GENERATE)) == 1


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("key-unknown", "key_rejected"),
        ("no-funds", "no_funds"),
        ("quota", "no_funds"),
        ("model-not-open", "not_offered"),
        ("moderated-before", "moderated"),
        ("moderated", "moderated"),
        ("all-failed", "moderated"),
        ("empty", "failed"),
        ("413", "refused"),
    ],
)
async def test_a_refusal_fails_the_job_with_its_kind_and_frees_the_money(
    make_service: Any, api: Any, finish: Any, coffee: str, fault: str, kind: str
) -> None:
    api.fault("submit", fault)
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 3, provider="ark")
        assert sum(service.store.plain.money_since(0)) == 0
    assert (job.status, job.error and job.error.kind) == ("failed", kind)
    assert job.error and len(job.error.message) < 1000
    assert api.charged_usd == 0


@pytest.mark.parametrize("fault", ["429", "model-ipm", "burst", "overloaded", "503"])
async def test_a_busy_provider_is_asked_again_later(
    make_service: Any, api: Any, finish: Any, coffee: str, fault: str
) -> None:
    api.fault("submit", fault, times=2)
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 3, provider="ark")
        assert job.status == "done"
    assert len(api.accepted) == 1 and len(api.seen_at(*GENERATE)) == 3


async def test_volcengine_is_reached_through_the_base_url_alone(
    make_service: Any, clock: Any, finish: Any, coffee: str
) -> None:
    with running("ark", max_side=48, clock=clock.monotonic, volcengine=True) as volcengine:
        async with make_service(volcengine) as service:
            job = await edited(service, finish, coffee, 3, provider="ark")
            assert job.status == "done"
            listed = await service.list_models("5.0 lite", "edit-sequential", "ark")
        models = [call.json["model"] for call in volcengine.seen_at(*GENERATE)]
    assert models == ["seedream-5-0-260128", "doubao-seedream-5-0-260128"]
    (row,) = listed.models
    assert (row.endpoints, row.usable) == ({"edit-sequential": "seedream-5-0-260128"}, True)
    assert len(volcengine.accepted) == 1

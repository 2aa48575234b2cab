"""Runware through the real worker: one accepted task for each job, and nothing is paid twice."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support.fixtures import Emulator, FakeClock, Finish, MakeService
from support.jobs import NOW, Options, edit_chain, edit_sequence, edited, ended, generate_sequence
from triptych.core import errors

EMULATED = {"name": "runware", "latency_s": 10.0, "max_side": 64}

pytestmark = pytest.mark.anyio


def tasks(api: Emulator, kind: str) -> list[dict[str, Any]]:
    return [task for seen in api.seen_at("POST", "/") for task in seen.json if task["taskType"] == kind]


async def test_an_edit_of_three_is_one_task(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(api) as service:
        job = await edited(service, finish, coffee)
    assert (job.status, job.returned, job.provider) == ("done", 3, "runware")
    assert all(image.path and image.url and image.width for image in job.images)
    assert job.cost.charged == api.charged_usd == Decimal("0.105")
    (task,) = tasks(api, "imageInference")
    assert api.accepted == [task["taskUUID"]]
    (reference,) = task["inputs"]["referenceImages"]
    assert reference.startswith(f"{api.base_url}/_uploads/")
    assert task["settings"] == {"maxSequentialImages": 3} and "3" in task["positivePrompt"]
    assert (task["width"], task["height"], task["deliveryMethod"]) == (2496, 1664, "async")
    assert {seen.headers["authorization"] for seen in api.seen_at("POST", "/")} == {f"Bearer {api.key}"}


async def test_a_chain_edits_the_url_of_the_last_image(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(api) as service:
        made = await generate_sequence(service, "two lighthouses", 2, NOW)
        job = await ended(service, finish, made.job_id)
        assert (job.status, job.returned, len(api.accepted)) == ("done", 2, 1)
        started = await edit_chain(service, [coffee], ["warmer", "add snow"], (), NOW)
        chain = await ended(service, finish, started.job_id)
    assert chain.status == "done" and len(api.accepted) == 3
    made_, first, second = tasks(api, "imageInference")
    assert "inputs" not in made_ and "settings" not in first and "settings" not in second
    assert f"{api.base_url}/_results/" in second["inputs"]["referenceImages"][0]


@pytest.mark.parametrize("fault", ["lost-answer"])
async def test_a_lost_submit_is_polled_by_its_own_id(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str, fault: str
) -> None:
    api.fault("submit", fault)
    async with make_service(api) as service:
        job = await edited(service, finish, coffee)
    assert (job.status, job.returned) == ("done", 3), job.error
    assert len(tasks(api, "imageInference")) == len(api.accepted) == 1


@pytest.mark.parametrize("fault", ["drop"])
async def test_an_unsent_submit_is_repeated_under_its_id(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str, fault: str
) -> None:
    api.fault("submit", fault)
    async with make_service(api) as service:
        job = await edited(service, finish, coffee)
    assert (job.status, job.returned) == ("done", 3), job.error
    first, second = tasks(api, "imageInference")
    assert first == second and api.accepted == [first["taskUUID"]]
    assert api.charged_usd == Decimal("0.105")


async def test_a_failed_look_up_does_not_pay_twice(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    api.fault("submit", "lost-answer")
    api.fault("poll", "404")
    api.fault("details", "404")
    async with make_service(api) as service:
        job = await edited(service, finish, coffee)
    assert (job.status, job.returned) == ("done", 3), job.error
    # Runware said that it knew nothing, so the task was sent again; then it was a conflict.
    assert len(tasks(api, "imageInference")) == 2 and len(api.accepted) == 1


@pytest.mark.parametrize("fault", ["trickle", "trickle-bare", "forgotten", "not-found-at-first", "at-once"])
async def test_a_sequence_is_complete_despite_odd_polls(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str, fault: str
) -> None:
    api.fault("submit" if fault == "at-once" else "poll", fault)
    if fault == "at-once":
        api.runner.latency_s = 0.0
    async with make_service(api) as service:
        job = await edited(service, finish, coffee)
    assert (job.status, job.returned) == ("done", 3), job.error
    assert len(api.accepted) == 1


async def test_images_that_come_one_by_one_are_awaited(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    api.fault("poll", "one-by-one", seconds=12)
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 4)
    assert (job.status, job.returned, job.warnings) == ("done", 4, [])
    assert job.cost.charged == api.charged_usd == Decimal("0.140")


async def test_a_shortfall_is_reported_after_a_minute_and_checked_again(
    make_service: MakeService, api: Emulator, finish: Finish, clock: FakeClock, coffee: str
) -> None:
    api.fault("poll", "fewer", times=None)
    async with make_service(api) as service:
        started = await edit_sequence(service, [coffee], "make it golden hour", 3, NOW)
        began_s = clock.monotonic()
        job = await ended(service, finish, started.job_id)
        assert (job.status, job.returned) == ("done", 2) and job.warnings
        assert 70 <= clock.monotonic() - began_s < 130
        assert job.cost.charged is None, "not before the second look"
        polls = api.performed["poll"]
        await settled(service, clock)
        job = await service.job(started.job_id)
    assert (job.status, job.returned, api.performed["poll"]) == ("done", 2, polls + 1)
    assert job.cost.charged == api.charged_usd == Decimal("0.07")


@pytest.mark.parametrize("trouble", ["", "html-502"])
async def test_an_image_after_the_assumed_end_is_stored(
    make_service: MakeService,
    api: Emulator,
    finish: Finish,
    clock: FakeClock,
    coffee: str,
    tmp_path: Path,
    trouble: str,
) -> None:
    api.fault("poll", "one-late", seconds=100)
    async with make_service(api, TRIPTYCH_ALLOWED_DIRS=os.pathsep.join([str(tmp_path), coffee])) as service:
        started = await edit_sequence(
            service, [coffee], "make it golden hour", 4, Options(wait_s=0, save_to=str(tmp_path))
        )
        job = await ended(service, finish, started.job_id)
        assert (job.status, job.returned) == ("done", 3)
        if trouble:
            api.fault("poll", trouble)
        await settled(service, clock)
        job = await service.job(started.job_id)
    assert (job.status, job.returned) == ("done", 4)
    assert all(image.path for image in job.images) and len(list(tmp_path.glob("*-0[1-4].*"))) == 4
    assert any("arrived late" in warning for warning in job.warnings)
    assert job.cost.charged == api.charged_usd == Decimal("0.140")


async def test_an_unknown_charge_becomes_the_quote_of_the_images(
    make_service: MakeService, api: Emulator, finish: Finish, clock: FakeClock, coffee: str
) -> None:
    api.fault("poll", "fewer", times=None)
    async with make_service(api) as service:
        started = await edit_sequence(service, [coffee], "make it golden hour", 3, NOW)
        await finish(service)
        api.fault("poll", "html-502", times=None)
        await settled(service, clock)
        job = await service.job(started.job_id)
        assert service.store.plain.money_since(0) == (Decimal("0.07"), 0)
    assert (job.status, job.returned, job.cost.charged) == ("done", 2, Decimal("0.07"))


async def test_variations_are_one_task_and_one_job(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(api) as service:
        dry = await edit_sequence(service, [coffee], "dawn", 3, {"model": "seedream-5.5", "dry_run": True})
        job = await edited(service, finish, coffee, 3, model="seedream-5.5")
        again = await edited(service, finish, coffee, 3, model="seedream-5.5")
        assert service.store.plain.money_since(0) == (Decimal("0.129"), 0)
    assert dry.cost.quoted == job.cost.quoted == job.cost.charged == api.charged_usd == Decimal("0.129")
    assert (job.status, job.requested, job.returned) == ("done", 3, 3)
    assert (again.job_id, len(api.accepted)) == (job.job_id, 1)
    (task,) = tasks(api, "imageInference")
    assert task["numberResults"] == 3 and "settings" not in task and task["positivePrompt"] == "make it golden hour"
    assert any("independent variations" in warning for warning in job.warnings)


async def test_variations_of_a_model_for_sets_are_one_task(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 3, params={"variations": True})
    (task,) = tasks(api, "imageInference")
    assert (task["model"], task["numberResults"]) == ("bytedance:seedream@5.0-lite", 3)
    assert task["positivePrompt"] == "make it golden hour" and "settings" not in task
    assert (job.returned, job.cost.charged) == (3, Decimal("0.105"))
    assert any("independent variations" in warning for warning in job.warnings)


@pytest.mark.parametrize("fault", ["frame-failed", "fewer"])
async def test_a_missing_variation_is_not_charged(
    make_service: MakeService, api: Emulator, finish: Finish, clock: FakeClock, coffee: str, fault: str
) -> None:
    api.fault("poll", fault, times=None)
    async with make_service(api) as service:
        started = await edit_sequence(service, [coffee], "dawn", 3, {**NOW, "model": "seedream-5.5"})
        await finish(service)
        await settled(service, clock)
        job = await service.job(started.job_id)
        assert service.store.plain.money_since(0) == (Decimal("0.086"), 0)
    assert (job.requested, job.returned) == (3, 2)
    assert job.cost.quoted == Decimal("0.129") and job.cost.charged == api.charged_usd == Decimal("0.086")


async def test_a_webp_is_stored_shown_and_saved_as_one(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    async with make_service(api, TRIPTYCH_ALLOWED_DIRS=os.pathsep.join([str(tmp_path), coffee])) as service:
        params = {"background": "transparent"}
        job = await edited(
            service, finish, coffee, 1, model="seedream-5.5", format="webp", params=params, save_to=str(out)
        )
        (image,) = job.images
        assert image.path and image.path.endswith(".webp") and image.mime_type == "image/webp"
        assert [saved.suffix for saved in out.iterdir()] == [".webp"]
        with Image.open(image.path) as stored:
            assert (stored.format, stored.mode) == ("WEBP", "RGBA")
        chain = await edit_chain(service, [image.handle], ["warmer"], (), {**NOW, "format": "webp"})
        chain = await ended(service, finish, chain.job_id)
    assert chain.status == "done"
    first, second = tasks(api, "imageInference")
    assert {first["outputFormat"], second["outputFormat"]} == {"WEBP"}
    assert second["inputs"]["referenceImages"][0].endswith(".webp")


async def test_a_lifetime_sets_the_expiry_of_the_urls(
    make_service: MakeService, api: Emulator, finish: Finish, clock: FakeClock, coffee: str
) -> None:
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 2, params={"ttl_s": 3600})
        usual = await edited(service, finish, coffee, 1)
        (outputs, others) = [service.store.plain.outputs(one.job_id) for one in (job, usual)]
    assert [task["ttl"] for task in tasks(api, "imageInference")] == [3600, 86400]
    left_s = [(output.url_expires_at - clock.now()).total_seconds() for output in (*outputs, *others)]
    assert 0 < left_s[0] <= 3600 < 80_000 < left_s[2] <= 86400


async def test_flagged_content_warns_and_is_delivered(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    api.fault("poll", "flagged", n=2)
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 2, params={"safety": {"checkContent": True}})
    assert job.returned == 2
    assert any("flags the content of image 2" in warning for warning in job.warnings)
    assert any("may charge for its check" in warning for warning in job.warnings)


@pytest.mark.parametrize("params", [{"seed": 1}, {"ttl_s": 1}, {"upload_endpoint": "http://a.example"}, {"layers": 1}])
async def test_a_wrong_parameter_sends_nothing(
    make_service: MakeService, api: Emulator, coffee: str, params: dict[str, Any]
) -> None:
    async with make_service(api) as service:
        with pytest.raises(errors.OutOfLimits):
            await edit_sequence(service, [coffee], "dawn", 1, {**NOW, "params": params, "provider": "runware"})
    assert not api.seen


async def test_an_automatic_size_is_left_to_the_model(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(api) as service:
        job = await edited(service, finish, coffee, 1, model="seedream-5.5", size="auto")
    (task,) = tasks(api, "imageInference")
    assert task["resolution"] == "2K" and not {"width", "height"} & {*task}
    assert job.cost.quoted == job.cost.charged == api.charged_usd == Decimal("0.043")


async def test_layers_are_refused_with_the_reason(make_service: MakeService, api: Emulator, coffee: str) -> None:
    async with make_service(api) as service:
        for model in (None, "seedream-5.5"):
            given: Any = {
                **NOW,
                "params": {"layers": True},
                "provider": "runware",
                **({"model": model} if model else {}),
            }
            with pytest.raises(errors.OutOfLimits, match="Runware does not document how it returns layers"):
                await edit_sequence(service, [coffee], "take it apart", 1, given)
    assert not api.seen


async def settled(service: Any, clock: FakeClock) -> None:
    """Let an hour pass, with all that is to be done in it."""
    for _ in range(60):
        clock.advance(60)
        while await service.worker.step():
            pass


async def test_many_at_once_are_swept_with_one_request(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(api) as service:
        for prompt in ("one", "two", "three"):
            await edit_sequence(service, [coffee], prompt, 2, NOW)
        while len(api.accepted) < 3:
            await service.worker.step()
        assert await service.worker.sweep_is_due("runware")
        api.finish_all()
        await service.worker.sweep("runware")
        swept = [seen.json for seen in api.seen_at("POST", "/") if len(seen.json) == 3]
        assert [{task["taskUUID"] for task in one} for one in swept] == [set(api.accepted)]
        await finish(service)
    assert len(api.accepted) == 3

"""The engine against the Atlas emulator: every answer ends in the right state, and nothing is paid twice.

The clock is simulated: waiting drives the engine.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.clocks import when
from support.fixtures import Emulator, FakeClock, Finish, MakeService
from support.jobs import Options, edit_chain, edit_sequence, generate_sequence
from triptych.core import errors
from triptych.core.models import State
from triptych.core.states import LEASE_S
from triptych.jobs.results import JobResult
from triptych.jobs.service import ImageService
from triptych.storage.claims import Slots
from triptych_emulators import running
from triptych_emulators.kit.jobs import EmulatedJob

pytestmark = pytest.mark.anyio

SUBMIT = ("POST", "/api/v1/model/generateImage")
NOW = Options(wait_s=0)


async def edit(
    service: ImageService, image: str, prompt: str = "make it golden hour", count: int = 2, **options: Any
) -> str:
    result = await edit_sequence(service, [image], prompt, count, Options(wait_s=0, **options))
    assert result.job_id
    return result.job_id


async def ended(service: ImageService, finish: Finish, job_id: str) -> JobResult:
    await finish(service)
    return await service.job(job_id)


async def test_an_edit_comes_home_with_one_submit(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(atlas) as service:
        job = await ended(service, finish, await edit(service, coffee, count=3))
    assert (job.status, job.returned, job.requested) == ("done", 3, 3)
    assert len(atlas.accepted) == 1
    assert [image.handle for image in job.images] == [f"{job.job_id}/{n}" for n in (1, 2, 3)]
    assert all(image.path and image.url and image.url_expires_at and image.width for image in job.images)


async def test_the_body_sent_is_flat_with_the_models_fields(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(atlas) as service:
        await ended(service, finish, await edit(service, coffee, "four seasons", 4, size="2K", format="png"))
    (submit,) = atlas.seen_at(*SUBMIT)
    body = submit.json
    assert body.pop("images")[0].startswith(atlas.base_url)
    assert body == {
        "model": "bytedance/seedream-v5.0-lite/edit-sequential",
        "prompt": "four seasons. Generate exactly 4 images." if "." in body["prompt"] else body["prompt"],
        "max_images": 4,
        "size": "2496*1664",
        "output_format": "png",
    }
    assert "4" in body["prompt"] or "four" in body["prompt"]
    assert submit.headers["authorization"] == f"Bearer {atlas.key}"
    assert submit.headers["user-agent"].startswith("triptych/")


async def test_an_image_is_uploaded_once_and_used_again(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(atlas) as service:
        await ended(service, finish, await edit(service, coffee, "warmer"))
        await ended(service, finish, await edit(service, coffee, "cooler"))
    assert len(atlas.seen_at("POST", "/api/v1/model/uploadMedia")) == 1


SURVIVED_POLLS = [
    "html-502",
    "broken-json",
    "empty-body",
    "500",
    "503",
    "429",
    "401",
    "code-500-null",
    "drop",
    "unknown-status",
    "pending-after-processing",
    "400-at-first",
    "404-at-first",
    "outputs-objects",
    "output-old-spelling",
    "other-host-url",
    "price-late",
]


@pytest.mark.parametrize("fault", SURVIVED_POLLS)
async def test_no_odd_answer_to_a_poll_kills_a_job(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str, fault: str
) -> None:
    atlas.fault("poll", fault, times=3)
    async with make_service(atlas) as service:
        job = await ended(service, finish, await edit(service, coffee))
    assert (job.status, job.returned) == ("done", 2), job.error
    assert len(atlas.accepted) == 1


async def test_a_single_output_may_be_a_bare_string(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    atlas.fault("poll", "outputs-string", times=None)
    async with make_service(atlas) as service:
        job = await ended(service, finish, await edit(service, coffee, count=1))
    assert (job.status, job.returned) == ("done", 1)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("failed-200", "failed"),
        ("moderated", "moderated"),
        ("failed-500", "failed"),
        ("200-then-500", "failed"),
        ("error-object", "failed"),
        ("timeout-status", "failed"),
        ("canceled", "failed"),
        ("empty-outputs", "failed"),
    ],
)
async def test_a_providers_decision_fails_the_job_and_frees_its_money(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str, fault: str, kind: str
) -> None:
    atlas.fault("poll", fault, times=None)
    async with make_service(atlas) as service:
        job = await ended(service, finish, await edit(service, coffee))
        reserved = sum(service.store.plain.money_since(0))
    assert (job.status, job.returned) == ("failed", 0)
    assert job.error and job.error.kind == kind
    assert len(job.error.message) < 1000
    assert reserved == atlas.charged_usd == 0
    assert len(atlas.accepted) == 1


@pytest.mark.parametrize("fault", ["429", "503"])
async def test_a_submit_that_surely_was_not_accepted_is_sent_again(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str, fault: str
) -> None:
    atlas.fault("submit", fault, times=2)
    async with make_service(atlas) as service:
        job = await ended(service, finish, await edit(service, coffee))
    assert job.status == "done"
    assert len(atlas.seen_at(*SUBMIT)) == 3
    assert len(atlas.accepted) == 1


async def test_a_providers_retry_after_is_kept(
    make_service: MakeService, atlas: Emulator, clock: FakeClock, coffee: str
) -> None:
    atlas.fault("submit", "429", times=1, retry_after=40)
    async with make_service(atlas) as service:
        await edit(service, coffee)
        while not atlas.seen_at(*SUBMIT):
            await service.worker.step()
        started = clock.now()
        while len(atlas.seen_at(*SUBMIT)) < 2:
            if not await service.worker.step():
                clock.advance(1)
    assert (clock.now() - started).total_seconds() >= 40


@pytest.mark.parametrize(
    ("fault", "kind"), [("401", "key_rejected"), ("402", "no_funds"), ("403", "key_rejected"), ("451", "refused")]
)
async def test_a_refusal_fails_the_job_at_once_and_costs_nothing(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str, fault: str, kind: str
) -> None:
    atlas.fault("submit", fault, times=None)
    async with make_service(atlas) as service:
        job = await ended(service, finish, await edit(service, coffee))
        reserved = sum(service.store.plain.money_since(0))
    assert job.status == "failed"
    assert job.error and job.error.kind == kind
    assert len(atlas.seen_at(*SUBMIT)) == 1
    assert reserved == 0 and atlas.charged_usd == 0


@pytest.mark.parametrize("fault", ["lost-answer", "broken-json", "empty-body", "no-id"])
async def test_a_submit_with_a_lost_answer_is_found_not_repeated(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str, fault: str
) -> None:
    atlas.fault("submit", fault, times=1)
    async with make_service(atlas) as service:
        job = await ended(service, finish, await edit(service, coffee))
    assert (job.status, job.returned) == ("done", 2)
    assert len(atlas.seen_at(*SUBMIT)) == 1
    assert len(atlas.accepted) == 1


@pytest.mark.parametrize("fault", ["drop", "500", "html-502", "504", "code-500-null"])
async def test_a_submit_not_found_is_uncertain_and_never_resent(
    make_service: MakeService, atlas: Emulator, finish: Finish, clock: FakeClock, coffee: str, fault: str
) -> None:
    atlas.fault("submit", fault, times=1)
    async with make_service(atlas) as service:
        job_id = await edit(service, coffee)
        job = await ended(service, finish, job_id)
        assert job.status == "uncertain"
        assert job.error and job.error.kind == "uncertain"
        assert job.next and all(way in job.next for way in ("get_status", "cancel_job", "again=true"))
        charged, reserved = service.store.plain.money_since(0)
        assert (charged, reserved) == (0, Decimal("0.064"))
        # The same request attaches to it; only `again` pays.
        same = await edit_sequence(service, [coffee], "make it golden hour", 2, NOW)
        assert same.job_id == job_id
        assert len(atlas.seen_at(*SUBMIT)) == 1
        again = await edit_sequence(service, [coffee], "make it golden hour", 2, Options(wait_s=0, again=True))
        assert again.job_id != job_id
        assert (await ended(service, finish, again.job_id or "")).status == "done"
        # Looking again does not find it either, and still sends nothing.
        await service.get_status(job_id)
        await finish(service)
        clock.advance(600)
        await finish(service)
        assert (await service.job(job_id)).status == "uncertain"
        lost = await service.cancel_job(job_id)
        assert lost.status == "cancelled"
    assert len(atlas.accepted) == 1


async def test_a_late_history_entry_resolves_an_uncertain_job(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    atlas.fault("submit", "lost-answer", times=1)
    atlas.fault("history", "500", times=None)
    async with make_service(atlas) as service:
        job_id = await edit(service, coffee)
        assert (await ended(service, finish, job_id)).status == "uncertain"
        atlas.clear()
        await service.get_status(job_id)
        assert (await ended(service, finish, job_id)).status == "done"
    assert len(atlas.accepted) == 1


async def test_finding_a_lost_submit_needs_none_of_its_inputs(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    atlas.fault("submit", "lost-answer", times=1)
    async with make_service(atlas) as service:
        job_id = await edit(service, coffee)
        while not atlas.accepted:
            assert await service.worker.step()
        (prediction,) = service.store.plain.predictions(job_id)
        image = service.store.plain.image_by_handle(prediction.inputs[0])
        assert image
        uploads = len(atlas.seen_at("POST", "/api/v1/model/uploadMedia"))
        service.store.plain.forget_copies("atlas", [url for url in prediction.sent_urls if url])
        image.path.unlink()
        assert (await ended(service, finish, job_id)).status == "done"
        assert len(atlas.seen_at("POST", "/api/v1/model/uploadMedia")) == uploads
    assert len(atlas.seen_at(*SUBMIT)) == len(atlas.accepted) == 1


async def test_a_lost_submit_does_not_take_another_requests_ticket(
    make_service: MakeService, atlas: Emulator, finish: Finish, clock: FakeClock, coffee: str
) -> None:
    atlas.fault("submit", "drop")
    async with make_service(atlas) as service:
        lost, other = await edit(service, coffee), await edit(service, coffee, again=True)
        while not atlas.seen_at(*SUBMIT):
            await service.worker.step()
        # Another process has just sent the same request, and has not heard its answer yet.
        (claim,) = service.store.plain.claim(
            now=when(clock.now()), lease="another", slots=[Slots("another", "atlas", 8)]
        )
        assert claim.prediction.job_id == other
        assert service.store.plain.move(
            claim,
            State.SUBMITTING,
            now=when(clock.now()),
            due_at=clock.monotonic(),
            keep_lease=True,
            submitted_at=clock.now(),
        )
        (sent,) = atlas.seen_at(*SUBMIT)
        httpx2.post(atlas.base_url + SUBMIT[1], json=sent.json, headers={"Authorization": f"Bearer {atlas.key}"})
        assert len(atlas.accepted) == 1
        while (await service.job(lost)).status not in ("uncertain", "done"):
            service.store.plain.heartbeat([claim.lease], clock.monotonic() + LEASE_S)
            await service.worker.step() or clock.advance(1)
        assert (await service.job(lost)).status == "uncertain"
        assert not service.store.plain.tickets("atlas")


async def test_get_status_takes_up_a_job_past_its_deadline(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    atlas.fault("poll", "html-502", times=None)
    async with make_service(atlas) as service:
        job_id = await edit(service, coffee)
        job = await ended(service, finish, job_id)
        assert job.error and job.error.kind == "deadline" and job.error.retryable
        assert job.next and job.next.startswith("get_status")
        atlas.clear()
        result = await service.get_status(job_id, wait_s=30)
        assert (result.status, result.returned) == ("done", 2)
    assert len(atlas.accepted) == 1


async def test_a_shortfall_is_reported_and_never_hidden(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    atlas.fault("poll", "fewer", times=None)
    async with make_service(atlas) as service:
        job = await ended(service, finish, await edit(service, coffee, "four seasons", 4))
    assert (job.status, job.requested, job.returned) == ("done", 4, 3)
    assert any("4 images were requested; 3 returned" in warning for warning in job.warnings)
    assert job.cost.charged == Decimal("0.096")


async def test_the_late_price_becomes_the_charge(
    make_service: MakeService, atlas: Emulator, finish: Finish, clock: FakeClock, coffee: str
) -> None:
    atlas.fault("poll", "price-late", times=None, polls=2)
    async with make_service(atlas) as service:
        job_id = await edit(service, coffee)
        job = await ended(service, finish, job_id)
        assert (job.status, job.cost.charged) == ("done", None)
        for _ in range(10):
            clock.advance(30)
            while await service.worker.step():
                pass
        assert (await service.job(job_id)).cost.charged == Decimal("0.064")
        assert service.store.plain.money_since(0) == (Decimal("0.064"), 0)
    assert atlas.charged_usd == Decimal("0.064")


@pytest.mark.parametrize("fault", ["500", "truncated", "not-an-image", "redirect", "drop", "broken-json"])
async def test_a_result_that_does_not_come_whole_is_fetched_again(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str, fault: str
) -> None:
    atlas.fault("result", fault, times=1)
    async with make_service(atlas) as service:
        job = await ended(service, finish, await edit(service, coffee))
    assert (job.status, job.returned) == ("done", 2)


async def test_get_status_fetches_a_missing_result_again_by_its_url(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    atlas.fault("result", "not-an-image", times=None)
    async with make_service(atlas) as service:
        job_id = await edit(service, coffee)
        job = await ended(service, finish, job_id)
        assert (job.status, job.returned) == ("failed", 2)
        assert job.error and job.error.kind == "fetch_failed"
        assert [bool(image.url) for image in job.images] == [True, True]
        assert [image.path for image in job.images] == [None, None]
        atlas.clear()
        assert (await service.get_status(job_id, wait_s=20)).status == "done"


async def test_a_result_on_a_private_address_is_not_fetched(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    atlas.fault("result", "redirect", times=None, to="http://169.254.169.254/latest/meta-data")
    async with make_service(atlas) as service:
        job = await ended(service, finish, await edit(service, coffee))
    assert job.error and job.error.kind == "fetch_failed"
    assert not any(image.path for image in job.images)


async def test_an_upload_that_fails_for_a_while_only_delays(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    atlas.fault("upload", "500", times=4)
    async with make_service(atlas) as service:
        job = await ended(service, finish, await edit(service, coffee))
    assert job.status == "done"
    assert len(atlas.accepted) == 1


async def test_without_the_calculate_endpoint_the_list_price_is_the_quote(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    atlas.fault("calculate", "500", times=None)
    async with make_service(atlas) as service:
        job = await ended(service, finish, await edit(service, coffee, count=4))
    assert job.cost.quoted == Decimal("0.128")


async def test_a_chain_edits_its_last_output_with_the_references(
    make_service: MakeService, atlas: Emulator, finish: Finish, samples: Path
) -> None:
    async with make_service(atlas) as service:
        images = [str(samples / "coffee.jpg"), str(samples / "cat.jpg")]
        started = await edit_chain(service, images, ["warmer", "vignette", "sepia"], [str(samples / "rocket.jpg")], NOW)
        job = await ended(service, finish, started.job_id or "")
        job = await service.job(job.job_id, every=True)
    assert (job.status, job.returned, job.requested) == ("done", 6, 6)
    handles = [image.handle for image in job.images]
    rocket = job.images[0].source[1]
    assert [image.source for image in job.images][1:3] == [[handles[0], rocket], [handles[1], rocket]]
    assert [image.source for image in job.images][4:6] == [[handles[3], rocket], [handles[4], rocket]]
    bodies = [seen.json for seen in atlas.seen_at(*SUBMIT)]
    assert sorted(body["prompt"] for body in bodies) == ["sepia", "sepia", "vignette", "vignette", "warmer", "warmer"]
    assert all(len(body["images"]) == 2 for body in bodies)
    assert len({body["images"][1] for body in bodies}) == 1
    later = [body["images"][0] for body in bodies if body["prompt"] != "warmer"]
    assert all("/_results/" in url for url in later)


async def test_when_one_lane_fails_the_others_results_are_kept(
    make_service: MakeService, atlas: Emulator, finish: Finish, samples: Path
) -> None:
    atlas.fault("poll", "failed-200", times=1)
    async with make_service(atlas) as service:
        images = [str(samples / "coffee.jpg"), str(samples / "cat.jpg")]
        started = await edit_chain(service, images, ["warmer", "sepia"], options=NOW)
        job = await ended(service, finish, started.job_id or "")
        states = [p.state for p in service.store.plain.predictions(started.job_id or "")]
    assert (job.status, job.returned) == ("partial", 2)
    assert sorted(states) == sorted([State.DONE, State.DONE, State.FAILED, State.CANCELLED])


async def test_lanes_run_side_by_side_up_to_the_providers_limit(
    make_service: MakeService, atlas: Emulator, coffee: str, samples: Path
) -> None:
    async with make_service(atlas) as service:
        limit = service.config.accounts["atlas"].provider.max_running
        await edit_chain(service, [coffee] * (limit + 4), ["warmer"], options=NOW)
        while await service.worker.step():
            pass
        assert len(atlas.accepted) == limit


async def test_a_chain_continues_after_its_missed_step_was_taken_up(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    atlas.fault("poll", "html-502", times=None)
    async with make_service(atlas) as service:
        started = await edit_chain(service, [coffee], ["warmer", "sepia"], options=NOW)
        job_id = started.job_id or ""
        assert (await ended(service, finish, job_id)).status == "failed"
        atlas.clear()
        await service.get_status(job_id)
        assert (await ended(service, finish, job_id)).status == "done"
    assert len(atlas.accepted) == 2


async def test_a_charge_far_above_its_quote_stops_the_chain(
    make_service: MakeService, finish: Finish, clock: FakeClock, coffee: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EmulatedJob, "charge_usd", lambda work, now: Decimal(10**9))
    with running("atlas", max_side=48, clock=clock.monotonic, price="prompt") as atlas:
        async with make_service(atlas, TRIPTYCH_BUDGET_USD="10") as service:
            job = await ended(service, finish, await edit(service, coffee))
            assert job.cost.charged == 10**9
            assert any("$1000000000" in warning and "$0.064" in warning for warning in job.warnings), job.warnings
            with pytest.raises(errors.OverBudget, match="spent \\$1000000000"):
                await generate_sequence(service, "a fox", options=NOW)
            assert len(atlas.accepted) == 1


@pytest.mark.parametrize("patience", ["9" * 400, "99999999", "-1", "1e9"])
async def test_no_retry_after_breaks_or_stops_the_worker(
    make_service: MakeService, atlas: Emulator, finish: Finish, clock: FakeClock, coffee: str, patience: str
) -> None:
    atlas.fault("submit", "429", retry_after=patience)
    async with make_service(atlas) as service:
        started = clock.now()
        job = await ended(service, finish, await edit(service, coffee))
        assert job.status == "done" and len(atlas.accepted) == 1
        assert (clock.now() - started).total_seconds() < 3600


async def test_cancelling_stops_unsent_work_and_names_the_charge(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(atlas) as service:
        started = await edit_chain(service, [coffee], ["warmer", "sepia"], options=NOW)
        while await service.worker.step():
            pass
        result = await service.cancel_job(started.job_id or "")
        assert any("at Atlas Cloud cannot be" in warning and "$0.043" in warning for warning in result.warnings)
        job = await ended(service, finish, started.job_id or "")
    assert (job.status, job.returned) == ("partial", 1)
    assert len(atlas.accepted) == 1


async def test_a_cancelled_queued_job_is_never_submitted(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(atlas) as service:
        job_id = await edit(service, coffee)
        assert (await service.cancel_job(job_id)).status == "cancelled"
        await finish(service)
        assert sum(service.store.plain.money_since(0)) == 0
    assert atlas.accepted == []


async def test_finished_images_are_saved_where_the_caller_wanted_them(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=f"{tmp_path}:{coffee.rpartition('/')[0]}") as service:
        job = await ended(service, finish, await edit(service, coffee, save_to=str(target)))
    assert sorted(path.name for path in target.iterdir()) == [f"{job.job_id}-01.jpg", f"{job.job_id}-02.jpg"] or sorted(
        path.suffix for path in target.iterdir()
    ) == [".png", ".png"]
    assert len(list(target.iterdir())) == 2

"""WaveSpeedAI through the real worker: one paid submit for each job, and nothing is paid twice."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import httpx2
import pytest

from support.fixtures import Emulator, FakeClock, Finish, MakeService
from support.jobs import NOW, edit_chain, edit_sequence, edited, ended, generate_sequence
from triptych_emulators import running

EMULATED = {"name": "wavespeed", "latency_s": 10.0, "max_side": 64}

pytestmark = pytest.mark.anyio

EDIT_SEQUENCE = "/api/v3/bytedance/seedream-v5.0-lite/edit-sequential"


async def test_an_edit_of_three_is_one_submit(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(api) as service:
        job = await edited(service, finish, coffee)
    assert (job.status, job.returned, job.provider) == ("done", 3, "wavespeed")
    assert all(image.path and image.url and image.width for image in job.images)
    (submit,) = api.seen_at("POST", EDIT_SEQUENCE)
    assert len(api.accepted) == 1 and api.charged_usd == Decimal("0.105")
    body = dict(submit.json)
    assert body.pop("images")[0].startswith(f"{api.base_url}/_uploads/")
    assert "3" in body.pop("prompt")
    assert body == {"max_images": 3, "size": "2496*1664"}
    (put,) = [seen for seen in api.seen if seen.method == "PUT"]
    assert "authorization" not in put.headers and put.status == 200


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
    first, second = api.seen_at("POST", "/api/v3/bytedance/seedream-v5.5/edit")
    assert second.json["images"][0].startswith(f"{api.base_url}/_results/{api.accepted[1]}/")
    assert first.json["images"] != second.json["images"]


async def test_of_two_lost_submits_each_has_its_own_end(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    api.fault("submit", "drop")
    api.fault("submit", "lost-answer")
    async with make_service(api) as service:
        for prompt in ("at dawn", "at dusk"):
            await edit_sequence(service, [coffee], prompt, 1, NOW)
        await finish(service)
        jobs = {row.request.prompt: await service.job(row.id) for row in service.store.plain.jobs(2)}
        tickets = service.store.plain.tickets("wavespeed")
    # Only one was accepted, and the history shows which.
    assert sorted(job.status for job in jobs.values()) == ["done", "uncertain"]
    assert [job.status for prompt, job in jobs.items() if "dusk" in prompt] == ["done"]
    assert set(api.accepted) == tickets and len(tickets) == 1


@pytest.mark.parametrize("field", ["inputs", "input"])
async def test_a_lost_submit_is_found_again_and_not_repeated(
    make_service: MakeService, clock: FakeClock, finish: Finish, coffee: str, field: str
) -> None:
    with running("wavespeed", latency_s=10.0, max_side=64, clock=clock.monotonic, history_shows=field) as api:
        api.fault("submit", "lost-answer")
        async with make_service(api) as service:
            job = await edited(service, finish, coffee)
        assert (job.status, job.returned) == ("done", 3)
        assert len(api.seen_at("POST", EDIT_SEQUENCE)) == len(api.accepted) == 1


async def test_a_lost_submit_is_uncertain_with_times_alone(
    make_service: MakeService, clock: FakeClock, finish: Finish, coffee: str
) -> None:
    with running("wavespeed", latency_s=10.0, max_side=64, clock=clock.monotonic, history_shows="") as api:
        api.fault("submit", "lost-answer")
        async with make_service(api) as service:
            job = await edited(service, finish, coffee)
            assert not service.store.plain.tickets("wavespeed")
        assert job.status == "uncertain" and not job.images
        assert len(api.seen_at("POST", EDIT_SEQUENCE)) == len(api.accepted) == 1


@pytest.mark.parametrize("shown", ["inputs", "input", ""])
async def test_a_strangers_prediction_is_never_taken_for_ours(
    make_service: MakeService, clock: FakeClock, finish: Finish, coffee: str, shown: str
) -> None:
    """A 502 that was never accepted, and somebody else's job of the same model at that moment."""
    with running("wavespeed", latency_s=10.0, max_side=64, clock=clock.monotonic, history_shows=shown) as api:
        api.fault("submit", "html-502")
        async with make_service(api) as service:
            started = await edit_sequence(service, [coffee], "make it golden hour", 2, NOW)
            while not api.performed["submit"]:
                await service.worker.step()
            (ours,) = api.seen_at("POST", EDIT_SEQUENCE)
            theirs = {**ours.json, "prompt": "a stranger's cat", "max_images": 3}
            headers = {"Authorization": f"Bearer {api.key}", "X-Emulator-Stranger": "1"}
            assert httpx2.post(api.base_url + EDIT_SEQUENCE, json=theirs, headers=headers).status_code == 200
            job = await ended(service, finish, started.job_id)
            tickets = service.store.plain.tickets("wavespeed")
            charged, reserved = service.store.plain.money_since(0)
        assert (job.status, job.returned, tickets, charged) == ("uncertain", 0, frozenset(), 0)
        assert reserved == job.cost.quoted and not api.accepted and api.performed["submit"] == 1


@pytest.mark.parametrize(
    ("op", "fault", "kind"),
    [
        ("poll", "code-1402", "failed"),
        ("poll", "deleted", "failed"),
    ],
)
async def test_a_failure_has_its_kind_and_frees_the_money(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str, op: str, fault: str, kind: str
) -> None:
    api.fault(op, fault, times=None)
    async with make_service(api) as service:
        job = await edited(service, finish, coffee)
        assert sum(service.store.plain.money_since(0)) == 0
    assert job.status == "failed" and job.error and job.error.kind == kind
    assert len(api.seen_at("POST", EDIT_SEQUENCE)) == 1


@pytest.mark.parametrize(
    ("op", "fault"),
    [
        ("poll", "bare"),
        ("upload", "404"),
        ("upload", "odd-ticket"),
        ("put", "403"),
    ],
)
async def test_passing_trouble_does_not_fail_a_job(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str, op: str, fault: str
) -> None:
    api.fault(op, fault, times=2)
    async with make_service(api) as service:
        job = await edited(service, finish, coffee)
    assert (job.status, job.returned) == ("done", 3), job.error
    assert len(api.accepted) == 1


async def test_a_form_upload_refused_as_too_large_fails_the_job(
    make_service: Any, api: Any, finish: Any, coffee: str
) -> None:
    api.fault("upload", "404", times=None)
    api.fault("form", "413", times=None)
    async with make_service(api) as service:
        job = await edited(service, finish, coffee)
    assert job.status == "failed" and job.error and not api.accepted

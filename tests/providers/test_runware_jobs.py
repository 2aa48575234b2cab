"""Runware through the real engine: every job comes home with one accepted task, and nothing is paid twice."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from hands import NOW, edited, ended

EMULATED = {"name": "runware", "latency_s": 10.0, "max_side": 64}

pytestmark = pytest.mark.anyio


def tasks(api: Any, kind: str) -> list[dict[str, Any]]:
    return [task for seen in api.seen_at("POST", "/") for task in seen.json if task["taskType"] == kind]


async def test_an_edit_of_three_comes_home_with_one_submit(
    make_studio: Any, api: Any, finish: Any, coffee: str
) -> None:
    async with make_studio(api) as studio:
        job = await edited(studio, finish, coffee)
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


async def test_images_from_a_prompt_alone_and_a_chain_come_home_too(
    make_studio: Any, api: Any, finish: Any, coffee: str
) -> None:
    async with make_studio(api) as studio:
        made = await studio.generate_sequence("two lighthouses", 2, NOW)
        job = await ended(studio, finish, made.job_id)
        assert (job.status, job.returned, len(api.accepted)) == ("done", 2, 1)
        started = await studio.edit_chain([coffee], ["warmer", "add snow"], (), NOW)
        chain = await ended(studio, finish, started.job_id)
    assert chain.status == "done" and len(api.accepted) == 3
    made_, first, second = tasks(api, "imageInference")
    assert "inputs" not in made_ and "settings" not in first and "settings" not in second
    assert f"{api.base_url}/_results/" in second["inputs"]["referenceImages"][0]


@pytest.mark.parametrize("fault", ["lost-answer", "broken-json", "empty-body"])
async def test_a_submit_whose_answer_was_lost_is_simply_polled(
    make_studio: Any, api: Any, finish: Any, coffee: str, fault: str
) -> None:
    api.fault("submit", fault)
    async with make_studio(api) as studio:
        job = await edited(studio, finish, coffee)
    assert (job.status, job.returned) == ("done", 3), job.error
    assert len(tasks(api, "imageInference")) == len(api.accepted) == 1


@pytest.mark.parametrize("fault", ["drop", "html-502", "504"])
async def test_a_submit_that_did_not_arrive_is_sent_again_under_its_id(
    make_studio: Any, api: Any, finish: Any, coffee: str, fault: str
) -> None:
    api.fault("submit", fault)
    async with make_studio(api) as studio:
        job = await edited(studio, finish, coffee)
    assert (job.status, job.returned) == ("done", 3), job.error
    first, second = tasks(api, "imageInference")
    assert first == second and api.accepted == [first["taskUUID"]]
    assert api.charged_usd == Decimal("0.105")


async def test_a_look_up_that_fails_does_not_pay_twice_either(
    make_studio: Any, api: Any, finish: Any, coffee: str
) -> None:
    api.fault("submit", "lost-answer")
    api.fault("poll", "404")
    api.fault("details", "404")
    async with make_studio(api) as studio:
        job = await edited(studio, finish, coffee)
    assert (job.status, job.returned) == ("done", 3), job.error
    # Runware said that it knew nothing, so the task was sent again; then it was a conflict.
    assert len(tasks(api, "imageInference")) == 2 and len(api.accepted) == 1


@pytest.mark.parametrize("fault", ["trickle", "trickle-bare", "forgotten", "not-found-at-first", "at-once"])
async def test_a_sequence_comes_whole_however_it_comes(
    make_studio: Any, api: Any, finish: Any, coffee: str, fault: str
) -> None:
    api.fault("submit" if fault == "at-once" else "poll", fault)
    if fault == "at-once":
        api.studio._latency_s = 0.0
    async with make_studio(api) as studio:
        job = await edited(studio, finish, coffee)
    assert (job.status, job.returned) == ("done", 3), job.error
    assert len(api.accepted) == 1


@pytest.mark.parametrize(("fault", "status"), [("fewer", "done"), ("frame-failed", "partial")])
async def test_fewer_images_than_asked_are_told_and_not_waited_for(
    make_studio: Any, api: Any, finish: Any, clock: Any, coffee: str, fault: str, status: str
) -> None:
    api.fault("poll", fault, times=None)
    started = clock.now()
    async with make_studio(api) as studio:
        job = await edited(studio, finish, coffee)
    assert (job.status, job.returned) == (status, 2) and job.warnings
    assert job.cost.charged == api.charged_usd == Decimal("0.07")
    assert (clock.now() - started).total_seconds() < 60


async def test_many_at_once_are_swept_with_one_request(make_studio: Any, api: Any, finish: Any, coffee: str) -> None:
    async with make_studio(api) as studio:
        for prompt in ("one", "two", "three"):
            await studio.edit_sequence([coffee], prompt, 2, NOW)
        while len(api.accepted) < 3:
            await studio.engine.step()
        assert studio.engine.sweep_is_due("runware")
        api.finish_all()
        await studio.engine.sweep("runware")
        swept = [seen.json for seen in api.seen_at("POST", "/") if len(seen.json) == 3]
        assert [{task["taskUUID"] for task in one} for one in swept] == [set(api.accepted)]
        await finish(studio)
    assert len(api.accepted) == 3

"""Callbacks: what a submit asks the provider to call, and what a call does: one poll now, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from support.clocks import FakeClock
from support.fixtures import Emulator, Finish, MakeService
from support.jobs import NOW, Options, edit_sequence, generate_sequence
from triptych import settings
from triptych.jobs import callbacks
from triptych.jobs.service import ImageService
from triptych.providers import load
from triptych_emulators import RecordedRequest, running

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
PUBLIC = "https://images.example.com"
CALLING = ("atlas", "wavespeed", "evolink", "runware")
ID = r"job_[0-9a-f]{8,}-0-0\.[0-9a-f-]{36}"


def submits(api: Emulator) -> list[RecordedRequest]:
    def pays(seen: RecordedRequest) -> bool:
        tasks = seen.json if isinstance(seen.json, list) else []
        paths = ("/api/v1/model/generateImage", "/v1/images/generations")
        inference = any(task.get("taskType") == "imageInference" for task in tasks)
        return inference or seen.path in paths or seen.path.startswith("/api/v3/bytedance/")

    return [seen for seen in api.seen if seen.method == "POST" and pays(seen)]


def asked(api: Emulator) -> tuple[str | None, dict[str, Any], Mapping[str, str]]:
    """Return the URL in the one submit, and its body and query without it."""
    (submit,) = submits(api)
    body = dict(submit.json[0] if isinstance(submit.json, list) else submit.json)
    query = dict(submit.query)
    places = {"atlas": (body, "webhook_url"), "wavespeed": (query, "webhook"), "evolink": (body, "callback_url")}
    place, field = places.get(api.name, (body, "webhookURL"))
    url = place.pop(field, None)
    body.pop("taskUUID", None)
    return url, body, query


@pytest.mark.parametrize("name", CALLING)
async def test_a_submit_asks_to_be_called_at_the_public_url(
    name: str, make_service: MakeService, clock: FakeClock, finish: Finish
) -> None:
    seen = []
    for env in ({}, {"TRIPTYCH_PUBLIC_URL": PUBLIC}):
        with running(name, latency_s=0.0, max_side=64, clock=clock.monotonic) as api:
            async with make_service(api, **env) as service:
                options = Options(provider=name, wait_s=0, again=True, model="seedream-5.0-lite")
                job = await generate_sequence(service, "a lamp", options=options)
                await finish(service)
                assert (await service.job(job.job_id or "")).status == "done"
                seen.append(asked(api))
                assert "webhooks" not in json.dumps((await service.job(job.job_id or "")).as_json())
    (without, plain_body, plain_query), (url, body, query) = seen
    assert without is None
    assert url is not None and re.fullmatch(rf"{PUBLIC}/webhooks/{name}/{ID}", url)
    assert (query, body.keys()) == (plain_query, plain_body.keys())


async def test_the_setting_changes_no_request(make_service: MakeService, atlas: Emulator, finish: Finish) -> None:
    async with make_service(atlas) as service:
        first = await generate_sequence(service, "a lamp", options=NOW)
    async with make_service(atlas, TRIPTYCH_PUBLIC_URL=PUBLIC) as service:
        again = await generate_sequence(service, "a lamp", options=NOW)
        assert again.job_id == first.job_id
        quoted = await generate_sequence(service, "a chair", options=Options(dry_run=True))
        assert "webhooks" not in json.dumps(quoted.as_json())


async def test_a_repeated_submit_names_the_same_url(
    make_service: MakeService, clock: FakeClock, finish: Finish
) -> None:
    with running("evolink", latency_s=0.0, max_side=64, clock=clock.monotonic) as api:
        async with make_service(api, TRIPTYCH_PUBLIC_URL=PUBLIC) as service:
            api.fault("submit", "lost-answer")
            job = await generate_sequence(service, "a lamp", options=Options(wait_s=0, provider="evolink"))
            await finish(service)
            assert (await service.job(job.job_id or "")).status == "done"
        sent = submits(api)
        assert len(sent) == 2 and sent[0].body == sent[1].body
        assert len(api.accepted) == 1


@pytest.mark.parametrize(
    ("public", "base", "called"),
    [
        (None, "https://api.example.com", False),
        ("https://images.example.com", "https://api.example.com", True),
        ("https://images.example.com:8443", "https://api.example.com", True),
        ("https://93.184.216.34", "https://api.example.com", True),
        ("http://images.example.com", "https://api.example.com", False),
        ("https://images", "https://api.example.com", False),
        ("https://images.corp.internal", "https://api.example.com", False),
        ("https://10.0.0.7", "https://api.example.com", False),
        ("https://[fd00::7]", "https://api.example.com", False),
        ("http://127.0.0.1:8765", "https://api.example.com", False),
        ("https://localhost:8765", "https://api.example.com", False),
        ("http://127.0.0.1:8765", "http://127.0.0.1:8901", True),
    ],
)
def test_only_an_address_that_the_provider_reaches_is_named(public: str | None, base: str, called: bool) -> None:
    assert callbacks.site_for(public, base) == (public if called else None)


def test_webhooks_can_be_switched_off() -> None:
    env = {"TRIPTYCH_PUBLIC_URL": PUBLIC}
    assert settings.read(env).setup.accounts["atlas"].callback_site == PUBLIC
    off = settings.read({**env, "TRIPTYCH_WEBHOOKS": "off"})
    assert off.setup.accounts["atlas"].callback_site is None and off.public_url == PUBLIC


def test_four_providers_call_back() -> None:
    assert [name for name in ("ark", "novita", "draft", *CALLING) if load(name).calls_back] == list(CALLING)


# -- what a call does


async def is_due(service: ImageService, clock: FakeClock) -> bool:
    due_s = await service.worker.next_due()
    return due_s is not None and due_s <= clock.monotonic()


async def aged(service: ImageService, atlas: Emulator, clock: FakeClock, coffee: str) -> tuple[str, str]:
    """Make a job that has run for some minutes; return the id and key of its prediction."""
    job = await edit_sequence(service, [coffee], "warmer", options=NOW)
    for submitted in atlas.jobs:
        submitted.finish_at += 10_000
    while clock.monotonic() < started(service, job.job_id or "") + 300:
        if not await service.worker.step():
            for submitted in atlas.jobs:
                submitted.finish_at = max(submitted.finish_at, clock.monotonic() + 10_000)
            clock.advance(1.0)
    while await service.worker.step():
        pass
    (prediction,) = service.store.plain.predictions(job.job_id or "")
    return prediction.id, prediction.client_id


def started(service: ImageService, job_id: str) -> float:
    (prediction,) = service.store.plain.predictions(job_id)
    return prediction.created_mono or 0.0


@BOTH
async def test_a_call_makes_the_prediction_due_now(
    make_service: MakeService, atlas: Emulator, clock: FakeClock, coffee: str, finish: Finish
) -> None:
    async with make_service(atlas) as service:
        prediction, key = await aged(service, atlas, clock, coffee)
        assert not await is_due(service, clock)
        atlas.finish_all()
        await service.hint([(prediction, key)])
        assert await is_due(service, clock)
        await finish(service)
        (done,) = service.store.plain.predictions(prediction.split("-")[0])
        assert done.state == "done"
    assert len(atlas.accepted) == 1


@BOTH
async def test_a_forged_call_costs_a_poll_at_most_each_two_seconds(
    make_service: MakeService, atlas: Emulator, clock: FakeClock, coffee: str
) -> None:
    async with make_service(atlas) as service:
        prediction, key = await aged(service, atlas, clock, coffee)
        polls = atlas.jobs[0].polls
        for _ in range(10):  # half a second each
            for _ in range(20):
                await service.hint([(prediction, key)])
            while await service.worker.step():
                pass
            clock.advance(0.5)
        assert atlas.jobs[0].polls - polls == 3


@BOTH
async def test_a_call_without_the_key_does_nothing(
    make_service: MakeService, atlas: Emulator, clock: FakeClock, coffee: str
) -> None:
    async with make_service(atlas) as service:
        prediction, key = await aged(service, atlas, clock, coffee)
        other = f"{key[:-1]}{'0' if key[-1] != '0' else '1'}"
        await service.hint([(prediction, other), (f"{prediction}0", key), ("job_00000000-0-0", key)])
        assert not await is_due(service, clock)


@BOTH
async def test_a_call_for_an_ended_prediction_does_nothing(
    make_service: MakeService, atlas: Emulator, clock: FakeClock, coffee: str, finish: Finish
) -> None:
    async with make_service(atlas) as service:
        prediction, key = await aged(service, atlas, clock, coffee)
        atlas.finish_all()
        await finish(service)
        before = service.store.plain.predictions(prediction.split("-")[0])
        await service.hint([(prediction, key)])
        assert service.store.plain.predictions(prediction.split("-")[0]) == before

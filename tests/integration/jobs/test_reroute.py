"""A job whose answer was lost: its three ways out, from the tools and the command line; what counts as the same job.

ark and novita cannot be asked what became of a request; atlas keeps a history.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from click.testing import CliRunner
from mcp import Client

from support.fixtures import FakeClock, Finish, MakeService
from support.jobs import NOW, Options, edit_sequence, ended
from triptych import providers
from triptych.cli import cli
from triptych.cli.formatting import Exit
from triptych.jobs.service import ImageService
from triptych.server.app import build
from triptych_emulators import Emulator, running

pytestmark = pytest.mark.anyio

NAMES = ("ark", "novita", "atlas")
PROMPT = "make it golden hour"


@pytest.fixture(params=NAMES)
def api(request: pytest.FixtureRequest, clock: FakeClock) -> Iterator[Emulator]:
    latency_s = 10.0 if providers.load(request.param).poll else 0.0
    with running(request.param, latency_s=latency_s, max_side=48, clock=clock.monotonic) as emulator:
        yield emulator


async def lost_job(service: ImageService, api: Emulator, finish: Finish, image: str) -> str:
    api.fault("submit", "drop", times=1)
    job = await ended(service, finish, (await edit_sequence(service, [image], PROMPT, 2, NOW)).job_id)
    assert job.status == "uncertain" and job.job_id
    return job.job_id


async def test_only_a_provider_with_a_list_is_asked_again(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(api) as service:
        following = (await service.job(await lost_job(service, api, finish, coffee))).next or ""
    assert ("looks again" in following) == (providers.load(api.name).find is not None)
    assert "accepts it as lost" in following and "again=true pays" in following


# -- from the tools ----------------------------------------------------------------------------------------------------


async def test_the_three_ways_out_from_the_tools(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(api) as service:

        async def opened() -> ImageService:
            return service

        lost = await lost_job(service, api, finish, coffee)
        held = service.store.plain.money_since(0)
        async with Client(build(opened, remote=False)) as client:

            async def call(tool: str, **arguments: Any) -> Any:
                result = await client.call_tool(tool, arguments)
                assert not result.is_error, result.content
                return result.structured_content

            same = {"images": [coffee], "prompt": PROMPT, "count": 2, "wait_s": 0}
            looked = await call("get_status", job_id=lost, wait_s=30)
            await finish(service)
            assert looked["job_id"] == lost and (await service.job(lost)).status == "uncertain"
            assert (await call("edit_sequence", **same))["job_id"] == lost
            assert api.performed["submit"] == 1 and api.accepted == []

            again = await call("edit_sequence", **same, again=True)
            await finish(service)
            assert again["job_id"] != lost and len(api.accepted) == 1
            assert (await call("get_status", job_id=again["job_id"]))["status"] == "done"

            given_up = await call("cancel_job", job_id=lost)
            assert (given_up["status"], given_up["error"]["kind"]) == ("cancelled", "cancelled")
            assert "may still charge" in given_up["error"]["message"]
        # What may have been spent stays counted; what the new one cost comes to it.
        assert held[0] == 0 < held[1]
        assert sum(service.store.plain.money_since(0)) == held[1] + api.charged_usd


async def test_looking_again_finds_it_where_the_provider_keeps_a_history(
    make_service: MakeService, clock: FakeClock, finish: Finish, coffee: str
) -> None:
    with running("atlas", latency_s=10.0, max_side=48, clock=clock.monotonic) as atlas:
        atlas.fault("submit", "lost-answer", times=1)
        atlas.fault("history", "500", times=None)
        async with make_service(atlas) as service:
            job = await ended(service, finish, (await edit_sequence(service, [coffee], PROMPT, 2, NOW)).job_id)
            assert job.status == "uncertain"
            atlas.clear()
            await service.get_status(job.job_id)
            assert (await ended(service, finish, job.job_id)).status == "done"
            assert service.store.plain.money_since(0) == (atlas.charged_usd, 0)
        assert len(atlas.accepted) == 1


# -- from the command line ---------------------------------------------------------------------------------------------


async def test_the_three_ways_out_from_the_command_line(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_service(api) as service:
        lost = await lost_job(service, api, finish, coffee)
    provider = providers.load(api.name)
    assert provider.key_env
    monkeypatch.setenv(provider.key_env, api.key)
    for base in provider.base_urls.values():
        monkeypatch.setenv(base.env, api.base_url)

    async def run(*args: str) -> tuple[int, Any]:
        made = partial(CliRunner().invoke, cli, [*args, "--json"])
        result = await anyio.to_thread.run_sync(made)
        return result.exit_code, json.loads(result.stdout)

    code, looked = await run("status", lost, "--wait")
    assert (code, looked["job_id"], looked["status"]) == (Exit.UNCERTAIN, lost, "uncertain")
    same = ("edit", coffee, "-p", PROMPT, "-n", "2", "--no-wait")
    code, attached = await run(*same)
    assert (code, attached["job_id"]) == (Exit.UNCERTAIN, lost)
    assert api.performed["submit"] == 1 and api.accepted == []
    code, again = await run(*same, "--again")
    assert again["job_id"] != lost and code in (Exit.DONE, Exit.RUNNING)
    assert len(api.accepted) == 1
    code, given_up = await run("cancel", lost)
    assert (code, given_up["status"], given_up["error"]["kind"]) == (Exit.DONE, "cancelled", "cancelled")
    code, spent = await run("spend")
    assert code == Exit.DONE and spent["total"]["jobs"] == 2
    assert spent["total"]["reserved"] >= looked["cost"]["quoted"]


# -- what counts as the same -------------------------------------------------------------------------------------------

BASE: dict[str, Any] = {"images": ["coffee.jpg"], "prompt": PROMPT, "count": 2, "options": {}}
SAME: dict[str, dict[str, Any]] = {
    "word for word": {},
    "white space around it": {"prompt": f"  {PROMPT} "},
    "the same file under another name": {"images": ["copy of coffee.jpg"]},
    "other limits": {"options": {"max_cost_usd": Decimal("0.01")}},
    "another patience": {"options": {"wait_s": 1}},
}
OTHER: dict[str, dict[str, Any]] = {
    "another prompt": {"prompt": "make it night"},
    "another image": {"images": ["cat.jpg"]},
    "one image more": {"images": ["coffee.jpg", "cat.jpg"]},
    "another count": {"count": 3},
    "another model": {"options": {"model": "seedream-4.5"}},
    "another size": {"options": {"size": "1:1"}},
    "another format": {"options": {"format": "jpeg"}},
    "another provider": {"options": {"provider": "draft"}},
    "the default by its name": {"options": {"provider": "atlas"}},
    "another variation": {"options": {"again": True}},
}


@asynccontextmanager
async def two_calls(
    make_service: MakeService, atlas: Emulator, samples: Path, tmp_path: Path, changes: dict[str, Any]
) -> AsyncIterator[tuple[Any, Any]]:
    (tmp_path / "copy of coffee.jpg").write_bytes((samples / "coffee.jpg").read_bytes())
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=os.pathsep.join([str(tmp_path), str(samples)])) as service:

        async def asked(said: dict[str, Any]) -> Any:
            images = [
                str(next(d / name for d in (samples, tmp_path) if (d / name).exists())) for name in said["images"]
            ]
            options = Options(**{**NOW, **said["options"]})
            return await edit_sequence(service, images, said["prompt"], said["count"], options)

        yield await asked(BASE), await asked(BASE | changes)


@pytest.mark.parametrize("changes", SAME.values(), ids=SAME)
async def test_the_same_request_is_the_job_in_flight(
    make_service: MakeService, atlas: Emulator, samples: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    async with two_calls(make_service, atlas, samples, tmp_path, changes) as (first, second):
        assert second.job_id == first.job_id


@pytest.mark.parametrize("changes", OTHER.values(), ids=OTHER)
async def test_a_request_that_differs_in_anything_is_another_job(
    make_service: MakeService, atlas: Emulator, samples: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    async with two_calls(make_service, atlas, samples, tmp_path, changes) as (first, second):
        assert second.job_id != first.job_id


@pytest.mark.parametrize("name", ["evolink", "runware"])
async def test_again_uses_another_idempotency_key(
    make_service: MakeService, clock: FakeClock, finish: Finish, coffee: str, name: str
) -> None:
    with running(name, latency_s=1.0, max_side=48, clock=clock.monotonic) as api:
        async with make_service(api) as service:
            first = await edit_sequence(service, [coffee], PROMPT, 2, NOW)
            again = await edit_sequence(service, [coffee], PROMPT, 2, Options(wait_s=0, again=True))
            await finish(service)
            for started in (first, again):
                assert (await service.job(started.job_id)).status == "done"
    keys = {seen.headers["idempotency-key"] for seen in api.seen if "idempotency-key" in seen.headers}
    tasks = {
        task["taskUUID"]
        for seen in api.seen
        if name == "runware" and isinstance(seen.json, list)
        for task in seen.json
        if task.get("taskType") == "imageInference"
    }
    assert len(api.accepted) == 2 and len(keys | tasks) == 2

"""Rows without a picture: made from words alone, or from the references, at every provider; later steps edit them."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from support.fixtures import Emulator, FakeClock, Finish, MakeService
from support.jobs import Options, edit_chain, ended
from triptych import providers
from triptych.jobs.results import JobResult
from triptych.jobs.service import ImageService
from triptych_emulators import names, running

pytestmark = pytest.mark.anyio

STEPS = ["flat icon of {subject}", "bluer"]
WITHOUT_EDIT = {"atlas": "bytedance/seedream-v5.5/text-to-image", "wavespeed": "bytedance/seedream-v5.5"}
"""The endpoints for words alone, where editing has one of its own."""
PICTURE_FIELDS = {"atlas": "images", "wavespeed": "images", "ark": "image", "novita": "image", "evolink": "image_urls"}


@pytest.fixture(params=names())
def api(request: pytest.FixtureRequest, clock: FakeClock) -> Iterator[Emulator]:
    latency_s = 10.0 if providers.load(request.param).poll else 0.0
    options = {"price": "prompt"} if request.param == "atlas" else {}
    with running(request.param, latency_s=latency_s, max_side=48, clock=clock.monotonic, **options) as emulator:
        yield emulator


def icons(directory: Path, *pictures: str) -> str:
    """Write a table of subjects, and rows of these pictures."""
    rows = ["image,subject", ",house", ",tree", *(f"{picture},cup" for picture in pictures)]
    (directory / "icons.csv").write_text("\n".join(rows))
    return str(directory / "icons.csv")


async def made(
    service: ImageService, finish: Finish, table: str, steps: list[str], references: list[str], **more: object
) -> JobResult:
    options = Options(wait_s=0, max_cost_usd=Decimal(9), **more)  # type: ignore[typeddict-item]
    return await ended(service, finish, (await edit_chain(service, [table], steps, references, options)).job_id)


def inputs(api: Emulator) -> dict[str, list[int]]:
    """Return the number of pictures of each request that the provider accepted, by prompt."""
    found: dict[str, list[int]] = {}
    for accepted in api.jobs:
        found.setdefault(accepted.spec.prompt, []).append(len(accepted.spec.references))
    return found


async def test_an_icon_set_is_made_from_words_and_then_edited(
    make_service: MakeService, api: Emulator, finish: Finish, tmp_path: Path
) -> None:
    async with make_service(api, TRIPTYCH_ALLOWED_DIRS=str(tmp_path)) as service:
        job = await made(service, finish, icons(tmp_path), STEPS, [])
        assert (job.status, job.returned) == ("done", 4)
        assert inputs(api) == {"flat icon of house": [0], "flat icon of tree": [0], "bluer": [1, 1]}
        first = next(one for one in api.jobs if one.spec.prompt.endswith("house"))
        if api.name in WITHOUT_EDIT:
            assert first.spec.model == WITHOUT_EDIT[api.name] != api.jobs[-1].spec.model
        field = PICTURE_FIELDS.get(api.name)
        assert not field or field not in first.spec.body
        assert job.cost.charged == job.cost.quoted == api.charged_usd
        sources = {image.handle: image.source for image in job.images}
        assert sources[f"{job.job_id}/1"] == [] and sources[f"{job.job_id}/2"] == [f"{job.job_id}/1"]
        sheet = await service.view_images([job.job_id or ""])
        assert 'step 1 "flat icon of {subject}"' in sheet.caption
        assert f"lane 1: no picture, {job.job_id}/1 to /2; lane 2: no picture" in sheet.caption


async def test_rows_with_and_without_pictures_are_one_job(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str, tmp_path: Path
) -> None:
    async with make_service(api, TRIPTYCH_ALLOWED_DIRS="/") as service:
        job = await made(service, finish, icons(tmp_path, coffee, f"{coffee}|{coffee}"), STEPS, [])
        assert (job.status, job.returned) == ("done", 8)
        found = {prompt: sorted(counts) for prompt, counts in inputs(api).items()}
        words = {"flat icon of house": [0], "flat icon of tree": [0]}
        assert found == {**words, "flat icon of cup": [1, 2], "bluer": [1, 1, 1, 1]}
        assert job.cost.charged == job.cost.quoted == api.charged_usd


async def test_references_alone_begin_a_row(
    make_service: MakeService, api: Emulator, finish: Finish, coffee: str, tmp_path: Path
) -> None:
    async with make_service(api, TRIPTYCH_ALLOWED_DIRS="/") as service:
        job = await made(service, finish, icons(tmp_path), STEPS, [coffee])
        assert job.status == "done"
        assert inputs(api) == {"flat icon of house": [1], "flat icon of tree": [1], "bluer": [2, 2]}
        assert job.cost.charged == job.cost.quoted == api.charged_usd


async def test_words_alone_in_one_step_need_no_editing(
    make_service: MakeService, api: Emulator, finish: Finish, tmp_path: Path
) -> None:
    async with make_service(api, TRIPTYCH_ALLOWED_DIRS=str(tmp_path)) as service:
        job = await made(service, finish, icons(tmp_path), STEPS[:1], [], size="auto")
        assert (job.status, job.returned, len(api.jobs)) == ("done", 2, 2)
        assert job.cost.charged == job.cost.quoted == api.charged_usd


async def test_words_keep_their_endpoint_at_another_provider(
    make_service: MakeService, clock: FakeClock, finish: Finish, coffee: str, tmp_path: Path
) -> None:
    with (
        running("atlas", latency_s=1.0, max_side=48, clock=clock.monotonic, price="prompt") as atlas,
        running("wavespeed", latency_s=1.0, max_side=48, clock=clock.monotonic) as wavespeed,
    ):
        atlas.fault("submit", "402", times=None)
        async with make_service(atlas, wavespeed, TRIPTYCH_ALLOWED_DIRS="/") as service:
            job = await made(service, finish, icons(tmp_path, coffee), STEPS, [])
            assert (job.status, job.provider, job.returned) == ("done", "wavespeed", 6)
            models = {one.spec.prompt: one.spec.model for one in wavespeed.jobs}
            assert models["flat icon of house"] == models["flat icon of tree"] == "bytedance/seedream-v5.5"
            assert models["flat icon of cup"] == models["bluer"] == "bytedance/seedream-v5.5/edit"
            assert not atlas.jobs and job.cost.charged == job.cost.quoted == wavespeed.charged_usd
            bodies = {one.spec.prompt: one.spec.body for one in wavespeed.jobs}
            assert "images" not in bodies["flat icon of house"]


async def test_words_have_a_size_where_editing_needs_none(
    make_service: MakeService, clock: FakeClock, finish: Finish, coffee: str, tmp_path: Path
) -> None:
    with running("wavespeed", latency_s=1.0, max_side=48, clock=clock.monotonic) as wavespeed:
        async with make_service(wavespeed, TRIPTYCH_ALLOWED_DIRS="/") as service:
            assert (await made(service, finish, icons(tmp_path, coffee), STEPS, [], size="auto")).status == "done"
            bodies = {one.spec.prompt: one.spec.body for one in wavespeed.jobs}
            assert bodies["flat icon of house"]["aspect_ratio"] == "1:1"
            assert "aspect_ratio" not in bodies["flat icon of cup"]


async def test_a_failed_row_of_words_is_made_again_from_words(
    make_service: MakeService, atlas: Emulator, finish: Finish, tmp_path: Path
) -> None:
    (tmp_path / "icons.csv").write_text("subject\nhouse\ntree [[emulate:submit/moderated-before]]\n")
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=str(tmp_path)) as service:
        job = await made(service, finish, str(tmp_path / "icons.csv"), STEPS, [])
        again = await edit_chain(service, [f"{job.job_id}/failed"], [], options=Options(wait_s=0))
        assert (await ended(service, finish, again.job_id)).returned == 2
        assert [len(one.spec.references) for one in atlas.jobs] == [0, 1, 0, 1]
        assert atlas.jobs[2].spec.model.endswith("text-to-image")


async def test_the_offline_preview_draws_an_icon_set(make_service: MakeService, tmp_path: Path) -> None:
    async with make_service(TRIPTYCH_ALLOWED_DIRS=str(tmp_path)) as service:
        options = Options(wait_s=55, provider="draft")
        job = await edit_chain(service, [icons(tmp_path)], STEPS, [], options)
        assert (job.status, job.returned, job.cost.charged) == ("done", 4, 0)

"""Whose jobs and images are whose: what is another's is refused in the words for what is not there at all."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from support import ROOT
from support.fixtures import Emulator, Finish, MakeService
from support.jobs import Options, edit_chain, edit_sequence, generate_sequence
from support.refusals import tells_operator
from support.systems import needs_links
from triptych.core import errors
from triptych.jobs.results import JobResult
from triptych.jobs.service import Caller, ImageService
from triptych.storage import migrations
from triptych.storage.jobs import Store

pytestmark = pytest.mark.anyio

ANN, BEN, PERSON = Caller(owner="ann"), Caller(owner="ben"), Caller()
NOW = Options(wait_s=0)
Use = Callable[[ImageService, str, Caller], Awaitable[Any]]


async def job(service: ImageService, handle: str, caller: Caller) -> Any:
    return await service.job(handle, caller, every=True)


def paid(**options: Any) -> Options:
    return Options(wait_s=0, dry_run=True, **options)


OF_AN_IMAGE: dict[str, Use] = {
    "upload_images": lambda s, h, c: s.upload_images([h], c),
    "edit_sequence": lambda s, h, c: edit_sequence(s, [h], "warmer", 1, NOW, c),
    "edit_sequence, dry run": lambda s, h, c: edit_sequence(s, [h], "warmer", 1, paid(), c),
    "edit_chain": lambda s, h, c: edit_chain(s, [h], ["warmer"], (), NOW, c),
    "edit_chain, as reference": lambda s, h, c: edit_chain(s, [SAMPLE], ["warmer"], [h], NOW, c),
    "view_images": lambda s, h, c: s.view_images([h], c),
    "view_images, as uri": lambda s, h, c: s.view_images([f"triptych://images/{h}"], c),
    "save_images": lambda s, h, c: s.save_images([h], str(Path(SAMPLE).parent), None, c),
    "the image's resource": lambda s, h, c: s.preview(h, c),
}
OF_A_JOB: dict[str, Use] = {
    "get_status": lambda s, h, c: s.get_status(h, 0, c),
    "cancel_job": lambda s, h, c: s.cancel_job(h, c),
    "the job's resource": job,
    "view_images": lambda s, h, c: s.view_images([h], c),
    "view_images, among others": lambda s, h, c: s.view_images([SAMPLE, h], c),
}
SAMPLE = str(files("triptych") / "samples" / "cat.jpg")


async def anns(service: ImageService, coffee: str) -> tuple[str, JobResult]:
    """Return what Ann has: the handle of an upload, and a job that is done."""
    (image,) = (await service.upload_images([coffee], ANN)).images
    done = await edit_sequence(service, [image.handle], "warmer", 1, Options(), ANN)
    assert done.status == "done" and done.job_id
    return image.handle, done


async def refusal(use: Use, service: ImageService, handle: str, caller: Caller) -> tuple[str, str]:
    with pytest.raises(errors.BadRequest) as refused:
        await use(service, handle, caller)
    return refused.value.kind, refused.value.message.replace(handle, "HANDLE")


@pytest.mark.parametrize("use", OF_AN_IMAGE.values(), ids=OF_AN_IMAGE)
async def test_anothers_image_is_refused_as_one_that_never_was(
    make_service: MakeService, coffee: str, use: Use
) -> None:
    async with make_service() as service:
        uploaded, done = await anns(service, coffee)
        digest = Path(done.images[0].path or "").stem
        for theirs, never in (
            (uploaded, "img_00000000"),
            (f"img_{digest[:8]}", "img_00000000"),
            (f"{done.job_id}/1", "job_00000000/1"),
            (f"{done.job_id}/2", "job_00000000/2"),
            (f"{done.job_id}", "job_00000000"),
        ):
            assert await refusal(use, service, theirs, BEN) == await refusal(use, service, never, BEN)
        assert len(service.store.plain.jobs(100)) == 1


@pytest.mark.parametrize("use", OF_A_JOB.values(), ids=OF_A_JOB)
async def test_anothers_job_is_refused_as_one_that_never_was(make_service: MakeService, coffee: str, use: Use) -> None:
    async with make_service() as service:
        _, done = await anns(service, coffee)
        theirs = await refusal(use, service, done.job_id or "", BEN)
        assert theirs == await refusal(use, service, "job_00000000", BEN)


async def test_lists_show_ones_own(make_service: MakeService, coffee: str) -> None:
    async with make_service() as service:
        _, done = await anns(service, coffee)
        bens = await generate_sequence(service, "a lighthouse", 1, Options(), BEN)
        for caller, own in ((ANN, [done]), (BEN, [bens]), (PERSON, [bens, done])):
            listed = [row.job_id for row in (await service.list_jobs(caller=caller)).jobs]
            images = [image.handle for image in await service.recent_images(20, caller)]
            assert [h for h in await service.recent_handles(20, caller) if h.startswith("job_")] == images
            assert sorted(listed) == sorted(str(job.job_id) for job in own)
            assert sorted(images) == sorted(f"{job.job_id}/1" for job in own)
            filtered = (await service.list_jobs(1, "done", caller)).jobs
            assert len(filtered) == 1 and filtered[0].job_id in listed


async def test_uploads_are_completed_for_those_who_brought_them(make_service: MakeService, coffee: str) -> None:
    async with make_service() as service:
        uploaded, done = await anns(service, coffee)
        outputs = [image.handle for image in done.images]
        assert sorted(await service.recent_handles(20, ANN)) == sorted([*outputs, uploaded])
        assert sorted(await service.recent_handles(20, PERSON)) == sorted([*outputs, uploaded])
        assert await service.recent_handles(20, BEN) == []
        await service.upload_images([coffee], BEN)
        assert await service.recent_handles(20, BEN) == [uploaded]


async def test_ones_own_images_can_be_used_in_every_way(make_service: MakeService, coffee: str, tmp_path: Path) -> None:
    ann = Caller(owner="ann", roots=(tmp_path,))
    async with make_service() as service:
        uploaded, done = await anns(service, coffee)
        output = done.images[0]
        for image in (uploaded, output.handle, f"img_{Path(output.path or '').stem[:8]}", str(output.path)):
            for use in OF_AN_IMAGE.values():
                if use is not OF_AN_IMAGE["save_images"] and image != str(output.path):
                    await use(service, image, ann)
            await service.view_images([image], ann)
            await service.save_images([image], str(tmp_path / "out"), None, ann)
        for use in OF_A_JOB.values():
            await use(service, done.job_id or "", ann)


async def test_the_local_user_sees_all_and_belongs_to_no_token(make_service: MakeService, coffee: str) -> None:
    async with make_service() as service:
        uploaded, done = await anns(service, coffee)
        for use in OF_A_JOB.values():
            await use(service, done.job_id or "", PERSON)
        await service.view_images([uploaded, f"{done.job_id}/1"], PERSON)
        made = await generate_sequence(service, "a lighthouse", 1, Options(), PERSON)
        (image,) = (await service.upload_images([SAMPLE], PERSON)).images
        for handle, use in ((f"{made.job_id}/1", "view_images"), (image.handle, "edit_sequence")):
            kind, _ = await refusal(OF_AN_IMAGE[use], service, handle, ANN)
            assert kind == "unknown_handle"


async def test_one_file_of_two_owners_is_stored_once(make_service: MakeService, coffee: str) -> None:
    async with make_service() as service:
        handle, _ = await anns(service, coffee)
        kept = sorted((service.config.home / "images").rglob("*.*"))
        for use in ("view_images", "edit_sequence"):
            assert (await refusal(OF_AN_IMAGE[use], service, handle, BEN))[0] == "unknown_handle"
        (image,) = (await service.upload_images([coffee], BEN)).images
        assert image.handle == handle
        assert sorted((service.config.home / "images").rglob("*.*")) == kept
        for caller in (ANN, BEN):
            await service.view_images([handle], caller)
        kind, _ = await refusal(OF_AN_IMAGE["view_images"], service, handle, Caller(owner="cleo"))
        assert kind == "unknown_handle"


@needs_links
@pytest.mark.parametrize("allowed", ["", "home"])
async def test_a_path_into_the_homes_images_is_refused(
    make_service: MakeService, coffee: str, tmp_path: Path, allowed: str
) -> None:
    """Not even where TRIPTYCH_ALLOWED_DIRS holds the home, or another name leads there."""
    shared = tmp_path / "shared"
    shared.mkdir()
    directories = os.pathsep.join([str(shared), str(tmp_path / "home")] if allowed else [str(shared)])
    async with make_service(TRIPTYCH_ALLOWED_DIRS=os.pathsep.join([str(Path(coffee).parent), directories])) as service:
        _, done = await anns(service, coffee)
        real = Path(done.images[0].path or "")
        (shared / "link.png").symlink_to(real)
        (shared / "images").symlink_to(service.config.home / "images")
        never = real.parent / f"{'0' * 16}{real.suffix}"
        for path in (
            str(real),
            real.as_uri(),
            str(shared / "link.png"),
            str(shared / "images" / real.name),
        ):
            with pytest.raises(errors.NotAllowed) as refused:
                await service.upload_images([path], BEN)
            with pytest.raises(errors.NotAllowed) as unknown:
                await service.upload_images([str(never)], BEN)
            assert refused.value.message == unknown.value.message.replace(str(never), path)
            await service.view_images([path], ANN)
            await service.view_images([path], PERSON)


async def test_only_its_owner_attaches_to_a_request_in_flight(
    make_service: MakeService, atlas: Emulator, coffee: str, finish: Finish
) -> None:
    async with make_service(atlas) as service:
        ids = {}
        for name, caller in {"ann": ANN, "ben": BEN, "person": PERSON}.items():
            first = await edit_sequence(service, [coffee], "warmer", 1, NOW, caller)
            again = await edit_sequence(service, [coffee], "warmer", 1, NOW, caller)
            assert again.job_id == first.job_id and "The same request was made" in again.warnings[-1]
            ids[name] = first.job_id
        assert len(set(ids.values())) == 3
        await finish(service)
    assert len(atlas.accepted) == 3


def test_jobs_from_before_owners_belong_to_the_machine(tmp_path: Path) -> None:
    path = tmp_path / "triptych.db"
    with closing(sqlite3.connect(path)) as earlier:
        earlier.executescript((ROOT / "tests/unit/storage/databases/version-0.sql").read_text("utf-8"))
    store = Store(path, tmp_path / "images")
    assert {row.owner for row in store.jobs(50)} == {None}
    assert store.jobs(50, None, "ann") == [] and not store.owns("ann", "0" * 64)
    store.close()


async def test_a_newer_triptychs_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "triptych.db"
    Store(path, tmp_path / "images").close()
    newer = sqlite3.connect(path)
    newer.execute(f"PRAGMA application_id = {migrations.newest() + 1}")
    newer.close()
    with pytest.raises(errors.Outdated, check=tells_operator("newer Triptych")):
        Store(path, tmp_path / "images")

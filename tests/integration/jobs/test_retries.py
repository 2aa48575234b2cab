"""`job_…/failed`: the failed lanes of a chain are made again, from their last stored step, and nothing else is paid."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from support.fixtures import Emulator, FakeClock, Finish, MakeService
from support.jobs import NOW, Options, edit_chain, edit_sequence, ended
from support.pictures import picture
from triptych.core import errors
from triptych.jobs.caller import Caller
from triptych.jobs.results import JobResult
from triptych.jobs.service import ImageService
from triptych_emulators import running

pytestmark = pytest.mark.anyio

FAILS = "[[emulate:submit/moderated-before]]"
"""In a prompt: the emulator fails the request the first time, and makes it when it is sent again."""
LATER = Options(wait_s=0, max_cost_usd=Decimal(9))


def table_of(directory: Path, rows: int, failing: tuple[int, ...] = ()) -> str:
    """Write a table of so many pictures; the rows `failing` (from 0) fail at their first try."""
    directory.mkdir(exist_ok=True)
    lines = ["sku,image,color"]
    for i in range(rows):
        (directory / f"{i}.png").write_bytes(picture(f"rgb({i},0,0)"))
        lines.append(f"A{i},{i}.png,color {i}{f' {FAILS}' if i in failing else ''}")
    (directory / "products.csv").write_text("\n".join(lines))
    return str(directory / "products.csv")


async def retried(service: ImageService, finish: Finish, job: JobResult, steps: tuple[str, ...] = ()) -> JobResult:
    again = await edit_chain(service, [f"{job.job_id}/failed"], steps, options=LATER)
    return await ended(service, finish, again.job_id)


def prompts(api: Emulator) -> list[str]:
    return [accepted.spec.body["prompt"].partition(" [[")[0] for accepted in api.jobs]


async def test_sixty_rows_of_which_three_fail_pay_for_sixty(
    make_service: MakeService, atlas: Emulator, finish: Finish, tmp_path: Path
) -> None:
    table = table_of(tmp_path / "shop", 60, failing=(4, 20, 59))
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=str(tmp_path)) as service:
        first = await ended(service, finish, (await edit_chain(service, [table], ["on {color}"], options=LATER)).job_id)
        assert (first.status, first.requested, first.returned) == ("partial", 60, 57)
        assert first.next == f'edit_chain(images=["{first.job_id}/failed"])'
        again = await retried(service, finish, first)
        assert (again.status, again.requested, again.returned) == ("done", 3, 3)
        assert again.warnings[0] == f"3 of the 60 lanes of {first.job_id} failed or were cancelled, and are made again."
        assert len(atlas.jobs) == 60 and sorted(prompts(atlas)[57:]) == ["on color 20", "on color 4", "on color 59"]
        assert sorted(prompts(atlas)) == sorted(f"on color {i}" for i in range(60))
        assert again.cost.charged == 3 * (first.cost.charged or 0) / 57
        stored = service.store.plain.job(again.job_id or "")
        assert stored and stored.sources == tuple(str(tmp_path / "shop" / f"{i}.png") for i in (4, 20, 59))
        assert [row.values["sku"] for row in stored.request.rows or ()] == ["A4", "A20", "A59"]
        assert stored.request.model == first.model


async def test_a_lane_goes_on_after_its_last_stored_step(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    steps = ["one", f"two {FAILS}", "three"]
    async with make_service(atlas) as service:
        first = await ended(service, finish, (await edit_chain(service, [coffee], steps, options=LATER)).job_id)
        assert (first.status, first.returned) == ("partial", 1)
        again = await retried(service, finish, first)
        assert (again.status, again.requested, again.returned) == ("done", 2, 2)
        assert prompts(atlas) == ["one", "two", "three"]
        assert atlas.jobs[1].spec.body["images"] == [first.images[0].url]
        assert [image.handle for image in again.images] == [f"{again.job_id}/3", f"{again.job_id}/2"]
        assert again.images[1].source == [f"{first.job_id}/1"]
        caption = (await service.view_images([again.job_id or ""])).caption
        assert f"lane 1: {first.images[0].source[0]}, {again.job_id}/2 to /3" in caption
        assert (
            again.warnings[0] == f"The lane of {first.job_id} failed or was cancelled, and is made again; "
            "1 from the last stored step on."
        )


async def test_a_retry_of_a_retry_pays_only_for_the_rest(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    steps = ["one", "two [[emulate:submit/moderated-before times=2]]", f"three {FAILS}"]
    async with make_service(atlas) as service:
        first = await ended(service, finish, (await edit_chain(service, [coffee], steps, options=LATER)).job_id)
        second = await retried(service, finish, first)
        assert (second.status, second.returned) == ("failed", 0)
        third = await retried(service, finish, second)
        assert (third.status, third.returned) == ("partial", 1)
        fourth = await retried(service, finish, third)
        assert (fourth.status, fourth.returned) == ("done", 1)
        assert prompts(atlas) == ["one", "two", "three"]
        assert atlas.jobs[2].spec.body["images"] == [third.images[0].url]
        # New steps begin at the first image of all.
        atlas.fault("poll", "moderated", times=1)
        other = await ended(service, finish, (await edit_chain(service, [coffee], ["x"], options=LATER)).job_id)
        assert other.status == "failed"
        begun = await retried(service, finish, third, ("four",))
        assert begun.status == "done" and begun.images[0].source[0].startswith("img_")


async def test_the_original_of_a_lane_stays_its_first_image(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    steps = ["one", "two", f"three {FAILS}"]
    async with make_service(atlas) as service:
        started = await edit_chain(service, [coffee], steps, ["original"], LATER)
        first = await ended(service, finish, started.job_id)
        again = await retried(service, finish, first)
        assert again.status == "done"
        assert [len(accepted.spec.body["images"]) for accepted in atlas.jobs] == [1, 2, 2]
        sources = {image.handle: image.source for image in (*first.images, *again.images)}
        assert sources[f"{again.job_id}/3"] == [f"{first.job_id}/2", sources[f"{first.job_id}/1"][0]]


async def test_a_retry_within_the_hour_is_paid_once(
    make_service: MakeService, atlas: Emulator, finish: Finish, tmp_path: Path
) -> None:
    table = table_of(tmp_path / "shop", 3, failing=(1,))
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=str(tmp_path)) as service:
        first = await ended(service, finish, (await edit_chain(service, [table], ["on {color}"], options=LATER)).job_id)
        again = await retried(service, finish, first)
        same = await retried(service, finish, first)
        with pytest.raises(errors.BadRequest, match=r"has \{colour\}, which not every .* there are \{sku\}, \{color\}"):
            await retried(service, finish, first, ("on {colour}",))
        assert same.job_id == again.job_id and len(atlas.jobs) == 3


async def test_a_job_that_was_made_again_leads_to_the_newer_one(
    make_service: MakeService, atlas: Emulator, finish: Finish, tmp_path: Path
) -> None:
    table = table_of(tmp_path / "shop", 3, failing=(1,))
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=str(tmp_path)) as service:
        first = await ended(service, finish, (await edit_chain(service, [table], ["on {color}"], options=LATER)).job_id)
        assert first.next == f'edit_chain(images=["{first.job_id}/failed"])'
        atlas.fault("poll", "moderated", times=1)
        failed = await retried(service, finish, first)
        assert failed.status == "failed"
        assert (await service.get_status(first.job_id)).next == first.next, "a retry that failed made nothing"
        again = await retried(service, finish, first)
        assert (await service.get_status(first.job_id)).next == f'get_status(job_id="{again.job_id}")'


async def test_what_the_call_gives_replaces_what_the_job_had(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(atlas) as service:
        options = Options(**LATER, model="seedream-5.5", size="1K", format="png")
        started = await edit_chain(service, [coffee], ["one", f"two {FAILS}"], options=options)
        first = await ended(service, finish, started.job_id)
        changed = Options(wait_s=0, size="2K")
        again = await edit_chain(service, [f"{first.job_id}/failed"], ["new"], [coffee], changed)
        assert (await ended(service, finish, again.job_id)).status == "done"
        old, body = atlas.jobs[0].spec.body, atlas.jobs[-1].spec.body
        assert (body["prompt"], body["model"], len(body["images"])) == ("new", old["model"], 2)
        assert old["size"] != body["size"] and body["output_format"] == "png"


async def test_jobs_without_a_lane_to_make_again_say_so(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    async def refusal(job_id: str | None) -> str:
        with pytest.raises(errors.BadRequest) as refused:
            await edit_chain(service, [f"{job_id}/failed"], [], options=NOW)
        return refused.value.message

    async with make_service(atlas) as service:
        started = await edit_chain(service, [coffee], ["warmer"], options=NOW)
        assert "still runs: get_status(" in await refusal(started.job_id)
        done = await ended(service, finish, started.job_id)
        assert f"No lane of {done.job_id} failed" in await refusal(done.job_id)
        other = await edit_sequence(service, [coffee], "warmer", options=NOW)
        assert "is of edit_sequence: repeat that call" in await refusal(other.job_id)
        assert "There is no job" in await refusal("job_00000000")
        await finish(service)
        assert len(atlas.jobs) == 2


async def test_an_uncertain_request_is_not_made_again(
    make_service: MakeService, clock: FakeClock, finish: Finish, coffee: str
) -> None:
    with running("ark", max_side=48, clock=clock.monotonic) as ark:
        async with make_service(ark) as service:
            ark.fault("submit", "drop", times=1)
            lost = await ended(service, finish, (await edit_chain(service, [coffee], ["warmer"], options=NOW)).job_id)
            assert lost.status == "uncertain"
            with pytest.raises(errors.BadRequest, match=r"accepts it as lost, then job_.*/failed makes it again"):
                await retried(service, finish, lost)
            await service.cancel_job(lost.job_id or "")
            assert (await retried(service, finish, lost)).status == "done"


async def test_a_pruned_output_is_named(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(atlas) as service:
        steps = ["one", f"two {FAILS}"]
        first = await ended(service, finish, (await edit_chain(service, [coffee], steps, options=LATER)).job_id)
        stored = service.store.plain.image_by_handle(f"{first.job_id}/1")
        assert stored
        stored.path.unlink()
        with pytest.raises(errors.UnknownHandle, match=f"files of {first.job_id}/1 .*Give the steps too"):
            await retried(service, finish, first)
        assert (await retried(service, finish, first, ("one", "two"))).returned == 2


async def test_a_late_image_of_a_retried_lane_pays_for_no_step(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(atlas) as service:
        atlas.fault("result", "404", times=None)
        started = await edit_chain(service, [coffee], ["one", "two"], options=LATER)
        first = await ended(service, finish, started.job_id)
        assert first.status == "failed" and prompts(atlas) == ["one"]
        atlas.clear()
        again = await retried(service, finish, first)
        assert (again.status, prompts(atlas)) == ("done", ["one", "one", "two"])
        await service.get_status(first.job_id or "", 0)
        late = await ended(service, finish, first.job_id)
        assert (late.status, late.returned) == ("partial", 1)
        assert prompts(atlas) == ["one", "one", "two"]


async def test_a_repeated_retry_pays_once_though_a_late_image_came(
    make_service: MakeService, atlas: Emulator, finish: Finish, tmp_path: Path
) -> None:
    table = table_of(tmp_path / "shop", 2, failing=(1,))
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=str(tmp_path)) as service:
        atlas.fault("result", "404", times=None)
        first = await ended(service, finish, (await edit_chain(service, [table], ["on {color}"], options=LATER)).job_id)
        assert first.status == "failed" and len(atlas.jobs) == 1
        atlas.clear()
        again = await edit_chain(service, [f"{first.job_id}/failed"], [], options=LATER)
        await service.get_status(first.job_id or "", 0)
        assert (await ended(service, finish, first.job_id)).returned == 1
        same = await edit_chain(service, [f"{first.job_id}/failed"], [], options=LATER)
        assert same.job_id == again.job_id and len((await service.list_jobs()).jobs) == 2
        await ended(service, finish, again.job_id)
        assert prompts(atlas) == ["on color 0", "on color 0"]  # the other row is refused each time


async def test_a_job_that_made_nothing_and_its_retry_are_one_request(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(atlas) as service:
        steps = [f"one {FAILS}", "two"]
        first = await ended(service, finish, (await edit_chain(service, [coffee], steps, options=LATER)).job_id)
        assert first.status == "failed"
        again = await edit_chain(service, [f"{first.job_id}/failed"], [], options=LATER)
        same = await edit_chain(service, [coffee], steps, options=LATER)
        assert same.job_id == again.job_id
        assert (await ended(service, finish, again.job_id)).status == "done" and len(atlas.jobs) == 2


async def test_a_failed_download_asks_for_its_image_first(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(atlas) as service:
        atlas.fault("result", "404", times=None)
        job = await ended(service, finish, (await edit_chain(service, [coffee], ["one"], options=LATER)).job_id)
        assert job.status == "failed" and job.next == f'get_status(job_id="{job.job_id}", wait_s=50)'


async def test_plain_lanes_stay_plain_and_cancelled_ones_are_made(
    make_service: MakeService, atlas: Emulator, finish: Finish, samples: Path
) -> None:
    pictures = [str(path) for path in sorted(samples.glob("*.jpg"))[:3]]
    async with make_service(atlas) as service:
        started = await edit_chain(service, pictures, ["one"], options=LATER)
        job = await service.cancel_job(started.job_id or "")
        assert (job.status, job.next) == ("cancelled", None)
        again = await retried(service, finish, job)
        stored = service.store.plain.job(again.job_id or "")
        assert (again.status, again.returned) == ("done", 3) and stored
        assert stored.request.rows is None and len(stored.request.images) == 3 and stored.sources == tuple(pictures)


async def test_a_retry_after_a_fall_over_keeps_the_model(
    make_service: MakeService, clock: FakeClock, finish: Finish, coffee: str
) -> None:
    with (
        running("atlas", latency_s=1.0, max_side=48, clock=clock.monotonic) as atlas,
        running("wavespeed", latency_s=1.0, max_side=48, clock=clock.monotonic) as wavespeed,
    ):
        async with make_service(atlas, wavespeed) as service:
            atlas.fault("submit", "402", times=None)
            wavespeed.fault("submit", "451", times=1)
            first = await ended(service, finish, (await edit_chain(service, [coffee], ["one"], options=LATER)).job_id)
            assert (first.status, first.provider) == ("failed", "wavespeed")
            again = await retried(service, finish, first)
            assert (again.status, again.provider, again.model) == ("done", "wavespeed", first.model)
            atlas.clear_faults()
            assert not atlas.jobs and len(wavespeed.jobs) == 1


async def test_another_owner_cannot_retry_a_job(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(atlas) as service:
        started = await edit_chain(service, [coffee], [f"one {FAILS}"], (), LATER, Caller(owner="ann"))
        await ended(service, finish, started.job_id)
        with pytest.raises(errors.UnknownHandle, match="There is no job"):
            await edit_chain(service, [f"{started.job_id}/failed"], [], (), LATER, Caller(owner="bob"))
        again = await edit_chain(service, [f"{started.job_id}/failed"], [], (), LATER, Caller(owner="ann"))
        assert (await ended(service, finish, again.job_id)).returned == 1


async def test_a_retry_saves_into_the_directory_of_its_job(
    make_service: MakeService, atlas: Emulator, finish: Finish, tmp_path: Path
) -> None:
    table, out = table_of(tmp_path / "shop", 2, failing=(1,)), tmp_path / "out"
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=str(tmp_path)) as service:
        into = Options(**LATER, save_to=str(out))
        first = await ended(service, finish, (await edit_chain(service, [table], ["on {color}"], options=into)).job_id)
        await service.image_access.save_copies()
        assert first.status == "partial" and [path.name for path in out.glob("*.png")] == ["0.png"]
        await retried(service, finish, first)
        await service.image_access.save_copies()
        assert sorted(path.name for path in out.iterdir()) == ["0.png", "1.png", "manifest-2.csv", "manifest.csv"]

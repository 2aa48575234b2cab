"""The manifest beside a chain's saved pictures: what it has, that it is read back, and that nothing is overwritten."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import pytest

from integration.jobs.test_retries import FAILS, LATER, table_of
from support.fixtures import Emulator, FakeClock, Finish, MakeService
from support.jobs import Options, edit_chain, ended
from support.pictures import picture
from triptych.core import errors
from triptych.jobs.results import JobResult
from triptych.jobs.service import ImageService
from triptych_emulators import running

pytestmark = pytest.mark.anyio


def lines(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


async def saved(
    service: ImageService, finish: Finish, images: list[str], steps: list[str], directory: Path, **more: Any
) -> JobResult:
    """Return the ended job of a chain whose copies and manifest are saved."""
    options = Options(**{**LATER, "save_to": str(directory), **more})  # type: ignore[typeddict-item]
    job = await ended(service, finish, (await edit_chain(service, images, steps, options=options)).job_id)
    await service.image_access.save_copies()
    return job


async def test_each_lane_is_a_line_with_its_row_and_result(
    make_service: MakeService, atlas: Emulator, finish: Finish, tmp_path: Path
) -> None:
    table = table_of(tmp_path / "shop", 3, failing=(1,))
    out = tmp_path / "shop" / "out"
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=str(tmp_path)) as service:
        job = await saved(service, finish, [table], ["on {color}", "sharper"], out)
        first, failed, last = lines(out / "manifest.csv")
        assert first == {
            "image": "../0.png",
            "sku": "A0",
            "color": "color 0",
            "triptych_handle": f"{job.job_id}/2",
            "triptych_path": "0.png",
            "triptych_source": str(tmp_path / "shop" / "0.png"),
            "triptych_prompt": "on color 0 → sharper",
            "triptych_cost_usd": first["triptych_cost_usd"],
            "triptych_status": "done",
            "triptych_job": job.job_id,
        }
        assert (out / first["triptych_path"]).exists() and float(first["triptych_cost_usd"]) > 0
        assert (failed["triptych_status"], failed["triptych_handle"], failed["triptych_path"]) == ("failed", "", "")
        assert (failed["triptych_cost_usd"], last["triptych_status"]) == ("0", "done")


async def test_a_manifest_makes_only_what_failed(
    make_service: MakeService, atlas: Emulator, finish: Finish, tmp_path: Path
) -> None:
    table = table_of(tmp_path / "shop", 4, failing=(1, 3))
    out = tmp_path / "out"
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=str(tmp_path)) as service:
        await saved(service, finish, [table], ["on {color}"], out)
        paid = len(atlas.jobs)
        again = await saved(service, finish, [str(out / "manifest.csv")], ["on {color}"], out)
        assert (again.status, again.requested, len(atlas.jobs) - paid) == ("done", 2, 2)
        assert again.warnings[0] == "manifest.csv: 2 rows; 2 more are done (triptych_status) and are left out."
        assert [line["triptych_status"] for line in lines(out / "manifest.csv")] == ["done", "failed", "done", "failed"]
        second = lines(out / "manifest-2.csv")
        assert [(line["sku"], line["triptych_status"]) for line in second] == [("A1", "done"), ("A3", "done")]
        with pytest.raises(errors.BadRequest, match=r"All 2 rows of manifest-2.csv are done"):
            await edit_chain(service, [str(out / "manifest-2.csv")], ["on {color}"], options=LATER)


async def test_formulas_are_escaped_and_come_back_as_they_were(
    make_service: MakeService, atlas: Emulator, finish: Finish, tmp_path: Path
) -> None:
    words = ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(A1)", "\tx", "'=1", "it's", 'plain, "quoted"\nline']
    (tmp_path / "a.png").write_bytes(picture())
    with (tmp_path / "t.csv").open("w", newline="") as file:
        rows = [["image", "=name", "color"], *(["a.png", str(i), word] for i, word in enumerate(words))]
        csv.writer(file).writerows(rows)
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=str(tmp_path)) as service:
        atlas.fault("submit", "moderated-before", times=None)
        await saved(service, finish, [str(tmp_path / "t.csv")], ["on {color}"], tmp_path)
        text = (tmp_path / "manifest.csv").read_text("utf-8-sig")
        cells = [cell for line in csv.reader(text.splitlines(keepends=True)) for cell in line]
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
        atlas.clear_faults()
        again = await saved(service, finish, [str(tmp_path / "manifest.csv")], ["on {color}"], tmp_path)
        assert again.status == "done"
        sent = sorted(accepted.spec.body["prompt"] for accepted in atlas.jobs)
        assert sent == sorted(f"on {word}" for word in words)
        stored = service.store.plain.job(again.job_id or "")
        assert stored and stored.request.rows and set(stored.request.rows[0].values) == {"=name", "color"}


async def test_a_manifest_replaces_no_file_of_the_user(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str, tmp_path: Path
) -> None:
    (tmp_path / "manifest.csv").write_text("mine")
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=f"{tmp_path}{os.pathsep}{Path(coffee).parent}") as service:
        job = await saved(service, finish, [coffee], ["warmer"], tmp_path)
        assert (tmp_path / "manifest.csv").read_text() == "mine"
        assert lines(tmp_path / "manifest-2.csv")[0]["image"] == coffee
        # Once more for the same job: the same file, with its newer state.
        text = (tmp_path / "manifest-2.csv").read_text("utf-8-sig")
        (tmp_path / "manifest-2.csv").write_text(text.replace(",done,", ",failed,"), "utf-8-sig")
        service.store.plain.save_also(job.job_id or "", str(tmp_path))
        await service.image_access.save_copies()
        assert lines(tmp_path / "manifest-2.csv")[0]["triptych_status"] == "done"
        # A cell that the user changed keeps the file as it is.
        (tmp_path / "manifest-2.csv").write_text(text.replace(coffee, "other.jpg", 1), "utf-8-sig")
        service.store.plain.save_also(job.job_id or "", str(tmp_path))
        await service.image_access.save_copies()
        assert lines(tmp_path / "manifest-2.csv")[0]["image"] == "other.jpg"
        assert lines(tmp_path / "manifest-3.csv")[0]["image"] == coffee
        assert sorted(path.suffix for path in tmp_path.iterdir() if path.is_file()) == [".csv"] * 3 + [".png"]


async def test_a_job_that_made_nothing_has_a_manifest_too(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str, tmp_path: Path
) -> None:
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=f"{tmp_path}{os.pathsep}{Path(coffee).parent}") as service:
        job = await saved(service, finish, [coffee], [f"warmer {FAILS}"], tmp_path)
        assert job.status == "failed" and lines(tmp_path / "manifest.csv")[0]["triptych_status"] == "failed"


async def test_a_manifest_follows_an_end_that_changes(
    make_service: MakeService, clock: FakeClock, finish: Finish, coffee: str, tmp_path: Path
) -> None:
    with running("ark", max_side=48, clock=clock.monotonic) as ark:
        allowed = f"{tmp_path}{os.pathsep}{Path(coffee).parent}"
        async with make_service(ark, TRIPTYCH_ALLOWED_DIRS=allowed) as service:
            ark.fault("submit", "drop", times=1)
            job = await saved(service, finish, [coffee], ["warmer"], tmp_path)
            assert lines(tmp_path / "manifest.csv")[0]["triptych_status"] == "uncertain"
            await service.cancel_job(job.job_id or "")
            await service.image_access.save_copies()
            assert [row["triptych_status"] for row in lines(tmp_path / "manifest.csv")] == ["cancelled"]


async def test_the_call_that_waits_for_the_end_has_the_manifest(
    make_service: MakeService, atlas: Emulator, coffee: str, tmp_path: Path
) -> None:
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=f"{tmp_path}{os.pathsep}{Path(coffee).parent}") as service:
        options = Options(wait_s=55, save_to=str(tmp_path / "out"))
        job = await edit_chain(service, [coffee], ["warmer"], options=options)
        assert job.status == "done" and len(lines(tmp_path / "out" / "manifest.csv")) == 1


async def test_the_manifest_of_a_retry_names_the_first_pictures(
    make_service: MakeService, atlas: Emulator, finish: Finish, tmp_path: Path
) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(picture("red" if name == "a.png" else "blue"))
    (tmp_path / "t.csv").write_text("image,n\na.png|b.png,1\n")
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=str(tmp_path)) as service:
        job = await saved(service, finish, [str(tmp_path / "t.csv")], ["one {n}", f"two {FAILS}"], tmp_path / "out")
        again = await edit_chain(service, [f"{job.job_id}/failed"], [], options=Options(**LATER, save_to=str(tmp_path)))
        await ended(service, finish, again.job_id)
        await service.image_access.save_copies()
        (line,) = lines(tmp_path / "manifest.csv")
        first, second = line["image"].split("|")
        assert first == "a.png" and second.startswith("img_") and line["triptych_handle"] == f"{again.job_id}/2"
        await retried_is_nothing(service, again)


async def retried_is_nothing(service: ImageService, job: JobResult) -> None:
    with pytest.raises(errors.BadRequest, match="No lane of"):
        await edit_chain(service, [f"{job.job_id}/failed"], [], options=LATER)


async def test_pictures_with_odd_names_are_found_again(
    make_service: MakeService, atlas: Emulator, finish: Finish, tmp_path: Path
) -> None:
    names = ["=1+1.png", "~a.png", "img_deadbeef", "a;b.png", "-x.png", "a b.png", "+.png", "a,b.png", "q'.png"]
    names += ["a|b.png", "a*.png"] if os.name != "nt" else []
    for n, name in enumerate(names):
        (tmp_path / name).write_bytes(picture(size=(40 + n, 40)))
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=str(tmp_path)) as service:
        atlas.fault("submit", "moderated-before", times=None)
        first = await saved(service, finish, [str(tmp_path / name) for name in names], ["warmer"], tmp_path)
        atlas.clear_faults()
        again = await saved(service, finish, [str(tmp_path / "manifest.csv")], ["warmer"], tmp_path / "out")
        old, new = (service.store.plain.job(job.job_id or "") for job in (first, again))
        assert old and new and new.request.rows and again.status == "done"
        assert tuple(row.images[0] for row in new.request.rows) == old.request.images


async def test_another_process_writes_the_manifest_of_an_ended_job(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    allowed = {"TRIPTYCH_ALLOWED_DIRS": f"{tmp_path}{os.pathsep}{Path(coffee).parent}"}
    async with make_service(atlas, **allowed) as service:
        started = await edit_chain(service, [coffee], ["warmer"], options=Options(wait_s=0, save_to=str(out)))
        await ended(service, finish, started.job_id)
        assert not (out / "manifest.csv").exists()
    async with make_service(atlas, **allowed) as service:
        await service.image_access.save_copies()
    assert [line["triptych_status"] for line in lines(out / "manifest.csv")] == ["done"]

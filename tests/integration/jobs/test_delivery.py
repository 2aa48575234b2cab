"""Saving: whole jobs, sizes and formats, names, archives, and calls that run out of time."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from PIL import Image

from support.fixtures import Emulator, FakeClock, Finish, MakeService
from support.jobs import NOW, Options, edit_chain, edit_sequence, ended
from support.pictures import picture
from support.systems import needs_links
from triptych.core import errors
from triptych.images import delivery
from triptych.jobs.results import SaveResult
from triptych.jobs.service import Caller, ImageService

pytestmark = pytest.mark.anyio


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def caller(tmp_path: Path) -> Caller:
    return Caller(roots=(tmp_path,))


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    """Four pictures of different colours; two have the same file name."""
    paths = [tmp_path / "in" / name for name in ("beach.png", "hill.png", "more/beach.png", "tree.png")]
    for path, colour in zip(paths, ("red", "green", "blue", "gold"), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(colour, (60, 40)))
    return [str(path) for path in paths]


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def saved_names(result: SaveResult) -> list[str]:
    return [Path(one.path).name for one in result.saved]


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def digests(directory: Path) -> dict[str, tuple[str, int]]:
    """Return the content of each file, and its inode: a file that is written again has another."""
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_ino) for path in directory.iterdir()
    }


async def restyled(service: ImageService, photos: list[str], caller: Caller, steps: int = 1, save_to: str = "") -> str:
    """Return the id of a chain over the photos that is done."""
    words = ["warmer", "flatter", "darker"][:steps]
    made = await edit_chain(service, photos, words, (), Options(wait_s=50, save_to=save_to), caller)
    assert made.status == "done" and made.job_id
    return made.job_id


# -- what is saved


async def test_a_job_is_its_final_images_in_order(
    make_service: MakeService, photos: list[str], caller: Caller, out: Path
) -> None:
    async with make_service() as service:
        job_id = await restyled(service, photos, caller, steps=3)
        result = await service.save_images([job_id], str(out), None, caller)
    assert [one.handle for one in result.saved] == [f"{job_id}/{n}" for n in (3, 6, 9, 12)]
    assert saved_names(result) == ["beach.png", "hill.png", "beach-2.png", "tree.png"]
    assert (result.count, result.warnings, result.next) == (4, [], None)
    assert names(out) == sorted(saved_names(result))


async def test_a_sequence_is_all_of_its_images(
    make_service: MakeService, coffee: str, caller: Caller, out: Path
) -> None:
    async with make_service() as service:
        job = await edit_sequence(service, [coffee], "warmer", 3, caller=caller)
        result = await service.save_images([f"triptych://jobs/{job.job_id}"], str(out), None, caller)
    assert saved_names(result) == [f"{job.job_id}-{n}.png" for n in (1, 2, 3)]


async def test_jobs_images_and_files_are_saved_together(
    make_service: MakeService, photos: list[str], coffee: str, caller: Caller, out: Path
) -> None:
    async with make_service() as service:
        job_id = await restyled(service, photos[:2], caller)
        (upload,) = (await service.upload_images([coffee], caller)).images
        result = await service.save_images([upload.handle, job_id, photos[3]], str(out), None, caller)
    assert saved_names(result) == [f"{upload.handle}.jpg", "beach.png", "hill.png", "tree.png"]


async def test_a_partial_job_saves_what_it_has_and_says_the_rest(
    make_service: MakeService, atlas: Emulator, photos: list[str], caller: Caller, out: Path, finish: Finish
) -> None:
    async with make_service(atlas) as service:
        atlas.fault("submit", "451", times=1)
        started = await edit_chain(service, photos, ["warmer"], (), NOW, caller)
        job = await ended(service, finish, started.job_id)
        assert job.status == "partial" and job.job_id
        result = await service.save_images([job.job_id], str(out), None, caller)
        numbered = await service.save_images([job.job_id], str(out), "shop", caller)
    assert result.count == 3
    lanes = {int(one.handle.partition("/")[2]) for one in result.saved}
    assert saved_names(numbered) == [f"shop-0{lane}.png" for lane in sorted(lanes)], "a missing image keeps its number"
    (warning,) = result.warnings
    assert warning.startswith(f"{job.job_id} is partial: 3 of 4 final images are stored (missing: lane ")


async def test_a_running_job_saves_what_is_there(
    make_service: MakeService, atlas: Emulator, photos: list[str], caller: Caller, out: Path, clock: FakeClock
) -> None:
    async with make_service(atlas) as service:
        started = await edit_chain(service, photos[:2], ["warmer"], (), NOW, caller)
        job_id = started.job_id or ""
        with pytest.raises(errors.UnknownHandle, match=r"0 of 2 final images are stored so far\. get_status"):
            await service.save_images([job_id], str(out), None, caller)
        assert not out.exists()
        (output, *_) = [one for one in await _until_one(service, clock, job_id) if one.sha256]
        result = await service.save_images([job_id], str(out), None, caller)
        assert result.saved[0].handle == output.handle
        if result.count == 1:
            assert "1 of 2 final images are stored so far" in result.warnings[0]


async def _until_one(service: ImageService, clock: FakeClock, job_id: str) -> list[Any]:
    for _ in range(500):
        outputs = service.store.plain.outputs(job_id)
        if any(output.sha256 for output in outputs):
            return outputs
        if not await service.worker.step():
            clock.advance(1)
    raise AssertionError("nothing came")


async def test_a_file_of_another_machine_is_not_called_pruned(
    make_service: MakeService, photos: list[str], caller: Caller, out: Path
) -> None:
    async with make_service() as service:
        job_id = await restyled(service, photos[:2], caller)
        lost = await service.image_access.by_handle(f"{job_id}/1", caller)
        lost.path.unlink()
        result = await service.save_images([job_id], str(out), None, caller)
    assert saved_names(result) == ["hill.png"]
    assert "missing: lane 1; 1 file missing in this server's TRIPTYCH_HOME" in result.warnings[0]
    assert "pruned" not in result.warnings[0] and "one TRIPTYCH_OBJECTS_URL, or one shared" in result.warnings[0]


async def test_no_owner_saves_the_job_of_another(
    make_service: MakeService, coffee: str, tmp_path: Path, samples: Path
) -> None:
    ann, bob = (Caller(roots=(samples, tmp_path), owner=name) for name in ("ann", "bob"))
    async with make_service() as service:
        job = await edit_sequence(service, [coffee], "warmer", 1, Options(), ann)
        with pytest.raises(errors.UnknownHandle) as hidden:
            await service.save_images([job.job_id or ""], str(tmp_path / "out"), None, bob)
        with pytest.raises(errors.UnknownHandle) as missing:
            await service.save_images(["job_00000000"], str(tmp_path / "out"), None, bob)
    assert hidden.value.message.replace(job.job_id or "", "job_00000000") == missing.value.message
    assert not (tmp_path / "out").exists()


async def test_a_folder_is_its_pictures_and_never_its_saved_ones(
    make_service: MakeService, photos: list[str], caller: Caller, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    async with make_service() as service:
        for _ in range(2):
            result = await service.save_images([str(folder)], str(folder), None, caller, size="16x16")
        job_id = await restyled(service, photos[:1], caller)
        await service.save_images([job_id], str(folder), "made", caller)
        again = await service.save_images([str(folder)], str(folder), None, caller, size="16x16")
    assert saved_names(result) == saved_names(again) == ["beach-2.png", "hill-2.png", "tree-2.png"]
    assert again.warnings[0].startswith("3 pictures")


async def test_a_look_is_its_pictures(make_service: MakeService, photos: list[str], caller: Caller, out: Path) -> None:
    async with make_service() as service:
        made = await service.upload_images(photos[:2], caller, look="tea", words="warm")
        result = await service.save_images(["look:tea"], str(out), None, caller, size="16x16")
    assert [one.handle for one in result.saved] == [one.handle for one in made.images]


async def test_a_users_file_that_is_the_same_stays_a_source(
    make_service: MakeService, photos: list[str], caller: Caller, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    async with make_service() as service:
        for _ in range(2):
            result = await service.save_images([str(folder)], str(folder), None, caller)
    assert saved_names(result) == ["beach.png", "hill.png", "tree.png"]
    assert len(list(folder.glob("*.png"))) == 3


# -- sizes and formats


async def test_each_image_is_saved_in_each_size(
    make_service: MakeService, photos: list[str], caller: Caller, out: Path
) -> None:
    async with make_service() as service:
        result = await service.save_images(
            photos[:2], str(out), None, caller, size="32x32, contain 40x20 white, 30", format="webp"
        )
    sizes = {path.name: size_of(path) for path in out.iterdir()}
    assert sizes == {
        "beach-32x32.webp": (32, 32),
        "beach-40x20.webp": (40, 20),
        "beach-30.webp": (30, 20),
        "hill-32x32.webp": (32, 32),
        "hill-40x20.webp": (40, 20),
        "hill-30.webp": (30, 20),
    }
    assert saved_names(result)[:3] == ["beach-32x32.webp", "beach-40x20.webp", "beach-30.webp"]


async def test_one_size_has_the_plain_name(
    make_service: MakeService, photos: list[str], caller: Caller, out: Path
) -> None:
    async with make_service() as service:
        result = await service.save_images(photos[:1], str(out), "shop-{size}", caller, size="32x32", format="jpeg")
        other = await service.save_images(photos[:1], str(out), None, caller, size="30", format="jpeg")
    assert saved_names(result) + saved_names(other) == ["shop-32x32.jpg", "beach.jpg"]


async def test_the_same_format_without_a_size_is_a_copy(
    make_service: MakeService, photos: list[str], caller: Caller, out: Path
) -> None:
    async with make_service() as service:
        await service.save_images(photos[:1], str(out), None, caller, format="png")
        stored = await service.image_access.import_images(photos[:1], caller)
    assert (out / "beach.png").read_bytes() == stored[0].path.read_bytes()


async def test_what_is_lost_is_said_once_with_a_count(
    make_service: MakeService, caller: Caller, tmp_path: Path, out: Path
) -> None:
    for name in ("a", "b"):
        Image.new("RGBA", (40, 40), (255, 0, 0, 90)).save(tmp_path / f"{name}.png")
    files = [str(tmp_path / "a.png"), str(tmp_path / "b.png")]
    async with make_service() as service:
        result = await service.save_images(files, str(out), None, caller, size="56x56", format="jpeg")
    enlarged, white = result.warnings
    assert "enlarged 1.4×; 2 files were" in enlarged
    assert white.startswith("2 files, such as a.jpg: transparency or border became white") and "#ffeeaa" in white


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"size": "2K"}, '"2K" in size'),
        ({"size": "1x1"}, "16 to 8192"),
        ({"name": "{colour}"}, "{colour} in name is unknown; there are {source}"),
    ],
)
async def test_a_wrong_wish_is_refused_before_anything_is_written(
    given: dict[str, str], words: str, make_service: MakeService, photos: list[str], caller: Caller, out: Path
) -> None:
    name = given.pop("name", None)
    async with make_service() as service:
        with pytest.raises(errors.OutOfLimits) as refused:
            await service.save_images(photos, str(out), name, caller, **given)  # type: ignore[arg-type]
    assert words in refused.value.message
    assert not out.exists()


async def test_a_resized_copy_lets_no_image_be_pruned(
    make_service: MakeService, photos: list[str], caller: Caller, out: Path
) -> None:
    async with make_service() as service:
        job_id = await restyled(service, photos[:2], caller)
        await service.save_images([job_id], str(out), None, caller, size="32x32")
        assert [one.saved_path for one in service.store.plain.outputs(job_id)] == [None, None]
        await service.save_images([job_id], str(out / "whole"), None, caller)
        assert all(one.saved_path for one in service.store.plain.outputs(job_id))


# -- repeating


@pytest.mark.parametrize("given", [{}, {"size": "32x32, 20"}, {"format": "webp"}], ids=str)
async def test_the_same_call_again_changes_nothing(
    given: dict[str, str], make_service: MakeService, photos: list[str], caller: Caller, out: Path
) -> None:
    async with make_service() as service:
        job_id = await restyled(service, photos, caller)
        first = await service.save_images([job_id], str(out), None, caller, **given)  # type: ignore[arg-type]
        before = digests(out)
        assert await service.save_images([job_id], str(out), None, caller, **given) == first  # type: ignore[arg-type]
    async with make_service() as restarted:
        assert await restarted.save_images([job_id], str(out), None, caller, **given) == first  # type: ignore[arg-type]
    assert digests(out) == before


async def test_a_file_of_the_user_is_never_overwritten(
    make_service: MakeService, photos: list[str], caller: Caller, out: Path
) -> None:
    out.mkdir()
    (out / "hill.png").write_bytes(b"mine")
    async with make_service() as service:
        job_id = await restyled(service, photos, caller)
        for _ in range(2):
            result = await service.save_images([job_id], str(out), None, caller, size="32x32")
    assert (out / "hill.png").read_bytes() == b"mine"
    assert saved_names(result) == ["beach.png", "hill-2.png", "beach-2.png", "tree.png"]
    assert len(names(out)) == 5


async def test_a_call_out_of_time_says_so_and_the_same_call_goes_on(
    make_service: MakeService,
    photos: list[str],
    caller: Caller,
    out: Path,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rendered = count_renders(monkeypatch)
    async with make_service() as service:
        job_id = await restyled(service, photos, caller)
        hurried = replace(caller, left_s=lambda: 0.0)
        first = await service.save_images([job_id], str(out), None, hurried, size="32x32")
        assert (first.count, len(names(out))) == (2, 2)
        assert first.next == (
            f'save_images(images=["{job_id}"], directory="{out}", size="32x32") goes on: 2 of 4 files are saved'
        )
        last = await service.save_images([job_id], str(out), None, hurried, size="32x32")
    assert (last.count, last.next, len(names(out))) == (4, None, 4)
    assert len(rendered) == 4, "a file that is there is not rendered again"


def count_renders(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    rendered: list[int] = []
    real = delivery.render

    def counted(data: bytes, *rest: Any) -> Iterator[delivery.Rendered]:
        rendered.append(len(data))
        return real(data, *rest)

    monkeypatch.setattr(delivery, "render", counted)
    return rendered


async def test_a_client_that_gives_up_keeps_what_was_written(
    make_service: MakeService, photos: list[str], caller: Caller, out: Path
) -> None:
    async with make_service() as service:
        job_id = await restyled(service, photos, caller)
        with anyio.CancelScope() as scope:

            async def report(done: float, total: float, message: str) -> None:
                if done:
                    scope.cancel()
                    await anyio.lowlevel.checkpoint()

            await service.save_images([job_id], str(out), None, replace(caller, report=report), size="32x32")
        kept = digests(out)
        assert scope.cancelled_caught and len(kept) == 2
        result = await service.save_images([job_id], str(out), None, caller, size="32x32")
    assert result.count == 4
    assert kept.items() <= digests(out).items()


async def test_a_damaged_image_stops_the_call_and_the_others_are_recorded(
    make_service: MakeService, photos: list[str], caller: Caller, out: Path
) -> None:
    async with make_service() as service:
        stored = await service.image_access.import_images(photos, caller)
        stored[1].path.write_bytes(b"damaged")
        for target in (out, out / "set.zip"):
            with pytest.raises(errors.UnreadableImage):
                await service.save_images([one.handle for one in stored], str(target), None, caller, size="16x16")
        assert len(names(out)) == 1
        assert service.store.plain.saved_among(list(out.iterdir())) == {str(path) for path in out.iterdir()}
        assert list((service.config.home / "parts").iterdir()) == []


async def test_progress_counts_files(make_service: MakeService, photos: list[str], caller: Caller, out: Path) -> None:
    told: list[tuple[float, float, str]] = []

    async def report(done: float, total: float, message: str) -> None:
        told.append((done, total, message))

    async with make_service() as service:
        job_id = await restyled(service, photos, caller)
        await service.save_images([job_id], str(out), None, replace(caller, report=report), size="32x32, 20")
    assert [one[:2] for one in told] == [(0, 8), (4, 8), (8, 8)]
    assert told[1][2] == "saved 4 of 8 files"


async def test_at_most_two_thousand_images_are_saved(make_service: MakeService, out: Path) -> None:
    async with make_service() as service:
        with pytest.raises(errors.OutOfLimits, match="2000"):
            await service.save_images(["img_1"] * 2001, str(out))


# -- archives


def listed(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


async def test_a_path_that_ends_with_zip_is_one_archive(
    make_service: MakeService, photos: list[str], caller: Caller, out: Path
) -> None:
    target = out / "new" / "Sommer - été.zip"
    async with make_service() as service:
        job_id = await restyled(service, photos, caller)
        result = await service.save_images([job_id], str(target), None, caller, size="32x32, 20")
    assert result.archive == str(target) and result.directory == str(target.parent)
    assert names(target.parent) == [target.name]
    found = listed(target)
    assert list(found) == saved_names(result) == [one.path for one in result.saved]
    assert list(found)[:3] == ["beach-32x32.png", "beach-20.png", "hill-32x32.png"]
    assert Image.open(io.BytesIO(found["beach-2-20.png"])).size == (20, 13)
    with zipfile.ZipFile(target) as archive:
        for info in archive.infolist():
            assert (info.compress_type, info.date_time) == (zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0))
    assert list((service.config.home / "parts").iterdir()) == []


async def test_the_same_archive_counts_as_saved_and_another_gets_a_number(
    make_service: MakeService, photos: list[str], caller: Caller, out: Path
) -> None:
    async with make_service() as service:
        results = [
            await service.save_images(images, str(out / "set.zip"), None, caller, size="32x32")
            for images in (photos[:2], photos[2:], photos[:2], photos[2:])
        ]
    assert [Path(one.archive or "").name for one in results] == ["set.zip", "set-2.zip", "set.zip", "set-2.zip"]
    assert names(out) == ["set-2.zip", "set.zip"]


async def test_an_archive_of_copies_holds_the_stored_bytes(
    make_service: MakeService, photos: list[str], caller: Caller, out: Path
) -> None:
    async with make_service() as service:
        job_id = await restyled(service, photos[:2], caller)
        await service.save_images([job_id], str(out / "set.ZIP"), None, caller)
        stored = [await service.image_access.by_handle(f"{job_id}/{n}", caller) for n in (1, 2)]
        assert [one.saved_path for one in service.store.plain.outputs(job_id)] == [None, None]
    assert list(listed(out / "set.zip").values()) == [one.path.read_bytes() for one in stored]


async def test_an_archive_out_of_time_is_finished_by_the_same_call(
    make_service: MakeService, photos: list[str], caller: Caller, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered = count_renders(monkeypatch)
    hurried = replace(caller, left_s=lambda: 0.0)
    async with make_service() as service:
        for count in (1, 2, 3):
            result = await service.save_images(photos, str(out / "set.zip"), None, hurried, size="32x32")
            assert (result.count, result.archive, len(rendered)) == (count, None, count)
            assert result.next and f"{count} of 4 files are saved" in result.next
            assert not (out / "set.zip").exists()
        result = await service.save_images(photos, str(out / "set.zip"), None, hurried, size="32x32")
        assert (result.count, result.next, len(rendered)) == (4, None, 4)
        whole = await service.save_images(photos, str(out / "at once.zip"), None, caller, size="32x32")
    assert (out / "set.zip").read_bytes() == Path(whole.archive or "").read_bytes()


async def test_an_unfinished_archive_leaves_nothing_when_the_service_ends(
    make_service: MakeService, photos: list[str], caller: Caller, out: Path
) -> None:
    async with make_service() as service:
        hurried = replace(caller, left_s=lambda: 0.0)
        for n in range(4):
            await service.save_images(photos, str(out / f"{n}.zip"), None, hurried, size="32x32")
        assert len(list((service.config.home / "parts").iterdir())) == 2
        service.saving.close()
        assert list((service.config.home / "parts").iterdir()) == []
    assert not out.exists()


@pytest.mark.parametrize("directory", ["/etc/set.zip", "{tmp}/../set.zip", "{tmp}/.hidden/set.zip", "{tmp}/.set.zip"])
async def test_an_archive_stays_inside_the_allowed_directories(
    directory: str, make_service: MakeService, photos: list[str], caller: Caller, tmp_path: Path
) -> None:
    async with make_service() as service:
        with pytest.raises(errors.NotAllowed):
            await service.save_images(photos, directory.replace("{tmp}", str(tmp_path)), None, caller)


async def test_a_hostile_name_stays_inside_an_archive(
    make_service: MakeService, photos: list[str], caller: Caller, out: Path
) -> None:
    async with make_service() as service:
        await service.save_images(photos, str(out / "set.zip"), "../../../{source}\x00\\..", caller)
    for name in listed(out / "set.zip"):
        assert not {"/", "\\", "\0"} & set(name) and not name.startswith(".")


@needs_links
async def test_an_archive_goes_through_no_link_that_leads_out(
    make_service: MakeService, photos: list[str], caller: Caller, tmp_path: Path, out: Path
) -> None:
    elsewhere = tmp_path.parent / f"{tmp_path.name}-outside"
    elsewhere.mkdir()
    out.mkdir()
    (out / "set.zip").symlink_to(elsewhere / "set.zip")
    (out / "door").symlink_to(elsewhere)
    async with make_service() as service:
        for directory in (out / "set.zip", out / "door" / "set.zip"):
            with pytest.raises(errors.NotAllowed):
                await service.save_images(photos, str(directory), None, caller)
    assert list(elsewhere.iterdir()) == []


async def test_an_archive_on_another_file_system_is_whole_too(
    make_service: MakeService, photos: list[str], caller: Caller, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any) -> None:
        raise OSError("no hard links")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    async with make_service() as service:
        results = [
            await service.save_images(images, str(out / "set.zip"), None, caller, size="32x32")
            for images in (photos[:2], photos[2:], photos[:2])
        ]
    assert [Path(one.archive or "").name for one in results] == ["set.zip", "set-2.zip", "set.zip"]
    assert len(listed(out / "set.zip")) == 2
    assert names(out) == ["set-2.zip", "set.zip"]


# -- jobs from tables


@pytest.fixture
def table(photos: list[str], tmp_path: Path) -> str:
    path = tmp_path / "in" / "products.csv"
    path.write_text("image,sku,colour\nbeach.png,A/1,red\nhill.png,B-2,=1+1\n,C 3,green\n", "utf-8")
    return str(path)


async def of_table(service: ImageService, table: str, caller: Caller) -> str:
    made = await edit_chain(service, [table], ["make it {colour}", "warm"], (), Options(wait_s=50), caller)
    assert made.status == "done" and made.job_id, made
    return made.job_id


async def test_files_are_named_after_the_columns_of_a_table(
    make_service: MakeService, table: str, caller: Caller, out: Path
) -> None:
    async with make_service() as service:
        job_id = await of_table(service, table, caller)
        named = await service.save_images([job_id], str(out), "{sku}", caller, size="16x16, 20")
        plain = await service.save_images([job_id], str(out / "plain"), None, caller)
        with pytest.raises(errors.OutOfLimits, match=r"\{size2\} in name is unknown; there are \{sku\}, \{colour\}"):
            await service.save_images([job_id], str(out), "{size2}", caller)
    assert saved_names(named)[:3] == ["A-1-16x16.png", "A-1-20.png", "B-2-16x16.png"]
    assert saved_names(plain) == ["beach.png", "hill.png", f"{job_id}-6.png"]


async def test_the_manifest_of_a_table_lies_beside_its_files(
    make_service: MakeService, table: str, caller: Caller, out: Path
) -> None:
    async with make_service() as service:
        job_id = await of_table(service, table, caller)
        for _ in range(2):
            result = await service.save_images([job_id], str(out), "{sku}", caller, size="16x16, 20")
    assert result.manifests == [str(out / "manifest.csv")]
    assert len(names(out)) == 7
    rows = list(csv.DictReader(io.StringIO((out / "manifest.csv").read_text("utf-8-sig"))))
    assert [(row["sku"], row["triptych_handle"], row["triptych_path"]) for row in rows] == [
        ("A/1", f"{job_id}/2", "A-1-16x16.png"),
        ("B-2", f"{job_id}/4", "B-2-16x16.png"),
        ("C 3", f"{job_id}/6", "C 3-16x16.png"),
    ]
    assert rows[1]["colour"] == "'=1+1"


async def test_an_archive_of_a_table_has_its_manifest(
    make_service: MakeService, table: str, caller: Caller, out: Path
) -> None:
    async with make_service() as service:
        job_id = await of_table(service, table, caller)
        for _ in range(2):
            result = await service.save_images([job_id], str(out / "set.zip"), "{sku}", caller)
    assert result.manifests == ["manifest.csv"] and names(out) == ["set.zip"]
    found = listed(out / "set.zip")
    assert list(found) == ["A-1.png", "B-2.png", "C 3.png", "manifest.csv"]
    assert b"C 3.png" in found["manifest.csv"]


async def test_a_call_out_of_time_writes_no_manifest_yet(
    make_service: MakeService, table: str, caller: Caller, out: Path
) -> None:
    async with make_service() as service:
        job_id = await of_table(service, table, caller)
        hurried = replace(caller, left_s=lambda: 0.0)
        first = await service.save_images([job_id], str(out), "{sku}", hurried, size="16x16")
        assert (first.count, first.manifests) == (2, []) and "manifest.csv" not in names(out)
        last = await service.save_images([job_id], str(out), "{sku}", hurried, size="16x16")
    assert (last.count, last.manifests) == (3, [str(out / "manifest.csv")])


# -- copies of save_to


async def test_save_to_keeps_the_names_of_the_files(
    make_service: MakeService, photos: list[str], caller: Caller, out: Path
) -> None:
    async with make_service() as service:
        await restyled(service, photos, caller, steps=2, save_to=str(out))
        made = [stem for name in ("beach", "hill", "beach-2", "tree") for stem in (name, f"{name}-step1")]
        assert names(out) == sorted(["manifest.csv", *(f"{stem}.png" for stem in made)])
        again = await restyled(service, photos, caller, steps=2, save_to=str(out / "again"))
        result = await service.save_images([again], str(out), None, caller)
    assert set(names(out / "again")) == {*names(out)} - {"again"}
    assert saved_names(result) == ["beach.png", "hill.png", "beach-2.png", "tree.png"]


async def test_a_restyle_beside_its_sources_overwrites_none(
    make_service: MakeService, photos: list[str], caller: Caller
) -> None:
    folder = Path(photos[0]).parent
    before = digests_of_files(photos)
    async with make_service() as service:
        job_id = await restyled(service, photos, caller, save_to=str(folder))
        saved = [Path(one.saved_path or "").name for one in service.store.plain.outputs(job_id)]
    assert digests_of_files(photos) == before
    assert len(set(saved)) == 4 and not {"beach.png", "hill.png", "tree.png"} & set(saved)


def digests_of_files(paths: list[str]) -> list[str]:
    return [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths]


async def test_time_without_a_limit_is_enough_for_all(
    make_service: MakeService, photos: list[str], caller: Caller, out: Path
) -> None:
    async with make_service() as service:
        result = await service.save_images(photos, str(out), None, caller, within_s=math.inf)
    assert result.count == 4 and result.next is None

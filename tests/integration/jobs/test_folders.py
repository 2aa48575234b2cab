"""Folders and patterns as arguments: what becomes of them in each call, what is said of them, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from support.fixtures import Emulator, Finish, MakeService
from support.jobs import NOW, Options, edit_chain, edit_sequence, ended, make
from support.pictures import picture
from triptych.core import errors
from triptych.core.requests import Look
from triptych.images import folders
from triptych.jobs import looks
from triptych.jobs.caller import Caller

pytestmark = pytest.mark.anyio


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with three pictures, which differ, and a file that is none."""
    directory = tmp_path / "mine" / "photos"
    directory.mkdir(parents=True)
    for n, name in enumerate(("img10.png", "img2.png", "img1.png")):
        (directory / name).write_bytes(picture(size=(40 + n, 40)))
    (directory / "notes.txt").write_text("not a picture")
    return directory


@pytest.fixture
def me(photos: Path) -> Caller:
    return Caller(roots=(photos.parent,))


def unreadable(directory: Path, number: int) -> Path:
    """Return a folder of files that end like pictures and are none: reading one would be refused."""
    directory.mkdir()
    for n in range(number):
        (directory / f"{n}.png").write_bytes(b"no picture")
    return directory


async def test_a_chain_has_a_lane_for_each_picture(
    make_service: MakeService, finish: Finish, photos: Path, me: Caller
) -> None:
    async with make_service() as service:
        started = await edit_chain(service, [str(photos)], ["warm", "grain"], [], NOW, me)
        job = service.store.plain.job(started.job_id or "")
        assert job and [Path(source).name for source in job.sources] == ["img1.png", "img2.png", "img10.png"]
        sizes = [service.store.plain.image_by_handle(handle) for handle in job.request.images]
        assert [image.width for image in sizes if image] == [42, 41, 40]
        assert job.request.rows is None
        done = await ended(service, finish, started.job_id)
    assert done.returned == done.requested == 6
    assert done.warnings[0] == f'3 pictures in {folders.shown(str(photos))} (natural order), 1 skipped: "notes.txt".'


async def test_a_folder_is_the_same_request_as_its_pictures(
    make_service: MakeService, finish: Finish, photos: Path, me: Caller
) -> None:
    async with make_service() as service:
        by_folder = await edit_chain(service, [f"{photos}/*.png"], ["warm"], [], NOW, me)
        one_by_one = [str(photos / name) for name in ("img1.png", "img2.png", "img10.png")]
        assert (await edit_chain(service, one_by_one, ["warm"], [], NOW, me)).job_id == by_folder.job_id


async def test_folders_go_into_sets_references_uploads_and_views(
    make_service: MakeService, photos: Path, me: Caller, tmp_path: Path
) -> None:
    async with make_service() as service:
        uploaded = await service.upload_images([str(photos)], me)
        assert [image.width for image in uploaded.images] == [42, 41, 40]
        where = folders.shown(str(photos))
        assert uploaded.warnings == [f'3 pictures in {where} (natural order), 1 skipped: "notes.txt".']
        edited = await edit_sequence(service, [str(photos)], "a set", 1, NOW, me)
        job = service.store.plain.job(edited.job_id or "")
        assert job and list(job.request.images) == [image.handle for image in uploaded.images]
        chained = await edit_chain(service, [str(photos / "img1.png")], ["warm"], [f"{photos}/img?.png"], NOW, me)
        job = service.store.plain.job(chained.job_id or "")
        assert job and list(job.request.references) == [image.handle for image in uploaded.images[:2]]
        shown = await service.view_images([str(photos)], me)
        assert shown.caption.endswith('(natural order), 1 skipped: "notes.txt".')
        saved = await service.save_images([str(photos)], str(photos.parent / "copies"), None, me)
        assert len(saved.saved) == 3 and saved.warnings == uploaded.warnings


async def test_what_triptych_saved_in_a_folder_is_left_out(
    make_service: MakeService, finish: Finish, photos: Path, me: Caller
) -> None:
    async with make_service() as service:
        into = Options(wait_s=0, save_to=str(photos))
        first = await ended(service, finish, (await edit_chain(service, [str(photos)], ["warm"], [], into, me)).job_id)
        handle = first.images[0].handle
        await service.save_images([handle], str(photos), "chosen", me)
        other = await edit_chain(service, [str(photos / "img1.png")], ["cold"], [], NOW, me)
        await edit_chain(service, [str(photos / "img1.png")], ["cold"], [], into, me)  # attached: its copies too
        await ended(service, finish, other.job_id)
        await service.image_access.save_copies()
        assert len(list(photos.glob("*.png"))) == 3 + 3 + 1 + 1
        (photos / "mine.png").write_bytes(picture("red"))
        again = await edit_chain(service, [str(photos)], ["sharper"], [], NOW, me)
        job = service.store.plain.job(again.job_id or "")
        assert job and len(job.request.images) == 4
        assert "8 skipped: " in job.warnings[0] and job.warnings[0].endswith('"notes.txt", 5 saved by Triptych.')
        by_name = await edit_chain(service, [str(photos / "chosen.png")], ["sharper"], [], NOW, me)
        assert by_name.requested == 1


async def test_the_question_about_the_cost_names_the_folder(
    make_service: MakeService, atlas: Emulator, photos: Path, me: Caller
) -> None:
    async with make_service(atlas, TRIPTYCH_CONFIRM_USD="0.01") as service:
        with pytest.raises(errors.OverBudget) as refused:
            await edit_chain(service, [str(photos)], ["warm"], [], NOW, Caller(roots=me.roots, asks=True))
        assert f"3 pictures from {folders.shown(str(photos))}" in refused.value.question
        dry = await edit_chain(service, [str(photos)], ["warm"], [], Options(dry_run=True), me)
        assert dry.warnings[0].startswith(f"3 pictures in {folders.shown(str(photos))}")
    assert atlas.accepted == []


async def test_uploads_end_with_the_patience_of_the_caller(
    make_service: MakeService, atlas: Emulator, photos: Path, me: Caller
) -> None:
    async with make_service(atlas) as service:
        (first,) = (await service.upload_images([str(photos / "img1.png")], me)).images
        rest = await service.upload_images([str(photos)], replace(me, read_limit_s=0.0))
        assert [image.handle == first.handle for image in rest.images] == [True, False, False]
        assert rest.images[0].url == first.url
        assert atlas.performed["upload"] == 1
        assert rest.warnings[1] == (
            "2 images are stored, not yet at Atlas Cloud: each is uploaded when a request uses it."
        )


TOO_MANY = [
    ("edit_sequence", 15, {"prompt": "a set"}, errors.OutOfLimits, r"not 15\. Nothing was read: 15 pictures from"),
    ("edit_chain", 201, {"steps": ["a"] * 10}, errors.OutOfLimits, "201 images × 10 steps are 2010 requests"),
    ("edit_chain", 2001, {"steps": ["a"]}, errors.OutOfLimits, r"2001 pictures are too many.*2000: 2001 pict"),
]


@pytest.mark.parametrize(("tool", "number", "given", "error", "says"), TOO_MANY)
async def test_a_limit_is_told_before_anything_is_read(
    tool: str, number: int, given: dict[str, object], error: type[Exception], says: str,
    make_service: MakeService, me: Caller, photos: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    folder = unreadable(photos.parent / "many", number)
    async with make_service() as service:
        with pytest.raises(error, match=says):
            await make(service, tool, {"images": [str(folder)], **given}, NOW, me)
        with pytest.raises(errors.OutOfLimits, match=r"1 to 40|too many") as refused:
            await service.view_images([str(folder)] * 3, me)
        assert "no picture" not in refused.value.message
        assert not service.store.plain.recent_uploads(10, None)


async def test_an_empty_folder_is_refused(make_service: MakeService, me: Caller, photos: Path) -> None:
    (photos.parent / "empty").mkdir()
    async with make_service() as service:
        with pytest.raises(errors.UnreadableImage, match=r"has no picture. It is empty. Pictures end in"):
            await edit_chain(service, [str(photos.parent / "empty")], ["warm"], [], NOW, me)
        with pytest.raises(errors.UnreadableImage, match="matches no picture"):
            await service.upload_images([f"{photos}/*.jpg"], me)


# -- items with a meaning of their own


MISPLACED = [
    ("edit_chain", {"images": ["look:warm"]}, "among the references of edit_chain"),
    ("edit_sequence", {"images": ["a.csv"]}, "is a table, which goes into the images of edit_chain"),
    ("edit_chain", {"images": ["a.png"], "references": ["a.csv"]}, "is a table"),
    ("edit_sequence", {"images": ["original"]}, "a file of that name is ./original"),
    ("edit_chain", {"images": ["original"]}, "into the references of edit_chain"),
    ("edit_sequence", {"images": ["job_1a2b3c4d/failed"]}, "alone into the images of edit_chain"),
    ("edit_chain", {"images": ["a.png"], "references": ["job_1a2b3c4d/failed"]}, "alone into the images"),
    ("edit_chain", {"images": ["job_1a2b3c4d/failed", "a.png"]}, "only item of images"),
    ("edit_sequence", {"images": ["look:a", "look:b"]}, "One look is used in a call"),
]


@pytest.mark.parametrize(("tool", "given", "says"), MISPLACED)
async def test_an_item_in_the_wrong_place_says_where_it_belongs(
    tool: str, given: dict[str, object], says: str, make_service: MakeService
) -> None:
    words: dict[str, object] = {"steps": ["warm"]} if tool == "edit_chain" else {"prompt": "warm"}
    async with make_service() as service:
        with pytest.raises(errors.BadRequest, match=says):
            await make(service, tool, {**words, **given})


async def test_files_named_like_such_items_are_reached_by_their_directory(
    make_service: MakeService, me: Caller, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    named = ["./original", "./img_2.png", "./look:1.png", "img_*.png"]
    for n, name in enumerate(("original", "img_2.png", "look:1.png")):
        (photos / name).write_bytes(picture(size=(90 + n, 40)))
    async with make_service() as service:
        started = await edit_chain(service, named, ["warm"], [], NOW, me)
        job = service.store.plain.job(started.job_id or "")
        assert job
        images = [service.store.plain.image_by_handle(handle) for handle in job.request.images]
        assert [image.width for image in images if image] == [90, 91, 92, 91]


async def test_a_table_beside_a_folder_gives_a_row_for_each(
    make_service: MakeService, me: Caller, photos: Path
) -> None:
    table = photos.parent / "list.csv"
    table.write_text("image,what\nphotos/img2.png,cup\n")
    async with make_service() as service:
        started = await edit_chain(service, [str(table), str(photos)], ["warm"], [], NOW, me)
        job = service.store.plain.job(started.job_id or "")
        assert job and job.request.rows and not job.request.images and job.sources
        assert [Path(source).name for source in job.sources] == ["img2.png", "img1.png", "img2.png", "img10.png"]
        assert [dict(row.values) for row in job.request.rows] == [{"what": "cup"}, {}, {}, {}]
        with pytest.raises(errors.NotAllowed):
            await edit_chain(service, [str(photos.parents[1] / "other.csv")], ["warm"], [], NOW, me)
        with pytest.raises(errors.BadRequest, match=r"has no columns, and a step has \{what\}"):
            await edit_chain(service, [str(table), str(photos)], ["a {what}"], [], NOW, me)


async def test_a_look_leaves_the_images_of_a_set(
    make_service: MakeService, me: Caller, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_service() as service:
        (stored,) = (await service.upload_images([str(photos / "img10.png")], me)).images

        async def find(*_: object) -> Look:
            return Look("warm", 1, "golden light", (stored.handle,))

        monkeypatch.setattr(looks, "find", find)
        started = await edit_sequence(service, ["look:warm"], "a set", 1, NOW, me)
        job = service.store.plain.job(started.job_id or "")
        assert job and job.request.look and not job.request.images
        chained = await edit_chain(service, [str(photos)], ["a"], ["look:warm", "original"], NOW, me)
        job = service.store.plain.job(chained.job_id or "")
        assert job and job.request.look and job.request.references == ("original",)


async def test_every_damaged_picture_of_a_folder_is_named_at_once(
    make_service: MakeService, photos: Path, me: Caller
) -> None:
    for name in ("a.png", "img3.png", "z.png"):
        (photos / name).write_bytes(picture()[:60])
    async with make_service() as service:
        with pytest.raises(errors.UnreadableImage) as refused:
            await edit_chain(service, [str(photos)], ["warm"], [], NOW, me)
        assert all(name in refused.value.message for name in ("a.png", "img3.png", "z.png"))
        assert (await service.list_jobs()).jobs == []


async def test_the_same_picture_twice_in_a_folder_is_said(make_service: MakeService, photos: Path, me: Caller) -> None:
    (photos / "copy.png").write_bytes((photos / "img2.png").read_bytes())
    async with make_service() as service:
        quote = await edit_chain(service, [str(photos)], ["warm"], [], Options(dry_run=True), me)
    said = 'Pictures that are the same as an earlier one are paid again: "img2.png" (as "copy.png").'
    assert said in quote.warnings


async def test_a_column_without_a_table_is_said(make_service: MakeService, photos: Path, me: Caller) -> None:
    async with make_service() as service:
        quote = await edit_chain(service, [str(photos)], ["on {color} paper"], [], Options(dry_run=True), me)
        assert "{color} in a step is sent as it is: only a table among the images fills it." in quote.warnings
        plain = await edit_chain(service, [str(photos)], ['{"scene": "a beach"}'], [], Options(dry_run=True), me)
        assert not any("sent as it is" in warning for warning in plain.warnings)

"""Tables as the images of edit_chain: what goes on the wire, and hostile tables that come to nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from support.fixtures import Emulator, Finish, MakeService
from support.jobs import NOW, Options, edit_chain, edit_sequence, ended
from support.pictures import picture
from support.systems import needs_links
from triptych.core import errors
from triptych.jobs.caller import Caller
from triptych.jobs.service import ImageService

pytestmark = pytest.mark.anyio

STEPS = ["on {color} paper"]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A directory with two pictures; a picture beside it is not allowed."""
    directory = tmp_path / "shop"
    directory.mkdir()
    (directory / "a.png").write_bytes(picture("red"))
    (directory / "b.png").write_bytes(picture("blue"))
    (tmp_path / "secret.png").write_bytes(picture("black"))
    return directory


async def refusal(
    service: ImageService, table: Path, steps: Sequence[str] = STEPS, caller: Caller | None = None
) -> str:
    """Return why a table is refused; nothing is stored or sent then."""
    before = stored(service)
    with pytest.raises(errors.TriptychError) as refused:
        await edit_chain(service, [str(table)], list(steps), options=NOW, caller=caller)
    assert stored(service) == before and not service.store.plain.jobs(5)
    assert len(refused.value.message) <= 900
    return refused.value.message


def stored(service: ImageService) -> list[Path]:
    return sorted((service.config.home / "images").glob("*"))


async def test_each_row_sends_its_picture_and_words(
    make_service: MakeService, atlas: Emulator, finish: Finish, shop: Path
) -> None:
    (shop / "t.csv").write_text("sku;image;color\nA;a.png;red\nB;a.png|b.png;blue\n")
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=str(shop)) as service:
        dry = await edit_chain(service, [str(shop / "t.csv")], STEPS, options=Options(dry_run=True))
        job = await ended(
            service, finish, (await edit_chain(service, [str(shop / "t.csv")], STEPS, options=NOW)).job_id
        )
        assert (job.status, job.warnings) == ("done", ["t.csv: 2 rows."])
        sent = {one.spec.prompt: len(one.spec.references) for one in atlas.jobs}
        assert sent == {"on red paper": 1, "on blue paper": 2}
        assert dry.cost.quoted == job.cost.quoted == job.cost.charged == atlas.charged_usd
        again = await edit_chain(service, [str(shop / "t.csv")], STEPS, options=NOW)
        assert again.job_id == job.job_id and len(atlas.jobs) == 2


async def test_tables_folders_and_pictures_go_together(
    make_service: MakeService, atlas: Emulator, finish: Finish, shop: Path
) -> None:
    (shop / "t.jsonl").write_text('{"image": "a.png", "color": "red"}\n')
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=str(shop)) as service:
        items = [str(shop / "t.jsonl"), str(shop / "b.png"), f"{shop}/*.png"]
        job = await ended(service, finish, (await edit_chain(service, items, ["warmer"], options=NOW)).job_id)
        assert (job.status, job.requested) == ("done", 4)


async def test_missing_pictures_are_named_at_once_with_their_rows(
    make_service: MakeService, atlas: Emulator, shop: Path
) -> None:
    (shop / "t.csv").write_text("image,color\na.png,red\nc.png,red\nb.png,red\nd.png,red\n")
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=str(shop)) as service:
        message = await refusal(service, shop / "t.csv")
    assert message.startswith("t.csv has 2 mistakes; nothing was sent.")
    assert "Row 3, column image: there is no file" in message and "Row 5, column image" in message


@pytest.mark.skipif(os.name == "nt", reason="a backslash separates folders on Windows")
async def test_a_path_of_windows_says_what_separates_folders(
    make_service: MakeService, atlas: Emulator, shop: Path
) -> None:
    (shop / "t.csv").write_text("image,color\nphotos\\a.png,red\n")
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=str(shop)) as service:
        assert "(folders are separated by / here)" in await refusal(service, shop / "t.csv")
        with pytest.raises(errors.UnreadableImage, match="separated by / here"):
            await edit_chain(service, [f"{shop}/photos\\a.png"], ["warm"])


async def test_a_picture_that_cannot_be_read_is_named_with_its_row(
    make_service: MakeService, atlas: Emulator, shop: Path
) -> None:
    (shop / "bad.png").write_text("no picture")
    (shop / "t.csv").write_text("image,color\nbad.png,red\n")
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=str(shop)) as service:
        assert (await refusal(service, shop / "t.csv")).startswith("t.csv, row 2, column image: ")


@needs_links
@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("../secret.png", "is outside the allowed directories"),
        ("../../../../../../etc/passwd", "is outside the allowed directories"),
        ("/etc/passwd", "is outside the allowed directories"),
        ("~/.ssh/id_rsa", "is outside the allowed directories"),
        ("file:///etc/passwd", "is outside the allowed directories"),
        ("file://host/share/a.png", "names another machine"),
        ("link.png", "is outside the allowed directories"),
        ("hard.png", "is a hard link"),
        (".hidden.png", "is hidden"),
        ("sub", "there is no file"),
        ("t.csv.png\x00", "has a zero byte"),
        ("https://169.254.169.254/latest/meta-data", "is not on the public internet"),
        ("https://localhost/a.png", "is not on the public internet"),
        ("https://[::1]/a.png", "is not on the public internet"),
        ("http://example.com/a.png", "Only https:// URLs"),
        ("ftp://example.com/a.png", "is no https:// URL, path or handle"),
        ("img_deadbeef", "There is no image"),
        ("job_deadbeef/1", "There is no image"),
        ("data:image/png;base64,AAAA", "a data: URI"),
        ("=cmd|' /C calc'!A0", "there is no file"),
        ("a.csv", "is a table"),
        ("*.png", "is a pattern"),
        ("look:coffee", "is a look"),
        ("job_deadbeef/failed", "is a job"),
    ],
)
async def test_a_hostile_cell_comes_to_nothing(
    make_service: MakeService, atlas: Emulator, shop: Path, cell: str, reason: str
) -> None:
    (shop / "link.png").symlink_to(shop.parent / "secret.png")
    os.link(shop.parent / "secret.png", shop / "hard.png")
    (shop / ".hidden.png").write_bytes(picture())
    (shop / "sub").mkdir()
    quoted = cell.replace('"', '""')
    rows = [f'"{quoted}",red,{n}' for n in range(20)]
    (shop / "t.csv").write_text("\n".join(["image,color,n", *rows]))
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=str(shop)) as service:
        message = await refusal(service, shop / "t.csv", ["on {color} paper, {n}"])
    assert reason in message and "row 2" in message.lower()
    assert not atlas.seen


async def test_a_hostile_column_of_words_is_only_text(
    make_service: MakeService, atlas: Emulator, finish: Finish, shop: Path
) -> None:
    words = "=cmd|' /C calc'!A0 {image} {triptych_job} /etc/passwd <b>"
    (shop / "t.csv").write_text(f'image,color\na.png,"{words}"\n')
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=str(shop)) as service:
        job = await ended(
            service, finish, (await edit_chain(service, [str(shop / "t.csv")], STEPS, options=NOW)).job_id
        )
        assert job.status == "done" and atlas.jobs[0].spec.prompt == f"on {words} paper"


async def test_large_and_many_rowed_tables_are_refused_before_pictures(
    make_service: MakeService, atlas: Emulator, shop: Path
) -> None:
    with (shop / "large.csv").open("wb") as file:
        file.truncate(100_000_000)
    (shop / "many.csv").write_text("image,color\n" + "a.png,red\n" * 10_000)
    (shop / "cell.csv").write_text("image,color\na.png," + "x" * 1_000_000)
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=str(shop)) as service:
        assert "has 100 MB" in await refusal(service, shop / "large.csv")
        assert "has 10,000 rows; one job takes at most 2,000" in await refusal(service, shop / "many.csv")
        assert "a cell has over 10,000 characters" in await refusal(service, shop / "cell.csv")


@needs_links
async def test_a_table_is_read_through_the_same_door_as_a_picture(
    make_service: MakeService, atlas: Emulator, shop: Path
) -> None:
    (shop.parent / "t.csv").write_text("image,color\nshop/a.png,red\n")
    (shop / "link.csv").symlink_to(shop.parent / "t.csv")
    (shop / ".t.csv").write_text("image,color\na.png,red\n")
    (shop / "dir.csv").mkdir()
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=str(shop)) as service:
        assert "outside the allowed directories" in await refusal(service, shop.parent / "t.csv")
        assert "outside the allowed directories" in await refusal(service, shop / "link.csv")
        assert "is hidden" in await refusal(service, shop / ".t.csv")
        assert "is not a file" in await refusal(service, shop / "dir.csv")
        assert "There is no file" in await refusal(service, shop / "none.csv")


async def test_a_cell_cannot_name_the_image_of_another_owner(
    make_service: MakeService, atlas: Emulator, finish: Finish, shop: Path
) -> None:
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=str(shop)) as service:
        uploaded = await service.upload_images([str(shop / "a.png")], Caller(owner="ann"))
        (shop / "t.csv").write_text(f"image,color\n{uploaded.images[0].handle},red\n")
        message = await refusal(service, shop / "t.csv", caller=Caller(owner="bob"))
        assert "There is no image" in message and message.startswith("t.csv, row 2")


async def test_steps_are_needed_but_for_a_retry(make_service: MakeService, atlas: Emulator, shop: Path) -> None:
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=str(shop)) as service:
        with pytest.raises(errors.BadRequest, match="edit_chain needs steps: 1 to 10 instructions"):
            await edit_chain(service, [str(shop / "a.png")], [], options=NOW)
        (shop / "t.csv").write_text("image\na.png\n")
        with pytest.raises(errors.BadRequest, match="is a table, which goes into the images of edit_chain"):
            await edit_sequence(service, [str(shop / "t.csv")], "warmer", options=NOW)


async def test_the_same_table_under_another_name_pays_once(
    make_service: MakeService, atlas: Emulator, finish: Finish, shop: Path
) -> None:
    (shop / "t.csv").write_text("image,color\na.png,red\n")
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=str(shop)) as service:
        options = Options(wait_s=0, max_cost_usd=Decimal(9))
        first = await edit_chain(service, [str(shop / "t.csv")], STEPS, options=options)
        (shop / "t.csv").rename(shop / "u.csv")
        assert (await edit_chain(service, [str(shop / "u.csv")], STEPS, options=options)).job_id == first.job_id


async def test_a_row_whose_words_are_too_long_is_named(make_service: MakeService, atlas: Emulator, shop: Path) -> None:
    (shop / "t.csv").write_text("image,color\na.png,red\nb.png," + "very " * 1900 + "\n")
    async with make_service(atlas, TRIPTYCH_ALLOWED_DIRS=str(shop)) as service:
        assert "The prompt of lane 2 has" in await refusal(service, shop / "t.csv")

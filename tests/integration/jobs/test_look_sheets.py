"""Claims about `view_images` of a job with a look: the look stands above it, the caption says what is far from it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support.fixtures import MakeService
from support.jobs import Options, edit_chain, edit_sequence
from triptych.core.requests import Request, Row
from triptych.images import contact_sheet, similarity
from triptych.jobs.planning import Terms
from triptych.jobs.service import Caller, ImageService

pytestmark = pytest.mark.anyio

LONG = Options(wait_s=50)
GREY, WARM = Image.new("RGB", (64, 64), (128, 128, 128)), Image.new("RGB", (64, 64), (200, 140, 90))


@pytest.fixture
def strips(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Note what goes onto each sheet."""
    seen: list[dict[str, Any]] = []
    render = contact_sheet.render

    def noted(cards: Any, **how: Any) -> Any:
        seen.append({"cards": list(cards), **how})
        return render(cards, **how)

    monkeypatch.setattr(contact_sheet, "render", noted)
    return seen


async def night(service: ImageService, samples: Path) -> str:
    (image,) = (await service.upload_images([str(samples / "rocket.jpg")], Caller(), "night", "deep blue night")).images
    return image.handle


async def test_a_set_stands_below_its_look(
    make_service: MakeService, coffee: str, samples: Path, strips: list[dict[str, Any]]
) -> None:
    async with make_service() as service:
        rocket = await night(service, samples)
        job = await edit_sequence(service, [coffee, "look:night"], "on a table", 2, LONG)
        await service.upload_images([coffee], Caller(), "night", "golden hour")
        shown = await service.view_images([str(job.job_id)])
    sheet = strips[-1]
    assert (len(sheet["strip"]), sheet["strip_title"]) == (1, "look:night v1: deep blue night")
    assert [card.label for card in sheet["cards"]] == [job.images[0].source[0], *(one.handle for one in job.images)]
    assert f"look:night v1 ({rocket}) went into every request." in shown.caption
    numbers = re.search(
        rf"Distance of {job.job_id}/1 to /2 from look:night v1, its nearest image: palette ([\d.]+), ([\d.]+); "
        r"brightness ([\d.]+), ([\d.]+)\. Furthest: (\S+)\.", shown.caption,
    )  # fmt: skip
    assert numbers, shown.caption
    far = [float(numbers[1]) / 5 + float(numbers[3]) / 12, float(numbers[2]) / 5 + float(numbers[4]) / 12]
    assert numbers[5] == f"{job.job_id}/{1 + far.index(max(far))}"


async def test_the_last_images_of_a_chain_are_judged(
    make_service: MakeService, samples: Path, strips: list[dict[str, Any]]
) -> None:
    photos = [str(samples / f"{name}.jpg") for name in ("coffee", "cat", "astronaut")]
    async with make_service() as service:
        await night(service, samples)
        job = await edit_chain(service, photos, ["brighter", "vignette"], ["look:night", "original"], LONG)
        whole = (await service.view_images([str(job.job_id)])).caption
        some = (await service.view_images([f"{job.job_id}/2", f"{job.job_id}/4"])).caption
    assert "each original into every step from the second on. lane 1: " in whole
    listed = ", ".join(f"{job.job_id}/{n}" for n in (2, 4, 6))
    assert f"Distance of {listed} from look:night v1, its nearest image: palette " in whole
    assert f"Distance of {job.job_id}/2, {job.job_id}/4 from look:night v1" in some
    assert [len(sheet["strip"]) for sheet in strips] == [1, 1]


async def test_a_job_without_a_look_has_no_strip(
    make_service: MakeService, coffee: str, strips: list[dict[str, Any]]
) -> None:
    async with make_service() as service:
        job = await edit_sequence(service, [coffee], "warmer", 2, LONG)
        caption = (await service.view_images([str(job.job_id)])).caption
    assert "look" not in caption and not strips[-1]["strip"] and not strips[-1]["strip_title"]


async def test_lanes_from_words_are_shown_with_their_values(
    make_service: MakeService, coffee: str, strips: list[dict[str, Any]]
) -> None:
    async with make_service() as service:
        (cup,) = (await service.upload_images([coffee])).images
        rows = (Row(values={"subject": "a lighthouse"}), Row((cup.handle,), {"subject": "a cup"}))
        request = Request("edit_chain", ("{subject} at dawn", "warmer"), references=("original",), rows=rows)
        job = await service.make(request, Terms(wait_s=50))
        assert job.status == "done", job.text()
        caption = (await service.view_images([str(job.job_id)])).caption
    cards = [(card.label, card.note, card.image is not None) for card in strips[-1]["cards"]]
    outputs = [(f"{job.job_id}/{n}", "", True) for n in (1, 2)]
    assert cards[:4] == [("no picture", "subject: a lighthouse", False), *outputs, (cup.handle, "subject: a cup", True)]
    assert strips[-1]["heads"] == ("original", "1. {subject} at dawn", "2. warmer")
    assert f"lane 1: no picture, {job.job_id}/1 to /2; lane 2: {cup.handle}, {job.job_id}/3 to /4." in caption


# -- the measure -------------------------------------------------------------------------------------------------------


def test_a_picture_of_the_look_is_at_no_distance() -> None:
    look = [similarity.measure(one) for one in (GREY, WARM)]
    for measures in similarity.from_look(look, look):
        assert [one.value for one in measures] == [0.0, 0.0]
        assert [one.measure for one in measures] == ["palette", "brightness"]


def test_a_picture_far_from_the_look_stands_out_by_what_differs() -> None:
    warm = [WARM.point([min(255, v + n) for v in range(256)] * 3) for n in (0, 2, 4)]
    blue = Image.new("RGB", (64, 64), (90, 140, 220))
    found = similarity.from_look([similarity.measure(one) for one in (*warm, blue)], [similarity.measure(WARM)])
    assert [[one.measure for one in measures if one.stands_out] for measures in found] == [[], [], [], ["palette"]]


def test_a_look_has_no_arrangement() -> None:
    half = Image.new("RGB", (64, 64), (20, 20, 20))
    half.paste((230, 230, 230), (0, 0, 32, 64))
    turned = half.rotate(180)
    (measures,) = similarity.from_look([similarity.measure(turned)], [similarity.measure(half)])
    assert all(one.value < 0.01 for one in measures)


# -- the strip ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 14])
def test_a_strip_stands_above_the_pictures_within_the_sheet(count: int) -> None:
    cards = [contact_sheet.Card(Image.new("RGB", (300, 200), "teal"), f"job_1/{n}") for n in range(2)]
    strip = [Image.new("RGB", (90, 60), (255, 0, 0))] * count
    sheet = contact_sheet.render(cards, strip=strip, strip_title="look:coffee v2: soft light")
    assert sheet.width <= contact_sheet.WIDTH_PX and sheet.height <= contact_sheet.HEIGHT_PX + 4
    red = [x for x in range(sheet.width) if sheet.getpixel((x, 28 + 27 + 4 + 66)) == (255, 0, 0)]
    assert red and max(red) < sheet.width - contact_sheet.MARGIN_PX + 1

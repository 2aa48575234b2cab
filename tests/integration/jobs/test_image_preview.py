"""Claims about `view_images`: a job shows as what it is, what is said below the picture is true, and its calls work."""

from __future__ import annotations

import ast
import io
import json
import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from support.fixtures import Emulator, Finish, MakeService
from support.jobs import NOW, Options, edit_chain, edit_sequence, ended, generate_sequence
from support.pictures import picture
from triptych.core import errors
from triptych.images import contact_sheet, processing, similarity
from triptych.jobs import image_preview
from triptych.jobs.results import JobResult
from triptych.jobs.service import Caller, ImageService
from triptych.server import tools

pytestmark = pytest.mark.anyio

TINY = f"data:image/png;base64,{b64encode(picture(size=(96, 64))).decode()}"
SEASONS = "Four seasonal variants of this photo: spring, summer, autumn, winter"


class Drawn:
    """What went onto the sheet, word for word, beside the picture that came of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sheets: list[dict[str, Any]] = []
        build_plan = contact_sheet.render

        def note_down(cards: Any, **how: Any) -> Any:
            self.sheets.append({"cards": list(cards), **how})
            return build_plan(cards, **how)

        monkeypatch.setattr(contact_sheet, "render", note_down)

    @property
    def labels(self) -> list[str]:
        return [card.label for card in self.sheets[-1]["cards"]]

    @property
    def notes(self) -> list[str]:
        return [card.note for card in self.sheets[-1]["cards"]]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    return Drawn(monkeypatch)


def size_of(jpeg: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(jpeg)) as image:
        return image.size


async def job_of(service: ImageService, finish: Finish, started: JobResult) -> JobResult:
    return await ended(service, finish, started.job_id)


async def test_a_set_shows_beside_its_source_in_order(
    make_service: MakeService, finish: Finish, atlas: Emulator, coffee: str, drawn: Drawn
) -> None:
    async with make_service(atlas) as service:
        job = await job_of(service, finish, await edit_sequence(service, [coffee], SEASONS, 4, NOW))
        assert job.next == f'view_images(images=["{job.job_id}"])'
        shown = await service.view_images([str(job.job_id)])
        same = await service.view_images([f"triptych://jobs/{job.job_id}"])
    (source,) = job.images[0].source
    assert drawn.labels == [source, *(image.handle for image in job.images)]
    assert drawn.notes == ["source", *(f"{image.width}×{image.height}" for image in job.images)]
    assert shown.caption.startswith(f'edit_sequence "{SEASONS}" from {source} (first): {job.job_id}/1 to /4.')
    assert size_of(shown.jpeg)[0] <= 1568 and len(shown.jpeg) <= 400_000
    assert same == shown


async def test_one_edit_shows_before_and_after(
    make_service: MakeService, finish: Finish, coffee: str, drawn: Drawn
) -> None:
    async with make_service() as service:
        job = await job_of(service, finish, await edit_sequence(service, [coffee], "darker", 1, NOW))
        await service.view_images([str(job.job_id)])
    assert drawn.labels == [job.images[0].source[0], f"{job.job_id}/1"]
    assert drawn.notes == ["before", "after, 600×400"]


async def test_a_chain_is_a_grid_of_lanes_under_their_steps(
    make_service: MakeService, finish: Finish, coffee: str, samples: Path, drawn: Drawn
) -> None:
    steps = ["golden hour", "more contrast", "add a vignette"]
    photos = [coffee, str(samples / "cat.jpg"), str(samples / "rocket.jpg")]
    async with make_service() as service:
        references = [str(samples / "astronaut.jpg")]
        job = await job_of(service, finish, await edit_chain(service, photos, steps, references, NOW))
        sources = [(await service.view_images([photo])).caption.partition(",")[0] for photo in photos]
        shown = await service.view_images([str(job.job_id)])
    assert drawn.sheets[-1]["group"] == 4
    assert drawn.sheets[-1]["heads"] == ("original", "1. golden hour", "2. more contrast", "3. add a vignette")
    assert drawn.labels == [
        handle for lane in range(3) for handle in (sources[lane], *(f"{job.job_id}/{lane * 3 + n}" for n in (1, 2, 3)))
    ]
    assert 'step 2 "more contrast"' in shown.caption and "went into every request" in shown.caption
    assert f"lane 3: {sources[2]}, {job.job_id}/7 to /9" in shown.caption


async def test_a_chain_of_one_image_labels_each_step(
    make_service: MakeService, finish: Finish, coffee: str, drawn: Drawn
) -> None:
    async with make_service() as service:
        job = await job_of(service, finish, await edit_chain(service, [coffee], ["brighter", "bluer"], (), NOW))
        await service.view_images([str(job.job_id)])
    assert drawn.notes == ["original", "1. brighter", "2. bluer"]
    assert drawn.sheets[-1]["group"] == 1


async def test_a_failed_lane_leaves_its_place_empty(
    make_service: MakeService, finish: Finish, atlas: Emulator, coffee: str, samples: Path, drawn: Drawn
) -> None:
    atlas.fault("submit", "moderated-before")
    async with make_service(atlas) as service:
        photos = [coffee, str(samples / "cat.jpg")]
        job = await job_of(service, finish, await edit_chain(service, photos, ["warmer", "bluer"], (), NOW))
        assert job.status == "partial"
        await service.view_images([str(job.job_id)])
    missing = [card for card in drawn.sheets[-1]["cards"] if card.image is None]
    assert missing and len(drawn.labels) == 6
    assert {card.note for card in missing} <= {"failed", "cancelled"}


async def test_a_long_chain_shows_what_fits_and_names_the_rest(
    make_service: MakeService, finish: Finish, drawn: Drawn
) -> None:
    async with make_service() as service:
        job = await job_of(service, finish, await edit_chain(service, [TINY] * 22, ["warmer"], (), NOW))
        shown = await service.view_images([str(job.job_id)])
    assert len(drawn.labels) == image_preview.MOST_PICTURES
    assert f"lanes 21 to 22 ({job.job_id}/21 to /22)" in shown.caption
    assert size_of(shown.jpeg)[0] <= 1568 and len(shown.jpeg) <= 400_000 and len(shown.caption) < 2500


async def test_loose_images_keep_their_order_and_name_their_source(
    make_service: MakeService, finish: Finish, coffee: str, samples: Path, drawn: Drawn
) -> None:
    async with make_service() as service:
        one = await job_of(service, finish, await edit_chain(service, [coffee], ["warmer", "bluer"], (), NOW))
        shown = await service.view_images([f"{one.job_id}/2", str(samples / "cat.jpg"), str(one.job_id)])
    assert drawn.labels[0] == f"{one.job_id}/2" and drawn.labels[2:] == [f"{one.job_id}/1", f"{one.job_id}/2"]
    assert drawn.notes[0] == f"600×400, step 2 of 2 from {one.job_id}/1"
    assert drawn.notes[1] == "451×300"
    assert shown.caption == f"In reading order: {one.job_id}/2, {drawn.labels[1]}, {one.job_id}/1 to /2."


async def test_too_many_images_are_cut_and_counted(make_service: MakeService, finish: Finish, drawn: Drawn) -> None:
    async with make_service() as service:
        job = await job_of(
            service, finish, await edit_sequence(service, [TINY], "warmer", 14, Options(wait_s=0, size="288x288"))
        )
        shown = await service.view_images([str(job.job_id)] * 3)
    assert len(drawn.labels) == 40
    assert f"Left out, as a sheet holds 40: {job.job_id}/13 to /14." in shown.caption


async def test_a_job_without_images_says_where_to_ask(make_service: MakeService, atlas: Emulator, coffee: str) -> None:
    async with make_service(atlas) as service:
        job = await edit_sequence(service, [coffee], "warmer", 2, NOW)
        with pytest.raises(
            errors.UnknownHandle, match=rf'none of its images is here: get_status\(job_id="{job.job_id}"'
        ):
            await service.view_images([str(job.job_id)])
        with pytest.raises(errors.UnknownHandle, match="list_jobs"):
            await service.view_images(["job_00000000"])


# -- drift, and the one call that mends it


def spoil(service: ImageService, job: JobResult, n: int) -> None:
    """Turn one frame, as it lies on the disk, into one that does not belong: its colours swapped."""
    path = Path(str(job.images[n - 1].path))
    with Image.open(path) as image:
        red, green, blue = image.convert("RGB").split()
        spoilt = ImageOps.invert(Image.merge("RGB", (blue, red, green)))
    path.write_bytes(processing.encode(spoilt, "image/png"))


def call_in(caption: str) -> tuple[str, dict[str, Any]]:
    """Read the call that a caption proposes, as a person would write it: name(argument=value, …)."""
    written = re.search(r"edit_sequence\(images=.*\)$", caption)
    assert written, caption
    call = ast.parse(written.group(), mode="eval").body
    assert isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    return call.func.id, {str(word.arg): ast.literal_eval(word.value) for word in call.keywords}


async def test_every_frame_of_a_set_has_its_drift_told(make_service: MakeService, finish: Finish, coffee: str) -> None:
    async with make_service() as service:
        job = await job_of(service, finish, await edit_sequence(service, [coffee], SEASONS, 4, NOW))
        shown = await service.view_images([str(job.job_id)])
        looks = [similarity.measure(processing.thumbnail(Path(str(i.path)).read_bytes(), 768)) for i in job.images]
        three = await service.view_images([image.handle for image in job.images[:3]])
    told = dict(re.findall(r"(palette|brightness|structure) ([\d., ]+\d)", shown.caption))
    for m, measure in enumerate(similarity.MEASURES):
        exact = [standing[m].value for standing in similarity.deviations(looks)]
        assert [float(number) for number in told[measure].split(", ")] == pytest.approx(exact, abs=0.06)
    assert shown.caption.endswith("None stands out.")
    assert "palette" not in three.caption, "of three, one is always the furthest"


@pytest.mark.parametrize("tool", ["edit_sequence", "generate_sequence"])
async def test_an_odd_frame_is_named_with_its_redoing_call(
    make_service: MakeService, finish: Finish, atlas: Emulator, coffee: str, drawn: Drawn, tool: str
) -> None:
    prompt = 'the same cup, "five" times'
    async with make_service(atlas) as service:
        started = (
            await edit_sequence(service, [coffee], prompt, 5, NOW)
            if tool == "edit_sequence"
            else await generate_sequence(service, prompt, 5, NOW)
        )
        job = await job_of(service, finish, started)
        spoil(service, job, 3)
        shown = await service.view_images([str(job.job_id)])
        alerts = [card.alert for card in drawn.sheets[-1]["cards"]]
        name, arguments = call_in(shown.caption)
        assert name == "edit_sequence"

        async def opened() -> ImageService:
            return service

        paid = len(atlas.accepted)
        answer = await tools.call(opened, name, {**arguments, "wait_s": 0}, Caller())
        assert not answer.is_error and answer.structured_content, answer.content
        again = await ended(service, finish, answer.structured_content["job_id"])
    assert re.search(rf"{job.job_id}/3 stands out: [a-z]+ \d+\.\d+ \(the rest [\d.]+–[\d.]+\)", shown.caption)
    assert [bool(alert) for alert in alerts[-5:]] == [False, False, True, False, False]
    assert arguments["images"][:-1] == job.images[2].source
    assert re.fullmatch(rf"{job.job_id}/[1245]", arguments["images"][-1])
    assert (again.status, again.returned, len(atlas.accepted)) == ("done", 1, paid + 1)
    assert again.images[0].source == arguments["images"]
    body = json.loads(atlas.seen_at("POST", "/api/v1/model/generateImage")[-1].body)
    assert prompt in body["prompt"] and "image 3 of these 5" in body["prompt"]
    assert len(body["images"]) == len(arguments["images"])

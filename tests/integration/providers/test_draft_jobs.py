"""The offline engine through the real worker: its parameters, and what is stored of them."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from support.fixtures import Finish, MakeService
from support.jobs import NOW, edit_chain, edited, ended
from triptych.core import errors

pytestmark = pytest.mark.anyio


@pytest.fixture
def disc(tmp_path: Path) -> str:
    """Return the path of a red disc on a plain background."""
    drawn = Image.new("RGB", (360, 240), "#f0eee8")
    ImageDraw.Draw(drawn).ellipse((120, 60, 240, 180), fill="#c83c28")
    path = tmp_path / "disc.png"
    drawn.save(path)
    return str(path)


async def test_a_cut_out_webp_is_stored_as_one(
    make_service: MakeService, finish: Finish, disc: str, tmp_path: Path
) -> None:
    async with make_service(TRIPTYCH_ALLOWED_DIRS=str(tmp_path)) as service:
        params = {"background": "transparent"}
        job = await edited(service, finish, disc, 2, provider="draft", format="webp", params=params)
        assert (job.status, job.returned, job.cost.charged) == ("done", 2, 0)
        for image in job.images:
            assert image.path and image.path.endswith(".webp") and image.mime_type == "image/webp"
            stored = Image.open(io.BytesIO(Path(image.path).read_bytes()))
            assert (stored.format, stored.mode, stored.getpixel((0, 0))[3]) == ("WEBP", "RGBA", 0)  # type: ignore[index]
        preview, _ = await service.preview(job.images[0].handle)
        assert preview[:2] == b"\xff\xd8"
        assert (await service.view_images([job.job_id or ""])).jpeg[:2] == b"\xff\xd8"
        same = await edited(service, finish, disc, 2, provider="draft", format="webp", params=params)
        other = await edited(service, finish, disc, 2, provider="draft", format="webp")
        assert same.job_id == job.job_id != other.job_id


async def test_transparency_goes_through_every_step_of_a_chain(
    make_service: MakeService, finish: Finish, disc: str, tmp_path: Path
) -> None:
    async with make_service(TRIPTYCH_ALLOWED_DIRS=str(tmp_path)) as service:
        given = {**NOW, "provider": "draft", "params": {"background": "transparent", "seed": 3}}
        started = await edit_chain(service, [disc], ["warmer", "add snow"], (), given)  # type: ignore[arg-type]
        job = await ended(service, finish, started.job_id)
    assert (job.status, job.returned) == ("done", 2)
    for image in job.images:
        assert image.path
        stored = Image.open(image.path)
        assert stored.mode == "RGBA" and stored.getpixel((0, 0))[3] == 0  # type: ignore[index]
        assert stored.getchannel("A").getextrema() == (0, 255)


async def test_a_jpeg_cannot_be_transparent(
    make_service: MakeService, finish: Finish, disc: str, tmp_path: Path
) -> None:
    async with make_service(TRIPTYCH_ALLOWED_DIRS=str(tmp_path)) as service:
        with pytest.raises(errors.OutOfLimits, match='use format="png"'):
            await edited(
                service, finish, disc, 1, provider="draft", format="jpeg", params={"background": "transparent"}
            )


async def test_layers_are_images_of_the_job(
    make_service: MakeService, finish: Finish, disc: str, tmp_path: Path
) -> None:
    async with make_service(TRIPTYCH_ALLOWED_DIRS=str(tmp_path)) as service:
        job = await edited(service, finish, disc, 1, provider="draft", params={"layers": True})
    assert (job.status, job.returned, job.endpoint, job.cost.charged) == ("done", 2, "draft/layers", 0)
    base, layer = job.images
    assert base.layer and layer.layer and (base.layer.z_index, layer.layer.z_index) == (0, 1)
    assert layer.layer.name == "red middle" and layer.layer.box
    left, top, right, bottom = layer.layer.box
    assert (layer.width, layer.height) == (right - left, bottom - top)
    assert (base.width, base.height) == (360, 240)

"""The icon: where hosts find it, and that it is what its entry says."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import mcp_types as types
import pytest
from PIL import Image

from support.servers import Connect
from triptych.server import icons, tools

FOLDER = Path(icons.__file__).parent


@pytest.mark.anyio
@pytest.mark.usefixtures("ordinary_start")
async def test_a_host_learns_the_icon_when_it_connects(connect: Connect) -> None:
    async with connect() as client:
        assert client.server_info is not None
        [icon] = client.server_info.icons or []
    kind, _, text = icon.src.partition(";base64,")
    with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as image:
        assert (kind, icon.mime_type) == ("data:image/png", Image.MIME[str(image.format)])
        assert icon.sizes == [f"{image.width}x{image.height}"] and icon.theme is None
    assert len(icon.src) < 600


@pytest.mark.anyio
async def test_no_other_result_repeats_the_icon(client_of: Connect) -> None:
    async with client_of() as client:
        listed = await client.list_tools()
        prompts = await client.list_prompts()
        for result in (listed, prompts):
            stamp = (result.meta or {}).get(types.SERVER_INFO_META_KEY)
            assert (stamp is not None) == (client.protocol_version >= "2026")
            assert stamp is None or (stamp["name"], stamp.get("icons")) == ("triptych", None)


def test_tools_have_no_icons_of_their_own() -> None:
    assert not any(tool.icons for tool in tools.listing().tools), "ten copies would be as long as the list itself"


def test_each_file_has_the_size_in_its_name() -> None:
    sizes = sorted(int(path.stem) for path in FOLDER.glob("*.png"))
    assert sizes == [16, 32, 48, 64, 128, 256, 512]
    for size in sizes:
        with Image.open(FOLDER / f"{size}.png") as image:
            assert image.size == (size, size)
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 10_000


@pytest.mark.parametrize("size", [16, 32, 48, 64, 128, 256, 512])
def test_every_size_shows_three_panels_with_gaps(size: int) -> None:
    with Image.open(FOLDER / f"{size}.png") as image:
        alpha = image.convert("RGBA").getchannel("A").resize((size, 1), Image.Resampling.BOX)
    columns = ["#" if alpha.getpixel((x, 0)) else " " for x in range(size)]
    assert len("".join(columns).split()) == 3


@pytest.mark.parametrize("ground", [(255, 255, 255), (0, 0, 0), (128, 128, 128)])
def test_the_colours_differ_from_light_and_dark_grounds(ground: tuple[int, int, int]) -> None:
    with Image.open(FOLDER / "16.png") as image:
        colours = [pixel for n, pixel in image.convert("RGBA").getcolors() or [] if n > 15 and pixel[3] == 255]
    assert len(colours) == 2
    for colour in colours:
        assert sum((a - b) ** 2 for a, b in zip(colour[:3], ground, strict=True)) ** 0.5 > 95


def test_the_drawing_is_a_small_file_without_scripts() -> None:
    drawing = (FOLDER / "icon.svg").read_text("utf-8")
    assert len(drawing) < 500 and not re.search(r"script|style|href|\bon\w+=", drawing)

"""How much a server grows while it uploads a file of 30 MB.

A child process opens a service whose provider is the Atlas emulator, in this process, and uploads a tiny image, so that
everything is imported and connected. Then it uploads the large file: noise, so that the file is as large as its pixels.
What counts is the kernel's VmHWM, the largest resident size: after, less before. Where there is no /proc it is not
measured. An upload decodes the picture to its last pixel, keeps it on disk and sends it to the provider.

Pillow keeps four bytes for each pixel in colour, so a PNG of noise is the smallest growth that is possible for RGB
without decoding in strips: the file, and 4/3 of it. A JPEG is checked at an eighth of its size.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import anyio
from PIL import Image

from benchmarks.start import peak_memory_kib
from benchmarks.table import Row, main
from triptych import settings
from triptych.jobs.service import open_service
from triptych_emulators import running

LIMIT = 3.0
PNG_SIDE = 3200
JPEG_SIDE = 6800
JPEG_QUALITY = 88


def measure() -> list[Row]:
    """Return the growth of the server for files of 30 MB."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, running("atlas") as api:
        files = Path(folder)
        _noise(64).save(files / "tiny.png")
        _noise(PNG_SIDE).save(files / "large.png", compress_level=1)
        # Magnified, or a JPEG of this size would be all rounding errors, which no camera makes.
        _noise(JPEG_SIDE // 2).resize((JPEG_SIDE, JPEG_SIDE)).save(files / "large.jpg", quality=JPEG_QUALITY)
        with Image.open(files / "large.jpg") as picture:
            exif = picture.getexif()
            exif[0x0110] = "a camera"
            picture.save(files / "photo.jpg", quality="keep", exif=exif)
        for kind, large in {
            "PNG": files / "large.png",
            "JPEG": files / "large.jpg",
            "JPEG with EXIF": files / "photo.jpg",
        }.items():
            size_kib = large.stat().st_size / 1024
            env = {
                **{name: value for name, value in os.environ.items() if not name.startswith("TRIPTYCH_")},
                "TRIPTYCH_HOME": str(files / f"home-{large.stem}{large.suffix}"),
                "TRIPTYCH_ALLOWED_DIRS": folder,
                "ATLASCLOUD_API_KEY": api.key,
                "ATLASCLOUD_BASE_URL": api.base_url,
            }
            command = [sys.executable, "-m", "benchmarks.upload_memory", str(files / "tiny.png"), str(large)]
            said = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
            rows.append(_row(kind, said, size_kib))
    return rows


def _row(kind: str, said: str, size_kib: float) -> Row:
    what, target = f"upload of a 30 MB {kind}: peak memory grows by", f"< {LIMIT:g}×"
    if not said:
        return Row(what, "not measured", target=target)
    growth = int(said) / size_kib
    return Row(
        what, f"{int(said) / 1024:.1f} MiB", f"{size_kib / 1024:.1f} MiB (the file)", growth, target, growth < LIMIT
    )


def _noise(side: int) -> Image.Image:
    return Image.frombytes("RGB", (side, side), random.Random(side).randbytes(side * side * 3))


async def _upload(tiny: str, large: str) -> int | None:
    """Upload both; return by how much the second raised this process's peak memory, in KiB."""
    async with open_service(settings.read(os.environ).setup) as service:
        peaks = []
        for path in (tiny, large):
            result = await service.upload_images([path])
            assert not result.warnings and str(result.images[0].url).startswith("http"), result
            peaks.append(peak_memory_kib(os.getpid()))
    before, after = peaks
    return after - before if before and after else None


if __name__ == "__main__":
    if len(sys.argv) == 3:
        grown_kib = anyio.run(_upload, sys.argv[1], sys.argv[2])
        print("" if grown_kib is None else grown_kib)
    else:
        main(measure)

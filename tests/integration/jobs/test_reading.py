"""Reading that goes on after a call has given up: what the same call finds, and what it never uses."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from support import clocks
from support.jobs import NOW, edit_chain
from support.pictures import picture
from support.systems import child_environment
from triptych import settings
from triptych.core import errors
from triptych.core.models import Image
from triptych.images.files import ImageFiles
from triptych.jobs import reading
from triptych.jobs.caller import Caller
from triptych.jobs.service import ImageService, open_service

pytestmark = pytest.mark.anyio


@dataclass
class Reads:
    """The reads of files, and a gate that some wait at."""

    gate: threading.Event = field(default_factory=threading.Event)
    free: int = 0
    """So many reads do not wait."""
    began: list[str] = field(default_factory=list)
    running: int = 0
    most: int = 0


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reads]:
    """Count the reads of files, and hold them at a gate."""
    seen, real, lock = Reads(), ImageFiles.import_file, threading.Lock()

    def import_file(files: ImageFiles, item: str, path: Path) -> Image:
        with lock:
            seen.began.append(path.name)
            seen.running += 1
            seen.most = max(seen.most, seen.running)
            waits = len(seen.began) > seen.free
        if waits:
            assert seen.gate.wait(60)
        try:
            return real(files, item, path)
        finally:
            with lock:
                seen.running -= 1

    monkeypatch.setattr(ImageFiles, "import_file", import_file)
    monkeypatch.setattr(reading, "FRESH_S", -1.0)  # the files of a test are always new
    yield seen
    seen.gate.set()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for n in range(6):
        (tmp_path / "photos" / f"{n}.png").write_bytes(picture(size=(40 + n, 40)))
    return tmp_path / "photos"


@pytest.fixture
async def service(tmp_path: Path, anyio_backend: str) -> AsyncIterator[ImageService]:
    config = settings.read({"TRIPTYCH_HOME": str(tmp_path / "home"), "TRIPTYCH_ALLOWED_DIRS": str(tmp_path / "none")})
    async with open_service(config.setup, work=False) as opened:
        yield opened


def caller(photos: Path, left_s: float = 60.0, owner: str | None = None) -> Caller:
    return Caller(roots=(photos,), read_limit_s=left_s, owner=owner)


async def until(holds: Callable[[], bool]) -> None:
    """Wait for what another task or thread does."""
    await anyio.to_thread.run_sync(clocks.until, holds)


async def until_read(service: ImageService, number: int) -> None:
    """Wait until so many pictures are stored and nothing is being read."""
    images = service.config.home / "images"
    await until(lambda: not service.reading._items and len(list(images.glob("*.png"))) >= number)


async def test_the_same_call_goes_on_where_the_first_gave_up(service: ImageService, photos: Path, reads: Reads) -> None:
    reads.free = 2
    await service.upload_images([str(photos / "0.png"), str(photos / "1.png")], caller(photos))
    told: list[str] = []

    async def report(done: float, total: float, message: str) -> None:
        told.append(message)

    short = Caller(roots=(photos,), read_limit_s=0.1, report=report)
    with pytest.raises(errors.StillReading) as refused:
        await edit_chain(service, [str(photos)], ["warm"], [], NOW, short)
    assert refused.value.message == (
        "2 of 6 images are read, and reading goes on; nothing was sent. Make the same call again: it goes on from "
        "there."
    )
    assert refused.value.retryable and told[0] == "reading image 1 of 6"
    assert not service.store.plain.jobs(10)
    reads.gate.set()
    await until_read(service, 6)
    made = await edit_chain(service, [str(photos)], ["warm"], [], NOW, caller(photos))
    assert made.requested == 6
    assert sorted(reads.began) == [f"{n}.png" for n in range(6)], "nothing is read twice"
    assert reads.most <= reading.DECODERS


async def test_a_cancelled_call_does_not_stop_the_reading(service: ImageService, photos: Path, reads: Reads) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.upload_images, [str(photos)], caller(photos))
        await until(lambda: len(reads.began) >= 2)
        tasks.cancel_scope.cancel()
    reads.gate.set()
    await until_read(service, 6)
    assert len((await service.upload_images([str(photos)], caller(photos))).images) == 6
    assert Counter(reads.began).most_common(1)[0][1] == 1


async def test_two_calls_at_once_read_each_file_once(service: ImageService, photos: Path, reads: Reads) -> None:
    async def upload() -> None:
        assert len((await service.upload_images([str(photos)], caller(photos))).images) == 6

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(upload)
        tasks.start_soon(upload)
        await until(lambda: len(reads.began) >= 2)
        reads.gate.set()
    assert len(reads.began) == 6


CHANGES = {
    "longer": lambda path: path.write_bytes(picture("red", (99, 40))),
    "replaced": lambda path: (
        path.with_name("new").write_bytes(picture("red", (99, 40))) and path.with_name("new").replace(path)
    ),
    "with its old times": lambda path: _rewritten_with_old_times(path),
}


def _rewritten_with_old_times(path: Path) -> None:
    before = path.stat()
    path.write_bytes(picture("red", (99, 40)))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", CHANGES)
async def test_a_changed_file_is_read_again(service: ImageService, photos: Path, reads: Reads, change: str) -> None:
    reads.gate.set()
    await service.upload_images([str(photos)], caller(photos))
    CHANGES[change](photos / "3.png")
    uploaded = await service.upload_images([str(photos)], caller(photos))
    assert [image.width for image in uploaded.images] == [40, 41, 42, 99, 44, 45]
    assert Counter(reads.began)["3.png"] == 2 and len(reads.began) == 7


async def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    service: ImageService, photos: Path, reads: Reads
) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(service.upload_images, [str(photos / "0.png")], caller(photos))
        await until(lambda: bool(reads.began))
        (photos / "0.png").write_bytes(picture("red", (99, 40)))
        reads.gate.set()
    (photos / "0.png").write_bytes(picture("blue", (98, 40)))
    (image,) = (await service.upload_images([str(photos / "0.png")], caller(photos))).images
    assert image.width == 98


async def test_a_fresh_file_is_read_for_each_call(
    service: ImageService, photos: Path, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "FRESH_S", 1e9)
    reads.gate.set()
    for _ in range(2):
        await service.upload_images([str(photos / "0.png")], caller(photos))
    assert len(reads.began) == 2


async def test_what_is_remembered_serves_only_those_who_may_read_it(
    service: ImageService, photos: Path, reads: Reads, tmp_path: Path
) -> None:
    reads.gate.set()
    await service.upload_images([str(photos)], caller(photos, owner="ann"))
    item = str(photos / "0.png")
    with pytest.raises(errors.NotAllowed, match="outside the allowed directories"):
        await service.upload_images([item], Caller(owner="ben"))
    (image,) = (await service.upload_images([item], caller(photos, owner="ben"))).images
    assert service.store.plain.owns("ben", service.store.plain.image_by_handle(image.handle).sha256)  # type: ignore[union-attr]
    assert not service.store.plain.owns("ben", _sha256(service, photos / "1.png", "ann"))
    assert len(reads.began) == 6
    if sys.platform != "win32":  # Windows tells the number of names only of an open file
        os.link(photos / "0.png", tmp_path / "elsewhere.png")
        with pytest.raises(errors.NotAllowed, match="hard link"):
            await service.upload_images([item], caller(photos, owner="ben"))


def _sha256(service: ImageService, path: Path, owner: str) -> str:
    width = 40 + int(path.stem)
    uploads = service.store.plain.recent_uploads(10, owner)
    return next(image.sha256 for image in uploads if image.width == width)


async def test_a_pruned_image_is_read_again(service: ImageService, photos: Path, reads: Reads) -> None:
    reads.gate.set()
    (first,) = (await service.upload_images([str(photos / "0.png")], caller(photos))).images
    Path(first.path or "").unlink()
    (second,) = (await service.upload_images([str(photos / "0.png")], caller(photos))).images
    assert second.path and Path(second.path).exists() and len(reads.began) == 2


async def test_a_refusal_quotes_the_path_as_each_caller_wrote_it(
    service: ImageService, photos: Path, reads: Reads
) -> None:
    (photos / "0.png").write_bytes(b"no picture")
    said: list[str] = []

    async def upload(item: str) -> None:
        with pytest.raises(errors.UnreadableImage) as refused:
            await service.upload_images([item], caller(photos))
        said.append(refused.value.message)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(upload, f"{photos}/0.png")
        await until(lambda: bool(reads.began))
        tasks.start_soon(upload, f"{photos}/../photos/0.png")
        await anyio.sleep(0.05)
        reads.gate.set()
    assert sorted("/../" in one for one in said) == [False, True]


async def test_only_a_few_calls_that_gave_up_go_on(
    service: ImageService, photos: Path, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_LEFT", 1)
    for n in range(0, 6, 3):
        with pytest.raises(errors.StillReading):
            await service.upload_images([str(photos / f"{n + i}.png") for i in range(3)], caller(photos, 0.05))
    reads.gate.set()
    await until_read(service, 5)
    assert sorted(reads.began) == ["0.png", "1.png", "3.png", "4.png", "5.png"], "2.png was dropped"
    assert len((await service.upload_images([str(photos)], caller(photos))).images) == 6


async def test_a_url_is_kept_only_after_a_call_gave_up(
    service: ImageService, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []
    gate = anyio.Event()

    async def fetch(url: str) -> bytes:
        fetched.append(url)
        await gate.wait()
        return picture(size=(40 + len(fetched), 40))

    monkeypatch.setattr(service._files, "_fetch", fetch)
    url = "https://images.example/a.png"
    with pytest.raises(errors.StillReading, match="0 of 1 images are read"):
        await service.upload_images([url], caller(photos, 0.05, "ann"))
    gate.set()
    await until_read(service, 1)
    for _ in range(2):
        (image,) = (await service.upload_images([url], caller(photos, owner="ann"))).images
        assert image.width == 41 and len(fetched) == 1
    await service.upload_images([url], caller(photos, owner="ben"))
    assert len(fetched) == 2, "another owner's is not used"
    later_s = service.reading.clock.monotonic() + reading.URL_KEPT_S + 1
    monkeypatch.setattr(service.reading.clock, "monotonic", lambda: later_s)
    await service.upload_images([url], caller(photos, owner="ann"))
    await service.upload_images([url], caller(photos, owner="ann"))
    assert len(fetched) == 4, "each call reads a URL anew"


async def test_the_end_of_the_service_frees_those_who_wait(
    tmp_path: Path, photos: Path, reads: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings.read({"TRIPTYCH_HOME": str(tmp_path / "home")}).setup
    outcome: list[BaseException] = []

    async def upload(service: ImageService) -> None:
        try:
            await service.upload_images([str(photos)], caller(photos))
        except errors.Outage as error:
            outcome.append(error)

    async with anyio.create_task_group() as tasks, open_service(config, work=False) as service:
        tasks.start_soon(upload, service)
        await until(lambda: len(reads.began) >= 2)
        threading.Timer(0.2, reads.gate.set).start()
    assert outcome and "stopped before the image was read" in str(outcome[0])


# -- a real server and a client that gives up


async def test_a_client_that_gave_up_finds_what_was_read(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for n in range(24):
        (tmp_path / "photos" / f"{n}.jpg").write_bytes(picture("teal", (3000, 2000 + n), "JPEG"))
    env = child_environment(TRIPTYCH_HOME=str(tmp_path / ".home"), TRIPTYCH_LOG_LEVEL="DEBUG")
    command = StdioServerParameters(command=sys.executable, args=["-m", "triptych"], env=env, cwd=str(tmp_path))
    given = {"images": ["photos/*.jpg"], "steps": ["warm"], "wait_s": 0, "dry_run": True}
    written = max(path.stat().st_ctime for path in (tmp_path / "photos").iterdir())
    await until(lambda: time.time() - written > reading.FRESH_S)  # a file that is a moment old is read for each call
    said = tmp_path / "log"
    with said.open("w") as log:
        async with Client(stdio_client(command, errlog=log)) as client:
            await client.call_tool("list_jobs", {})
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.call_tool, "edit_chain", given)
                await until(lambda: 'reading "' in said.read_text())
                tasks.cancel_scope.cancel()  # the client tells the server that it gives up
            answer = ""
            with anyio.fail_after(120):
                while "24 pictures match" not in answer:
                    result = await client.call_tool("edit_chain", given)
                    answer = result.content[0].text  # type: ignore[union-attr]
                    assert not result.is_error or answer.endswith("[reading; the same call may help later]"), answer
    began = re.findall(r"reading \"([^\"]*)\"", said.read_text())
    assert len(began) == len(set(began)) == 24, "each picture is read once"

"""Jobs whose images are in an object store: what is shown, what is kept when the store fails, and what is removed."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import CliRunner, Result

from support import object_store
from support.fixtures import Emulator, FakeClock, Finish, MakeService
from support.jobs import NOW, Options, edit_chain, edit_sequence, edited, ended
from support.object_store import SECRET, Bucket
from support.pictures import picture
from support.systems import needs_links
from triptych import logs
from triptych.cli import cli, doctor
from triptych.core import errors
from triptych.core.models import Image
from triptych.jobs.object_copying import copy_files
from triptych.jobs.presenters import PAGE_CHARS
from triptych.jobs.pruning import Pruner
from triptych.jobs.results import JobResult, PruneResult
from triptych.jobs.service import Caller, ImageService
from triptych.providers import ark as ark_provider
from triptych.server import fitting
from triptych.storage.sqlite import Database
from triptych_emulators import running

pytestmark = pytest.mark.anyio

PNG_URI = f"data:image/png;base64,{b64encode(picture()).decode()}"
COLOURS = [f"data:image/png;base64,{b64encode(picture(colour)).decode()}" for colour in ("red", "green", "blue")]


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with object_store.bucket() as made:
        yield made


def at_home(service: ImageService) -> list[str]:
    """Return the image files below the home that are no copies."""
    images = service.config.home / "images"
    return [path.name for path in images.rglob("*") if path.is_file() and path.parent.name != "cache"]


def bytes_of(bucket: Bucket, sha256: str) -> bytes:
    return next(data for key, (_, data) in bucket.stored().items() if sha256 in key)


def stored_image(service: ImageService, handle: str) -> Image:
    image = service.store.plain.image_by_handle(handle)
    assert image
    return image


# -- what a result is


async def test_images_are_in_the_bucket_and_have_its_urls(
    make_service: MakeService, atlas: Emulator, finish: Finish, bucket: Bucket, coffee: str
) -> None:
    async with make_service(atlas, **bucket.environ) as service:
        job = await edited(service, finish, coffee, count=2)
        uploaded = (await service.upload_images([coffee])).images[0]
    assert (job.status, at_home(service)) == ("done", [])
    assert len(bucket.stored()) == 3
    for image in job.images:
        assert image.path is None and image.url and image.url_expires_at
        assert timedelta(days=6) < image.url_expires_at - datetime(2026, 11, 21, 12, tzinfo=UTC)
        got = httpx2.get(image.url)
        assert got.content == bytes_of(bucket, hashlib.sha256(got.content).hexdigest())
        assert got.headers["content-type"] == image.mime_type
    assert uploaded.path is None and uploaded.url and "X-Amz-Signature" in uploaded.url
    assert job.text().count("X-Amz-Signature") == 2 and "None" not in job.text()


async def test_a_servers_own_url_outlives_the_providers(
    make_service: MakeService, atlas: Emulator, finish: Finish, bucket: Bucket, coffee: str
) -> None:
    over_http = Caller(files_url="https://images.example.com/files")
    async with make_service(atlas, **bucket.environ) as service:
        job = await edited(service, finish, coffee, count=2)
        [image, _] = (await service.job(job.job_id or "", over_http)).images
        [output, _] = await service.store.outputs(job.job_id or "")
    assert image.url and image.url.startswith("https://images.example.com/files/job_") and image.url_expires_at
    assert output.url_expires_at and image.url_expires_at > output.url_expires_at + timedelta(days=5)


async def test_an_image_is_shown_saved_and_edited_again(
    make_service: MakeService, atlas: Emulator, finish: Finish, bucket: Bucket, coffee: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    environ = {**bucket.environ, "TRIPTYCH_ALLOWED_DIRS": os.pathsep.join([str(Path(coffee).parent), str(tmp_path)])}
    async with make_service(atlas, **environ) as service:
        job = await edited(service, finish, coffee, count=2, save_to=str(tmp_path / "same time"))
        assert (await service.view_images([job.job_id or ""])).jpeg[:2] == b"\xff\xd8"
        assert (await service.view_images([job.images[0].handle])).jpeg[:2] == b"\xff\xd8"
        assert (await service.preview(job.images[0].handle))[0][:2] == b"\xff\xd8"
        saved = await service.save_images([job.job_id or ""], str(out))
        small = await service.save_images([job.images[0].handle], str(out), size="20x20")
        chain = await edit_chain(service, [job.images[0].handle], ["warmer", "colder"], options=NOW)
        assert (await ended(service, finish, chain.job_id)).status == "done"
        first = stored_image(service, job.images[0].handle).sha256
    assert (saved.count, small.count, len(list((tmp_path / "same time").iterdir()))) == (2, 1, 2)
    assert Path(saved.saved[0].path).read_bytes() == bytes_of(bucket, first)
    assert bucket.number("GET") == 0, "this process stored them, and has copies"


async def test_a_url_of_the_bucket_names_its_image(
    make_service: MakeService, atlas: Emulator, finish: Finish, bucket: Bucket, coffee: str
) -> None:
    ann, ben = Caller(owner="ann"), Caller(owner="ben")
    async with make_service(atlas, **bucket.environ) as service:
        url = (await service.upload_images([coffee], ann)).images[0].url
        assert url
        (uploaded,) = await service.image_access.import_images([url], ann)
        assert uploaded.handle == (await service.upload_images([coffee], ann)).images[0].handle
        with pytest.raises(errors.TriptychError):  # of another owner it is any address, and loopback is refused
            await service.image_access.import_images([url], ben)
        job = await edit_sequence(service, [url], "warmer", options=NOW, caller=ann)
        assert (await ended_of(service, finish, job, ann)).images[0].source == [uploaded.handle]


async def ended_of(service: ImageService, finish: Finish, job: JobResult, caller: Caller) -> JobResult:
    await finish(service)
    return await service.job(job.job_id or "", caller)


async def test_no_provider_gets_a_signed_url_of_the_bucket(
    make_service: MakeService, atlas: Emulator, finish: Finish, bucket: Bucket, coffee: str
) -> None:
    async with make_service(atlas, **bucket.environ) as service:
        job = await edited(service, finish, coffee)
        chain = await edit_chain(service, [job.images[0].handle], ["warmer", "colder"], options=NOW)
        await ended(service, finish, chain.job_id)
    assert "X-Amz" not in str(atlas.seen)


async def test_signatures_and_keys_are_in_no_log_line(
    make_service: MakeService, bucket: Bucket, coffee: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with make_service(**bucket.environ) as service:
        url = (await service.upload_images([coffee])).images[0].url
    before = logging.getLogger().handlers[:]
    try:
        logs.configure("INFO", environ=bucket.environ)
        logging.getLogger("triptych").warning("%s %s %s", url, json.dumps({"url": url}), SECRET)
        azure = "https://a.blob.core.windows.net/c/x?sv=2024&sig=aBcDeF123%3D&se=2026"
        logging.getLogger("triptych").warning("%s X-Goog-Signature=0123abcd X-Amz-Security-Token=Fwo", azure)
    finally:
        logging.getLogger().handlers[:] = before
    said = capsys.readouterr().err
    assert url and url.partition("?")[0] in said and "se=2026" in said
    for secret in (url.rpartition("X-Amz-Signature=")[2], SECRET, "aBcDeF", "0123abcd", "Fwo"):
        assert secret not in said


async def test_pages_with_signed_urls_stay_within_their_limit(
    make_service: MakeService, finish: Finish, bucket: Bucket, coffee: str
) -> None:
    async with make_service(**bucket.environ) as service:
        steps = [f"step {n}" for n in range(1, 11)]
        job = await edit_chain(service, [coffee], steps, options=Options(wait_s=0, size="400x300"))
        await finish(service)
        result = await service.get_status(job.job_id or "")
    shown = json.dumps(fitting.fields(result)) + "".join(link.model_dump_json() for link in fitting.links(result))
    assert len(fitting.links(result)) == len(result.images) > 3 and len(shown) <= PAGE_CHARS
    assert result.page and result.page.of > 1


async def test_files_from_before_are_read_and_new_ones_are_objects(
    make_service: MakeService, atlas: Emulator, finish: Finish, bucket: Bucket, coffee: str
) -> None:
    async with make_service(atlas) as service:
        old = await edited(service, finish, coffee)
    async with make_service(atlas, **bucket.environ) as service:
        again = await service.job(old.job_id or "")
        assert [image.path for image in again.images] == [image.path for image in old.images]
        assert (await service.view_images([old.job_id or ""])).jpeg
        uploaded = (await service.upload_images([coffee])).images[0]
        assert uploaded.path is None and uploaded.handle == old.images[0].source[0]
    async with make_service(atlas) as service:
        with pytest.raises(errors.UnreadableImage, match="set TRIPTYCH_OBJECTS_URL"):
            await service.view_images([uploaded.handle])
        assert (await service.upload_images([coffee])).images[0].path


async def test_files_are_copied_into_the_store_and_may_then_go(
    make_service: MakeService, atlas: Emulator, finish: Finish, bucket: Bucket, clock: FakeClock, coffee: str
) -> None:
    async with make_service(atlas) as service:
        job = await edited(service, finish, coffee, count=2)
        lost = (await service.upload_images([PNG_URI])).images[0]
        Path(lost.path or "").unlink()
        home = service.config.home
    bucket.fail("PUT", "forbidden", 1, after=1)
    with closing(Database(home / "triptych.db")) as db:
        with pytest.raises(errors.Outage):
            copy_files(db, home, bucket.open(clock))
        result = copy_files(db, home, bucket.open(clock))
    assert (result.copied, result.lost, len(bucket.stored())) == (2, [lost.handle], 3)
    for path in (home / "images").iterdir():
        path.unlink()
    async with make_service(atlas, **bucket.environ) as service:
        assert (await service.view_images([job.job_id or ""])).jpeg
        assert all(image.path is None for image in (await service.job(job.job_id or "")).images)


# -- a store that fails


@pytest.mark.parametrize("kind", [one for one in object_store.FAULTS if one != "slow"])
async def test_a_store_that_fails_loses_nothing(
    make_service: MakeService, atlas: Emulator, finish: Finish, bucket: Bucket, coffee: str, kind: str
) -> None:
    async with make_service(atlas, **bucket.environ) as service:
        job = await edit_sequence(service, [coffee], "make it golden hour", 2, options=NOW)
        bucket.fail("PUT", kind, 14)
        await finish(service)
        done = await service.job(job.job_id or "")
    assert (done.status, done.returned, len(atlas.accepted)) == ("done", 2, 1)
    assert len(bucket.stored()) == 3


async def test_a_store_that_is_away_for_minutes_fails_no_job(
    make_service: MakeService, atlas: Emulator, finish: Finish, clock: FakeClock, bucket: Bucket, coffee: str
) -> None:
    """The provider keeps the images for a day; the worker asks both again until the store has them."""
    async with make_service(atlas, **bucket.environ) as service:
        job = await edit_sequence(service, [coffee], "make it golden hour", options=NOW)
        bucket.fail("PUT", "forbidden", 10_000)
        end = clock.now() + timedelta(minutes=10)
        while clock.now() < end:
            if not await service.worker.step():
                due = await service.worker.next_due()
                clock.advance(1.0 if due is None else max(due - clock.monotonic(), 0.01))
        assert (await service.job(job.job_id or "")).status == "running"
        assert bucket.number("PUT") < 40
        bucket.faults.clear()
        await finish(service)
        done = await service.job(job.job_id or "")
    assert (done.status, done.returned, len(atlas.accepted)) == ("done", 1, 1)


async def test_a_paid_stream_is_read_to_its_end_while_the_store_fails(
    make_service: MakeService, finish: Finish, bucket: Bucket, coffee: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes are in the answer alone: they are kept, and stored when the store takes them."""
    body = ark_provider._body
    monkeypatch.setattr(ark_provider, "_body", lambda edit: body(edit) | {"response_format": "b64_json"})
    with running("ark", latency_s=0.0, max_side=64) as ark:
        async with make_service(ark, **bucket.environ) as service:
            service._clock.drive = None
            job = await edit_sequence(service, [coffee], "make it golden hour", 4, options=NOW)
            bucket.fail("PUT", "forbidden", 5)
            bucket.fail("PUT", "answer lost", 3)
            await finish(service)
            done = await service.job(job.job_id or "")
    assert (done.status, done.returned, len(ark.accepted)) == ("done", 4, 1)
    assert bucket.number("PUT") >= 12


async def test_an_input_that_is_not_shown_yet_is_read_later(
    make_service: MakeService, atlas: Emulator, finish: Finish, bucket: Bucket, coffee: str
) -> None:
    """An object store may take some seconds to show elsewhere what was written: nothing was sent or paid by then."""
    async with make_service(atlas, **bucket.environ) as service:
        first = await edited(service, finish, coffee, count=1)
        service.store.plain.forget_copies("atlas", [row["url"] for row in copies_of(service)])
        for path in (service.config.home / "images" / "cache").iterdir():
            path.unlink()
        bucket.fail("GET", "missing", 3)
        second = await edit_sequence(service, [first.images[0].handle], "warmer", options=NOW)
        assert (await ended(service, finish, second.job_id)).status == "done"
    assert len(atlas.accepted) == 2


def copies_of(service: ImageService) -> list[Any]:
    with closing(Database(service.config.home / "triptych.db")) as db:
        return list(db.connection.execute("SELECT url FROM copies"))


async def test_a_call_whose_image_cannot_be_stored_says_so_and_pays_nothing(
    make_service: MakeService, atlas: Emulator, bucket: Bucket, coffee: str
) -> None:
    bucket.fail("PUT", "over quota", 9)
    async with make_service(atlas, **bucket.environ) as service:
        with pytest.raises(errors.NotStored, match="full"):
            await edit_sequence(service, [coffee], "warmer", options=NOW)
        bucket.faults.clear()
        assert (await edit_sequence(service, [coffee], "warmer", options=NOW)).job_id


# -- several processes


@needs_links
async def test_an_image_of_one_machine_is_used_at_another(
    make_service: MakeService, atlas: Emulator, finish: Finish, bucket: Bucket, coffee: str, tmp_path: Path
) -> None:
    """Two homes, one database and one bucket."""
    here, there = tmp_path / "here", tmp_path / "there"
    there.mkdir()
    environ = {**bucket.environ, "TRIPTYCH_ALLOWED_DIRS": os.pathsep.join([str(Path(coffee).parent), str(tmp_path)])}
    async with make_service(atlas, **environ, TRIPTYCH_HOME=str(here)) as one:
        job = await edited(one, finish, coffee, count=2)
        (there / "triptych.db").symlink_to(here / "triptych.db")
        async with make_service(atlas, **environ, TRIPTYCH_HOME=str(there)) as other:
            shown = await other.job(job.job_id or "")
            assert [image.handle for image in shown.images] == [image.handle for image in job.images]
            assert (await other.view_images([job.job_id or ""])).jpeg
            saved = await other.save_images([job.job_id or ""], str(tmp_path / "saved"))
            chain = await edit_chain(other, [job.images[1].handle], ["warmer"], options=NOW)
            made = await ended(other, finish, chain.job_id)
        assert (await one.view_images([made.images[0].handle])).jpeg
    assert (saved.count, made.status, bucket.number("GET")) == (2, "done", 4)
    assert httpx2.get(made.images[0].url or "").status_code == 200


async def test_what_every_lane_refers_to_is_read_once(
    make_service: MakeService, finish: Finish, bucket: Bucket, coffee: str, tmp_path: Path
) -> None:
    """A provider that takes bytes in each request gets a reference as often as there are lanes."""
    with running("ark", latency_s=0.0, max_side=64) as ark:
        async with make_service(ark, **bucket.environ) as service:
            lanes = [(await service.upload_images([uri])).images[0].handle for uri in COLOURS]
            look = (await service.upload_images([coffee])).images[0].handle
            for path in (service.config.home / "images" / "cache").iterdir():
                path.unlink()
            chain = await edit_chain(service, lanes, ["warmer", "colder"], [look], options=NOW)
            assert (await ended(service, finish, chain.job_id)).status == "done"
    assert len(ark.accepted) == 6 and bucket.number("GET") == 4


# -- pruning


def pruned(service: ImageService, days: float = 40, *, look: bool = False) -> PruneResult:
    now = datetime.now(UTC) + timedelta(days=days)
    files: Any = service._files
    with closing(Database(service.config.home / "triptych.db")) as db:
        pruner = Pruner(db, service.config.home, files._objects, older_than=timedelta(days=30), unsaved=True, now=now)
        return pruner.look() if look else pruner.prune()


async def test_old_objects_are_removed_and_strangers_stay(
    make_service: MakeService, atlas: Emulator, finish: Finish, bucket: Bucket, clock: FakeClock, coffee: str
) -> None:
    stranger = f"images/{'0' * 64}.png"
    bucket.open(clock).put(stranger, b"of another installation", "image/png")
    async with make_service(atlas, **bucket.environ) as service:
        job = await edited(service, finish, coffee, count=2)
        assert pruned(service, days=0, look=True).items == [] and len(pruned(service, look=True).items) == 3
        result = pruned(service)
        assert sorted(item.kind for item in result.items) == ["output", "output", "upload"]
        assert list(bucket.stored()) == [stranger] and not pruned(service).items
        shown = await service.job(job.job_id or "")
        assert all("X-Amz" not in (image.url or "") for image in shown.images)
        with pytest.raises(errors.UnknownHandle, match="was pruned on"):
            await service.view_images([job.images[0].handle])
        again = (await service.upload_images([coffee])).images[0]
        assert again.handle == job.images[0].source[0] and len(bucket.stored()) == 2
        assert (await service.view_images([again.handle])).jpeg


async def test_an_object_stored_again_meanwhile_stays(
    make_service: MakeService, bucket: Bucket, clock: FakeClock, coffee: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process writes an old object again, after this one found it old and before it removes it."""
    async with make_service(**bucket.environ) as service:
        await service.upload_images([coffee])
        files: Any = service._files
        facts = files._objects.facts
        recent = datetime.now(UTC) + timedelta(days=39)
        monkeypatch.setattr(files._objects, "facts", lambda key: (facts(key)[0], recent))
        assert pruned(service).items == [] and len(bucket.stored()) == 1


async def test_an_image_pruned_between_its_write_and_its_row_is_asked_for_again(
    make_service: MakeService, bucket: Bucket, clock: FakeClock, coffee: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_service(**bucket.environ) as one, make_service(**bucket.environ) as other:
        await one.upload_images([coffee])
        keep = other._files._keep

        def kept(*given: Any) -> Any:
            path = keep(*given)
            pruned(one)
            monkeypatch.undo()
            return path

        monkeypatch.setattr(other._files, "_keep", kept)
        with pytest.raises(errors.NotStored, match="make the same call again"):
            await other.upload_images([coffee])
        handle = (await other.upload_images([coffee])).images[0].handle
        assert len(bucket.stored()) == 1 and (await one.view_images([handle])).jpeg


async def test_a_store_that_fails_while_it_is_pruned_keeps_its_rows(
    make_service: MakeService, bucket: Bucket, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for n, colour in enumerate(("red", "green", "blue")):
        (photos / f"{n}.png").write_bytes(picture(colour))
    async with make_service(**bucket.environ, TRIPTYCH_ALLOWED_DIRS=str(tmp_path)) as service:
        uploaded = (await service.upload_images([str(photos)])).images
        bucket.fail("POST", "forbidden", 1)
        assert len(pruned(service).items) == 2 and len(bucket.stored()) == 1
        left = [one for one in uploaded if not (stored_image(service, one.handle)).pruned_at]
        assert len(left) == 1 and (await service.view_images([left[0].handle])).jpeg
        assert len(pruned(service).items) == 1 and bucket.stored() == {}


def test_the_commands_copy_and_prune(bucket: Bucket, coffee: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def command(*args: str) -> Result:
        return CliRunner().invoke(cli, [*args])

    assert command("upload", coffee).exit_code == 0
    refused = command("objects", "copy")
    assert refused.exit_code != 0 and "TRIPTYCH_OBJECTS_URL is not set" in refused.stderr
    for name, value in bucket.environ.items():
        monkeypatch.setenv(name, value)
    assert "Copied 1 image" in command("objects", "copy").stdout and len(bucket.stored()) == 1
    assert "Nothing to remove" in command("prune").stdout
    assert "Copied 0 images" in command("objects", "copy").stdout
    bucket.fail("GET", "forbidden", 1)
    failed = command("prune")
    assert failed.exit_code != 0 and "refused to list the images" in failed.stderr and "Traceback" not in failed.stderr


# -- the check of an installation


@pytest.mark.parametrize(
    ("method", "kind", "words"), [("PUT", "forbidden", "check its credentials"), ("GET", "missing", "does not return")]
)
async def test_the_doctor_writes_reads_and_removes(
    bucket: Bucket, tmp_path: Path, method: str, kind: str, words: str
) -> None:
    environ = {**bucket.environ, "TRIPTYCH_HOME": str(tmp_path / "home")}

    async def found() -> Any:
        report = await doctor.run_checks(environ, offline=False)
        return next(check for check in report.checks if check.about == "TRIPTYCH_OBJECTS_URL")

    check = await found()
    assert (check.state, bucket.stored()) == ("ok", {}) and "can be written, read and removed" in check.found
    bucket.fail(method, kind, 9)
    check = await found()
    assert check.state == "fault" and words in check.found and SECRET not in check.found

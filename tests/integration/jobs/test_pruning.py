"""Old images are removed to free space: nothing that is in use, no only copy unasked, no row of the ledger."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from support import ROOT
from support.fixtures import Emulator, Finish, MakeService
from support.jobs import NOW, Options, edit_chain, edit_sequence
from support.pictures import picture
from triptych.cli import cli
from triptych.core import errors
from triptych.jobs.pruning import Pruner
from triptych.jobs.results import PruneResult
from triptych.jobs.service import Caller, ImageService
from triptych.storage import migrations
from triptych.storage.sqlite import Database

pytestmark = pytest.mark.anyio


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    made = tmp_path / "mine"
    made.mkdir()
    return made


@contextmanager
def pruner(service: ImageService, days: float = 40, unsaved: bool = False, older_than: int = 30) -> Iterator[Pruner]:
    """Open the home a second time, so many days after everything that was done in it."""
    now = max(datetime.now(UTC), service._clock.now()) + timedelta(days=days)
    db = Database(service.config.home / "triptych.db")
    yield Pruner(db, service.config.home, older_than=timedelta(days=older_than), unsaved=unsaved, now=now)
    db.close()


def pruned(service: ImageService, **given: Any) -> PruneResult:
    with pruner(service, **given) as one:
        expected = one.look()
        done = one.prune()
    assert expected == replace(done, done=False), "the dry run has said it"
    return done


def names(result: PruneResult) -> set[str]:
    return {item.name for item in result.items}


def on_disk(service: ImageService) -> int:
    return len(list((service.config.home / "images").iterdir()))


def rows(service: ImageService) -> list[Any]:
    connection = service.store.plain._db.connection
    return [
        tuple(row)
        for table in ("jobs", "predictions", "frames", "holders")
        for row in connection.execute(f"SELECT * FROM {table}").fetchall()
    ]


async def saved_job(service: ImageService, mine: Path, image: str, count: int = 2, prompt: str = "warmer") -> str:
    options, caller = Options(save_to=str(mine)), Caller(roots=(mine,))
    job = await edit_sequence(service, [image], prompt, count, options, caller)
    assert job.status == "done" and job.job_id
    return job.job_id


# What goes -----------------------------------------------------------------------------------------------------------


async def test_a_dry_run_says_what_would_go_and_changes_nothing(
    make_service: MakeService, coffee: str, mine: Path
) -> None:
    async with make_service() as service:
        job_id = await saved_job(service, mine, coffee)
        files = {path: path.read_bytes() for path in (service.config.home / "images").iterdir()}
        with pruner(service) as one:
            seen = one.look()
        assert {path: path.read_bytes() for path in (service.config.home / "images").iterdir()} == files
    upload = next(item for item in seen.items if item.kind == "upload")
    assert names(seen) == {f"{job_id}/1", f"{job_id}/2", upload.name}
    assert (seen.done, seen.older_than_days, seen.unsaved) == (False, 30, 0)
    assert seen.bytes == sum(len(data) for data in files.values()) == sum(item.bytes for item in seen.items)
    assert all(item.days_old >= 39 for item in seen.items)
    assert {item.saved_path and Path(item.saved_path).parent for item in seen.items} == {mine, None}


async def test_saved_outputs_and_unused_uploads_go_and_every_row_stays(
    make_service: MakeService, coffee: str, mine: Path
) -> None:
    async with make_service() as service:
        await saved_job(service, mine, coffee)
        before = rows(service)
        done = pruned(service)
        assert (len(done.items), on_disk(service)) == (3, 0)
        assert rows(service) == before
        assert len(list(mine.iterdir())) == 2, "the copies are the user's"
        assert pruned(service).items == [], "once is enough"


async def test_the_pictures_of_a_look_stay_until_it_is_removed(make_service: MakeService, coffee: str) -> None:
    async with make_service() as service:
        for colours in (("teal", "navy"), ("navy",)):
            uris = [f"data:image/png;base64,{b64encode(picture(colour)).decode()}" for colour in colours]
            await service.upload_images(uris, Caller(owner="ann"), "coffee")
        await service.upload_images([coffee])
        assert len(pruned(service).items) == 1 and on_disk(service) == 2, "older versions count"
        await service.looks.remove("coffee", Caller(owner="ann"))
        assert len(pruned(service).items) == 2 and on_disk(service) == 0


async def test_the_ledger_is_the_same_after_pruning(
    make_service: MakeService, atlas: Emulator, coffee: str, finish: Finish, mine: Path
) -> None:
    async with make_service(atlas) as service:
        await edit_sequence(service, [coffee], "warmer", 2, Options(wait_s=0, save_to=str(mine)), Caller(roots=(mine,)))
        await finish(service)
        spent, money = await service.spend(7), service.store.plain.money_since(0)
        assert len(pruned(service).items) == 3
        assert service.store.plain.money_since(0) == money and sum(money) == Decimal("0.064")
        assert await service.spend(7) == spent and spent.total.images == 2


async def test_outputs_without_a_copy_go_only_when_asked(make_service: MakeService, coffee: str) -> None:
    async with make_service() as service:
        await edit_sequence(service, [coffee], "warmer", 2)
        kept = pruned(service)
        assert (kept.items, kept.unsaved, on_disk(service)) == ([], 3, 3)
        assert kept.unsaved_bytes > 0
        assert len(pruned(service, unsaved=True).items) == 3
        assert on_disk(service) == 0


async def test_a_copy_that_was_removed_is_no_copy(make_service: MakeService, coffee: str, mine: Path) -> None:
    async with make_service() as service:
        job_id = await saved_job(service, mine, coffee)
        (mine / f"{job_id}-01.png").unlink()
        assert names(pruned(service)) == {f"{job_id}/2"}, "and the upload is the other one's source"


async def test_what_save_images_saved_counts_as_saved(make_service: MakeService, coffee: str, mine: Path) -> None:
    async with make_service() as service:
        job = await edit_sequence(service, [coffee], "warmer", 2)
        await service.save_images([f"{job.job_id}/2"], str(mine), "kept", Caller(roots=(mine,)))
        assert names(pruned(service)) == {f"{job.job_id}/2"}


async def test_files_that_nothing_knows_go_once_they_are_old(make_service: MakeService, coffee: str) -> None:
    async with make_service() as service:
        await service.upload_images([coffee])
        images = service.config.home / "images"
        (images / "0123456789abcdef.png").write_bytes(picture())
        (images / ".pruned-fedcba9876543210.png").write_bytes(picture())
        assert {item.kind for item in pruned(service, days=29).items} == set()
        done = pruned(service)
        assert sorted(item.kind for item in done.items) == ["unknown", "unknown", "upload"]
        assert on_disk(service) == 0


# What stays ----------------------------------------------------------------------------------------------------------


async def test_what_is_younger_than_asked_stays(make_service: MakeService, coffee: str, mine: Path) -> None:
    async with make_service() as service:
        await saved_job(service, mine, coffee)
        assert pruned(service, days=29).items == []
        assert pruned(service, days=0.9, older_than=0, unsaved=True).items == [], "a day at least"
        assert len(pruned(service, days=8, older_than=7).items) == 3


async def test_jobs_in_flight_keep_their_images_and_inputs(
    make_service: MakeService, atlas: Emulator, coffee: str, finish: Finish, mine: Path, samples: Path
) -> None:
    async with make_service(atlas) as service:
        first = await edit_chain(service, [coffee], ["warmer", "film grain"], (), NOW)
        while not service.store.plain.outputs(first.job_id or ""):
            await service.worker.step() or service._clock.advance(1)
        while (await service.job(first.job_id or "")).returned < 1:
            await service.worker.step()
        assert (await service.job(first.job_id or "")).status == "running"
        await edit_sequence(service, [str(samples / "cat.jpg")], "queued", 1, NOW)
        assert on_disk(service) == 3
        assert pruned(service, unsaved=True, days=400).items == []
        await finish(service)
        assert (await service.job(first.job_id or "")).status == "done"


async def test_an_uncertain_job_keeps_its_inputs(
    make_service: MakeService, atlas: Emulator, coffee: str, finish: Finish
) -> None:
    atlas.fault("submit", "drop", times=1)
    async with make_service(atlas) as service:
        job = await edit_sequence(service, [coffee], "warmer", 2, NOW)
        await finish(service)
        assert (await service.job(job.job_id or "")).status == "uncertain"
        assert pruned(service, unsaved=True, days=400).items == []


async def test_what_another_kept_job_refers_to_stays(make_service: MakeService, coffee: str, mine: Path) -> None:
    async with make_service() as service:
        first = await saved_job(service, mine, coffee, 1)
        second = await edit_sequence(service, [f"{first}/1"], "colder", 1)
        assert pruned(service).items == [], "nor the source of what stays"
        await service.save_images([f"{second.job_id}/1"], str(mine), None, Caller(roots=(mine,)))
        assert names(pruned(service)) >= {f"{first}/1", f"{second.job_id}/1"}
        assert on_disk(service) == 0


async def test_a_file_that_is_used_meanwhile_goes_back(make_service: MakeService, coffee: str) -> None:
    async with make_service() as service:
        (image,) = (await service.upload_images([coffee])).images
        path = Path(image.path or "")
        os.utime(path, (0, 0))
        service.store.plain._db.connection.execute("UPDATE images SET created_at = 0")
        with pruner(service, days=0) as one:
            assert names(one.look()) == {image.handle}
            await service.upload_images([coffee])
            assert not one._remove(path), "it was brought in between the look and the removal"
            assert one.prune().items == []
        assert path.exists() and on_disk(service) == 1


# Afterwards ----------------------------------------------------------------------------------------------------------


async def test_a_pruned_job_says_so_and_where_its_copies_are(
    make_service: MakeService, coffee: str, mine: Path
) -> None:
    async with make_service() as service:
        job_id = await saved_job(service, mine, coffee)
        pruned(service)
        job = await service.job(job_id)
        assert (job.status, job.returned, job.next) == ("done", 2, None)
        assert "2 of these images were pruned on 20" in job.warnings[-1]
        assert [Path(image.path or "").parent for image in job.images] == [mine, mine]
        assert all(Path(image.path or "").exists() and image.url for image in job.images)
        assert (await service.get_status(job_id)).status == "done"
        assert [row.job_id for row in (await service.list_jobs()).jobs] == [job_id]
        assert await service.recent_handles(10) == []
        with pytest.raises(errors.UnknownHandle, match=r"was pruned on 20.*upload a saved copy"):
            await edit_sequence(service, [f"{job_id}/1"], "again", 1)
        with pytest.raises(errors.UnknownHandle, match="none of its images is here"):
            await service.view_images([job_id])


async def test_a_pruned_image_that_is_brought_in_again_is_back(make_service: MakeService, coffee: str) -> None:
    async with make_service() as service:
        (image,) = (await service.upload_images([coffee])).images
        assert names(pruned(service)) == {image.handle}
        (back,) = (await service.upload_images([coffee])).images
        assert back == image and Path(image.path or "").exists()
        assert (await edit_sequence(service, [image.handle], "warmer", 1)).status == "done"
        assert (await service.recent_handles(10))[-1] == image.handle


async def test_removal_that_fails_leaves_the_image(
    make_service: MakeService, coffee: str, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_service() as service:
        job_id = await saved_job(service, mine, coffee)

        def refuse(path: Path, *_: object) -> None:
            raise PermissionError(13, "open in another program")

        for name in ("unlink", "replace"):
            with monkeypatch.context() as patched:
                patched.setattr(Path, name, refuse)
                with pruner(service) as one:
                    assert one.prune().items == []
            assert on_disk(service) == 3
            assert service.store.plain.image_by_handle(f"{job_id}/1")
        assert len(pruned(service).items) == 3


# The command ---------------------------------------------------------------------------------------------------------


def command(*args: str) -> Result:
    return CliRunner().invoke(cli, ["prune", *args])


def test_the_command_shows_first_and_removes_at_a_yes(coffee: str, mine: Path, tmp_path: Path) -> None:
    made = CliRunner().invoke(cli, ["edit", coffee, "-p", "warmer", "-n", "2", "--save-to", str(mine), "--json"])
    job_id = json.loads(made.stdout)["job_id"]
    home = tmp_path / "home"
    with closing(sqlite3.connect(home / "triptych.db")) as db, db:
        for table, column in (("images", "created_at"), ("jobs", "created_at"), ("predictions", "submitted_at")):
            db.execute(f"UPDATE {table} SET {column} = {column} - 40 * 86400")
        db.execute("UPDATE predictions SET finished_at = finished_at - 40 * 86400")
    for path in (home / "images").iterdir():
        os.utime(path, (time.time() - 40 * 86_400,) * 2)
    assert "Nothing to remove that is older than 50 days." in command("--older-than", "50d").stdout
    shown = command()
    assert shown.exit_code == 0 and "Nothing was removed. --yes removes 3 images" in shown.stdout
    assert any(
        line.startswith(job_id) and "40 days" in line and str(mine)[:20] in line for line in shown.stdout.split("\n")
    )
    dry, done = (json.loads(command("--json", *more).stdout) for more in ((), ("--yes",)))
    assert len(list((home / "images").iterdir())) == 0
    assert (dry.pop("done"), done.pop("done")) == (False, True) and dry == done
    assert len(done["items"]) == 3
    after = CliRunner().invoke(cli, ["status", job_id])
    assert after.exit_code == 0 and "were pruned on" in after.stdout


@pytest.mark.parametrize("age", ["0d", "0", "-3d", "soon", "2w"])
def test_an_age_that_is_none_is_a_usage_error(age: str) -> None:
    refused = command("--older-than", age)
    assert refused.exit_code == 2 and "for example 30d" in refused.stderr


@pytest.mark.skipif(not shutil.which("sh"), reason="the documented backup is a shell command")
async def test_the_documented_backup_of_a_home_in_use_is_whole(
    make_service: MakeService, coffee: str, tmp_path: Path
) -> None:
    text = (ROOT / "docs" / "storage.md").read_text("utf-8")
    (script,) = re.findall(r"```sh\n(umask 077\n.*?)rsync", text, re.DOTALL)
    (backup := tmp_path / "backup").mkdir()
    async with make_service() as service:
        job = await edit_sequence(service, [coffee], "warmer", 2)
        environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        command = ["sh", "-ec", script.replace("/backup/", f"{backup}/")]
        subprocess.run(command, env=environ | {"TRIPTYCH_HOME": str(service.config.home)}, check=True, timeout=60)  # noqa: ASYNC221
        shutil.copytree(service.config.home / "images", backup / "images")
    async with make_service(TRIPTYCH_HOME=str(backup)) as restored:
        restored.store.plain.check()
        assert (await restored.job(job.job_id or "")).returned == 2
        assert {row.job_id for row in (await restored.list_jobs()).jobs} == {job.job_id}
        await restored.view_images([job.job_id or ""])
        assert migrations.version(restored.store.plain._db.connection) == migrations.newest()

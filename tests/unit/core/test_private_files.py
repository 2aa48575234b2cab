"""The home is for the user alone; what is saved for the user is the user's own."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fixtures import MakeService
from support.jobs import Options, edit_sequence
from support.systems import needs_modes
from triptych.core import private_files
from triptych.jobs.service import Caller
from triptych.storage.sqlite import Database

pytestmark = [pytest.mark.anyio, needs_modes]


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(home: Path) -> dict[str, str]:
    """Return the rights of everything below a directory, and of itself, that other users could use."""
    found = [home, *home.rglob("*")]
    return {str(p.relative_to(home)): oct(mode) for p in found if (mode := stat.S_IMODE(p.stat().st_mode)) & 0o077}


async def test_nothing_in_a_new_home_is_for_others(make_service: MakeService, coffee: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with make_service() as service:
        await edit_sequence(service, [coffee], "warmer", 2)
        assert {path.name for path in home.iterdir()} == private_files.OURS - {"answers.txt", "catalogues"}
        assert len(list((home / "images").iterdir())) == 3
        assert modes(home) == {}


async def test_a_home_that_was_open_is_closed(make_service: MakeService, coffee: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with make_service() as service:
        await edit_sequence(service, [coffee], "warmer", 2)
        for path in [home, *home.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        async with make_service():
            assert modes(home) == {}


async def test_saved_images_have_the_rights_of_any_file(make_service: MakeService, coffee: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    async with make_service() as service:
        caller = Caller(roots=(mine,))
        job = await edit_sequence(service, [coffee], "warmer", 1, Options(save_to=str(mine)), caller)
        await service.save_images([job.images[0].handle], str(mine / "more"), "named", caller)
    saved = [*mine.glob("*.png"), *(mine / "more").iterdir()]
    assert len(saved) == 2 and {stat.S_IMODE(path.stat().st_mode) for path in saved} == {0o644}
    assert stat.S_IMODE((mine / "more").stat().st_mode) == 0o755


def test_a_directory_that_holds_other_things_keeps_its_rights(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "notes.txt").write_text("not ours")
    Database(shared / "triptych.db").close()
    assert modes(shared) == {".": "0o755", "notes.txt": "0o644"}


def test_a_file_that_cannot_be_tightened_stops_no_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Database(tmp_path / "triptych.db").close()
    (tmp_path / "triptych.db").chmod(0o644)

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    Database(tmp_path / "triptych.db").close()
    private_files.make_directory(tmp_path)

"""Databases that cannot be used: each refusal says what is wrong, where the file is, and what mends it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from support.clocks import when
from support.fixtures import Emulator, Finish, MakeService
from support.jobs import Options, edit_sequence
from support.refusals import tells_operator
from support.stored import ATLAS
from triptych.core import errors
from triptych.core.models import Job
from triptych.core.requests import Request
from triptych.storage import migrations, sqlite
from triptych.storage.jobs import Store

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def job(n: int) -> Job:
    return Job(f"job_{n:08}", Request("edit_sequence", ("p" * 500,)), NOW, f"f{n}", "atlas", "m", "e")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "triptych.db"


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[Path], sqlite3.Connection]], None]]:
    """Open databases as a function does; only the file is real then, not how it is opened."""
    real = sqlite3.connect

    def use(made: Callable[[Path], sqlite3.Connection]) -> None:
        def through(path: Any, **_: Any) -> sqlite3.Connection:
            monkeypatch.setattr(sqlite3, "connect", real)
            return made(path)

        monkeypatch.setattr(sqlite3, "connect", through)

    yield use


def read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)


def without_room(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA max_page_count = 3")
    return connection


def store(path: Path) -> Store:
    return Store(path, path.parent / "images")


def with_jobs(path: Path) -> None:
    """Write a database with some pages in it, and all of it in the file itself."""
    opened = store(path)
    for n in range(40):
        opened.add_job(job(n), [], now=when(NOW), attach=False)
    opened.close()


def damage(path: Path) -> None:
    """Spoil the first page of every table and index; the list of tables stays."""
    with closing(sqlite3.connect(path)) as other:
        roots = [root for (root,) in other.execute("SELECT rootpage FROM sqlite_master WHERE rootpage > 1")]
    spoil(path, roots)


def spoil(path: Path, pages: list[int]) -> None:
    data = bytearray(path.read_bytes())
    for page in pages:
        data[(page - 1) * 4096 : page * 4096] = b"\xa5" * 4096
    path.write_bytes(data)


def set_pragma(path: Path, name: str, value: int) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA {name} = {value}")


def refusal(path: Path) -> errors.Outage:
    with pytest.raises(errors.Outage) as refused:
        store(path)
    assert str(path.parent) in refused.value.for_operator
    assert len(refused.value.for_operator) < errors.MESSAGE_LIMIT_CHARS
    return refused.value


# At the start --------------------------------------------------------------------------------------------------------


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database at all" * 300)
    said = refusal(path)
    assert (said.kind, said.retryable) == ("unusable", False)
    assert f"{path} is not a database" in said.for_operator
    assert all(words in said.for_operator for words in ("move it away", "-wal and -shm", "restore a backup"))
    assert path.read_bytes().startswith(b"no database"), "it is left as it was"


def test_a_directory_in_its_place_is_to_be_moved_away(path: Path) -> None:
    path.mkdir(parents=True)
    said = refusal(path)
    assert said.for_operator == f"{path} is a directory, where the database should be a file. Move it away."


def test_a_damaged_header_is_damage_and_a_backup_mends_it(path: Path) -> None:
    with_jobs(path)
    data = bytearray(path.read_bytes())
    data[100:4096] = b"\xa5" * 3996
    path.write_bytes(data)
    said = refusal(path)
    assert f"The database {path} is damaged" in said.for_operator and "restore a backup" in said.for_operator


def test_a_newer_database_asks_for_the_newer_triptych(path: Path) -> None:
    store(path).close()
    newer = migrations.newest() + 3
    set_pragma(path, "user_version", newer)
    set_pragma(path, "application_id", newer)
    before = path.read_bytes()
    said = refusal(path)
    assert said.kind == "outdated"
    assert f"(version {newer}); this one knows version {newer - 3}" in said.for_operator
    assert "newer Triptych" in said.for_operator and "TRIPTYCH_HOME" in said.for_operator
    assert path.read_bytes() == before


def test_a_newer_database_that_older_programs_may_use_is_used(path: Path) -> None:
    store(path).close()
    set_pragma(path, "user_version", migrations.newest() + 3)
    opened = store(path)
    assert opened.add_job(job(1), [], now=when(NOW), attach=False) is None
    assert not opened.outdated()
    opened.close()
    with closing(sqlite3.connect(path)) as other:
        assert migrations.version(other) == migrations.newest() + 3, "it is not taken back"


def test_a_home_that_cannot_be_made_names_the_setting(path: Path) -> None:
    path.parent.write_text("a file")
    assert "Set TRIPTYCH_HOME to a directory" in refusal(path).for_operator


def test_a_home_that_cannot_be_written_names_the_directory(path: Path, connect: Any) -> None:
    path.parent.mkdir()
    connect(read_only)
    said = refusal(path)
    assert f"The database {path} cannot be opened or written" in said.for_operator
    assert f"Let this user write {path.parent}" in said.for_operator


def test_a_full_disk_at_the_start_asks_for_space(path: Path, connect: Any) -> None:
    path.parent.mkdir()
    connect(without_room)
    said = refusal(path)
    assert (said.kind, said.retryable) == ("outage", True)
    assert f"The disk with the database {path} is full" in said.for_operator and "triptych prune" in said.for_operator
    store(path).close()


def test_a_database_locked_at_the_start_names_the_other_program(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "OPEN_TIMEOUT_S", 0.01)
    path.parent.mkdir()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("BEGIN IMMEDIATE")
        said = refusal(path)
    assert said.retryable and "Another program keeps" in said.for_operator and "Close that program" in said.for_operator
    store(path).close()


def test_a_writer_that_holds_on_delays_no_opening(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped process may hold the database for long; what only reads, and the server's start, do not wait for it."""
    monkeypatch.setattr(sqlite, "OPEN_TIMEOUT_S", 0.0)
    store(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert store(path).jobs(20) == []


def test_tables_that_are_not_ours_are_named(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE jobs (id TEXT, owner TEXT)")
    said = refusal(path)
    assert "The tables of the database" in said.for_operator and "duplicate column" in said.for_operator
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("jobs",)]


# While it runs -------------------------------------------------------------------------------------------------------


def test_damage_met_while_running_is_an_error_that_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_jobs(path)
    damage(path)
    monkeypatch.setattr(Store, "_forget_earlier_boots", lambda _: None)  # opening reads none of the damaged pages
    opened = store(path)
    for use in (
        lambda: opened.jobs(100),
        lambda: opened.add_job(job(99), [], now=when(NOW), attach=True),
        lambda: opened.claim(now=when(NOW), lease="l", slots=[ATLAS]),
        lambda: opened.money_since(0),
        lambda: opened.cancel("job_00000001", when(NOW)),
        opened.check,
    ):
        with pytest.raises(errors.Unusable, check=tells_operator("is damaged")) as refused:
            use()
        assert str(path) in refused.value.for_operator and "restore a backup" in refused.value.for_operator
    opened.close()


def test_damage_in_a_later_row_is_reported(path: Path) -> None:
    with_jobs(path)
    data = path.read_bytes()
    spoil(
        path, [n // 4096 + 1 for n in range(0, len(data), 4096) if data[n] == 13 and b"job_00000039" in data[n:][:4096]]
    )
    opened = store(path)
    opened._db._queries = {"every_job": "SELECT * FROM jobs NOT INDEXED"}
    assert opened._db.run("every_job").fetchone()["id"] == "job_00000000"
    with pytest.raises(errors.Unusable, check=tells_operator("is damaged")):
        opened._db.all("every_job")
    opened.close()


def test_a_write_to_a_read_only_file_is_reported(path: Path, connect: Any) -> None:
    with_jobs(path)
    connect(read_only)
    opened = store(path)
    assert len(opened.jobs(100)) == 40
    with pytest.raises(errors.Unusable, check=tells_operator("cannot be opened or written")):
        opened.add_job(job(99), [], now=when(NOW), attach=False)
    opened.close()


def test_a_row_that_breaks_a_rule_is_no_bare_exception(path: Path) -> None:
    with_jobs(path)
    opened = store(path)
    look = {"owner": "", "name": "noir", "version": 1, "words": "", "images": "[]", "now": 0}
    opened._db.run("add_look", **look)
    with pytest.raises(errors.Unusable, check=tells_operator("UNIQUE")):
        opened._db.run("add_look", **look)
    assert len(opened.jobs(100)) == 40
    opened.close()


# A newer program meanwhile -------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_running_server_stops_claiming_below_the_stated_minimum(
    make_service: MakeService, atlas: Emulator, coffee: str, finish: Finish, tmp_path: Path
) -> None:
    newer = migrations.newest() + 1
    async with make_service(atlas) as service:
        running = await edit_sequence(service, [coffee], "make it golden hour", 2, Options(wait_s=0))
        set_pragma(tmp_path / "home" / "triptych.db", "user_version", newer)
        set_pragma(tmp_path / "home" / "triptych.db", "application_id", newer)
        assert service.store.plain.outdated()
        with pytest.raises(errors.Outdated, check=tells_operator("Restart with the newer Triptych")):
            await edit_sequence(service, [coffee], "make it night", 2, Options(wait_s=0))
        with pytest.raises(errors.Outdated):
            await service.worker.step()
        assert (await service.job(running.job_id or "")).status == "queued", "what is kept can be read"
        assert atlas.accepted == [] and len(service.store.plain.jobs(10)) == 1
        set_pragma(tmp_path / "home" / "triptych.db", "application_id", newer - 1)
        await finish(service)
        assert (await service.job(running.job_id or "")).status == "done", "it had not ended"


def test_a_compatible_migration_leaves_the_stated_minimum(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.mkdir()
    folder = path.parent
    (folder / "0001_first.sql").write_text("CREATE TABLE a (b);")
    (folder / "0002_second.sql").write_text(f"{migrations.COMPATIBLE}\nALTER TABLE a ADD c;")
    (folder / "0003_third.sql").write_text("ALTER TABLE a DROP b;")
    monkeypatch.setattr(migrations, "FOLDER", folder)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for newest, minimum in ((1, 1), (2, 1), (3, 3)):
            monkeypatch.setattr(migrations, "listed", lambda n=newest: _listed(folder)[:n])
            migrations.migrate(connection)
            assert (migrations.version(connection), migrations.minimum(connection)) == (newest, minimum)


def _listed(folder: Path) -> list[tuple[int, str]]:
    return sorted((int(file.name[:4]), file.name) for file in folder.glob("*.sql"))

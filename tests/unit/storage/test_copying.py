"""A SQLite file becomes a PostgreSQL database: whole, compared, resumable, and never at work twice."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from support import postgres
from support.clocks import when
from support.refusals import tells_operator
from support.stored import NOW, add, claim, frame, prediction
from triptych.core import errors
from triptych.core.clock import Moment, SystemClock
from triptych.core.models import Image, State
from triptych.storage import copying
from triptych.storage.jobs import Store
from triptych.storage.postgres import Database

SHA = "ab" * 32


@pytest.fixture
def url() -> Iterator[str]:
    with postgres.database(empty=True) as url:
        yield url


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with jobs in several states, more rows than a batch has, images, a look and money."""
    path = tmp_path / "triptych.db"
    with closing(Store(path, path.parent / "images")) as store:
        for n in range(4):
            job_id = f"job_{n:08}"
            add(store, prediction(job_id), prediction(job_id, step=1), fingerprint=job_id)
        held = claim(store)
        assert held
        store.move(held, State.SUBMITTING, now=when(NOW), due_at=0, keep_lease=True, submitted_at=NOW)
        held = replace(held, prediction=store.predictions(held.prediction.job_id)[0])
        now_s = SystemClock().monotonic()
        store.move(held, State.RUNNING, now=Moment(NOW, now_s), due_at=now_s + 60, ticket="t", deadline_at=now_s + 600)
        image = Image(SHA, "img_abababab", "image/png", 4, 4, 10, path.parent / "images" / "a.png")
        store.add_image(image, NOW, "ann")
        store.add_outputs([frame(1, SHA)], now=NOW)
        store.looks.add("", "noir", "dark \\ \t\n \N{SNOWMAN}", ["img_1"], NOW)
        for n in range(1200):
            store.note_saved_file(f"/out/{n}.png")
    return path


def copied(path: Path, url: str, report: copying.Report = lambda text: None) -> copying.Copied:
    with closing(Database(url, migrate=False)) as database:
        return copying.copy(path, database, report)


def test_everything_is_there_and_the_books_agree(path: Path, url: str) -> None:
    with closing(Store(path, path.parent / "images")) as store:
        jobs, money = store.jobs(100), store.money_since(0)
        predictions = {job.id: store.predictions(job.id) for job in jobs}
    done = copied(path, url)
    assert done.rows["saved_files"] == 1200
    assert done.rows["predictions"] == 8
    with closing(Store(Database(url), path.parent / "images")) as store:
        assert store.jobs(100) == jobs
        assert store.money_since(0) == money
        assert not store.differences()
        for job_id, before in predictions.items():
            now = store.predictions(job_id)
            assert [replace(one, due_at=0.0, deadline_at=None) for one in now] == [
                replace(one, due_at=0.0, deadline_at=None) for one in before
            ]
        assert store.image_by_handle("img_abababab")
        assert store.looks.newest("", "noir").look.words == "dark \\ \t\n \N{SNOWMAN}"  # type: ignore[union-attr]
        assert claim(store, at=NOW + timedelta(days=1))


def test_due_times_and_deadlines_are_of_the_servers_clock(path: Path, url: str) -> None:
    copied(path, url)
    with closing(Database(url)) as database, closing(Store(database, path.parent / "images")) as store:
        now_s = database.clock(SystemClock()).monotonic()
        running = next(one for one in store.predictions("job_00000000") if one.state is State.RUNNING)
        assert running.deadline_at
        assert 0 < running.due_at - now_s <= 60
        assert 0 < running.deadline_at - now_s <= 600


def test_no_server_works_on_the_file_afterwards(path: Path, url: str) -> None:
    copied(path, url)
    with pytest.raises(errors.Outdated, check=tells_operator(r"was copied to PostgreSQL.*TRIPTYCH_DATABASE_URL")):
        Store(path, path.parent / "images")
    assert copied(path, url).again


def test_a_file_in_use_is_refused(path: Path, url: str) -> None:
    with closing(Store(path, path.parent / "images")) as store:
        store.jobs(1)
        with pytest.raises(errors.Unusable, check=tells_operator("Stop every Triptych")):
            copied(path, url)
    assert copied(path, url).rows["jobs"] == 4


def test_a_refused_copy_does_not_migrate_the_file(tmp_path: Path, url: str) -> None:
    path = tmp_path / "triptych.db"
    with closing(sqlite3.connect(path)) as earlier:
        earlier.executescript((Path(__file__).parent / "databases" / "version-9.sql").read_text(encoding="utf-8"))
    before = path.read_bytes()
    with closing(Store(Database(url), tmp_path / "images")) as store:
        add(store, prediction())
    with pytest.raises(errors.Unusable, check=tells_operator("Name an empty database")):
        copied(path, url)
    assert path.read_bytes() == before
    with closing(sqlite3.connect(path)) as server:
        server.execute("SELECT 1 FROM jobs").fetchone()
        server.execute("BEGIN IMMEDIATE")
        with postgres.database(empty=True) as other, pytest.raises(errors.Unusable, check=tells_operator("Stop every")):
            copied(path, other)
    assert path.read_bytes() == before


def test_no_server_starts_on_the_file_during_the_copy(path: Path, url: str) -> None:
    tried: list[type[Exception]] = []

    def start(text: str) -> None:
        if "jobs" in text:
            try:
                sqlite3.connect(path, timeout=0).execute("SELECT * FROM jobs")
            except sqlite3.OperationalError as error:
                tried.append(type(error))

    copied(path, url, start)
    assert tried


def test_no_server_works_on_an_unfinished_copy(path: Path, url: str) -> None:
    def start(text: str) -> None:
        if "are copied" in text:
            with pytest.raises(errors.Outdated, check=tells_operator("not finished")):
                Database(url)

    copied(path, url, start)
    Database(url).close()


def test_a_database_with_jobs_is_refused(path: Path, url: str) -> None:
    with closing(Store(Database(url), path.parent / "images")) as store:
        add(store, prediction())
    with pytest.raises(errors.Unusable, check=tells_operator("Name an empty database")):
        copied(path, url)
    Store(path, path.parent / "images").close()


@pytest.mark.slow
def test_a_copy_that_ends_at_any_point_can_be_resumed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "BATCH", 400)
    original = path.read_bytes()
    points = 0
    with postgres.database(empty=True) as url:
        copied(path, url, lambda text: None)
    path.write_bytes(original)
    while True:
        with postgres.database(empty=True) as url:
            steps = 0

            def end(text: str) -> None:
                nonlocal steps
                steps += 1
                if steps > points:  # noqa: B023
                    raise KeyboardInterrupt

            try:
                copied(path, url, end)
                break
            except KeyboardInterrupt:
                pass
            done = copied(path, url)
            assert (done.rows["predictions"], done.rows["saved_files"]) == (8, 1200)
            with closing(Store(Database(url), path.parent / "images")) as store:
                assert not store.differences()
        path.write_bytes(original)
        points += 3
    assert points > 15


def test_changes_after_a_stopped_copy_are_copied(path: Path, url: str) -> None:
    def end(text: str) -> None:
        if text.startswith("predictions"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copied(path, url, end)
    with closing(Store(path, path.parent / "images")) as store:
        store.cancel("job_00000003", when(NOW))
    copied(path, url)
    with closing(Store(Database(url), path.parent / "images")) as store:
        assert store.predictions("job_00000003")[0].state is State.CANCELLED
        assert not store.differences()


def test_a_killed_copy_goes_on_where_it_was(path: Path, url: str) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from triptych.storage import copying\n"
        "from triptych.storage.postgres import Database\n"
        "def end(text):\n    'are copied' in text and 'frames' in text and os.kill(os.getpid(), signal.SIGTERM)\n"
        "signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
        "copying.copy(Path(sys.argv[1]), Database(sys.argv[2], migrate=False), end)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(path), url], check=False)
    assert killed.returncode in (-signal.SIGTERM, signal.SIGTERM)
    with pytest.raises(errors.Outdated):
        Database(url)
    assert copied(path, url).rows["frames"] == 1
    Database(url).close()


def test_a_row_that_is_lost_on_the_way_is_noticed(path: Path, url: str) -> None:
    """The tables are compared, and one that differs is copied again."""
    name = url.partition("?")[0].rpartition("/")[2]

    lost: list[str] = []

    def lose(text: str) -> None:
        if not lost and text.startswith("saved_files: 1200 rows are copied"):
            lost.append(text)
            postgres.server().execute("DELETE FROM saved_files WHERE path LIKE '%/7.png'", name)

    assert copied(path, url, lose).rows["saved_files"] == 1200


def test_every_table_and_every_monotonic_time_is_copied(url: str) -> None:
    Database(url).close()
    name = url.partition("?")[0].rpartition("/")[2]
    columns = postgres.server().execute(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' "
        "AND table_name NOT IN ('changes', 'commits', 'triptych_version', 'prediction_money')",
        name,
    )
    assert {table for table, _ in columns} == set(copying.TABLES)
    times = {pair for pair in columns if pair[1].endswith("mono")}
    assert times <= {(table, column) for table, names in copying.SECONDS.items() for column in names}

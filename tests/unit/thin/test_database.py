"""What the thin start reads from the database is what the real server reads there, and it changes nothing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as property_settings
from hypothesis import strategies as st

from support.clocks import FakeClock
from support.stored import ATLAS, job, open_store, prediction
from support.systems import needs_rights
from triptych.core.clock import SystemClock, moment
from triptych.core.models import State
from triptych.core.states import LEASE_S
from triptych.server import resources
from triptych.storage import statements
from triptych.storage.claims import Claim
from triptych.storage.jobs import Store
from triptych.storage.summaries import ListedImage
from triptych.thin import database, images, snapshots
from triptych.thin.database import Database, Unclear
from triptych.thin.messages import Unknown

SNAPSHOT = snapshots.Snapshot(Path(snapshots.PACKAGED).read_bytes())


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(home: Path, clock: FakeClock) -> Iterator[Store]:
    opened = open_store(home / "triptych.db", home / "images", clock=clock)
    yield opened
    opened.close()


@pytest.fixture
def seen(home: Path, clock: FakeClock) -> Database:
    return Database(str(home), SNAPSHOT, ["atlas", "draft"], clock.monotonic)


def add(store: Store, clock: FakeClock) -> None:
    assert store.add_job(job(), [prediction()], now=moment(clock), attach=False) is None


def claim(store: Store, clock: FakeClock) -> Claim:
    (held,) = store.claim(now=moment(clock), lease="a", slots=[ATLAS])
    return held


def run(store: Store, clock: FakeClock, due_in_s: float) -> None:
    """Bring the job's prediction to a provider; its next poll is due in so many seconds."""
    held = claim(store, clock)
    sent = store.move(held, State.SUBMITTING, now=moment(clock), due_at=0.0, keep_lease=True, submitted_at=clock.now())
    assert sent
    due_at = clock.monotonic() + due_in_s
    assert store.move(sent, State.RUNNING, now=moment(clock), due_at=due_at, ticket="t")


def test_without_a_database_there_is_no_work_and_no_image(home: Path, seen: Database) -> None:
    assert not seen.has_work() and not seen.has_overdue_work() and seen.images() == []
    assert not home.exists()


def test_a_job_that_is_not_finished_is_work(store: Store, seen: Database, clock: FakeClock) -> None:
    assert not seen.has_work()
    add(store, clock)
    assert seen.has_work()
    run(store, clock, due_in_s=500.0)
    assert seen.has_work()


def test_work_of_a_provider_without_a_key_is_not_ours(home: Path, store: Store, clock: FakeClock) -> None:
    add(store, clock)
    clock.advance(60.0)
    other = Database(str(home), SNAPSHOT, ["draft"], clock.monotonic)
    assert not other.has_work() and not other.has_overdue_work()


def test_queued_work_is_overdue_once_nobody_takes_it(store: Store, seen: Database, clock: FakeClock) -> None:
    add(store, clock)
    clock.advance(LEASE_S)
    assert seen.has_overdue_work()


def test_work_that_somebody_holds_is_not_overdue(store: Store, seen: Database, clock: FakeClock) -> None:
    add(store, clock)
    clock.advance(LEASE_S)
    claim(store, clock)
    clock.advance(LEASE_S)
    assert not seen.has_overdue_work()
    clock.advance(database.OVERDUE_S + 0.1)
    assert seen.has_overdue_work(), "its process died"


def test_a_poll_that_nobody_makes_is_overdue(store: Store, seen: Database, clock: FakeClock) -> None:
    add(store, clock)
    run(store, clock, due_in_s=5.0)
    clock.advance(5.0)
    assert not seen.has_overdue_work()
    clock.advance(database.OVERDUE_S + 0.1)
    assert seen.has_overdue_work()


def test_a_due_time_that_no_step_has_is_overdue(store: Store, seen: Database, clock: FakeClock) -> None:
    add(store, clock)
    run(store, clock, due_in_s=database.TOO_FAR_S * 2)
    assert seen.has_overdue_work()


def test_a_queue_that_waits_for_its_account_is_not_overdue(store: Store, seen: Database, clock: FakeClock) -> None:
    add(store, clock)
    run(store, clock, due_in_s=100.0)
    second = prediction("job_00000002")
    assert store.add_job(job("job_00000002", "g"), [second], now=moment(clock), attach=False) is None
    clock.advance(50.0)
    assert not seen.has_overdue_work()
    clock.advance(60.0)
    assert seen.has_overdue_work()


def test_the_times_are_those_of_the_worker() -> None:
    assert abs(database.clock() - SystemClock().monotonic()) < 60.0


@pytest.mark.parametrize("spoil", ["older", "newer", "closed", "no database", "locked", "a directory", "no table"])
def test_a_database_that_is_not_as_expected_is_unclear(home: Path, seen: Database, store: Store, spoil: str) -> None:
    store.close()
    path = home / "triptych.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        if spoil == "older":
            connection.execute(f"PRAGMA user_version = {SNAPSHOT.schema - 1}")
        elif spoil == "newer":
            connection.execute(f"PRAGMA user_version = {SNAPSHOT.schema + 1}")
        elif spoil == "closed":
            connection.execute(f"PRAGMA application_id = {2**31 - 1}")
        elif spoil == "no table":
            connection.execute("ALTER TABLE predictions RENAME TO other")
            connection.execute("ALTER TABLE frames RENAME TO others")
        elif spoil == "locked":
            connection.execute("PRAGMA journal_mode=DELETE")
    if spoil == "no database":
        path.write_bytes(b"nonsense" * 1000)
    elif spoil == "a directory":
        path.unlink()
        path.mkdir()
    lock = sqlite3.connect(path, isolation_level=None) if spoil == "locked" else None
    if lock:
        lock.execute("BEGIN EXCLUSIVE")
        Path(f"{path}-wal").touch()
    for ask in (seen.has_work, seen.has_overdue_work, seen.images):
        with pytest.raises(Unclear):
            ask()
    if lock:
        lock.close()


@needs_rights
def test_a_home_that_cannot_be_made_is_unclear(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(Unclear):
        Database(str(tmp_path / "home"), SNAPSHOT, [], lambda: 0.0).images()


def test_a_file_in_place_of_the_home_is_unclear(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(Unclear):
        Database(str(tmp_path / "home" / "x"), SNAPSHOT, [], lambda: 0.0).images()


def test_a_look_writes_nothing(home: Path, store: Store, seen: Database, clock: FakeClock) -> None:
    add(store, clock)
    store.close()
    before = {path.name: path.read_bytes() for path in home.iterdir() if path.is_file()}
    assert seen.has_work() and seen.images() == []
    assert {path.name: path.read_bytes() for path in home.iterdir() if path.is_file()} == before


def test_a_path_with_odd_characters_is_opened(tmp_path: Path, clock: FakeClock) -> None:
    home = tmp_path / "a %20?b#c é"
    with closing(open_store(home / "triptych.db", home / "images", clock=clock)) as store:
        add(store, clock)
        assert Database(str(home), SNAPSHOT, ["atlas"], clock.monotonic).has_work()


IMAGES = st.tuples(
    st.integers(1, 3),
    st.integers(1, 9),
    st.integers(1, 9999),
    st.lists(st.sampled_from(["img_1", "job_1/2", "table.csv", "é"]), max_size=2),
    st.booleans(),
    st.integers(1, 3),
)


@property_settings(max_examples=15)
@given(st.lists(IMAGES, max_size=25, unique_by=lambda one: one[:2]))
def test_the_images_are_those_that_the_real_server_lists(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int, list[str], bool, int]]
) -> None:
    home = tmp_path_factory.mktemp("home")
    path = home / "triptych.db"
    with closing(open_store(path, home / "images", clock=FakeClock())) as store:
        for n in (1, 2, 3):
            of = f"job_0000000{n}"
            store.add_job(job(of, str(n)), [prediction(of)], now=moment(FakeClock()), attach=False)
        with closing(sqlite3.connect(path)) as connection, connection:
            for number, (of, n, width, source, pruned, at) in enumerate(rows):
                image = (str(number), f"img_{number}", "image/png", width, 7, 1, "f", 0, 1.0 if pruned else None)
                connection.execute(
                    "INSERT INTO images (sha256, handle, mime_type, width, height, bytes, file, created_at, pruned_at) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    image,
                )
                connection.execute(
                    "INSERT INTO frames (job_id, n, prediction_id, sha256, source, created_at) "
                    "VALUES (?, ?, '', ?, ?, ?)",
                    (f"job_0000000{of}", n, str(number), json.dumps(source), float(at)),
                )
        real = [resources.listed(image) for image in store.recent_images(images.RECENT)]
        seen = Database(str(home), SNAPSHOT, [], lambda: 0.0)
        try:
            found = seen.images()
        except Unknown:
            assert any("é" in source for *_, source, _, _ in rows)
        else:
            wire = [one.model_dump(by_alias=True, mode="json", exclude_none=True) for one in real]
            assert [json.loads(one) for one in found] == wire


def test_a_listed_image_has_its_fields_in_the_order_of_the_sdk() -> None:
    text = SNAPSHOT.text("2025-06-18", "resources/list", 1, [images.as_json("job_1/1", 8, None, [])])
    for resource in json.loads(text)["result"]["resources"]:
        assert list(resource) == sorted(resource)
    assert resources.listed(ListedImage("job_1/1", None, None, ("img_1",))).description == (
        "size not known yet, from img_1; a preview, full size with save_images"
    )


@pytest.mark.parametrize("name", ["unfinished", "overdue"])
def test_a_look_searches_only_the_index_of_steps_that_are_free(store: Store, home: Path, name: str) -> None:
    with closing(sqlite3.connect(home / "triptych.db")) as connection:
        asked = {"providers": '["atlas"]', "now": 1.0, "too_far": 2.0}
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statements.load('queries_thin.sql')[name]}", asked).fetchall()
    searches = [detail for *_, detail in plan if "predictions" in detail]
    index = "SEARCH predictions USING INDEX predictions_free (provider=? AND state=? AND free_at"
    assert searches and all(search.startswith(index) for search in searches)

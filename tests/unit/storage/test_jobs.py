"""The store on real SQLite: one transaction a verb, leases that exclude, a table of moves that holds."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from support.clocks import FakeClock, when
from support.refusals import tells_operator
from support.stored import ATLAS, NOW, REQUEST, add, claim, frame, job, open_store, path_of, prediction
from triptych.core import errors
from triptych.core.clock import moment
from triptych.core.models import Failure, Image, Prediction, State
from triptych.storage.claims import Claim
from triptych.storage.jobs import Store

ON_BOTH_DATABASES = True


@pytest.fixture
def path(tmp_path: Path, database_url: str | None) -> Path:
    return path_of(tmp_path, database_url)


@pytest.fixture
def store(path: Path, tmp_path: Path) -> Iterator[Store]:
    opened = open_store(path, tmp_path / "images")
    yield opened
    opened.close()


def test_what_is_written_is_what_is_read(store: Store) -> None:
    made = prediction()
    add(store, made)
    assert store.predictions(made.job_id) == [made]
    row = store.job(made.job_id)
    assert row and row == job() and row.status == "queued"


def test_only_one_of_many_claims_a_prediction(store: Store, path: Path, tmp_path: Path) -> None:
    add(store, prediction())
    other = open_store(path, tmp_path / "images")
    assert claim(store, "a")
    assert claim(other, "b") is None
    other.close()


def test_a_dead_process_loses_its_work_within_15_s(store: Store) -> None:
    add(store, prediction())
    claim(store, "dead")
    assert claim(store, "next", NOW + timedelta(seconds=11)) is None
    taken = claim(store, "next", NOW + timedelta(seconds=13))
    assert taken and taken.lease.startswith("next-")


def test_a_claim_that_waited_takes_no_lease_of_meanwhile(path: Path, tmp_path: Path) -> None:
    clock = FakeClock()
    ours, other = (open_store(path, tmp_path / "images", None, clock) for _ in range(2))
    add(ours, prediction())
    before = moment(clock)
    clock.advance(0.5)  # another process claims while this one waits for the database
    assert other.claim(now=moment(clock), lease="other", slots=[ATLAS])
    assert ours.claim(now=before, lease="ours", slots=[ATLAS]) == []
    ours.close()
    other.close()


def test_a_heartbeat_keeps_a_lease(store: Store) -> None:
    add(store, prediction())
    held = claim(store, "alive")
    assert held
    store.heartbeat([held.lease], NOW.timestamp() + 30)
    assert claim(store, "next", NOW + timedelta(seconds=20)) is None


def test_a_process_without_the_lease_writes_nothing(store: Store) -> None:
    add(store, prediction())
    old = claim(store, "old")
    later = NOW + timedelta(seconds=20)
    assert old and claim(store, "new", later)
    assert store.move(old, State.SUBMITTING, now=when(later), due_at=0.0) is None
    assert store.predictions("job_00000001")[0].state is State.QUEUED


def test_a_ticket_is_kept_after_its_lease_was_lost(store: Store) -> None:
    add(store, prediction())
    old = claim(store, "old")
    assert old
    old = store.move(old, State.SUBMITTING, now=when(NOW), due_at=0.0, keep_lease=True, submitted_at=NOW)
    later = NOW + timedelta(seconds=20)
    assert old and claim(store, "new", later)
    assert store.move(old, State.RUNNING, now=when(later), due_at=0.0, ticket="t1")
    (kept,) = store.predictions("job_00000001")
    assert (kept.state, kept.ticket) == (State.RUNNING, "t1")


def test_frames_are_kept_after_their_lease_was_lost(store: Store) -> None:
    add(store, prediction(), prediction(step=1))
    old = claim(store, "old")
    assert old
    old = store.move(old, State.SUBMITTING, now=when(NOW), due_at=0.0, keep_lease=True, submitted_at=NOW)
    later = NOW + timedelta(seconds=20)
    new = claim(store, "new", later)
    assert old and new and store.move(new, State.UNCERTAIN, now=when(later), due_at=0.0)
    assert [p.state for p in store.predictions("job_00000001")] == [State.UNCERTAIN, State.CANCELLED]
    assert store.move(old, State.FETCHING, now=when(later), due_at=0.0, keep_lease=True, outputs=[frame(1, None)])
    assert [p.state for p in store.predictions("job_00000001")] == [State.FETCHING, State.WAITING]
    assert len(store.outputs("job_00000001")) == 1
    # The holder of the lease fetches the images; after its lease any other process may.
    assert claim(store, "third", later + timedelta(seconds=20))


def test_a_move_that_is_not_in_the_table_is_refused(store: Store) -> None:
    add(store, prediction())
    held = claim(store)
    assert held
    with pytest.raises(AssertionError, match="no move from queued to done"):
        store.move(held, State.DONE, now=when(NOW), due_at=0.0)


def test_running_predictions_are_claimed_before_queued_ones(store: Store) -> None:
    for n in range(1, 6):
        add(store, prediction(f"job_0000000{n}"), fingerprint=str(n))
    started = [claim(store, f"l{n}") for n in range(4)]
    assert all(started)
    assert claim(store, "one too many") is None
    first = started[0]
    assert first
    moved = store.move(first, State.SUBMITTING, now=when(NOW), due_at=0.0, keep_lease=True)
    assert moved
    store.move(moved, State.RUNNING, now=when(NOW), due_at=0.0, ticket="t")
    again = claim(store, "poll")
    assert again and again.prediction.state is State.RUNNING


def test_an_identical_request_attaches_unless_again_is_given(store: Store) -> None:
    assert add(store, prediction()) is None
    attached = add(store, prediction("job_00000002"))
    assert attached and attached.id == "job_00000001"
    assert store.job("job_00000002") is None
    assert add(store, prediction("job_00000003"), attach=False) is None


def finish_step(store: Store, lease: str, sha256: str | None) -> None:
    held = claim(store, lease)
    assert held
    for state in (State.SUBMITTING, State.FETCHING):
        moved = store.move(held, state, now=when(NOW), due_at=0.0, keep_lease=True)
        assert moved
        held = moved
    store.move(held, State.DONE, now=when(NOW), due_at=0.0, outputs=[frame(1, sha256)], charged_usd=Decimal(1))


def test_a_step_waits_for_the_one_before_it(store: Store) -> None:
    add(store, prediction(), prediction(step=1))
    finish_step(store, "a", "ab" * 32)
    assert [p.state for p in store.predictions("job_00000001")] == [State.DONE, State.QUEUED]


def test_a_step_without_image_cancels_the_steps_after_it(store: Store) -> None:
    add(store, prediction(), prediction(step=1), prediction(step=2))
    held = claim(store)
    assert held
    store.move(held, State.FAILED, now=when(NOW), due_at=0.0, release_money=True, fault=Failure("failed", "no", False))
    states = [(p.state, p.fault.kind if p.fault else "") for p in store.predictions("job_00000001")]
    assert states == [(State.FAILED, "failed"), (State.CANCELLED, "input_missing"), (State.CANCELLED, "input_missing")]
    assert store.money_since(0) == (0, 0)


def image(sha256: str, directory: Path) -> Image:
    return Image(sha256, f"img_{sha256[:8]}", "image/png", 1, 1, 1, directory / sha256[:2] / f"{sha256}.png")


def test_two_files_whose_hashes_begin_alike_have_handles_that_differ(store: Store, tmp_path: Path) -> None:
    first, second = (image("0123abcd" + tail * 56, tmp_path / "images") for tail in "01")
    assert store.add_image(first, NOW).handle == "img_0123abcd"
    assert store.add_image(second, NOW).handle == "img_0123abcd1"
    assert store.add_image(first, NOW).handle == "img_0123abcd"


@pytest.mark.only_sqlite
def test_a_database_copy_has_every_whole_write(store: Store, path: Path, tmp_path: Path) -> None:
    """The log is cut at any byte, as by a failing disk or a copy in the middle of a write; its index is not there."""
    log = path.with_name(f"{path.name}-wal")
    whole: list[tuple[int, list[Prediction]]] = [(0, [])]

    def written() -> None:
        whole.append((log.stat().st_size, store.predictions("job_00000001")))

    whole.append((log.stat().st_size, []))
    add(store, prediction(), prediction(step=1))
    written()
    held: Claim | None = claim(store)
    for state in (State.SUBMITTING, State.FETCHING, State.DONE):
        assert held
        frames = [frame(1, "ab" * 32)] if state is State.DONE else []
        held = store.move(held, state, now=when(NOW), due_at=0.0, keep_lease=state is not State.DONE, outputs=frames)
        written()
    # And what a transaction that is not finished has written already, the log's end.
    store._db.connection.execute("PRAGMA cache_size = 1")
    store._db.connection.execute("BEGIN IMMEDIATE")
    for _ in range(20):
        store._db.run("warn_job", job_id="job_00000001", warnings="x" * 20_000)
    database, logged = path.read_bytes(), log.read_bytes()
    store._db.connection.execute("ROLLBACK")
    assert len(logged) > whole[-1][0], "the unfinished transaction is in the log"
    chance = random.Random(4)
    ends = {size for size, _ in whole} | {max(size - 1, 0) for size, _ in whole} | {len(logged)}
    for end in sorted(ends | {chance.randrange(len(logged)) for _ in range(30)}):
        cut = tmp_path / f"cut-{end}"
        cut.mkdir()
        (cut / path.name).write_bytes(database)
        (cut / log.name).write_bytes(logged[:end])
        recovered = Store(cut / path.name, tmp_path / "images")
        assert recovered._db.connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        kept = [predictions for size, predictions in whole if size <= end][-1]
        assert recovered.predictions("job_00000001") == kept, end
        assert not kept or len(recovered.job("job_00000001").warnings) == 0  # type: ignore[union-attr]
        recovered.close()


@pytest.mark.only_sqlite
def test_every_write_but_a_lease_is_flushed_at_once(store: Store) -> None:
    connection = store._db.connection
    assert connection.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    made, taken = prediction(), None

    def take() -> None:
        nonlocal taken
        taken = claim(store)

    def submit() -> None:
        assert taken and store.move(taken, State.SUBMITTING, now=when(NOW), due_at=0.0, keep_lease=True)

    def flushed(verb: Callable[[], object]) -> bool:
        said: list[str] = []
        full = True
        connection.set_trace_callback(said.append)
        verb()
        connection.set_trace_callback(None)
        for sql in said:
            if sql.startswith("PRAGMA synchronous"):
                full = sql.endswith("FULL")
            elif sql == "COMMIT" or sql.startswith("UPDATE predictions SET lease_until"):
                wrote_full = full
        assert full, "whatever comes next is flushed again"
        return wrote_full

    assert flushed(lambda: add(store, made))
    assert not flushed(take)
    assert not flushed(lambda: store.heartbeat(["a"], NOW.timestamp() + 12))
    assert flushed(submit)
    assert connection.execute("PRAGMA synchronous").fetchone()[0] == 2


@pytest.mark.only_sqlite
def test_failed_lease_writes_leave_the_next_write_flushed(store: Store, path: Path) -> None:
    add(store, prediction())
    store._db.connection.execute("PRAGMA busy_timeout = 0")
    with sqlite3.connect(path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(errors.Outage):
            claim(store)
        other.execute("ROLLBACK")
    other.close()
    assert store._db.connection.execute("PRAGMA synchronous").fetchone()[0] == 2


@pytest.mark.only_sqlite
def test_two_processes_can_open_a_new_database_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("CREATE TABLE another_is_at_it (a)")
        waits: list[float] = []

        def wait(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                other.execute("COMMIT")

        monkeypatch.setattr("triptych.storage.sqlite.time.sleep", wait)
        opened = open_store(path, path.parent)
        assert len(waits) == 3
        opened.close()


def test_an_unwritable_home_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.Unusable, check=tells_operator("TRIPTYCH_HOME")):
        Store(tmp_path / "file" / "triptych.db", tmp_path)


@pytest.mark.only_sqlite
def test_a_full_disk_is_an_outage_that_names_the_disk(store: Store) -> None:
    store._db.connection.execute("PRAGMA max_page_count = 1")
    with pytest.raises(errors.Outage, check=tells_operator(r"disk .*full")):
        for n in range(500):
            add(store, prediction(f"job_{n:08}"), fingerprint=str(n))
    store._db.connection.execute("PRAGMA max_page_count = 100000")
    assert add(store, prediction("job_99999999"), fingerprint="there is room again") is None


def test_what_is_to_be_cancelled_is_not_submitted(store: Store) -> None:
    """The cancellation came after the worker took it, and before its request was written down."""
    add(store, prediction())
    held = claim(store)
    assert held
    store.cancel("job_00000001", when(NOW))
    moved = store.move(held, State.SUBMITTING, now=when(NOW), due_at=0.0, keep_lease=True, submitted_at=NOW)
    assert moved and moved.prediction.state is State.CANCELLED and moved.prediction.submitted_at is None
    row = store.job("job_00000001")
    assert row and row.status == "cancelled" and store.money_since(0) == (0, 0)


def test_taking_a_job_up_twice_takes_no_lease_away(store: Store) -> None:
    """Two callers looked at the same missed deadline; a worker took it between their writes."""
    add(store, prediction())
    held = claim(store)
    for state, changes in ((State.SUBMITTING, {}), (State.RUNNING, {"ticket": "t"}), (State.FAILED, {})):
        assert held
        held = store.move(held, state, now=when(NOW), due_at=0.0, keep_lease=state is not State.FAILED, **changes)  # type: ignore[arg-type]
    take_up = {"now": when(NOW), "deadline_at": when(NOW).mono_s + 600}
    store.revive("job_00000001-0-0", State.RUNNING, **take_up)  # type: ignore[arg-type]
    assert claim(store, "worker")
    store.revive("job_00000001-0-0", State.RUNNING, **take_up)  # type: ignore[arg-type]
    assert claim(store, "another") is None


def test_two_that_look_at_once_do_not_share_a_ticket(store: Store) -> None:
    """Both saw it in the provider's list before either wrote it."""
    held = []
    for number, lease in enumerate("ab", 1):
        add(store, prediction(f"job_0000000{number}"), fingerprint=lease)
        claimed = claim(store, lease)
        assert claimed
        held.append(store.move(claimed, State.SUBMITTING, now=when(NOW), due_at=0.0, keep_lease=True))
    first, second = held
    assert first and second
    assert store.move(first, State.RUNNING, now=when(NOW), due_at=0.0, found=True, ticket="t")
    assert store.move(second, State.RUNNING, now=when(NOW), due_at=0.0, found=True, ticket="t") is None
    assert store.predictions("job_00000002")[0].state is State.SUBMITTING
    assert store.move(second, State.RUNNING, now=when(NOW), due_at=0.0, ticket="t"), "an answer of its own is taken"


def test_only_uploads_that_nothing_uses_are_taken(store: Store, tmp_path: Path) -> None:
    shas = {name: f"{name:0<64}" for name in ("old", "new", "input", "sent", "result", "elsewhere")}
    for name, sha256 in shas.items():
        path = tmp_path / "images" / f"{name}.png"
        store.add_image(Image(sha256, f"img_{sha256[:8]}", "image/png", 1, 1, 1, path), NOW)
        provider = "other" if name == "elsewhere" else "atlas"
        hours = {"old": 1, "new": 3}.get(name, 2)
        store.set_copy(sha256, provider, f"https://up.example/{name}", NOW + timedelta(hours=hours))
    asked = replace(REQUEST, images=(f"img_{shas['input'][:8]}",))
    made = replace(prediction(), request=asked)
    store.add_job(replace(job(), request=asked), [made], now=when(NOW), attach=True)
    leased = claim(store)
    assert leased
    store.move(
        leased,
        State.SUBMITTING,
        now=when(NOW),
        due_at=0,
        release_money=False,
        sent_urls=("https://up.example/sent", None),
    )
    store.add_outputs([replace(frame(1, shas["result"]), url="https://up.example/result")], now=NOW)
    expired = shas["old"].replace("old", "out")
    store.add_image(Image(expired, "img_out00000", "image/png", 1, 1, 1, tmp_path / "images/out.png"), NOW)
    store.set_copy(expired, "atlas", "https://up.example/expired", NOW - timedelta(hours=1))

    first = store.take_unused_uploads("atlas", NOW, 1)
    assert first == [(shas["old"], "https://up.example/old", NOW + timedelta(hours=1))]
    assert [url for _, url, _ in store.take_unused_uploads("atlas", NOW, 9)] == ["https://up.example/new"]
    assert store.take_unused_uploads("atlas", NOW, 9) == []
    assert store.copy(shas["old"], "atlas", NOW) is None
    for name in ("input", "sent", "result"):
        assert store.copy(shas[name], "atlas", NOW), name
    assert store.copy(shas["elsewhere"], "other", NOW)

"""A COMMIT whose answer is lost on the network: was it written? Every verb is right, also if it is repeated."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from support import postgres
from support.clocks import FakeClock, when
from support.database_proxy import Loss, Proxy, proxied
from support.refusals import tells_operator
from support.stored import NOW, add, claim, frame, job, prediction
from triptych.core import errors
from triptych.core.models import Failure, Image, Route, State
from triptych.core.offers import Operation
from triptych.storage import postgres as database_module
from triptych.storage.claims import Claim
from triptych.storage.jobs import Store
from triptych.storage.postgres import Database

SHA = "ab" * 32


@pytest.fixture
def url() -> Iterator[str]:
    with postgres.database() as url:
        yield url


@pytest.fixture
def proxy(url: str) -> Iterator[Proxy]:
    with proxied(url) as (proxy, _):
        yield proxy


@pytest.fixture
def store(url: str, proxy: Proxy) -> Iterator[Store]:
    with closing(Store(Database(proxy.url(url)), Path("/home/images"), clock=FakeClock())) as store:
        yield store


@pytest.fixture
def direct(url: str) -> Iterator[Store]:
    """A second process, whose connections are not lost."""
    with closing(Store(Database(url), Path("/home/images"), clock=FakeClock())) as store:
        yield store


def everything(store: Store) -> list[list[dict[str, Any]]]:
    """Return every row that the verbs write, without the marks of the commits."""
    with closing(store._db._pool.connect()) as connection:  # type: ignore[attr-defined]
        tables = ["jobs", "predictions", "frames", "saves", "images", "looks", "money", "queues", "accounts"]
        return [connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in tables]


def held(store: Store) -> Claim:
    """Return the claim on the first prediction that `claimed` made."""
    first = store.predictions("job_00000001")[0]
    return Claim(first, f"a-{first.id}")


def added(store: Store) -> None:
    add(store, prediction(), prediction(step=1))


def claimed(store: Store) -> None:
    added(store)
    assert claim(store, "a")


def submitting(store: Store) -> None:
    claimed(store)
    store.move(held(store), State.SUBMITTING, now=when(NOW), due_at=0, keep_lease=True, submitted_at=NOW)


def uncertain(store: Store) -> None:
    submitting(store)
    fault = Failure("uncertain", "x", True)
    store.move(held(store), State.UNCERTAIN, now=when(NOW), due_at=0, fault=fault, finished_at=NOW)


def with_output(store: Store) -> None:
    added(store)
    store.add_outputs([frame(1, None)], now=NOW)


def saved(store: Store) -> None:
    added(store)
    store.save_also("job_00000001", "/out")


def nothing(store: Store) -> None:
    pass


def run(store: Store) -> Any:
    moved = store.move(held(store), State.RUNNING, now=when(NOW), due_at=0, ticket="t-1", deadline_at=9.0)
    return moved and moved.prediction.ticket


def submit(store: Store) -> Any:
    times = {"submitted_at": NOW, "submitted_mono": 5.0}
    moved = store.move(held(store), State.SUBMITTING, now=when(NOW), due_at=0, keep_lease=True, **times)
    return moved and moved.prediction.state


ROUTE = Route("wavespeed", "m", "e2", Operation.EDIT, (None,), (Decimal(1),))
PICTURE = Image(SHA, "img_abababab", "image/png", 4, 4, 10, Path("/home/images/a.png"))
VERBS: dict[str, tuple[Callable[[Store], None], Callable[[Store], Any]]] = {
    "add_job": (nothing, lambda s: add(s, prediction(), prediction(step=1))),
    "add_job again": (added, lambda s: add(s, prediction("job_00000002"), attach=False)),
    "warn": (added, lambda s: s.warn("job_00000001", ["late"])),
    "move to submitting": (claimed, submit),
    "move to running": (submitting, run),
    "add_outputs": (added, lambda s: s.add_outputs([frame(1, None)], now=NOW)),
    "output_stored": (with_output, lambda s: s.output_stored(frame(1, None), SHA)),
    "save_also": (added, lambda s: s.save_also("job_00000001", "/out")),
    "saved_also": (saved, lambda s: s.saved_also("job_00000001", "/out", 0)),
    "reroute": (claimed, lambda s: s.reroute(held(s), ROUTE, "moved", now=when(NOW))),
    "revive": (uncertain, lambda s: s.revive("job_00000001-0-0", State.SUBMITTING, now=when(NOW), deadline_at=9.0)),
    "cancel": (added, lambda s: s.cancel("job_00000001", when(NOW))),
    "add_images": (nothing, lambda s: s.add_images([PICTURE], NOW, "owner")),
    "looks.add": (nothing, lambda s: s.looks.add("", "noir", "dark", ["img_1"], NOW)),
}
"""By name: what is there before, and the verb. The claims are left out: one that is lost expires."""


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_whose_answer_is_lost_is_written_once(name: str, store: Store, direct: Store, proxy: Proxy) -> None:
    before, verb = VERBS[name]
    before(direct)
    proxy.next_loss = Loss.ANSWER
    given = verb(store)
    assert proxy.losses == 1
    assert (given, everything(direct)) == undisturbed(name)
    assert not direct.differences()


@pytest.mark.parametrize("name", VERBS)
def test_a_commit_that_never_left_changes_nothing_and_can_be_repeated(
    name: str, store: Store, direct: Store, proxy: Proxy
) -> None:
    before, verb = VERBS[name]
    before(direct)
    unchanged = everything(direct)
    proxy.next_loss = Loss.REQUEST
    with pytest.raises(errors.Outage, check=tells_operator("does not answer")):
        verb(store)
    assert everything(direct) == unchanged
    assert (verb(store), everything(direct)) == undisturbed(name)


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_that_was_written_can_be_repeated(name: str, direct: Store) -> None:
    """As after an outage in which nobody could say whether it was written."""
    before, verb = VERBS[name]
    before(direct)
    verb(direct)
    verb(direct)
    assert everything(direct) == undisturbed(name)[1]
    assert not direct.differences()


@functools.cache
def undisturbed(name: str) -> tuple[Any, list[Any]]:
    """Return what a verb returns and leaves when nothing is lost."""
    with postgres.database() as url, closing(Store(Database(url), Path("/home/images"), clock=FakeClock())) as store:
        before, verb = VERBS[name]
        before(store)
        return verb(store), everything(store)


def test_an_answer_that_cannot_be_asked_for_says_so(
    store: Store, direct: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "SETTLE_S", 0.0)
    proxy.next_loss, proxy.refusals = Loss.ANSWER, 1
    with pytest.raises(errors.Outage, check=tells_operator("may be stored or not")):
        add(store, prediction())
    assert direct.job("job_00000001")


def test_a_job_that_was_stored_is_stored_once_when_added_again(
    store: Store, direct: Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "SETTLE_S", 0.0)
    proxy.next_loss, proxy.refusals = Loss.ANSWER, 1
    with pytest.raises(errors.Outage):
        add(store, prediction(), attach=False)
    assert add(store, prediction(), attach=False) is None
    assert len(direct.predictions("job_00000001")) == 1
    assert direct.balance(when(NOW)).reserved == 1


def test_a_job_never_takes_the_place_of_another_with_its_id(direct: Store) -> None:
    add(direct, prediction(), attach=False)
    with pytest.raises(errors.Outage, check=tells_operator("id")):
        add(direct, prediction(), fingerprint="other", attach=False)
    assert direct.job("job_00000001") == job()


def test_a_commit_after_the_question_about_it_writes_nothing(store: Store, direct: Store, proxy: Proxy) -> None:
    """What was said to be not written stays so, however late the COMMIT arrives."""
    proxy.next_loss = Loss.LATE
    with pytest.raises(errors.Outage):
        add(store, prediction(), attach=False)
    assert b"duplicate key" in proxy.deliver()
    assert direct.job("job_00000001") is None and direct.balance(when(NOW)).reserved == 0

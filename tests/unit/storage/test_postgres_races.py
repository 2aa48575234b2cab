"""The races that SQLite's single writer hides, each with real threads that have connections of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import pytest

from support import postgres
from support.clocks import FakeClock, when
from support.stored import ATLAS, NOW, add, claim, claimed, frame, job, prediction
from triptych.core import errors
from triptych.core.models import Failure, Job, Prediction, State, Status
from triptych.storage.budget import Caps
from triptych.storage.claims import Claim, Slots
from triptych.storage.jobs import Store
from triptych.storage.postgres import Database

T = TypeVar("T")
ROUNDS = 8
FAULT = Failure("failed", "x", False)
LOST = Failure("uncertain", "x", True)
MUCH_LATER_S = when(NOW).mono_s + 900
AFTER_A_LEASE = NOW + timedelta(seconds=30)

Open = Callable[..., list[Store]]


@pytest.fixture
def stores() -> Iterator[Open]:
    """Open the stores of so many processes on one database."""
    with postgres.database() as url, ExitStack() as opened:

        def open_some(count: int, caps: Caps | None = None) -> list[Store]:
            return [
                opened.enter_context(closing(Store(Database(url), Path("/images"), caps, FakeClock())))
                for _ in range(count)
            ]

        yield open_some


def together(calls: Sequence[Callable[[], T]]) -> list[T | errors.TriptychError]:
    """Run calls at the same time; return what each returned or raised."""
    start = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T | errors.TriptychError:
        start.wait(60)
        try:
            return call()
        except errors.TriptychError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(run, calls))


def lanes(job_id: str, count: int, usd: str = "1.00") -> list[Prediction]:
    return [
        replace(prediction(job_id, usd=usd), id=f"{job_id}-{n}-0", lane=n, first_output=n + 1) for n in range(count)
    ]


def submit(store: Store, held: Claim) -> Claim | None:
    return store.move(held, State.SUBMITTING, now=when(NOW), due_at=0, keep_lease=True, submitted_at=NOW)


def fail(store: Store, held: Claim) -> Claim | None:
    return store.move(held, State.FAILED, now=when(NOW), due_at=0, fault=FAULT, finished_at=NOW, release_money=True)


def sound(store: Store) -> None:
    """The counters and totals are those of the predictions."""
    assert not store.differences()


def test_the_same_request_at_once_is_one_job(stores: Open) -> None:
    processes = stores(6)
    for round_ in range(ROUNDS):
        ids = [f"job_{round_:04}{n:04}" for n in range(6)]
        calls = [
            lambda s=store, i=job_id, f=f"f{round_}": add(s, prediction(i), fingerprint=f)  # type: ignore[misc]
            for store, job_id in zip(processes, ids, strict=True)
        ]
        answers = together(calls)
        new = [job_id for job_id, answer in zip(ids, answers, strict=True) if answer is None]
        assert len(new) == 1
        assert {answer.id for answer in answers if isinstance(answer, Job)} == {new[0]}


def test_the_budget_is_never_reserved_twice(stores: Open) -> None:
    processes = stores(8, Caps(total_usd=Decimal(10)))
    calls = [
        lambda s=processes[n % 8], i=f"job_{n:08}": add(s, prediction(i), fingerprint=i)  # type: ignore[misc]
        for n in range(16)
    ]
    answers = together(calls)
    assert answers.count(None) == 10
    assert all(isinstance(one, errors.OverBudget) for one in answers if one is not None)
    assert processes[0].balance(when(NOW)).reserved == 10
    sound(processes[0])


@pytest.mark.parametrize(
    "caps", [Caps(owner_usd=Decimal(3)), Caps(group_usd={"press": Decimal(3)})], ids=["owner", "group"]
)
def test_a_budget_of_few_is_never_reserved_twice(stores: Open, caps: Caps) -> None:
    processes = stores(8, caps)

    def ask(store: Store, job_id: str) -> Job | None:
        made = replace(job(job_id, job_id), owner="ann", budget_group="press")
        return store.add_job(made, [prediction(job_id)], now=when(NOW), attach=True)

    answers = together([lambda s=one, i=f"job_{n:08}": ask(s, i) for n, one in enumerate(processes)])  # type: ignore[misc]
    assert answers.count(None) == 3


def test_siblings_that_end_at_once_end_their_job(stores: Open) -> None:
    processes = stores(5)
    for round_ in range(ROUNDS):
        job_id = f"job_{round_:08}"
        add(processes[0], *lanes(job_id, 5), fingerprint=job_id)
        held = processes[0].claim(now=when(NOW), lease="a", slots=[replace(ATLAS, max_running=9, steps=9)], most=9)
        sent = [submit(processes[0], one) for one in held]
        together([lambda s=store, c=one: fail(s, c) for store, one in zip(processes, sent, strict=True)])  # type: ignore[misc]
        ended = processes[0].job(job_id)
        assert ended
        assert ended.status is Status.FAILED
    sound(processes[0])


def test_an_account_never_runs_more_than_its_limit(stores: Open) -> None:
    processes = stores(16)
    for n in range(3):
        add(processes[0], *lanes(f"job_{n:08}", 16), fingerprint=f"f{n}")
    slots, seen, over = Slots("atlas:1", "atlas", max_running=8, steps=3), [0], []

    def running(store: Store) -> int:
        database = store._db
        assert isinstance(database, Database)
        with database._pool.connection() as connection:
            row = connection.execute(
                "SELECT COUNT(*) AS n FROM predictions WHERE state IN ('submitting', 'running') "
                "OR (state = 'queued' AND lease IS NOT NULL)"
            ).fetchone()
        return int(row["n"]) if row else 0

    def work(store: Store, name: str) -> None:
        idle = 0
        while idle < 3:
            claims = store.claim(now=when(NOW), lease=name, slots=[slots], most=3)
            idle = 0 if claims else idle + 1
            sent = [moved for one in claims if (moved := submit(store, one))]
            over.append(running(store))
            for one in sent:
                fail(store, one)
                seen[0] += 1

    assert together([lambda s=one, n=f"w{n}": work(s, n) for n, one in enumerate(processes)]) == [None] * 16  # type: ignore[misc]
    for _ in range(50):  # what the last one left, because others held the account
        claims = processes[0].claim(now=when(NOW), lease="rest", slots=[slots], most=3)
        for one in claims:
            sent = submit(processes[0], one)
            assert sent
            fail(processes[0], sent)
    assert max(over) <= 8
    assert processes[0].unfinished() == 0
    sound(processes[0])


def test_two_claimers_never_get_the_same_prediction(stores: Open) -> None:
    processes = stores(6)
    add(processes[0], *lanes("job_00000001", 30))
    slots = Slots("atlas:1", "atlas", max_running=99, steps=99)
    found = together(
        [
            lambda s=one, n=f"w{n}": s.claim(now=when(NOW), lease=n, slots=[slots], most=10)  # type: ignore[misc]
            for n, one in enumerate(processes)
        ]
    )
    ids = [one.prediction.id for claims in found if isinstance(claims, list) for one in claims]
    assert len(ids) == len(set(ids)) == 30


def test_a_prediction_that_runs_is_claimed_by_one(stores: Open) -> None:
    processes = stores(6)
    for round_ in range(ROUNDS):
        at = NOW + timedelta(seconds=60 * round_)
        if not round_:
            add(processes[0], prediction())
            held = claim(processes[0])
            assert held
            sent = submit(processes[0], held)
            assert sent
            processes[0].move(sent, State.RUNNING, now=when(at), due_at=0, ticket="t")
        found = together([lambda s=one, n=f"w{n}", at=at: claim(s, n, at) for n, one in enumerate(processes)])  # type: ignore[misc]
        assert [one is None for one in found].count(False) == 1


def test_a_cancelled_request_is_not_sent_and_a_sent_one_not_cancelled(stores: Open) -> None:
    sending, cancelling = stores(2)
    for round_ in range(2 * ROUNDS):
        job_id = f"job_{round_:08}"
        add(sending, prediction(job_id), fingerprint=job_id)
        held = claimed(sending.claim(now=when(NOW), lease="a", slots=[replace(ATLAS, max_running=99)]))
        assert held
        answers = together(
            [
                lambda c=held: submit(sending, c),  # type: ignore[misc]
                lambda i=job_id: cancelling.cancel(i, when(AFTER_A_LEASE)),  # type: ignore[misc]
            ]
        )
        moved = answers[0]
        stored = sending.predictions(job_id)[0].state
        is_sent = isinstance(moved, Claim) and moved.prediction.state is State.SUBMITTING
        assert stored is (State.SUBMITTING if is_sent else State.CANCELLED)
    sound(sending)


def test_two_processes_never_move_the_same_prediction(stores: Open) -> None:
    slow, quick = stores(2)
    for round_ in range(ROUNDS):
        job_id = f"job_{round_:08}"
        add(slow, prediction(job_id), fingerprint=job_id)
        ours = claimed(slow.claim(now=when(NOW), lease="a", slots=[replace(ATLAS, max_running=99)]))
        theirs = claimed(quick.claim(now=when(AFTER_A_LEASE), lease="b", slots=[replace(ATLAS, max_running=99)]))
        assert ours
        assert theirs
        answers = together([lambda c=ours: submit(slow, c), lambda c=theirs: submit(quick, c)])  # type: ignore[misc]
        assert answers[0] is None
        assert isinstance(answers[1], Claim)
        fail(quick, answers[1])


def test_a_late_answer_is_kept_against_one_who_gives_up(stores: Open) -> None:
    late, searching = stores(2)
    for round_ in range(2 * ROUNDS):
        job_id = f"job_{round_:08}"
        add(late, prediction(job_id), fingerprint=job_id)
        held = claimed(late.claim(now=when(NOW), lease="a", slots=[replace(ATLAS, max_running=99)]))
        assert held
        sent = submit(late, held)
        theirs = claimed(searching.claim(now=when(AFTER_A_LEASE), lease="b", slots=[replace(ATLAS, max_running=99)]))
        assert sent
        assert theirs

        def answer(claim: Claim = sent, ticket: str = job_id) -> Any:
            return late.move(claim, State.RUNNING, now=when(NOW), due_at=MUCH_LATER_S, ticket=ticket)

        def give_up(claim: Claim = theirs) -> Any:
            return searching.move(claim, State.UNCERTAIN, now=when(NOW), due_at=0, fault=LOST, finished_at=NOW)

        together([answer, give_up])
        stored = late.predictions(job_id)[0]
        assert (stored.state, stored.ticket) == (State.RUNNING, job_id)
    sound(late)


def test_a_ticket_that_two_predictions_find_belongs_to_one(stores: Open) -> None:
    processes = stores(4)
    for round_ in range(ROUNDS):
        sent = []
        for n in range(4):
            job_id = f"job_{round_:04}{n:04}"
            add(processes[0], prediction(job_id), fingerprint=job_id)
        slots = replace(ATLAS, max_running=99, steps=9)
        for one in processes[0].claim(now=when(NOW), lease="a", slots=[slots], most=4):
            moved = submit(processes[0], one)
            assert moved
            sent.append(moved)

        def take(store: Store, claim: Claim, ticket: str) -> Any:
            return store.move(claim, State.RUNNING, now=when(NOW), due_at=MUCH_LATER_S, ticket=ticket, found=True)

        answers = together(
            [
                lambda s=store, c=one, t=f"t{round_}": take(s, c, t)  # type: ignore[misc]
                for store, one in zip(processes, sent, strict=True)
            ]
        )
        assert [answer is None for answer in answers].count(False) == 1


def test_a_directory_named_while_the_job_ends_gets_its_images(stores: Open) -> None:
    ending, saving = stores(2)
    for round_ in range(ROUNDS):
        job_id = f"job_{round_:08}"
        add(ending, prediction(job_id), fingerprint=job_id)
        held = claimed(ending.claim(now=when(NOW), lease="a", slots=[replace(ATLAS, max_running=99)]))
        assert held
        sent = submit(ending, held)
        assert sent
        together([lambda c=sent: fail(ending, c), lambda i=job_id: saving.save_also(i, "/out")])  # type: ignore[misc]
        assert ending.to_save(job_id) == [(job_id, "/out")]


def test_the_same_output_at_once_is_one(stores: Open) -> None:
    processes = stores(4)
    add(processes[0], prediction())
    together([lambda s=one: s.add_outputs([frame(1, None)], now=NOW) for one in processes])  # type: ignore[misc]
    assert len(processes[0].outputs("job_00000001")) == 1


def test_a_look_that_two_store_at_once_has_two_versions(stores: Open) -> None:
    processes = stores(6)
    together(
        [
            lambda s=one, n=n: s.looks.add("", "noir", f"dark {n}", [], NOW)  # type: ignore[misc]
            for n, one in enumerate(processes)
        ]
    )
    assert [one.look.version for one in processes[0].looks.versions("", "noir")] == [1, 2, 3, 4, 5, 6]


def test_a_deadlock_is_an_outage_for_one_and_nothing_for_the_other(stores: Open) -> None:
    processes = stores(2)
    for n in range(2):
        add(processes[0], prediction(f"job_{n:08}"), fingerprint=f"f{n}")
    both = threading.Barrier(2)

    def cross(store: Store, first: str, second: str) -> None:
        with store._db.transaction():
            store._db.one("lock_job", id=first)
            both.wait(60)
            store._db.one("lock_job", id=second)

    ids = ["job_00000000", "job_00000001"]
    answers = together(
        [
            lambda: cross(processes[0], *ids),
            lambda: cross(processes[1], *reversed(ids)),
        ]
    )
    assert sorted(type(answer).__name__ for answer in answers) == ["NoneType", "Outage"]
    assert [answer.retryable for answer in answers if isinstance(answer, errors.Outage)] == [True]

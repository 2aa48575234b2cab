"""The ledger on real SQLite: what is reserved, charged and let go always adds up, and the budget holds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.clocks import FakeClock, when
from support.stored import NOW, claim, claimed, frame, job, open_store, path_of, prediction
from triptych.core import errors
from triptych.core.clock import moment
from triptych.core.models import Failure, Prediction, Route, State
from triptych.core.offers import Operation
from triptych.storage.budget import Caps
from triptych.storage.claims import Claim, Slots
from triptych.storage.jobs import Store

LATER = NOW + timedelta(hours=25)
SHA = "ab" * 32

ON_BOTH_DATABASES = True


@pytest.fixture
def path(tmp_path: Path, database_url: str | None) -> Path:
    return path_of(tmp_path, database_url)


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    opened = open_store(path, path.parent / "images", Caps(Decimal(10)))
    yield opened
    opened.close()


def add(store: Store, *predictions: Prediction, at: datetime = NOW) -> None:
    made = job(predictions[0].job_id, predictions[0].job_id)
    assert store.add_job(made, predictions, now=when(at), attach=True) is None


def total(store: Store, now: datetime = NOW) -> Decimal:
    balance = store.ledger.balance(when(now))
    return balance.spent + balance.reserved


def route(usd: str) -> Route:
    return Route("wavespeed", "m", "e2", Operation.EDIT, (None,), (Decimal(usd),))


# -- amounts in words --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usd", "said"),
    [
        ("0", "0"), ("0.00", "0"), ("0E-9", "0"), ("1.60", "1.6"), ("10", "10"), ("1E+2", "100"), ("1.00", "1"),
        ("0.128", "0.128"), ("1E-6", "0.000001"), ("1E-9", "0.000001"), ("0.03333333333333333333333333333", "0.033334"),
        ("123456789.5", "123456789.5"), ("Infinity", "none"),
    ],
)  # fmt: skip
def test_an_amount_is_plain_and_rounded_up(usd: str, said: str) -> None:
    assert errors.format_usd(Decimal(usd)) == said
    assert said == "none" or Decimal(said) >= Decimal(usd)


# -- the budget --------------------------------------------------------------------------------------------------------


def test_the_budget_counts_reserved_and_charged_money(store: Store) -> None:
    add(store, prediction(usd="6"))
    with pytest.raises(errors.OverBudget) as refused:
        add(store, prediction("job_00000002", usd="5"))
    for part in (
        "cap $10 per 24 h (TRIPTYCH_BUDGET_USD)",
        "spent $0,",
        "reserved $6,",
        "quoted $5.",
        "Nothing was sent",
    ):
        assert part in refused.value.message
    assert store.job("job_00000002") is None
    held = claim(store)
    assert held
    store.move(held, State.FAILED, now=when(NOW), due_at=0.0, release_money=True, fault=Failure("refused", "no", False))
    add(store, prediction("job_00000002", usd="5"))


def test_without_a_cap_everything_fits(store: Store, path: Path) -> None:
    add(store, prediction(usd="10"))
    add(store, prediction("job_00000002", usd="0"))
    uncapped = open_store(path, path.parent)
    add(uncapped, prediction("job_00000003", usd="1000"))
    assert uncapped.ledger.balance(when(NOW)).left is None
    assert store.ledger.balance(when(NOW)).left == 0
    uncapped.close()


def test_a_charge_leaves_the_budget_24_hours_after_its_request(store: Store) -> None:
    add(store, prediction(usd="10"))
    sent = NOW + timedelta(hours=23)  # it lay queued for that long
    held = claim(store, at=sent)
    assert held
    moved = store.move(held, State.SUBMITTING, now=when(sent), due_at=0.0, keep_lease=True, submitted_at=sent)
    assert moved
    store.move(moved, State.FAILED, now=when(sent), due_at=0.0, charged_usd=Decimal(10))
    assert total(store, LATER) == 10
    assert total(store, sent + timedelta(hours=24, seconds=1)) == 0


def test_what_may_still_be_sent_counts_however_old_it_is(store: Store) -> None:
    add(store, prediction(usd="10"))
    with pytest.raises(errors.OverBudget):
        add(store, prediction("job_00000002", usd="1"), at=LATER)


@pytest.mark.parametrize(("usd", "moved"), [("10", True), ("10.01", False)])
def test_the_budget_limits_rerouting_to_a_dearer_provider(store: Store, usd: str, moved: bool) -> None:
    add(store, prediction(usd="6"))
    held = claim(store)
    assert held and store.reroute(held, route(usd), "refused", now=when(NOW)) is moved
    assert total(store) == (10 if moved else 6)
    assert store.predictions("job_00000001")[0].provider == ("wavespeed" if moved else "atlas")


@pytest.mark.parametrize(("others", "state"), [("7", State.WAITING), ("8", State.CANCELLED)])
def test_the_budget_limits_the_steps_that_are_revived(store: Store, others: str, state: State) -> None:
    add(store, prediction(), prediction(step=1), prediction(step=2))
    held = claim(store)
    assert held
    held = store.move(held, State.SUBMITTING, now=when(NOW), due_at=0.0, keep_lease=True, submitted_at=NOW)
    assert held
    held = store.move(held, State.RUNNING, now=when(NOW), due_at=0.0, keep_lease=True, ticket="t")
    assert held
    store.move(held, State.FAILED, now=when(NOW), due_at=0.0, fault=Failure("deadline", "late", False))
    assert total(store) == 1
    add(store, prediction("job_00000002", usd=others))
    store.revive("job_00000001-0-0", State.RUNNING, now=when(NOW), deadline_at=LATER.timestamp())
    assert [p.state for p in store.predictions("job_00000001")] == [State.RUNNING, State.WAITING, state]
    assert total(store) == 10
    row = store.job("job_00000001")
    assert row
    said = "Step 3 is not resumed: cap $10 per 24 h (TRIPTYCH_BUDGET_USD), spent $0, reserved $10, quoted $1."
    assert row.warnings == (() if state is State.WAITING else (said,))


def of_group(path: Path, caps: Caps, clock: FakeClock | None = None) -> Store:
    return open_store(path, path.parent / "images", caps, clock)


def add_for(store: Store, n: int, usd: str, owner: str | None = None, group: str | None = None) -> None:
    made = replace(job(f"job_{n:08}", f"job_{n:08}"), owner=owner, budget_group=group)
    assert store.add_job(made, [prediction(made.id, usd=usd)], now=when(NOW), attach=True) is None


def test_each_owner_has_its_budget_beside_the_installations(path: Path) -> None:
    store = of_group(path, Caps(Decimal(10), owner_usd=Decimal(4)))
    add_for(store, 1, "4", "ann")
    with pytest.raises(errors.OverBudget, match=r"budget of its owner: cap \$4 .*TRIPTYCH_OWNER_BUDGET_USD"):
        add_for(store, 2, "0.01", "ann")
    add_for(store, 3, "4", "bob")
    with pytest.raises(errors.OverBudget, match=r"the budget: cap \$10 .*TRIPTYCH_BUDGET_USD"):
        add_for(store, 4, "3", None)
    add_for(store, 5, "2", None)
    assert store.tightest_budget(when(NOW), "ann").left == 0
    store.close()


def test_each_group_has_its_own_budget(path: Path) -> None:
    store = of_group(path, Caps(Decimal(100), Decimal(50), {"design": Decimal(5)}))
    add_for(store, 1, "3", "ann", "design")
    with pytest.raises(errors.OverBudget, match=r"budget of its group: cap \$5 .*TRIPTYCH_GROUP_BUDGETS_USD"):
        add_for(store, 2, "3", "bob", "design")
    add_for(store, 3, "3", "bob", "press")
    add_for(store, 4, "2", "bob", "design")
    assert store.differences() == []
    store.close()


def test_rerouting_and_reviving_ask_the_owners_budget(path: Path) -> None:
    store = of_group(path, Caps(Decimal(100), owner_usd=Decimal(5)))
    add_for(store, 1, "4", "ann")
    held = claim(store)
    assert held and not store.reroute(held, route("5.01"), "refused", now=when(NOW))
    assert store.reroute(held, route("5"), "refused", now=when(NOW))
    assert store.tightest_budget(when(NOW), "ann").left == 0 and store.differences() == []
    store.close()


def test_a_charge_in_all_scopes_is_rounded_up_to_the_nano_dollar(path: Path) -> None:
    store = of_group(path, Caps(Decimal(1), owner_usd=Decimal(1)))
    add_for(store, 1, "0.0333333333333333333333", "ann")
    assert store.tightest_budget(when(NOW), "ann").reserved == Decimal("0.033333334")
    add_for(store, 2, "0.1", "bob")
    assert store.balance(when(NOW)).reserved == Decimal("0.133333334")
    store.close()


def test_a_wall_clock_that_steps_forward_frees_no_money(path: Path) -> None:
    clock = FakeClock()
    store = of_group(path, Caps(Decimal(10)), clock)
    made = replace(prediction(usd="10"), created_mono=clock.monotonic())
    assert store.add_job(job(), [made], now=moment(clock), attach=True) is None
    held = claim(store, at=clock.now())
    assert held
    submitted = {"submitted_at": clock.now(), "submitted_mono": clock.monotonic()}
    sent = store.move(held, State.SUBMITTING, now=moment(clock), due_at=0.0, keep_lease=True, **submitted)
    assert sent and store.move(sent, State.FAILED, now=moment(clock), due_at=0.0, charged_usd=Decimal(10))
    clock.advance(48 * 3600)
    clock.offset_s -= 48 * 3600  # only the wall clock stepped
    assert store.balance(moment(clock)).spent == 10
    clock.offset_s += 48 * 3600
    assert store.balance(moment(clock)).spent == 0
    store.close()


def test_of_two_racing_for_the_last_budget_one_wins(path: Path) -> None:
    rounds, won = 20, []
    gate = threading.Barrier(2)

    def race(name: str) -> None:
        store = open_store(path, path.parent, Caps(Decimal(rounds)))  # each round asks for a dollar, twice
        for n in range(rounds):
            store.ledger._caps = Caps(Decimal(n + 1))
            gate.wait(30)
            with suppress(errors.OverBudget):
                add(store, prediction(f"job_{name}{n:06}"))
                won.append(n)
            gate.wait(30)
        store.close()

    open_store(path, path.parent).close()
    racers = [threading.Thread(target=race, args=(name,)) for name in "ab"]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    assert won == list(range(rounds))
    left = open_store(path, path.parent)
    assert left.money_since(0) == (0, rounds)
    left.close()


# -- the ledger adds up, whatever happens ------------------------------------------------------------------------------

CAP = Decimal(2)
CENTS = st.sampled_from([Decimal(text) for text in ("0", "0.1", "0.3", "0.70", "1", "1.3333333", "2")])


class AnyLife(RuleBasedStateMachine):
    """Two stores on one file, and jobs that live in every way the table of moves allows.

    The book beside them knows of each prediction only what was said of it: the quote, the charge, and whether it
    surely is free.
    """

    @initialize()
    def open(self) -> None:
        self.home = TemporaryDirectory()
        path = Path(self.home.name) / "triptych.db"
        self.stores = [open_store(path, path.parent, Caps(CAP)) for _ in range(2)]
        for store in self.stores:
            store._db.connection.execute("PRAGMA synchronous=OFF")
        self.now = datetime(2026, 11, 21, tzinfo=UTC)
        self.jobs: list[str] = []
        self.freed: set[str] = set()
        self.lost: set[str] = set()
        self.leases = 0

    def teardown(self) -> None:
        for store in self.stores:
            store.close()
        self.home.cleanup()

    def predictions(self) -> list[Prediction]:
        return [p for job_id in self.jobs for p in self.stores[0].predictions(job_id)]

    def weight(self, p: Prediction) -> Decimal:
        if p.charged_usd is not None:
            return p.charged_usd
        cancelled = p.state is State.CANCELLED and p.id not in self.lost
        return Decimal(0) if cancelled or p.id in self.freed else p.quoted_usd

    @invariant()
    def it_adds_up(self) -> None:
        owed = sum((self.weight(p) for p in self.predictions()), Decimal(0))
        for store in self.stores:
            charged, reserved = store.money_since(0)
            assert charged >= 0 and reserved >= 0
            assert charged + reserved == owed
            assert store.differences() == []
            listed, total = store.ledger.spending(datetime(2000, 1, 1, tzinfo=UTC))
            assert sum(one.charged + one.reserved for one in listed) == total.charged + total.reserved == owed
            assert all(one.reserved >= 0 for one in listed)

    @rule(which=st.integers(0, 1), steps=st.integers(1, 3), usd=CENTS | st.none())
    def a_job_is_asked_for(self, which: int, steps: int, usd: Decimal | None) -> None:
        job_id = f"job_{len(self.jobs):08}"
        if usd is None:  # all that is left
            usd, steps = self.stores[which].ledger.balance(when(self.now)).left or Decimal(1), 1
        predictions = [replace(prediction(job_id, step), quoted_usd=usd, due_at=0.0) for step in range(steps)]
        before, asked = total(self.stores[1 - which], self.now), usd * steps
        owner, group = ((None, None), ("ann", None), ("bob", "design"))[len(self.jobs) % 3]
        made = replace(job(job_id, job_id), created_at=self.now, owner=owner, budget_group=group)
        try:
            self.stores[which].add_job(made, predictions, now=when(self.now), attach=True)
        except errors.OverBudget:
            assert before + asked > CAP
        else:
            assert not asked or before + asked <= CAP
            self.jobs.append(job_id)

    @rule(which=st.integers(0, 1), data=st.data())
    def a_prediction_goes_on(self, which: int, data: st.DataObject) -> None:
        self.leases += 1
        store, lease = self.stores[which], f"lease {self.leases}"
        slots = [Slots("atlas:1", "atlas", 9), Slots("wavespeed:1", "wavespeed", 9)]
        held = claimed(store.claim(now=when(self.now), lease=lease, slots=slots))
        while held:
            held = self.one_move(store, held, data)

    def one_move(self, store: Store, held: Claim, data: st.DataObject) -> Claim | None:
        p, now = held.prediction, self.now
        stop: dict[str, Any] = {"now": when(now), "due_at": 0.0}
        keep = {**stop, "keep_lease": True}
        fate = data.draw(
            st.sampled_from(["on", "on", "on", "free", "lost", "lost", "back", "reroute", "reroute", "die"])
        )
        charge = data.draw(st.none() | CENTS)
        if fate == "die":
            return None
        if p.state in (State.QUEUED, State.SUBMITTING) and fate == "reroute":
            before = total(store, now)
            moved = store.reroute(held, replace(route("0"), quotes_usd=(data.draw(CENTS),)), "no", now=when(now))
            assert not moved or total(store, now) <= max(before, CAP)
            return None
        if p.state is State.DONE:
            store.move(held, State.DONE, attempts=p.attempts + 1, charged_usd=charge, **stop)
            return None
        if fate == "free" or (p.state is State.QUEUED and fate == "lost"):
            self.freed.add(p.id)
            store.move(held, State.FAILED, release_money=True, fault=Failure("refused", "no", False), **stop)
            return None
        if p.state is State.QUEUED:
            moved = store.move(held, State.SUBMITTING, submitted_at=now, **keep)
            return moved if moved and moved.prediction.state is State.SUBMITTING else None  # its job may be cancelled
        if p.state is State.SUBMITTING:
            if fate == "back":
                store.move(held, State.QUEUED, **stop)
            elif fate == "lost":
                store.move(held, State.UNCERTAIN, fault=Failure("uncertain", "lost", False), **stop)
            elif charge is None:
                store.move(held, State.RUNNING, ticket=f"t {p.id}", **stop)
            else:
                return store.move(held, State.FETCHING, charged_usd=charge, **keep)
            return None
        if p.state is State.RUNNING:
            if fate == "lost":
                store.move(held, State.FAILED, fault=Failure("deadline", "late", False), **stop)
                return None
            return store.move(held, State.FETCHING, charged_usd=charge, **keep)
        assert p.state is State.FETCHING
        if fate in ("lost", "back"):
            store.move(held, State.FAILED, fault=Failure("fetch_failed", "gone", False), **stop)
        else:
            home = replace(frame(p.first_output, SHA), job_id=p.job_id, prediction_id=p.id)
            store.move(held, State.DONE, outputs=[home], **stop)
        return None

    @precondition(lambda self: self.jobs)
    @rule(which=st.integers(0, 1), data=st.data())
    def a_job_is_cancelled(self, which: int, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(self.jobs))
        self.lost |= {p.id for p in self.stores[which].predictions(job_id) if p.state is State.UNCERTAIN}
        self.stores[which].cancel(job_id, when(self.now))

    @rule(which=st.integers(0, 1), crowded=st.booleans(), data=st.data())
    def what_ended_is_taken_up_again(self, which: int, crowded: bool, data: st.DataObject) -> None:
        ways = {"deadline": State.RUNNING, "fetch_failed": State.FETCHING, "uncertain": State.SUBMITTING}
        ended = [
            p
            for p in self.predictions()
            if p.fault and p.fault.kind in ways and (p.state in (State.FAILED, State.UNCERTAIN))
        ]
        if not ended:
            return
        if crowded:
            self.a_job_is_asked_for(which, 1, None)
        p = data.draw(st.sampled_from(ended))
        waiting = {q.id for q in self.predictions() if q.state is State.WAITING}
        assert p.fault
        self.stores[which].revive(p.id, ways[p.fault.kind], now=when(self.now), deadline_at=self.now.timestamp() + 600)
        more = [q for q in self.predictions() if q.state is State.WAITING and q.id not in waiting]
        if any(q.quoted_usd for q in more):
            assert total(self.stores[which], self.now) <= CAP

    @rule(seconds=st.sampled_from([1, 13, 13, 13, 90_000]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)


TestAnyLife = pytest.mark.slow(AnyLife.TestCase)
TestAnyLife.settings = settings(max_examples=60, stateful_step_count=50, suppress_health_check=list(HealthCheck))

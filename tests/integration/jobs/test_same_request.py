"""The same request is the same job: what is compared, for how long, what a repeat costs, and where its copies go."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest

from support.clocks import when
from support.fixtures import FakeClock, Finish, MakeService
from support.jobs import NOW, Options, edit_chain, edit_sequence, ended
from support.stored import open_store, path_of, write
from triptych.core import errors
from triptych.core.clock import moment
from triptych.core.models import Failure, Job, Prediction, State
from triptych.core.requests import Look, Request, Row
from triptych.jobs.planning import Terms
from triptych.jobs.pricing import PLACEHOLDER_URL
from triptych.jobs.service import Caller
from triptych.storage.jobs import Store
from triptych.storage.reads import SAME_FOR_S
from triptych_emulators import Emulator, running

pytestmark = pytest.mark.anyio

PROMPT = "make it golden hour"
SUBMIT = ("POST", "/api/v1/model/generateImage")
ASKED = Request("edit_sequence", (PROMPT,), ("img_1",), count=2)
CONTENT = {"img_1": "aa", "img_2": "bb", "job_1/2": "aa"}


def fingerprint(owner: str | None = None, **changes: Any) -> str:
    return replace(ASKED, **changes).fingerprint(owner, CONTENT)


# -- what is compared --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wider(Request):
    seed: int | None = None


def test_a_field_added_later_counts_without_being_listed() -> None:
    def wider(seed: int | None) -> str:
        return Wider("edit_sequence", (PROMPT,), ("img_1",), count=2, seed=seed).fingerprint(None, CONTENT)

    assert wider(7) != wider(8)
    assert wider(None) == fingerprint(), "an earlier version's request is still the same"


NOT_BY_NAME = ("params", "rows", "look", "retry_of")
ROWS = [
    {"rows": (row,)}
    for row in (Row(), Row(("img_1",)), Row(values={"name": "a"}), Row(("img_1",), done=1), Row(("img_1", "img_2")))
]
LOOKS = [{"look": Look("tea", 1, words, images)} for words in ("warm", "") for images in ((), ("img_1",), ("img_2",))]


def test_each_row_and_each_look_counts() -> None:
    assert len({fingerprint(**changes) for changes in (*ROWS, *LOOKS)}) == len(ROWS) + len(LOOKS)


def test_a_look_counts_by_its_words_and_images_not_by_its_name_and_version() -> None:
    assert fingerprint(look=Look("coffee", 1, "warm", ())) == fingerprint(look=Look("tea", 2, "warm", ()))


@pytest.mark.parametrize(
    "changes",
    [{"tool": "edit_chain"}, {"owner": "ann"}, {"prompts": ("a", "b")}, {"count": 3}, {"images": ("img_2",)},
     {"images": (), "references": ("img_1",)}, {"images": ("img_1", "img_1")},
     {"params": {"seed": 7}}, {"params": {"mask": "img_2"}}, {"references": ("original",)}, *ROWS, *LOOKS,
    *({field.name: "another"} for field in fields(Request) if field.default is None and field.name not in NOT_BY_NAME)],
    ids=str,
)  # fmt: skip
def test_everything_that_is_asked_counts(changes: dict[str, Any]) -> None:
    assert fingerprint(**changes) != fingerprint()


def test_the_terms_of_a_call_do_not_count() -> None:
    assert not {field.name for field in fields(Terms)} & {field.name for field in fields(Request)}


def test_an_image_counts_by_its_content_not_by_its_handle() -> None:
    assert fingerprint(images=("job_1/2",)) == fingerprint()


@pytest.fixture
def evolink(clock: FakeClock) -> Iterator[Emulator]:
    with running("evolink", latency_s=10.0, max_side=48, clock=clock.monotonic) as emulator:
        yield emulator


async def test_another_default_provider_makes_no_second_job(
    make_service: MakeService, atlas: Emulator, evolink: Emulator, coffee: str
) -> None:
    async with make_service(atlas, evolink, TRIPTYCH_PROVIDER="atlas") as service:
        first = await edit_sequence(service, [coffee], PROMPT, 2, NOW)
    async with make_service(atlas, evolink, TRIPTYCH_PROVIDER="evolink") as service:
        second = await edit_sequence(service, [coffee], PROMPT, 2, NOW)
    assert (first.provider, second.provider) == ("atlas", "atlas")
    assert second.job_id == first.job_id


async def test_a_rerouted_job_is_still_what_the_same_request_gets(
    make_service: MakeService, atlas: Emulator, evolink: Emulator, finish: Finish, coffee: str
) -> None:
    atlas.fault("submit", "402", times=None)
    async with make_service(atlas, evolink, TRIPTYCH_PROVIDER="atlas") as service:
        first = await ended(service, finish, (await edit_sequence(service, [coffee], PROMPT, 2, NOW)).job_id)
        second = await edit_sequence(service, [coffee], PROMPT, 2, NOW)
    assert first.provider == "evolink" and second.job_id == first.job_id
    assert len(evolink.accepted) == 1


async def test_a_removed_model_or_key_hides_no_earlier_job(
    make_service: MakeService, atlas: Emulator, coffee: str
) -> None:
    asked = Options(wait_s=0, model="seedream-5.0-lite")
    async with make_service(atlas) as service:
        first = await edit_sequence(service, [coffee], PROMPT, 2, asked)
    async with make_service() as service:  # without its key
        assert (await edit_sequence(service, [coffee], PROMPT, 2, asked)).job_id == first.job_id
        for changes in ({"again": True}, {"dry_run": True}):
            with pytest.raises(errors.NoKey):
                await edit_sequence(service, [coffee], PROMPT, 2, Options(**asked, **changes))
        with pytest.raises(errors.NoKey):
            await edit_sequence(service, [coffee], "another prompt", 2, asked)


# -- for how long ------------------------------------------------------------------------------------------------------


async def test_a_finished_job_is_the_answer_for_an_hour(
    make_service: MakeService, atlas: Emulator, clock: FakeClock, finish: Finish, coffee: str
) -> None:
    async with make_service(atlas) as service:
        first = await ended(service, finish, (await edit_sequence(service, [coffee], PROMPT, 2, NOW)).job_id)
        assert first.status == "done"
        clock.advance(3500)
        seen = len(atlas.seen)
        second = await edit_sequence(service, [coffee], PROMPT, 2, NOW)
        assert (second.job_id, second.status, len(second.images)) == (first.job_id, "done", 2)
        assert "The same request was made 58 min ago: this is its job" in second.warnings[-1]
        assert "again=true" in second.warnings[-1]
        assert len(atlas.seen) == seen, "nothing was sent"
        clock.advance(120)
        third = await edit_sequence(service, [coffee], PROMPT, 2, NOW)
        assert third.job_id != first.job_id
        assert (await edit_sequence(service, [coffee], PROMPT, 2, Options(wait_s=0, again=True))).job_id != third.job_id


async def test_a_partial_job_is_the_answer_for_an_hour(
    make_service: MakeService, atlas: Emulator, clock: FakeClock, finish: Finish, samples: Path
) -> None:
    images = [str(samples / "coffee.jpg"), str(samples / "cat.jpg")]
    atlas.fault("poll", "failed-200", times=1)
    async with make_service(atlas) as service:
        first = await ended(service, finish, (await edit_chain(service, images, ["warmer"], options=NOW)).job_id)
        assert first.status == "partial"
        assert (await edit_chain(service, images, ["warmer"], options=NOW)).job_id == first.job_id
        clock.advance(3700)
        assert (await edit_chain(service, images, ["warmer"], options=NOW)).job_id != first.job_id


async def test_a_failed_or_cancelled_job_is_made_anew(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(atlas) as service:
        first = (await edit_sequence(service, [coffee], PROMPT, 2, NOW)).job_id
        await service.cancel_job(first)
        atlas.fault("submit", "401", times=None)
        second = await ended(service, finish, (await edit_sequence(service, [coffee], PROMPT, 2, NOW)).job_id)
        third = await edit_sequence(service, [coffee], PROMPT, 2, NOW)
    assert second.status == "failed"
    assert len({first, second.job_id, third.job_id}) == 3


async def test_a_running_or_uncertain_job_answers_at_any_age(
    make_service: MakeService, atlas: Emulator, clock: FakeClock, finish: Finish, coffee: str
) -> None:
    atlas.fault("submit", "drop", times=1)
    async with make_service(atlas) as service:
        first = (await edit_sequence(service, [coffee], PROMPT, 2, NOW)).job_id
        clock.advance(5 * 86_400)
        assert (await edit_sequence(service, [coffee], PROMPT, 2, NOW)).job_id == first
        assert (await ended(service, finish, first)).status == "uncertain"
        clock.advance(30 * 86_400)
        assert (await edit_sequence(service, [coffee], PROMPT, 2, NOW)).job_id == first
    assert atlas.accepted == []


class TwoClocks:
    """A wall clock and one that counts from the machine's start, set apart from each other."""

    def __init__(self) -> None:
        self.wall = datetime(2026, 11, 21, 12, tzinfo=UTC)
        self.mono = 50_000.0

    def now(self) -> datetime:
        return self.wall

    def monotonic(self) -> float:
        return self.mono

    async def wait(self, event: anyio.Event, seconds: float) -> None:
        raise AssertionError("no test waits here")

    def move(self, *, wall_s: float, mono_s: float) -> None:
        self.wall += timedelta(seconds=wall_s)
        self.mono += mono_s


def job(n: int = 1) -> Job:
    return Job(f"job_{n:08}", ASKED, NOON, "f", "atlas", "m", "e")


NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def prediction(n: int = 1) -> Prediction:
    from triptych.core.offers import Operation

    return Prediction(
        id=f"job_{n:08}-0-0", job_id=f"job_{n:08}", request=ASKED, lane=0, step=0, after_id=None, first_output=1,
        provider="atlas", endpoint="e", operation=Operation.EDIT_SEQUENTIAL, size=None, client_id="c", variation="",
        quoted_usd=Decimal("0.03"), quote_exact=False,
    )  # fmt: skip


@pytest.fixture
def clocks() -> TwoClocks:
    return TwoClocks()


@pytest.fixture
def just_done(clocks: TwoClocks, tmp_path: Path, database_url: str | None) -> Iterator[Store]:
    """A store with a job that ends as partial at this very moment."""
    store = open_store(path_of(tmp_path, database_url), tmp_path / "images", None, clocks)
    store.add_job(job(), [prediction()], now=when(NOON), attach=True)
    with store._db.transaction():
        store._db.run("add_frame", job_id="job_00000001", n=1, prediction_id="job_00000001-0-0", url=None,
                      url_expires_at=None, sha256="aa", saved_path=None, source="[]", error=None, layer=None,
                      now=0)  # fmt: skip
        write(store, "UPDATE predictions SET state = 'failed'")
        store._refresh("job_00000001")
    row = store.job("job_00000001")
    assert row and row.status == "partial"
    yield store
    store.close()


@pytest.mark.parametrize(
    ("wall_s", "mono_s", "same"),
    [
        (3599, 3599, True),
        (3601, 3601, False),
        (7200, 60, True),  # the wall clock jumped forward
        (365 * 86_400, 3599, True),
        (-7200, 60, True),  # and back
        (7200, 3601, False),
        (60, -49_990, True),  # the machine was started again 10 s ago
        (7200, -49_990, True),  # and its wall clock jumped meanwhile
        (7200, -46_000, False),  # over an hour ago: no clock needs to be believed
        (8 * 3600, 10, True),  # it slept: the monotonic clock rests, and errs to the safe side
    ],
)
@pytest.mark.both_databases
def test_a_clock_that_jumps_ends_no_hour_early(
    just_done: Store, clocks: TwoClocks, wall_s: float, mono_s: float, same: bool
) -> None:
    clocks.move(wall_s=wall_s, mono_s=mono_s)
    assert (just_done.same_request("f", None, Request("generate_sequence", ("a",))) is not None) == same


@pytest.mark.both_databases
def test_the_hour_counts_from_the_jobs_end(just_done: Store, clocks: TwoClocks) -> None:
    clocks.move(wall_s=SAME_FOR_S - 5, mono_s=SAME_FOR_S - 5)
    with just_done._db.transaction():
        just_done._refresh("job_00000001")  # a charge that is told late
    assert just_done.same_request("f", None, Request("generate_sequence", ("a",)))
    clocks.move(wall_s=10, mono_s=10)
    assert just_done.same_request("f", None, Request("generate_sequence", ("a",))) is None


@pytest.mark.both_databases
def test_a_job_that_was_taken_up_again_ends_anew(just_done: Store, clocks: TwoClocks) -> None:
    clocks.move(wall_s=5000, mono_s=5000)
    for state in ("running", "failed"):
        with just_done._db.transaction():
            write(just_done, "UPDATE predictions SET state = ?", state)
            just_done._refresh("job_00000001")
        assert just_done.same_request("f", None, Request("generate_sequence", ("a",)))


@pytest.mark.both_databases
def test_of_processes_racing_with_one_request_one_makes_the_job(tmp_path: Path, database_url: str | None) -> None:
    path, servers = path_of(tmp_path, database_url), 8
    open_store(path, tmp_path / "images").close()
    start, made, attached = threading.Barrier(servers), [], []

    def ask(n: int) -> None:
        store = open_store(path, tmp_path / "images")
        start.wait(30)
        found = store.add_job(job(n), [prediction(n)], now=when(NOON), attach=True)
        (attached if found else made).append(found.id if found else job(n).id)
        store.close()

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(servers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and attached == made * (servers - 1)


# -- what a repeat costs -----------------------------------------------------------------------------------------------


async def test_a_repeat_sends_nothing_asks_nothing_and_needs_no_budget(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str
) -> None:
    async with make_service(atlas, TRIPTYCH_BUDGET_USD="0.128") as service:
        first = await ended(service, finish, (await edit_sequence(service, [coffee], PROMPT, 4, NOW)).job_id)
        held, seen = service.store.plain.money_since(0), len(atlas.seen)
    limits = {"TRIPTYCH_BUDGET_USD": "0.01", "TRIPTYCH_CONFIRM_USD": "0"}
    async with make_service(atlas, **limits) as service:
        for options in (NOW, Options(wait_s=0, max_cost_usd=Decimal(0))):
            again = await edit_sequence(service, [coffee], PROMPT, 4, options, Caller(asks=True))
            assert again.job_id == first.job_id
        assert service.store.plain.money_since(0) == held
    assert len(atlas.seen) == seen


# -- where its copies go -----------------------------------------------------------------------------------------------


def saved_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


async def test_repeating_a_finished_job_saves_its_copies_at_once(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str, tmp_path: Path
) -> None:
    caller, first_dir, second_dir = Caller(roots=(tmp_path,)), tmp_path / "one", tmp_path / "two"
    async with make_service(atlas) as service:
        asked = Options(wait_s=0, save_to=str(first_dir))
        first = await edit_sequence(service, [coffee], PROMPT, 2, asked, caller)
        await ended(service, finish, first.job_id)
        asked = Options(wait_s=0, save_to=str(second_dir))
        assert (await edit_sequence(service, [coffee], PROMPT, 2, asked, caller)).job_id == first.job_id
        with pytest.raises(errors.NotAllowed):
            await edit_sequence(service, [coffee], PROMPT, 2, Options(wait_s=0, save_to="/etc"), caller)
    names = [f"{first.job_id}-01.png", f"{first.job_id}-02.png"]
    assert saved_in(first_dir) == saved_in(second_dir) == names


async def test_repeating_a_running_job_saves_its_copies_at_its_end(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str, tmp_path: Path
) -> None:
    caller = Caller(roots=(tmp_path,))
    async with make_service(atlas) as service:
        first = await edit_sequence(service, [coffee], PROMPT, 2, NOW, caller)
        for name in ("one", "two", "two"):
            await edit_sequence(service, [coffee], PROMPT, 2, Options(wait_s=0, save_to=str(tmp_path / name)), caller)
        assert saved_in(tmp_path / "one") == saved_in(tmp_path / "two") == []
    async with make_service(atlas) as service:  # another process ends it
        await ended(service, finish, first.job_id)
        await service.image_access.save_copies()
        assert service.store.plain.to_save() == []
    assert saved_in(tmp_path / "one") == saved_in(tmp_path / "two")
    assert len(saved_in(tmp_path / "one")) == 2


async def test_images_that_come_later_are_saved_too(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str, tmp_path: Path
) -> None:
    atlas.fault("result", "500", times=None)
    asked = Options(wait_s=0, save_to=str(tmp_path / "out"))
    async with make_service(atlas) as service:
        first = await ended(service, finish, (await edit_sequence(service, [coffee], PROMPT, 2, NOW)).job_id)
        assert first.status == "failed"
        service.store.plain.save_also(first.job_id or "", asked["save_to"])
        atlas.clear()
        await service.get_status(first.job_id or "")
        await finish(service)
        await service.image_access.save_copies()
    assert len(saved_in(tmp_path / "out")) == 2


async def test_a_directory_that_cannot_be_written_is_a_warning(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str, tmp_path: Path
) -> None:
    caller, blocked = Caller(roots=(tmp_path,)), tmp_path / "out"
    async with make_service(atlas) as service:
        first = await edit_sequence(service, [coffee], PROMPT, 2, NOW, caller)
        asked = Options(wait_s=0, save_to=str(blocked))
        await edit_sequence(service, [coffee], PROMPT, 2, asked, caller)
        blocked.write_text("a file by now")
        await ended(service, finish, first.job_id)
        await service.image_access.save_copies()
        assert any("Not saved" in warning for warning in (await service.job(first.job_id)).warnings)
        assert service.store.plain.to_save() == []


# -- looking never pays ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["evolink", "runware", "ark", "novita", "atlas", "wavespeed"])
async def test_looking_at_an_uncertain_job_keeps_its_fault(
    make_service: MakeService, clock: FakeClock, finish: Finish, coffee: str, name: str
) -> None:
    with running(name, latency_s=0.0, max_side=48, clock=clock.monotonic) as api:
        async with make_service(api) as service:
            started = await edit_sequence(service, [coffee], PROMPT, 2, NOW)
            lost = Failure("uncertain", "lost", retryable=True)
            (claim,) = await service.worker._claim(1)
            for state in (State.SUBMITTING, State.UNCERTAIN):
                moved = service.store.plain.move(
                    claim, state, now=moment(clock), due_at=0.0, keep_lease=state is State.SUBMITTING,
                    fault=lost, submitted_at=clock.now(),
                )  # fmt: skip
                assert moved
            clock.advance(3 * 86_400)
            await service.get_status(started.job_id or "")
            (taken_up,) = service.store.plain.predictions(started.job_id or "")
    looks = service.config.accounts[name].provider.find is not None
    assert taken_up.state is (State.SUBMITTING if looks else State.UNCERTAIN)
    assert taken_up.fault and taken_up.fault.kind == "uncertain"
    assert api.accepted == []


# -- no image leaves before the yes ------------------------------------------------------------------------------------

PRICES = {"atlas": {"/api/v1/model/calculate"}, "wavespeed": {"/api/v3/model/price"}}


@pytest.mark.parametrize("name", ["atlas", "wavespeed", "evolink"])
async def test_dry_runs_refusals_and_questions_send_no_image(
    make_service: MakeService, clock: FakeClock, coffee: str, name: str
) -> None:
    with running(name, max_side=48, clock=clock.monotonic) as api:
        async with make_service(api, TRIPTYCH_CONFIRM_USD="0.05") as service:
            assert (
                await edit_sequence(service, [coffee], PROMPT, 4, Options(wait_s=0, dry_run=True))
            ).status == "dry_run"
            assert api.seen == []
            for options, caller in (
                (NOW, Caller()),
                (NOW, Caller(asks=True)),
                (Options(wait_s=0, max_cost_usd=Decimal(9)), Caller(asks=True)),
                (Options(wait_s=0, max_cost_usd=Decimal("0.01")), Caller()),
                (Options(wait_s=0, max_cost_usd=Decimal("0.01")), Caller(asks=True, agreed_usd=Decimal(9))),
            ):
                with pytest.raises(errors.OverBudget):
                    await edit_sequence(service, [coffee], PROMPT, 4, options, caller)
            assert {seen.path for seen in api.seen} <= PRICES.get(name, set())
            data = Path(coffee).read_bytes()
            assert all(data not in seen.body and b"base64" not in seen.body for seen in api.seen)
            assert name == "evolink" or PLACEHOLDER_URL.encode() in api.seen[0].body
            agreed = Caller(asks=True, agreed_usd=Decimal(9))
            assert (await edit_sequence(service, [coffee], PROMPT, 4, NOW, agreed)).status == "queued"


async def test_a_quote_uses_the_urls_the_provider_has(make_service: MakeService, atlas: Emulator, coffee: str) -> None:
    async with make_service(atlas) as service:
        (uploaded,) = (await service.upload_images([coffee])).images
        await edit_sequence(service, [coffee], PROMPT, 2, NOW)
    (asked,) = atlas.seen_at("POST", "/api/v1/model/calculate")
    assert asked.json["images"] == [uploaded.url]


@pytest.mark.parametrize(
    ("cap", "agreed", "routes"),
    [(None, "0.128", []), ("9", "0.128", []), ("0.13", "9", []), (None, "9", ["wavespeed"]), ("9", "9", ["wavespeed"])],
)
async def test_routes_stay_within_cap_and_yes(
    make_service: MakeService,
    atlas: Emulator,
    clock: FakeClock,
    coffee: str,
    cap: str | None,
    agreed: str,
    routes: list[str],
) -> None:
    with running("wavespeed", max_side=48, clock=clock.monotonic) as wavespeed:  # $0.14 where atlas takes $0.128
        async with make_service(atlas, wavespeed, TRIPTYCH_PROVIDER="atlas", TRIPTYCH_CONFIRM_USD="0.05") as service:
            options = Options(wait_s=0, max_cost_usd=Decimal(cap) if cap else None)
            caller = Caller(asks=True, agreed_usd=Decimal(agreed))
            made = await edit_sequence(service, [coffee], PROMPT, 4, options, caller)
            row = service.store.plain.job(made.job_id or "")
    assert row and [route.provider for route in row.routes] == routes

""" "original" among a chain's references: what each step is made from, what it costs, after a refusal and a failure."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from support.fixtures import Emulator, FakeClock, Finish, MakeService
from support.jobs import NOW, Options, edit_chain, ended, make
from triptych.core import errors
from triptych.core.requests import ORIGINAL, Request, Row
from triptych.jobs.planning import Terms
from triptych.jobs.service import Caller, ImageService
from triptych_emulators import running

pytestmark = pytest.mark.anyio

STEPS = ("warmer", "add snow", "at night")
REQUEST = Request("edit_chain", STEPS, ("img_a", "img_b"), ("img_r", ORIGINAL, "img_s"))


def all_inputs(request: Request) -> list[tuple[str, ...]]:
    return [request.inputs(lane, step, "job_1") for lane, step in request.places()]


@pytest.fixture
def wavespeed(clock: FakeClock) -> Iterator[Emulator]:
    with running("wavespeed", max_side=96, clock=clock.monotonic, latency_s=10.0) as emulator:
        yield emulator


async def sources(service: ImageService, job_id: str | None) -> list[tuple[str, ...]]:
    """Return the images that each output of a job was made from, without its own id."""
    outputs = await service.store.outputs(job_id or "")
    return [tuple(one.removeprefix(f"{job_id}/") for one in output.source) for output in outputs]


# -- the images of each step -------------------------------------------------------------------------------------------


def test_the_original_stands_where_it_is_given_from_step_two_on() -> None:
    assert all_inputs(REQUEST) == [
        ("img_a", "img_r", "img_s"), ("job_1/1", "img_r", "img_a", "img_s"), ("job_1/2", "img_r", "img_a", "img_s"),
        ("img_b", "img_r", "img_s"), ("job_1/4", "img_r", "img_b", "img_s"), ("job_1/5", "img_r", "img_b", "img_s"),
    ]  # fmt: skip
    assert REQUEST.most_inputs == 4


def test_a_lane_from_words_has_its_first_output_as_original() -> None:
    lane = Request("edit_chain", STEPS, references=(ORIGINAL,), rows=(Row(values={"subject": "a sun"}),))
    assert all_inputs(lane) == [(), ("job_1/1",), ("job_1/2", "job_1/1")]


def test_a_retried_lane_keeps_its_original() -> None:
    rows = (Row(("job_0/2",), done=2, original="img_a"), Row(("job_0/4",), done=1, original="job_0/4"))
    lanes = Request("edit_chain", STEPS, references=(ORIGINAL,), rows=rows)
    assert all_inputs(lanes) == [("job_0/2", "img_a"), ("job_0/4",), ("job_1/5", "job_0/4")]


async def test_a_lane_from_words_runs_with_its_original(make_service: MakeService, finish: Finish) -> None:
    rows = (Row(values={"subject": "a lighthouse"}), Row(values={"subject": "a red fox"}))
    request = Request("edit_chain", ("{subject}", "warmer", "at night"), references=(ORIGINAL,), rows=rows)
    async with make_service() as service:
        job = await ended(service, finish, (await service.make(request, Terms(wait_s=0))).job_id)
        assert job.status == "done", job.text()
        assert await sources(service, job.job_id) == [(), ("1",), ("2", "1"), (), ("4",), ("5", "4")]


# -- money -------------------------------------------------------------------------------------------------------------


async def test_the_original_is_quoted_and_charged_from_step_two_on(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str, samples: object
) -> None:
    one, reference = Decimal("0.016"), Decimal("0.008")
    v5_5 = Options(wait_s=0, model="seedream-5.5", size="1.5K")
    async with make_service(atlas) as service:
        await service.upload_images([f"{samples}/cat.jpg"], Caller(), "cat")
        for references, usd in (
            ([], 3 * (one + reference)),
            (["original"], 3 * one + 5 * reference),
            (["original", "look:cat"], 3 * one + 8 * reference),
        ):
            job = await ended(service, finish, (await edit_chain(service, [coffee], STEPS, references, v5_5)).job_id)
            assert job.status == "done", job.text()
            assert job.cost.quoted == job.cost.charged == usd
        assert service.store.plain.money_since(0) == (atlas.charged_usd, 0)


async def test_no_step_of_a_lane_from_words_costs_more_than_quoted(
    make_service: MakeService, atlas: Emulator, finish: Finish
) -> None:
    request = Request("edit_chain", STEPS, references=(ORIGINAL,), rows=(Row(),), model="seedream-5.5", size="1.5K")
    async with make_service(atlas) as service:
        job = await ended(service, finish, (await service.make(request, Terms(wait_s=0))).job_id)
        assert job.status == "done", job.text()
        for one in await service.store.predictions(job.job_id or ""):
            assert (one.charged_usd or 0) <= one.quoted_usd, one.id
        assert job.cost.charged == Decimal("0.016") + Decimal("0.024") + Decimal("0.032") == atlas.charged_usd


async def test_a_chain_that_is_refused_goes_on_elsewhere_with_its_original(
    make_service: MakeService, atlas: Emulator, wavespeed: Emulator, finish: Finish, coffee: str, samples: object
) -> None:
    atlas.fault("submit", "402", times=None)
    async with make_service(atlas, wavespeed, TRIPTYCH_PROVIDER="atlas") as service:
        (cat,) = (await service.upload_images([f"{samples}/cat.jpg"], Caller(), "cat", "soft light")).images
        job = await edit_chain(service, [coffee], STEPS, ["original", "look:cat"], NOW)
        done = await ended(service, finish, job.job_id)
        assert (done.status, done.provider) == ("done", "wavespeed"), done.text()
        (image,) = (await service.upload_images([coffee])).images
        assert await sources(service, job.job_id) == [
            (image.handle, cat.handle), ("1", image.handle, cat.handle), ("2", image.handle, cat.handle)
        ]  # fmt: skip
        prompts = [one.json["prompt"] for one in wavespeed.seen if one.json and "prompt" in one.json]
        assert {f"{step}. Keep this look: soft light" for step in STEPS} <= set(prompts)
        assert done.cost.charged == wavespeed.charged_usd


# -- where it is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "given"),
    [
        ("edit_sequence", {"images": ["COFFEE", "original"], "prompt": "warmer"}),
        ("edit_chain", {"images": ["original"], "steps": STEPS}),
        ("edit_chain", {"images": ["COFFEE"], "steps": STEPS, "references": ["original", "original"]}),
    ],
)
async def test_the_original_elsewhere_is_refused(
    make_service: MakeService, coffee: str, tool: str, given: dict[str, list[str]]
) -> None:
    given["images"] = [coffee if one == "COFFEE" else one for one in given["images"]]
    async with make_service() as service:
        with pytest.raises(errors.BadRequest, match=r'"original" (goes into|stands among) the references of'):
            await make(service, tool, given, NOW)
        for call in (service.view_images(["original"]), service.upload_images(["original"])):
            with pytest.raises(errors.BadRequest, match='"original" goes into the references of edit_chain'):
                await call
        assert not (await service.list_jobs()).jobs

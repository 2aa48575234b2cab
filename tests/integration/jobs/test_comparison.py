"""Claims about comparisons: the same request on several models shows side by side, with what each cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from PIL import Image

from support.fixtures import Emulator, Finish, MakeService
from support.jobs import Options, edit_sequence, ended, generate_sequence
from triptych.images import contact_sheet
from triptych.jobs.results import JobResult
from triptych.jobs.service import ImageService
from triptych_emulators import running

pytestmark = pytest.mark.anyio

CANDIDATES: tuple[Options, ...] = (
    {"model": "seedream-4.5", "provider": "atlas"},
    {"model": "seedream-5.0-lite", "provider": "atlas"},
    {"model": "seedream-4.5", "provider": "wavespeed"},
)


@pytest.fixture
def sheets(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What went onto each sheet."""
    seen: list[dict[str, Any]] = []
    render = contact_sheet.render

    def noted(cards: Sequence[contact_sheet.Card], **how: Any) -> Image.Image:
        seen.append({"cards": list(cards), **how})
        return render(cards, **how)

    monkeypatch.setattr(contact_sheet, "render", noted)
    return seen


@pytest.fixture
def wavespeed(clock: Any) -> Any:
    with running("wavespeed", latency_s=5.0, max_side=96, clock=clock.monotonic) as emulator:
        yield emulator


async def edits(service: ImageService, finish: Finish, image: str, count: int = 1) -> list[JobResult]:
    made = [await edit_sequence(service, [image], "at dusk", count, {"wait_s": 0, **one}) for one in CANDIDATES]
    return [await ended(service, finish, job.job_id) for job in made]


async def test_each_model_is_labelled_with_its_name_and_price(
    make_service: MakeService,
    finish: Finish,
    atlas: Emulator,
    wavespeed: Emulator,
    coffee: str,
    sheets: list[dict[str, Any]],
) -> None:
    async with make_service(atlas, wavespeed) as service:
        jobs = await edits(service, finish, coffee)
        shown = await service.view_images([str(job.job_id) for job in jobs])
    source, *cards = sheets[-1]["cards"]
    assert source.note == "source"
    assert [card.label for card in cards] == [f"{one['model']} on {one['provider']}" for one in CANDIDATES]
    assert [card.note for card in cards] == [f"{job.job_id}/1, {price(job)}" for job in jobs]
    assert all(f"{job.model} on {job.provider}: {job.job_id}, {price(job)}, " in shown.caption for job in jobs)
    assert shown.caption.startswith('Comparison of edit_sequence "at dusk": ')


async def test_sets_are_compared_a_group_per_model(
    make_service: MakeService,
    finish: Finish,
    atlas: Emulator,
    wavespeed: Emulator,
    coffee: str,
    sheets: list[dict[str, Any]],
) -> None:
    async with make_service(atlas, wavespeed) as service:
        jobs = await edits(service, finish, coffee, count=3)
        await service.view_images([str(job.job_id) for job in jobs])
    assert sheets[-1]["group"] == 3
    assert [card.note for card in sheets[-1]["cards"]] == [
        f"{job.job_id}/{n}, {price(job)} for 3" for job in jobs for n in (1, 2, 3)
    ]


async def test_a_model_that_failed_keeps_its_place(
    make_service: MakeService, finish: Finish, atlas: Emulator, coffee: str, sheets: list[dict[str, Any]]
) -> None:
    atlas.fault("submit", "moderated-before")
    async with make_service(atlas) as service:
        made = [await edit_sequence(service, [coffee], "x", 1, {"wait_s": 0, **one}) for one in CANDIDATES[:2]]
        jobs = [await ended(service, finish, job.job_id) for job in made]
        assert sorted(job.status for job in jobs) == ["done", "failed"]
        await service.view_images([str(job.job_id) for job in jobs])
    (missing,) = [card for card in sheets[-1]["cards"] if card.image is None]
    assert missing.label in ("seedream-4.5 on atlas", "seedream-5.0-lite on atlas")
    assert missing.note == "failed, $0"


async def test_jobs_of_different_requests_keep_their_labels(
    make_service: MakeService, finish: Finish, atlas: Emulator, sheets: list[dict[str, Any]]
) -> None:
    async with make_service(atlas) as service:
        made = [await generate_sequence(service, words, 1, {"wait_s": 0}) for words in ("a boat", "a bridge")]
        jobs = [await ended(service, finish, job.job_id) for job in made]
        shown = await service.view_images([str(job.job_id) for job in jobs])
        await service.view_images([f"{jobs[0].job_id}/1", str(jobs[1].job_id)])
    assert [card.label for card in sheets[0]["cards"]] == [f"{job.job_id}/1" for job in jobs]
    assert sheets[1]["cards"][0].label == f"{jobs[0].job_id}/1"
    assert shown.caption.startswith("In reading order: ")


def price(job: JobResult) -> str:
    if job.cost.charged is None:
        return f"${job.cost.quoted} quoted"
    return f"{'about ' if job.cost.charge_is_estimate else ''}${job.cost.charged}"

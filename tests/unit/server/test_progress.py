"""Progress only grows, whatever the stages of the work."""

from __future__ import annotations

import pytest

from triptych.server.progress import MonotonicProgress

pytestmark = pytest.mark.anyio


async def sent(*reports: tuple[float, float]) -> list[tuple[float, float]]:
    heard: list[tuple[float, float]] = []

    async def send(done: float, total: float, message: str) -> None:
        heard.append((round(done, 3), total))

    steady = MonotonicProgress(send)
    for done, total in reports:
        await steady(done, total, "")
    return heard


async def test_one_stage_is_sent_as_it_is() -> None:
    assert await sent((0, 4), (2, 4), (4, 4)) == [(0, 4), (2, 4), (4, 4)]


async def test_a_second_stage_counts_on_from_the_first() -> None:
    assert await sent((0, 14), (13, 14), (0, 4), (4, 4)) == [(0, 14), (13, 14), (14, 18), (18, 18)]


async def test_a_second_stage_of_the_same_size_counts_on_too() -> None:
    assert await sent((0, 2), (1, 2), (0, 2), (2, 2)) == [(0, 2), (1, 2), (2, 4), (4, 4)]


async def test_news_of_the_same_count_still_grows() -> None:
    assert await sent((0, 4), (0, 4), (0, 4), (1, 4)) == [(0, 4), (0.001, 4), (0.002, 4), (1, 4)]


async def test_a_finished_count_is_not_sent_twice() -> None:
    assert await sent((3, 3), (3, 3)) == [(3, 3)]

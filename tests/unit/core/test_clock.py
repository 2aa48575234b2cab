"""The wait for a change: one that comes during a look is not missed."""

from __future__ import annotations

import anyio
import pytest

from triptych.core.clock import Notifier, SystemClock

pytestmark = pytest.mark.anyio


async def test_a_change_between_look_and_wait_is_not_missed() -> None:
    notifier = Notifier()
    changed = notifier.next
    notifier.notify()
    with anyio.fail_after(60):
        await SystemClock().wait(changed, 3600)
    assert changed.is_set() and not notifier.next.is_set()


async def test_a_change_wakes_all_who_wait() -> None:
    notifier, woken = Notifier(), 0

    async def wait() -> None:
        nonlocal woken
        await SystemClock().wait(notifier.next, 3600)
        woken += 1

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            notifier.notify()
    assert woken == 3


async def test_a_wait_without_a_change_ends_in_time() -> None:
    with anyio.fail_after(60):
        await SystemClock().wait(Notifier().next, 0.001)

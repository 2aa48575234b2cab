"""A hundred rounds of edits on one picture: ten chains of ten steps, each on the last image of the one before."""

from __future__ import annotations

from decimal import Decimal

import pytest

from support.clocks import FakeClock
from support.fixtures import Emulator, Finish, MakeService
from support.jobs import Options, edit_chain, ended
from triptych.core.clock import moment

MODEL = Options(model="seedream-5.5", wait_s=0, max_cost_usd=Decimal(1))
EACH_USD = Decimal("0.024")
"""One image of at most 2.6 MP for $0.016, and one reference for $0.008."""


@pytest.mark.anyio
async def test_a_hundred_rounds_are_one_line_of_handles(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str, clock: FakeClock
) -> None:
    async with make_service(atlas) as service:
        image, line = coffee, []
        for chain in range(10):
            steps = [f"round {10 * chain + n}: a little more dusk" for n in range(1, 11)]
            started = await edit_chain(service, [image], steps, options={**MODEL, "size": "1K"})
            job = await ended(service, finish, started.job_id)
            assert (job.status, job.returned, job.page) == ("done", 10, None)
            assert (job.cost.quoted, job.cost.charged) == (10 * EACH_USD, 10 * EACH_USD)
            line += sorted(job.images, key=lambda one: int(one.handle.partition("/")[2]))
            image = line[-1].handle
        bodies = [accepted.spec.body for accepted in atlas.jobs]
        assert len(bodies) == 100 and atlas.charged_usd == 100 * EACH_USD

        # Each round carries one image: the output before it, at the address that the provider gave it.
        for before, body in zip(line[:-1], bodies[1:], strict=True):
            assert body["images"] == [before.url], body
            assert body["output_format"] == "png" and body["prompt"].startswith("round ")
        assert atlas.performed["upload"] == 1, "only the first picture is uploaded"

        # The way back leads over all rounds to the picture at the beginning.
        made = {one.handle: one.source for one in line}
        handle, rounds = line[-1].handle, 0
        while handle in made:
            (handle,) = made[handle]
            rounds += 1
        assert rounds == 100 and handle.startswith("img_")
        spent = (await service.spend()).total
        assert spent.charged == 100 * EACH_USD and service.store.plain.balance(moment(clock)).spent == spent.charged


@pytest.mark.anyio
async def test_a_round_whose_source_has_expired_sends_the_stored_file(
    make_service: MakeService, atlas: Emulator, finish: Finish, coffee: str, clock: FakeClock
) -> None:
    async with make_service(atlas) as service:
        started = await edit_chain(service, [coffee], ["round 1"], options={**MODEL, "size": "1K"})
        first = (await ended(service, finish, started.job_id)).images[0]
        clock.advance(25 * 3600)
        again = await edit_chain(service, [first.handle], ["round 2"], options={**MODEL, "size": "1K"})
        assert (await ended(service, finish, again.job_id)).status == "done"
        sent = atlas.jobs[1].spec.body["images"]
    assert atlas.performed["upload"] == 2 and sent != [first.url] and "/_uploads/" in sent[0]

"""The fleet's balancer, and its audit's own rules: each is broken once, and the audit says so."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from benchmarks.fleet_audit import most_at_once, report
from benchmarks.fleet_clients import Told
from benchmarks.fleet_members import Work
from benchmarks.fleet_net import HOST, Door, Gone, Relay
from benchmarks.soak_audit import Kept

IMAGE = b"an image"


def work(**changes: Any) -> Work:
    made = Work("ark", "t1", "a red kite #1.1", Decimal("0.04"), began_s=10.0, ended_s=12.0)
    return replace(made, **changes)


def kept() -> Kept:
    """Return the database of one job of the first owner, whose image is home."""
    import hashlib

    prediction = {
        "id": "p1", "job_id": "job_00000001", "state": "done", "provider": "ark", "ticket": "t1", "client_id": "c1",
        "step": 0, "request": '{"prompts": ["a red kite #1.1"]}', "charged_usd": "0.04", "reserved_usd": "0",
        "fault": None, "lease": None, "variation": "", "created_at": 9.0, "submitted_at": 10.0, "finished_at": 12.5,
    }  # fmt: skip
    job = {
        "id": "job_00000001", "owner": "ann", "status": "done", "returned": 1, "fingerprint": "f", "created_at": 9.0,
        "ended_at": 12.6,
    }  # fmt: skip
    sha256 = hashlib.sha256(IMAGE).hexdigest()
    frame = {"job_id": "job_00000001", "n": 1, "sha256": sha256}
    image = {"sha256": sha256, "handle": "img_1", "file": "x.png"}
    return Kept([prediction], [job], [frame], [image], lambda _: IMAGE)


def wrong(works: list[Work], told: Told, found: Kept | None = None) -> dict[str, list[str]]:
    made = report(works, found or kept(), told, ["ann", "ben"], {"ark": 1})
    return {what: list(lines) for what, lines in made.wrong.items() if lines}


def test_a_fleet_in_order_is_found_in_order() -> None:
    told = Told(
        jobs={"job_00000001": 0}, shown={(0, "job_00000001"), (1, "job_1a2b3c4d")}, heard_at={"job_00000001": 13}
    )
    assert wrong([work()], told) == {}
    made = report([work()], kept(), told, ["ann", "ben"], {"ark": 1})
    assert (made.lags.noticed_s, made.lags.heard_s) == ([0.5], [1.0])


def test_a_job_shown_to_another_owner_is_found() -> None:
    assert list(wrong([work()], Told(shown={(1, "job_00000001")}))) == ["another owner's data"]


def test_a_promised_job_that_is_gone_is_lost() -> None:
    assert list(wrong([work()], Told(jobs={"job_00000002": 0}))) == ["lost"]


def test_a_done_job_without_its_image_is_lost() -> None:
    found = kept()
    assert "lost" in wrong([work()], Told(), replace(found, frames=[]))


def test_an_image_that_is_another_one_is_found() -> None:
    assert list(wrong([work()], Told(images={"job_00000001/1": "0" * 64}))) == [
        "images that are not what the database says"
    ]


def test_twins_that_became_two_jobs_are_found() -> None:
    told = Told(twins=[(1, {"job_00000001", "job_00000002"})])
    assert list(wrong([work()], told)) == ["identical calls that did not attach"]


def test_two_at_once_exceed_a_limit_of_one() -> None:
    other = work(id="t2", prompt="a red kite #2.1", charged_usd=Decimal(0), began_s=11.0, ended_s=13.0)
    assert "account limit exceeded" in wrong([work(), other], Told())


@pytest.mark.parametrize(("began_s", "most"), [(11.9, 2), (12.0, 1), (13.0, 1)])
def test_requests_overlap_only_while_both_run(began_s: float, most: int) -> None:
    assert most_at_once([work(), work(began_s=began_s, ended_s=20.0)]) == most


# -- the balancer ------------------------------------------------------------------------------------------------------


async def _answering(name: bytes) -> asyncio.Server:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(name), name))
        await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, HOST, 0)


def test_requests_go_round_and_pass_by_the_dead() -> None:
    async def scene() -> tuple[list[bytes], list[bytes], int, str]:
        servers = [await _answering(name) for name in (b"A", b"B", b"C")]
        ports = [(HOST, server.sockets[0].getsockname()[1]) for server in servers]
        async with Relay(ports).running() as relay:
            door = Door(relay.port, "token")
            url = f"http://{HOST}:{relay.port}/"
            all_alive = [(await door.get(url)).body for _ in range(6)]
            servers[1].close()
            one_dead = [(await door.get(url)).body for _ in range(4)]
            servers[0].close()
            servers[2].close()
            nobody = (await door.get(url)).status
            relay.shut()
            try:
                cut = str(await door.get(url))
            except Gone:
                cut = "gone"
        return all_alive, one_dead, nobody, cut

    all_alive, one_dead, nobody, cut = asyncio.run(scene())
    assert sorted(all_alive) == [b"A", b"A", b"B", b"B", b"C", b"C"]
    assert set(one_dead) == {b"A", b"C"} and (nobody, cut) == (502, "gone")

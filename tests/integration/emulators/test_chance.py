"""Faults left to chance: a share of all requests, in every way there is, and the same ones for the same seed."""

from __future__ import annotations

from collections import Counter

import pytest

import triptych_emulators
from triptych_emulators import running
from triptych_emulators.kit.faults import MAY_HAVE_BEEN_ACCEPTED, RandomFaults


def drawn(name: str, op: str, seed: int = 1, share: float = 0.1, but: tuple[str, ...] = ()) -> list[str]:
    chance = RandomFaults(triptych_emulators.faults(name), share, seed, but)
    return [found.type.name if (found := chance.draw(op)) else "" for _ in range(5000)]


@pytest.mark.parametrize("name", triptych_emulators.names())
def test_a_share_of_the_submits_meets_every_fault(name: str) -> None:
    counts = Counter(drawn(name, "submit"))
    assert 0.08 < 1 - counts.pop("") / 5000 < 0.12
    lasting = {fault.name for fault in triptych_emulators.faults(name) if fault.op == "poll" and fault.reach == "job"}
    assert set(counts) == lasting | {fault.name for fault in triptych_emulators.faults(name) if fault.op == "submit"}


def test_another_seed_spoils_other_requests() -> None:
    assert drawn("atlas", "poll") == drawn("atlas", "poll")
    assert drawn("atlas", "poll") != drawn("atlas", "poll", seed=2)


def test_a_job_changes_only_at_its_submit() -> None:
    lasting = {
        fault.name for fault in triptych_emulators.faults("atlas") if fault.op == "poll" and fault.reach == "job"
    }
    assert not lasting & set(drawn("atlas", "poll", share=1.0))
    assert "price-never" in drawn("atlas", "submit", share=1.0)
    assert "price-never" not in drawn("atlas", "submit", share=1.0, but=("price-never",))


def test_no_refused_request_is_charged() -> None:
    chance = RandomFaults(triptych_emulators.faults("atlas"), 1.0, 1, ())
    taken = {found.type.name for _ in range(2000) if (found := chance.draw("submit")) and found.options.get("accepted")}
    assert taken == MAY_HAVE_BEEN_ACCEPTED


def test_chance_ends_when_the_emulator_is_cleared() -> None:
    import httpx2

    with running("atlas") as api:
        api.chance(1.0, but=("hang",))
        models = f"{api.base_url}/api/v1/models"
        answers = [_status(models) for _ in range(20)]
        assert any(status != 200 for status in answers)
        api.clear()
        assert [httpx2.get(models).status_code for _ in range(3)] == [200] * 3


def _status(url: str) -> int:
    import httpx2

    try:
        return httpx2.get(url).status_code
    except httpx2.HTTPError:
        return 0

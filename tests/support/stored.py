"""Jobs, predictions and outputs as values for the tests of the storage."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from support.clocks import when
from triptych.core.models import Job, Output, Prediction, State
from triptych.core.offers import Operation
from triptych.core.requests import Request
from triptych.storage.claims import Claim, Slots
from triptych.storage.jobs import Store

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


ATLAS = Slots("atlas:1", "atlas", 4)


REQUEST = Request("edit_chain", ("p", "q", "r"), ("img_00000001",))


def job(job_id: str = "job_00000001", fingerprint: str = "f") -> Job:
    return Job(job_id, REQUEST, NOW, fingerprint, "atlas", "m", "e")


def prediction(job_id: str = "job_00000001", step: int = 0, usd: str = "1.00") -> Prediction:
    return Prediction(
        id=f"{job_id}-0-{step}",
        job_id=job_id,
        request=REQUEST,
        lane=0,
        step=step,
        after_id=f"{job_id}-0-{step - 1}" if step else None,
        first_output=step + 1,
        provider="atlas",
        endpoint="e",
        operation=Operation.EDIT_SEQUENTIAL,
        size=(2048, 2048),
        client_id="c",
        variation="",
        quoted_usd=Decimal(usd),
        quote_exact=True,
        state=State.WAITING if step else State.QUEUED,
    )


def add(store: Store, *predictions: Prediction, fingerprint: str = "f", attach: bool = True) -> Job | None:
    return store.add_job(job(predictions[0].job_id, fingerprint), predictions, now=when(NOW), attach=attach)


def claim(store: Store, lease: str = "a", at: datetime = NOW) -> Claim | None:
    return claimed(store.claim(now=when(at), lease=lease, slots=[ATLAS]))


def claimed(claims: Sequence[Claim]) -> Claim | None:
    """Return the only claim, if there is one."""
    assert len(claims) <= 1
    return claims[0] if claims else None


def frame(n: int, sha256: str | None) -> Output:
    return Output("job_00000001", n, f"job_00000001-0-{n - 1}", "https://x/y", NOW, sha256, None, ("img_1",))

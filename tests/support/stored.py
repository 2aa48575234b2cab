"""Jobs, predictions and outputs as values for the tests of the storage."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from support.clocks import when
from triptych.core.models import Job, Operation, Output, Prediction, State
from triptych.storage.jobs import Claim, Store

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


WHO = {"providers": ["atlas"], "max_running": {"atlas": 4}}


def job(job_id: str = "job_00000001", fingerprint: str = "f") -> Job:
    return Job(job_id, "edit_sequence", NOW, fingerprint, "atlas", "m", "e", "p", 1, 1, 1, None, (), False)


def prediction(job_id: str = "job_00000001", step: int = 0, usd: str = "1.00") -> Prediction:
    return Prediction(
        id=f"{job_id}-0-{step}",
        job_id=job_id,
        lane=0,
        step=step,
        after=f"{job_id}-0-{step - 1}" if step else None,
        first_output=step + 1,
        state=State.WAITING if step else State.QUEUED,
        provider="atlas",
        endpoint="e",
        operation=Operation.EDIT_SEQUENTIAL,
        prompt="p",
        count=1,
        size=(2048, 2048),
        format=None,
        inputs=("img_00000001",),
        client_id="c",
        variation="",
        quoted_usd=Decimal(usd),
        quote_exact=True,
        charged_usd=None,
        ticket=None,
        poll_url=None,
        submitted_at=None,
        deadline_at=None,
        finished_at=None,
        due_at=0.0,
        attempts=0,
        fault=None,
    )


def add(store: Store, *predictions: Prediction, fingerprint: str = "f", attach: bool = True) -> Job | None:
    return store.add_job(job(predictions[0].job_id, fingerprint), predictions, now=when(NOW), attach=attach)


def claim(store: Store, lease: str = "a", at: datetime = NOW) -> Claim | None:
    return store.claim(now=when(at), lease=lease, **WHO)  # type: ignore[arg-type]


def frame(n: int, sha256: str | None) -> Output:
    return Output("job_00000001", n, f"job_00000001-0-{n - 1}", "https://x/y", NOW, sha256, None, ("img_1",))

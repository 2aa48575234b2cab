"""Turns rows of the database into the words of `core.models`, and back where a value has two forms.

Times are UTC seconds in the database and `datetime` outside it; money is decimal text; lists are JSON text.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from triptych.core.models import Failure, Job, Operation, Output, Prediction, Route, State, Status


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job with what follows from its predictions: status, count, whether a charge may still come."""

    job: Job
    status: Status
    returned: int
    may_be_charged: bool
    page_size: int | None = None
    """How many images a page of its result lists, once that is fixed."""


def when(value: float | None) -> datetime | None:
    return None if value is None else datetime.fromtimestamp(value, UTC)


def seconds(value: datetime | None) -> float | None:
    return None if value is None else value.timestamp()


def utc(value: float) -> datetime:
    return datetime.fromtimestamp(value, UTC)


def job_row(row: sqlite3.Row) -> JobRow:
    job = Job(
        id=row["id"],
        tool=row["tool"],
        created_at=utc(row["created_at"]),
        fingerprint=row["fingerprint"],
        provider=row["provider"],
        model=row["model"],
        endpoint=row["endpoint"],
        prompt=row["prompt"],
        requested=row["requested"],
        lanes=row["lanes"],
        steps=row["steps"],
        save_to=row["save_to"],
        warnings=tuple(json.loads(row["warnings"])),
        cancel_requested=bool(row["cancel_requested"]),
        routes=tuple(route(said) for said in json.loads(row["routes"])),
        owner=row["owner"],
    )
    return JobRow(job, Status(row["status"]), row["returned"], bool(row["may_be_charged"]), row["page_size"])


def route(said: dict[str, Any]) -> Route:
    return Route(
        provider=said["provider"],
        family=said["family"],
        endpoint=said["endpoint"],
        operation=Operation(said["operation"]),
        sizes=tuple((size[0], size[1]) if size else None for size in said["sizes"]),
        quotes_usd=tuple(Decimal(usd) for usd in said.get("quotes_usd") or _one_for_all(said)),
    )


def _one_for_all(said: dict[str, Any]) -> list[str]:
    """Return the quotes of a route that an earlier version wrote: one for every lane."""
    return [said["quoted_usd"]] * len(said["sizes"])


def routes_text(routes: Sequence[Route]) -> str:
    return json.dumps([asdict(route) for route in routes], default=str)


def prediction(row: sqlite3.Row) -> Prediction:
    return Prediction(
        id=row["id"],
        job_id=row["job_id"],
        lane=row["lane"],
        step=row["step"],
        after=row["after_id"],
        first_output=row["first_output"],
        state=State(row["state"]),
        provider=row["provider"],
        endpoint=row["endpoint"],
        operation=Operation(row["operation"]),
        prompt=row["prompt"],
        count=row["count"],
        size=(row["width"], row["height"]) if row["width"] else None,
        format=row["format"],
        inputs=texts(row["inputs"]),
        client_id=row["client_id"],
        variation=row["variation"],
        quoted_usd=Decimal(row["quoted_usd"]),
        quote_exact=bool(row["quote_exact"]),
        charged_usd=None if row["charged_usd"] is None else Decimal(row["charged_usd"]),
        charge_is_estimate=bool(row["charge_is_estimate"]),
        ticket=row["ticket"],
        poll_url=row["poll_url"],
        submitted_at=when(row["submitted_at"]),
        deadline_at=row["deadline_at"],
        finished_at=when(row["finished_at"]),
        due_at=row["due_at"],
        attempts=row["attempts"],
        fault=fault(row["fault"]),
        created_mono=row["created_mono"],
        submitted_mono=row["submitted_mono"],
        looked_mono=row["looked_mono"],
        sent_urls=texts(row["sent_urls"] or "[]"),
    )


@lru_cache(maxsize=4096)
def texts(said: str) -> tuple[str, ...]:
    """Return a list of texts as the database has it; the rows of a job repeat the same few."""
    return tuple(json.loads(said))


def fault(text: str | None) -> Failure | None:
    return Failure(**json.loads(text)) if text else None


def fault_text(fault: Failure | None) -> str | None:
    return json.dumps(asdict(fault)) if fault else None


def frame(row: sqlite3.Row) -> Output:
    return Output(
        job_id=row["job_id"],
        n=row["n"],
        prediction_id=row["prediction_id"],
        url=row["url"],
        url_expires_at=when(row["url_expires_at"]),
        sha256=row["sha256"],
        saved_path=row["saved_path"],
        source=texts(row["source"]),
        error=row["error"],
    )

"""The request of a job and the states of its predictions, for a page that shows the job or repeats its request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from triptych.core.json_fields import IF_ANY, Result
from triptych.core.models import Job, Prediction
from triptych.core.requests import Look
from triptych.core.text import line
from triptych.jobs.caller import Caller
from triptych.jobs.job_reads import visible_job
from triptych.jobs.presenters import took_s
from triptych.storage.jobs import Store

REASON_CHARS = 240
"""The most characters of a failure's reason: a large job has thousands of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionInfo(Result):
    """The state of one request of a job, its lane and step (from 0), its first output (from 1)."""

    lane: int
    step: int
    first_output: int
    count: int
    size: str | None = field(default=None, metadata=IF_ANY)
    state: str
    reason: str | None = field(default=None, metadata=IF_ANY)
    """Why it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest(Result):
    """The request of a job: enough to show it, and to repeat it whole or for one of its images.

    `columns` are those of its table, `values` has a row for each lane; a lane without a column has "" there. `sources`
    has the caller's text for each lane, such as a path. `done` is the number of steps of each lane that an earlier job
    made: the lane's image is then the output of the last of them, and the first one is in `originals`. Each of them is
    left out if it is empty.
    """

    tool: str
    prompts: list[str]
    """One for each step, in the caller's words."""
    sent: list[str] | None = field(default=None, metadata=IF_ANY)
    """The same with the words of the look, if it has some."""
    lanes: list[list[str]]
    """The handles of each lane's own images."""
    references: list[str] | None = field(default=None, metadata=IF_ANY)
    """The handles in every request, and `original`."""
    look: Look | None = field(default=None, metadata=IF_ANY)
    """The version of the look that it used."""
    columns: list[str] | None = field(default=None, metadata=IF_ANY)
    values: list[list[str]] | None = field(default=None, metadata=IF_ANY)
    sources: list[str] | None = field(default=None, metadata=IF_ANY)
    done: list[int] | None = field(default=None, metadata=IF_ANY)
    originals: list[str] | None = field(default=None, metadata=IF_ANY)
    is_table: bool | None = field(default=None, metadata=IF_ANY)
    """Its lanes are no plain images, so that a call cannot name them one by one."""
    count: int = 1
    size: str | None = field(default=None, metadata=IF_ANY)
    """As the caller asked for it."""
    format: str | None = None
    params: dict[str, Any] | None = field(default=None, metadata=IF_ANY)
    took_s: float | None = field(default=None, metadata=IF_ANY)
    """The seconds from its call to its last image, once it has ended."""
    requests: list[PredictionInfo]


def making(job: Job, predictions: Sequence[Prediction]) -> JobRequest:
    """Return the request of a job."""
    request = job.request
    rows = request.rows or ()
    columns = list(dict.fromkeys(column for row in rows for column in row.values))
    lanes = [request.row(lane).images for lane in range(request.lanes)] if request.is_chain else [request.images]
    return JobRequest(
        tool=request.tool,
        prompts=list(request.prompts),
        sent=[request.with_look(one) for one in request.prompts] if request.look and request.look.words else None,
        lanes=[list(images) for images in lanes],
        references=list(request.references),
        look=request.look,
        columns=columns,
        values=[[row.values.get(column, "") for column in columns] for row in rows] if columns else None,
        sources=list(job.sources or ()) if any(job.sources or ()) else None,
        done=[row.done for row in rows] if any(row.done for row in rows) else None,
        originals=[row.original or "" for row in rows] if any(row.original for row in rows) else None,
        is_table=request.rows is not None,
        count=request.count,
        size=request.size,
        format=request.format,
        params=dict(request.params) if request.params else None,
        took_s=took_s(job, predictions),
        requests=[
            PredictionInfo(
                lane=p.lane,
                step=p.step,
                first_output=p.first_output,
                count=p.count,
                size=f"{p.size[0]}x{p.size[1]}" if p.size else None,
                state=p.state,
                reason=line(p.fault.message, REASON_CHARS) if p.fault else None,
            )
            for p in sorted(predictions, key=lambda p: (p.lane, p.step))
        ],
    )


def image_facts(store: Store, handle: str, caller: Caller) -> dict[str, Any]:
    """Return the facts for an image's page: the prompt that made it, and the handles of the images made from it.

    `prompt` is in the caller's words, with the values of its row; an uploaded image has none. `sent` has the words of
    the look too, if there are some. Handles: oldest first.

    Raises: `errors.UnknownHandle`, also for another owner's job.
    """
    facts: dict[str, Any] = {
        "made_from_it": [output.handle for output in store.outputs_made_from(handle, caller.owner)]
    }
    _, slash, number = handle.partition("/")
    if slash:
        request = visible_job(store, handle, caller).request
        place = divmod(int(number) - 1, request.steps) if request.is_chain else (0, 0)
        facts["prompt"] = request.prompt_at(*place)
        if request.look and request.look.words:
            facts["sent"] = request.with_look(facts["prompt"])
    return facts

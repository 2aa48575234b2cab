"""The sheet of several jobs that made the same request on different models or providers, side by side.

Each picture is labelled with its model, provider and price. Must not write anything.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from triptych.core.errors import format_usd
from triptych.core.models import Job, Output, Prediction
from triptych.core.requests import Request
from triptych.core.text import line
from triptych.jobs import presenters
from triptych.jobs.image_preview import MOST_PICTURES, ImageOf, OutputOrigin, Picture, Sheet
from triptych.storage.jobs import Store
from triptych.storage.summaries import Costs

MOST_PROMPT_CHARS = 300


@dataclass(frozen=True, slots=True)
class Candidate:
    """One of the jobs that are compared, with its final pictures."""

    job: Job
    predictions: Sequence[Prediction]
    outputs: Sequence[Output]
    costs: Sequence[Costs]

    @property
    def name(self) -> str:
        return f"{self.job.model} on {self.job.provider}"

    @property
    def price(self) -> str:
        """Its charge, or its quote as long as the charge is not known."""
        cost = presenters.cost_of(self.job, self.costs)
        if cost.charged is None:
            return f"${format_usd(cost.quoted)} quoted"
        return f"{'about ' if cost.charge_is_estimate else ''}${format_usd(cost.charged)}"

    @property
    def took(self) -> str:
        """How long it took, once it has ended; "" before."""
        seconds = presenters.took_s(self.job, self.predictions)
        return "" if seconds is None else f", {seconds:.0f} s"

    def pictures(self, places: int, image_of: ImageOf) -> list[Picture]:
        """Return its final pictures, in `places` places; a place without a picture has the reason."""
        by_id = {prediction.id: prediction for prediction in self.predictions}
        last = self.job.request.steps - 1
        final = [output for output in self.outputs if by_id[output.prediction_id].step == last]
        shown = [self._picture(output, by_id[output.prediction_id], image_of) for output in final[:places]]
        empty = Picture(self.job.id, None, f"{self.job.status}, {self.price}", label=self.name)
        return [*shown, *[empty] * (places - len(shown))]

    def _picture(self, output: Output, prediction: Prediction, image_of: ImageOf) -> Picture:
        image = image_of(output.handle) if output.sha256 else None
        of = f" for {self.job.returned}" if self.job.returned > 1 else ""
        state = "" if image else ", not here" if output.sha256 else f", {prediction.state}"
        made = OutputOrigin(self.job, prediction, output)
        return Picture(output.handle, image, f"{output.handle}, {self.price}{of}{state}", made, label=self.name)


def sheet(store: Store, jobs: Sequence[Job], image_of: ImageOf) -> Sheet | None:
    """Return the sheet of jobs that differ in model and provider alone; None for other jobs, or without pictures."""
    if len(jobs) < 2 or len({job.id for job in jobs}) < len(jobs) or not _alike([job.request for job in jobs]):
        return None
    candidates = [Candidate(job, store.predictions(job.id), store.outputs(job.id), store.costs(job.id)) for job in jobs]
    request = jobs[0].request
    places = max(1, min(request.lanes * request.count, MOST_PICTURES // len(jobs)))
    shown = [picture for candidate in candidates for picture in candidate.pictures(places, image_of)]
    if not any(picture.image for picture in shown):
        return None
    sources = [
        Picture(handle, image, "source")
        for handle in dict.fromkeys(handle for c in candidates for handle in c.predictions[0].inputs[:1])
        if places == 1 and (image := image_of(handle))
    ]
    listed = "; ".join(f"{c.name}: {c.job.id}, {c.price}{c.took}" for c in candidates)
    more = f" Only the first {places} pictures of each." if places < request.lanes * request.count else ""
    prompt = json.dumps(line(request.prompt, MOST_PROMPT_CHARS), ensure_ascii=False)
    caption = f"Comparison of {request.tool} {prompt}: {listed}.{more}"
    return Sheet((*sources, *shown), caption, title=line(request.prompt, MOST_PROMPT_CHARS), group=places)


def _alike(requests: Sequence[Request]) -> bool:
    first, *others = (replace(request, model=None, provider=None) for request in requests)
    return all(other == first for other in others)

"""The predictions of WaveSpeedAI: the usual body, its statuses and task codes, and every odd one, as a table.

Source: the official SDK for the statuses, the documentation for the task codes, a live transcript for the body
(docs/providers/wavespeed.md#poll). One function per oddity; each changes a response.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from triptych_emulators.kit import EmulatedJob, FaultType, JobFailure, for_jobs

MODERATION = 1200
CODES: Mapping[int, str] = {
    1400: "missing parameter: images",
    1401: "invalid parameter: size",
    1402: "failed to access media: the URL could not be downloaded",
    1403: "model execution failed",
    1405: "task failed",
    1406: "task failed: no output",
    1407: "task failed: upstream error",
    5000: "internal server error",
    5003: "task timed out in the queue",
}
SYNC_TIMED_OUT = 5004

Options = Mapping[str, Any]


def prediction(job: EmulatedJob, outcome: str, url: str, outputs: list[Any]) -> dict[str, Any]:
    """Return a prediction as in poll and history; `outcome` is running, failed or done."""
    data: dict[str, Any] = {
        "id": job.id,
        "model": job.spec.model,
        "outputs": outputs if outcome == "done" else [],
        "urls": {"get": url},
        "has_nsfw_contents": [False] * len(outputs) if outcome == "done" else [],
        "status": "completed" if outcome == "done" else "processing",
        "created_at": job.created_at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "error": "",
        "timings": {"inference": round((job.finish_at - job.submitted_at) * 1000) if outcome != "running" else 0},
    }
    if outcome == "failed" and job.failure is not None:
        code = {400: 1402, 500: 5000}.get(job.failure.code or 0, job.failure.code)
        data.update(status=job.failure.status, error=job.failure.message)
        if code is not None:
            data["code"] = code
    if outcome == "done":
        for name, options in job.faults.items():
            if name in _CHANGES:
                _CHANGES[name](data, options)
    odd = job.faults.get("unknown-status")
    if odd is not None and job.polls <= odd["n"]:
        data.update(status=odd["status"], outputs=[], has_nsfw_contents=[], error="")
        data.pop("code", None)
    return data


def _empty(data: dict[str, Any], _: Options) -> None:
    data.update(outputs=[], has_nsfw_contents=[])


def _objects(data: dict[str, Any], options: Options) -> None:
    data["outputs"] = [{str(options["field"]): url} for url in data["outputs"]]


def _string(data: dict[str, Any], _: Options) -> None:
    if len(data["outputs"]) == 1:
        data["outputs"] = data["outputs"][0]


def _frame_missing(data: dict[str, Any], options: Options) -> None:
    at = int(options["n"]) - 1
    if at < len(data["outputs"]):
        data["outputs"] = [None if i == at else url for i, url in enumerate(data["outputs"])]


def _no_model(data: dict[str, Any], _: Options) -> None:
    del data["model"], data["has_nsfw_contents"], data["timings"], data["error"]


_CHANGES: Mapping[str, Callable[[dict[str, Any], Options], None]] = {
    "empty-outputs": _empty,
    "outputs-objects": _objects,
    "outputs-string": _string,
    "frame-missing": _frame_missing,
    "bare": _no_model,
}
_REASON = JobFailure("model execution failed: the upstream returned an error", 1403)
_UNSAFE = JobFailure("Content flagged as potentially unsafe.", MODERATION)
ODDITIES: tuple[FaultType, ...] = (
    for_jobs("unknown-status", "an undocumented status for n polls", n=2, status="warming"),
    for_jobs("failed-200", "the job fails", _REASON, error_code=1403, message=_REASON.message),
    for_jobs("no-code", "the job fails without a task code", JobFailure("something went wrong")),
    for_jobs("moderated", "the job fails for its content", _UNSAFE),
    *(for_jobs(f"code-{c}", f"the job fails with task code {c}", JobFailure(t, c)) for c, t in CODES.items()),
    for_jobs("cancelled", "the job ends with status cancelled", JobFailure("", None, "cancelled")),
    for_jobs("timeout-status", "the job ends with status timeout", JobFailure("task timed out", None, "timeout")),
    for_jobs("deleted", "the job ends with status deleted", JobFailure("", None, "deleted")),
    for_jobs("empty-outputs", "the job completes with an empty list"),
    for_jobs("outputs-objects", "outputs are objects; field is url or download_url", field="url"),
    for_jobs("outputs-string", "a single output is a bare string, not a list"),
    for_jobs("frame-missing", "the n-th output is null", n=1),
    for_jobs("bare", "nothing but id, urls, status, outputs and created_at"),
    for_jobs("fewer", "n images fewer than requested, charged accordingly", n=1),
)

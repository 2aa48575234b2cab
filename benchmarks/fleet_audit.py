"""The fleet's audit: what the providers and the clients say, held against what the database says at the end.

The soak's audit decides what is lost, paid twice or booked wrongly. Here are the rules that many owners and machines
add: nobody is shown what is another's, no account runs more at once than it may, the same call made twice at once is
one job, and a signed URL returns the image that the database names.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import median
from typing import Any

from benchmarks.fleet_clients import Told
from benchmarks.fleet_members import Work
from benchmarks.soak_audit import Findings, Kept, audit

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Lags:
    """Seconds, each list sorted."""

    submit_s: list[float]
    noticed_s: list[float]
    """From the provider's end of a request until the database says so."""
    heard_s: list[float]
    """From the provider's end of a job's last request until a waiting client was answered."""
    told_s: list[float]
    """From a job's end in the database until a subscription's last event."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found; every list in `wrong` has to be empty."""

    found: Findings
    lags: Lags
    most: Mapping[str, int]
    """The most requests at once at each account, by the provider's clock."""
    wrong: Mapping[str, Sequence[str]]
    per_s: float
    """Predictions that ended per second, from the first submit to the last end."""


def report(works: Sequence[Work], kept: Kept, told: Told, owners: Sequence[str], limits: Mapping[str, int]) -> Report:
    """Return what is found in books, database and answers; `owners` are the ids of the clients' tokens, in order."""
    found = audit(works, kept, told.jobs)
    most = {name: most_at_once(work for work in works if work.provider == name) for name in limits}
    of_job = {str(job["id"]): job["owner"] for job in kept.jobs}
    names = dict(enumerate(owners))
    others = [
        f"owner {number} was shown {job}, which is another owner's"
        for number, job in sorted(told.shown)
        if job in of_job and of_job[job] != names[number]  # texts also name jobs as examples
    ]
    limited = [
        f"{name}: {most[name]} at once, and the limit is {limit}"
        for name, limit in limits.items()
        if most[name] > limit
    ]
    stored = {f"{frame['job_id']}/{frame['n']}": frame["sha256"] for frame in kept.frames}
    stored |= {str(image["handle"]): image["sha256"] for image in kept.images}
    files = [f"{handle} is another image" for handle, sha256 in told.images.items() if stored.get(handle) != sha256]
    # One that failed answers for no later call: of two calls at once, one may be made again after a kill.
    failed = {str(job["id"]) for job in kept.jobs if job["status"] in ("failed", "cancelled")}
    twins = [f"request {n} at once twice made {sorted(jobs)}" for n, jobs in told.twins if len(jobs - failed) > 1]
    held = {
        "lost": [*found.lost, *_without_images(kept)],
        "paid twice": found.double,
        "another owner's data": [*others, *told.leaks],
        "account limit exceeded": limited,
        "books and providers differ": found.money,
        "another one's ticket": found.swapped,
        "identical calls that did not attach": [*found.unattached, *twins],
        "images that are not what the database says": [*found.images_bad, *files, *told.no_image],
        "leases left": found.leases,
        "answers that nobody should get": told.broken,
        "calls never answered": told.gave_up,
    }
    return Report(found, _lags(works, kept, told), most, held, _per_s(kept))


def totals(kept: Kept, accounts: Rows, queues: Rows, money: Rows) -> list[str]:
    """Return where the running totals of the database differ from its predictions, when nothing runs any more."""
    wrong = [f"{row['account']} counts {row['running']} running" for row in accounts if row["running"]]
    wrong += [f"{row['owner']} counts {row['queued']} queued at {row['provider']}" for row in queues]
    counted: Counter[tuple[str, str]] = Counter()
    for row in money:
        counted[row["scope"], "charged"] += row["charged_nano"]
        counted[row["scope"], "reserved"] += row["reserved_nano"]
    summed: Counter[tuple[str, str]] = Counter()
    for row in kept.predictions:
        kind, usd = ("reserved", row["reserved_usd"]) if row["charged_usd"] is None else ("charged", row["charged_usd"])
        for scope in ("", f"owner:{row['owner']}"):
            summed[scope, kind] += math.ceil(Decimal(usd) * 10**9)
    return wrong + [
        f"{scope or 'everybody'}: {counted[scope, kind]} nano {kind} in the totals, {summed[scope, kind]} in the rows"
        for scope, kind in sorted(counted | summed)
        if counted[scope, kind] != summed[scope, kind]
    ]


def most_at_once(works: Iterable[Work]) -> int:
    """Return the most requests that ran at once; one that ends as another begins makes room for it."""
    most = running = 0
    for _, change in sorted(at for work in works for at in ((work.began_s, 1), (work.ended_s, -1))):
        running += change
        most = max(most, running)
    return most


def _without_images(kept: Kept) -> list[str]:
    """Return the jobs that are done and have no image, or fewer than they say."""
    home = Counter(str(frame["job_id"]) for frame in kept.frames if frame["sha256"])
    return [
        f"{job['id']} is {job['status']}, says {job['returned']} images and has {home[str(job['id'])]}"
        for job in kept.jobs
        if job["returned"] != home[str(job["id"])] or (job["status"] == "done" and not home[str(job["id"])])
    ]


def _lags(works: Sequence[Work], kept: Kept, told: Told) -> Lags:
    ended = {(work.provider, work.id): work.ended_s for work in works}
    noticed, at_provider = list[float](), defaultdict[str, float](float)
    for row in kept.predictions:
        at = ended.get((row["provider"], row["ticket"] or row["client_id"]))
        if at and row["state"] == "done" and row["finished_at"]:
            noticed.append(float(row["finished_at"]) - at)
            at_provider[row["job_id"]] = max(at_provider[row["job_id"]], at)
    done = {str(job["id"]): float(job["ended_at"]) for job in kept.jobs if job["status"] == "done"}
    heard = [at - at_provider[job] for job, at in told.heard_at.items() if job in done and job in at_provider]
    news = [at - done[job] for job, at in told.told_at.items() if job in done]
    return Lags(sorted(told.submit_s), sorted(noticed), sorted(heard), sorted(news))


def _per_s(kept: Kept) -> float:
    began = [float(row["created_at"]) for row in kept.predictions]
    ended = [float(row["finished_at"]) for row in kept.predictions if row["finished_at"]]
    return len(ended) / max(max(ended, default=0.0) - min(began, default=0.0), 0.001)


def share(values: Sequence[float], part: float) -> float:
    """Return the value that so much of a sorted list is not above; NaN of an empty one."""
    return values[min(int(part * len(values)), len(values) - 1)] if values else math.nan


def lag(values: Sequence[float]) -> str:
    """Return p50 and p95 as text."""
    if not values:
        return "–"
    return f"p50 {median(values):.2f} s, p95 {share(values, 0.95):.2f} s"


def counted(counter: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in sorted(counter.items(), key=lambda item: -item[1]))

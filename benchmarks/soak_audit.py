"""The soak's audit: what the providers accepted, held against what the database says became of it.

Every prompt carries a mark of its own (`#17.2`: request 17, step 2), so that each accepted request leads back to the
predictions that may have sent it; a ticket leads back to exactly one. The database is read as it is, without Triptych.

A **double payment** is an accepted request that no prediction accounts for, since each of those with its mark has one
already. A **loss** is a job that never ended, a promised job that is not there, or an accepted request whose prediction
is neither home, nor uncertain, nor failed for a cause that cost nothing or left the way back (ticket or URL) open.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

REQUESTED = "SELECT p.*, jobs.request FROM predictions p JOIN jobs ON jobs.id = job_id ORDER BY p.created_at, p.id"
"""Every prediction with what its job asks for."""
MARK = re.compile(r"#(\d+\.\d+)")
ENDED = ("done", "failed", "cancelled", "uncertain")
SAME_FOR_S = 3600
MAKING_S = 5.0
"""At the most so long before its transaction a job takes its date; an earlier one may have failed meanwhile."""
WAY_BACK = ("deadline", "fetch_failed")
"""Failures of a request that was paid: its ticket or its URLs are kept, and asking again takes it up again."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """One paid request that a provider took; `charged_usd` is what it charges for it in the end."""

    provider: str
    id: str
    prompt: str
    charged_usd: Decimal

    @property
    def mark(self) -> str:
        found = MARK.search(self.prompt)
        return found[1] if found else self.prompt

    def __str__(self) -> str:
        return f"#{self.mark} at {self.provider} ({self.id}, ${self.charged_usd})"


@dataclass(slots=True)
class Findings:
    """What the audit found; anything in `double`, `lost` and the rest of `wrong` fails the soak."""

    jobs: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    """Predictions by how they ended; failed and cancelled ones with the kind of their fault."""
    submitted: int = 0
    accepted: Counter[str] = field(default_factory=Counter)
    home: Counter[str] = field(default_factory=Counter)
    images: int = 0
    charged_usd: Decimal = Decimal(0)
    emulators_usd: Decimal = Decimal(0)
    for_done_usd: Decimal = Decimal(0)
    """What the emulators charge for the predictions whose charge is in the ledger."""
    held_usd: Decimal = Decimal(0)
    held_ends: Counter[str] = field(default_factory=Counter)
    double: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    swapped: list[str] = field(default_factory=list)
    money: list[str] = field(default_factory=list)
    unattached: list[str] = field(default_factory=list)
    leases: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    images_bad: list[str] = field(default_factory=list)

    def wrong(self) -> dict[str, list[str]]:
        """Return everything that must be empty, by what it is called."""
        return {
            "paid twice": self.double,
            "lost": self.lost,
            "another one's ticket": self.swapped,
            "ledger and provider differ": self.money,
            "identical calls in flight that did not attach": self.unattached,
            "images that are not what the database says": self.images_bad,
            "leases left": self.leases,
            "temporary files left": self.parts,
        }


@dataclass(frozen=True, slots=True)
class Kept:
    """What a database has at the end; `bytes_of` reads a stored image by its row, None where there is none."""

    predictions: Sequence[Mapping[str, Any]]
    """With the job's `request`, in the order of their making."""
    jobs: Sequence[Mapping[str, Any]]
    frames: Sequence[Mapping[str, Any]]
    images: Sequence[Mapping[str, Any]]
    bytes_of: Callable[[Mapping[str, Any]], bytes | None]


JOBS, FRAMES, IMAGES = (
    "SELECT * FROM jobs ORDER BY created_at, id",
    "SELECT * FROM frames",
    "SELECT sha256, handle, mime_type, file FROM images",
)


def read(home: Path) -> Kept:
    """Return what is in a home that no process works on."""

    def bytes_of(image: Mapping[str, Any]) -> bytes | None:
        path = home / "images" / str(image["file"])
        return path.read_bytes() if path.is_file() else None

    with closing(sqlite3.connect(home / "triptych.db", timeout=30)) as db:
        db.row_factory = sqlite3.Row
        return kept(lambda sql: [dict(row) for row in db.execute(sql)], bytes_of)


def kept(
    rows: Callable[[str], Sequence[Mapping[str, Any]]], bytes_of: Callable[[Mapping[str, Any]], bytes | None]
) -> Kept:
    """Return what `rows` reads by its statements."""
    return Kept(rows(REQUESTED), rows(JOBS), rows(FRAMES), rows(IMAGES), bytes_of)


def audit(accepted: Sequence[Accepted], found_in: Kept, promised: Collection[str] = ()) -> Findings:
    """Return what is found; `promised` are the job ids that callers heard."""
    found = Findings()
    rows = [_row(row) for row in found_in.predictions]
    jobs = {str(row["id"]): dict(row) for row in found_in.jobs}
    found.jobs.update(job["status"] for job in jobs.values())
    found.submitted = sum(row["submitted_at"] is not None for row in rows)
    found.accepted.update(work.provider for work in accepted)
    found.home.update(row["provider"] for row in rows if row["state"] == "done")
    found.images = sum(frame["sha256"] is not None for frame in found_in.frames)
    found.ends.update(_end(row) for row in rows)
    found.lost += [f"{job} was promised and is not there" for job in sorted(set(promised) - set(jobs))]
    found.lost += [f"{row['id']} is still {row['state']}" for row in rows if row["state"] not in ENDED]
    found.lost += [f"{job['id']} is {job['status']}" for job in jobs.values() if job["status"] in ("queued", "running")]
    found.leases += [f"{row['id']} ({row['state']})" for row in rows if row["lease"] is not None]
    _match(accepted, rows, found)
    _balance(accepted, rows, found)
    found.unattached += unattached(jobs.values(), rows)
    stored = {image["sha256"]: image for image in found_in.images}
    for sha256 in {frame["sha256"] for frame in found_in.frames if frame["sha256"]}:
        data = found_in.bytes_of(stored[sha256]) if sha256 in stored else None
        if data is None or hashlib.sha256(data).hexdigest() != sha256:
            found.images_bad.append(sha256)
    return found


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(row)
    made["kind"] = json.loads(row["fault"])["kind"] if row["fault"] else ""
    made["charged_usd"] = None if row["charged_usd"] is None else Decimal(row["charged_usd"])
    made["reserved_usd"] = Decimal(row["reserved_usd"])
    prompt = json.loads(row["request"])["prompts"][row["step"]]
    mark = MARK.search(prompt)
    made["mark"] = mark[1] if mark else prompt
    made["work"] = None
    return made


def _end(row: dict[str, Any]) -> str:
    state = str(row["state"])
    return f"{state}: {row['kind']}" if state in ("failed", "cancelled") else state


def _match(accepted: Sequence[Accepted], rows: Sequence[dict[str, Any]], found: Findings) -> None:
    """Give every accepted request to the prediction that sent it, and report what is left over on either side."""
    by_id = {(work.provider, work.id): work for work in accepted}
    free = dict(by_id)
    for row in rows:
        known = (row["provider"], row["ticket"] or row["client_id"])
        work = free.pop(known, None)
        row["work"] = work
        if work and work.mark != row["mark"]:
            found.swapped.append(f"{row['id']} (#{row['mark']}) has the ticket of {work}")
        elif row["ticket"] and not work:
            why = "which another prediction has too" if known in by_id else "which no provider gave"
            found.swapped.append(f"{row['id']} (#{row['mark']}) has the ticket {row['ticket']}, {why}")
    left: dict[tuple[str, str], list[Accepted]] = defaultdict(list)
    for work in free.values():
        left[work.provider, work.mark].append(work)
    for key, works in left.items():
        takers = [row for row in rows if (row["provider"], row["mark"]) == key and row["work"] is None]
        for wanted in (_has_images, _is_open, _may_be_free):
            for row in takers:
                fits = [w for w in works if wanted is not _may_be_free or w.charged_usd == 0]
                if row["work"] is None and wanted(row) and fits:
                    # Of several the one that was charged alike.
                    row["work"] = next((w for w in fits if w.charged_usd == row["charged_usd"]), fits[0])
                    works.remove(row["work"])
        siblings = [row for row in rows if (row["provider"], row["mark"]) == key]
        for work in works:
            unpaid = [row for row in siblings if row["work"] is None and row["submitted_at"] is not None]
            if unpaid or not siblings:
                ends = ", ".join(f"{row['id']} {_end(row)}" for row in unpaid) or "nothing"
                found.lost.append(f"{work} was accepted; the database knows of {ends}")
            else:
                found.double.append(f"{work}, beside {', '.join(str(row['work']) for row in siblings if row['work'])}")


def _has_images(row: dict[str, Any]) -> bool:
    return row["state"] == "done" or row["kind"] in WAY_BACK


def _is_open(row: dict[str, Any]) -> bool:
    """Return whether it is said of a prediction that it may have been paid."""
    return row["state"] == "uncertain" or (row["state"] == "cancelled" and row["reserved_usd"] > 0)


def _may_be_free(row: dict[str, Any]) -> bool:
    """Return whether a prediction was sent and failed without a ticket: its acceptance can only have cost nothing."""
    return row["state"] == "failed" and row["submitted_at"] is not None


def _balance(accepted: Sequence[Accepted], rows: Sequence[dict[str, Any]], found: Findings) -> None:
    """Hold each prediction's charge and reservation against what its accepted request costs."""
    found.emulators_usd = sum((work.charged_usd for work in accepted), Decimal(0))
    for row in rows:
        cost_usd = row["work"].charged_usd if row["work"] else Decimal(0)
        named = f"{row['id']} ({_end(row)})"
        if row["charged_usd"] is not None:
            found.charged_usd += row["charged_usd"]
            found.for_done_usd += cost_usd
            if row["charged_usd"] != cost_usd:
                found.money.append(f"{named}: the ledger says ${row['charged_usd']}, {row['provider']} ${cost_usd}")
        elif row["reserved_usd"] == 0:
            if cost_usd:
                found.money.append(f"{named}: nothing is held back, {row['provider']} charges ${cost_usd}")
        else:
            found.held_usd += row["reserved_usd"]
            found.held_ends[_end(row)] += 1
            if not (_is_open(row) or row["kind"] in WAY_BACK or (row["state"] == "done" and row["ticket"])):
                found.money.append(f"{named}: ${row['reserved_usd']} are held back for nothing")
            elif row["reserved_usd"] < cost_usd:
                found.money.append(
                    f"{named}: ${row['reserved_usd']} are held back, {row['provider']} charges ${cost_usd}"
                )


def unattached(jobs: Iterable[dict[str, Any]], rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the jobs that were made, without `again`, though the same request had one to give."""
    mine = defaultdict(list)
    for row in rows:
        mine[row["job_id"]].append(row)
    same = defaultdict(list)
    for job in jobs:
        same[job["fingerprint"]].append(job)
    complaints = []
    for alike in same.values():
        for at, later in enumerate(alike):
            if any(row["variation"] for row in mine[later["id"]]):
                continue
            for earlier in alike[:at]:
                ends = [row["finished_at"] for row in mine[earlier["id"]]]
                since_s = later["created_at"] - (earlier["ended_at"] or 0)
                if (
                    earlier["status"] == "uncertain"
                    or 0 <= since_s < SAME_FOR_S
                    or any(end is None or end > later["created_at"] + MAKING_S for end in ends)
                ):
                    overlap_s = max((end or math.inf for end in ends), default=math.inf) - later["created_at"]
                    complaints.append(
                        f"{later['id']} was made {overlap_s:.3f} s before {earlier['id']} ({earlier['status']}) ended"
                    )
    return complaints

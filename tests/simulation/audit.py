"""The audit of a world that came to rest: the providers' books and the files, held against the database.

The books are honest and the audit reads the database by itself. Every rule that it checks is one that the program
promises; what it allows besides is said where it allows it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from decimal import Decimal
from typing import Any

from simulation import sets
from simulation.extras import REVISION, revision_of
from triptych.storage import statements

MARK = re.compile(r"#([0-9x]+)\.\d+")
CENT = Decimal("0.000002")
HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
TERMINAL = frozenset({"done", "failed", "cancelled", "uncertain"})
GRACE_S = 130.0
"""So long a process that has an answer may need to write it down, if the disk says no for a while."""
LATE_S = 60.0
ON_ITS_WAY_S = 46.0
"""So long after it was sent a request may be accepted."""
SHORT_S = 100.0
"""A paid answer is waited for at least so long."""
MAY_FAIL = frozenset({"moderated", "failed", "fetch_failed", "deadline", "unreadable_image"})
"""Ends that an honest answer can have by itself."""
MAY_BE_PAID = frozenset({"uncertain", "deadline", "fetch_failed"})
"""Ends, or kinds of fault, that say of themselves that something may have been paid."""


def audit(world: Any) -> None:
    """Report every violation to the world."""
    jobs = [dict(row) for row in world.reader.all("SELECT * FROM jobs ORDER BY created_at, id")]
    rows = [
        _row(row)
        for row in world.reader.all(
            "SELECT p.*, jobs.request, jobs.live_offer FROM predictions p JOIN jobs ON jobs.id = job_id "
            "ORDER BY p.created_at, p.id"
        )
    ]
    frames = [dict(row) for row in world.reader.all("SELECT * FROM frames ORDER BY job_id, n")]
    files = {row["sha256"]: row["file"] for row in world.reader.all("SELECT sha256, file FROM images")}
    history = [dict(row) for row in world.reader.all("SELECT * FROM history ORDER BY rowid")] if jobs else []
    world.lives = len(jobs)
    mine = defaultdict(list)
    for accepted in world.accepted:
        if accepted.tag.client_id:
            mine[accepted.tag.client_id].append(accepted)
        elif accepted.tag.flow:
            world.wrong("paid without a prediction", f"{accepted.provider} {accepted.prompt!r}")
    by_client_id = {row["client_id"]: row for row in rows}
    outputs_of = defaultdict(list)
    for frame in frames:
        outputs_of[frame["prediction_id"]].append(frame)
    for client_id, taken in mine.items():
        row = by_client_id.get(client_id)
        if row is None:
            world.wrong("paid and not remembered", f"{taken[0].provider} {taken[0].prompt!r}")
        elif len(taken) > 1:
            world.wrong(
                "paid twice",
                f"{row['id']} ({_end(row)}) was accepted {len(taken)} times at "
                f"{', '.join(f'{one.at_s:.1f} s' for one in taken)} by {taken[0].provider}",
            )
    twins = defaultdict(set)
    meaning = sets.Meaning(world)
    words = {row["id"]: _words(row, meaning) for row in rows}
    for row in rows:
        twins[words[row["id"]]].add(row["client_id"])
    for row in rows:
        taken = mine.get(row["client_id"], [])
        _account(world, row, taken, outputs_of[row["id"]], twins[words[row["id"]]])
    for job in jobs:
        if job["status"] not in ("done", "partial", "failed", "cancelled", "uncertain"):
            world.wrong("a job never ended", f"{job['id']} is {job['status']}")
    moves = defaultdict(list)
    for move in history:
        if move["what"] == "lease":
            world.wrong("a lease was taken before its end", f"{move['id']}: {move['was']} s, taken at {move['now']} s")
        else:
            moves[move["id"]].append(move)
    statuses = {job["id"]: job["status"] for job in jobs}
    for row in rows:
        _in_flight(world, row, mine.get(row["client_id"], []), moves[row["id"]])
        _told(world, row, mine.get(row["client_id"], []), statuses)
    _same_request(world, jobs, rows, history)
    sets.audit(world, rows, mine, moves)
    _each_by_itself(world, rows, mine)
    _stored(world, frames, files)
    _budget(world)
    if jobs:
        _totals(world)
    for row in history:
        world.note(f"{row['what']} {row['id']} {row['was']} → {row['now']} at {row['at']:.3f}")


def _totals(world: Any) -> None:
    """Report totals and counters of the database that are not those of its predictions."""
    queries = statements.load("queries.sql")  # both databases take these
    for name in ("money_differences", "account_differences", "queue_differences"):
        for row in world.reader.all(queries[name]):
            world.wrong("a total differs from the predictions", f"{name}: {dict(row)}")


def _row(row: Any) -> dict[str, Any]:
    made = dict(row)
    made["kind"] = json.loads(row["fault"])["kind"] if row["fault"] else ""
    made["charged"] = None if row["charged_usd"] is None else Decimal(row["charged_usd"])
    made["reserved"] = Decimal(row["reserved_usd"])
    return made


def _end(row: dict[str, Any]) -> str:
    return f"{row['state']}: {row['kind']}" if row["kind"] else str(row["state"])


def _account(world: Any, row: dict[str, Any], taken: list[Any], frames: list[dict[str, Any]], twins: set[str]) -> None:
    """Hold one prediction against what its requests were accepted for; `twins` are the ids that say the same."""
    named = f"{row['id']} ({_end(row)}) at {row['provider']}"
    if row["state"] not in TERMINAL:
        world.wrong("a job never ended", named)
        return
    same = [one for one in world.accepted if one.tag.client_id in twins]
    ids, keys = {one.work.id for one in same}, {one.work.key for one in same}
    if row["ticket"] and row["ticket"] not in ids:
        others = [a for a in world.accepted if a.provider == row["provider"] and a.work.id == row["ticket"]]
        whose = (
            "a stranger's" if others and not others[0].tag.flow else "another prediction's" if others else "nobody's"
        )
        world.wrong("somebody else's prediction", f"{named} has the ticket {row['ticket'][:12]}, {whose}")
    for frame in frames:
        drawn = world.drawn.get(frame["sha256"]) if frame["sha256"] else None
        if frame["sha256"] and (drawn is None or drawn[1] not in keys):
            world.wrong("somebody else's image", f"{named} has image {frame['n']} of {drawn}")
    clock = world.providers[row["provider"]].clock()
    cost = sum((one.work.charge_usd(clock) for one in taken), Decimal(0))
    if cost and row["state"] in ("failed", "cancelled") and row["reserved"] == 0 and row["charged"] in (None, 0):
        world.wrong("paid and said to be free", f"{named}: {row['provider']} charges ${cost}")
    elif cost and row["state"] == "cancelled" and row["kind"] != "cancelled":
        world.wrong("paid and cancelled", f"{named}: {row['provider']} charges ${cost}")
    # Of two that say the same and were both lost, either may have the other's answer: then it has its charge, too.
    found = [one for one in same if one.work.id == row["ticket"] and one not in taken]
    due = sum((one.work.charge_usd(clock) for one in found), Decimal(0)) if found else cost
    if row["charged"] is not None and len(taken) <= 1 and abs(row["charged"] - due) > CENT and not _estimate(row):
        world.wrong("the ledger differs", f"{named}: it says ${row['charged']}, the provider ${due}")
    if row["operation"] == "layers" and len(taken) <= 1 and cost > Decimal(row["quoted_usd"]) + CENT:
        world.wrong("layers cost more than was reserved", f"{named}: ${cost}, and ${row['quoted_usd']} was reserved")
    planned = json.loads(row["live_offer"])["live"] if row["live_offer"] else None
    for one in taken:
        revision = (planned or {}).get("constants", {}).get(REVISION, "")
        if revision_of(one.work) != revision:
            world.wrong("sent under another offer", f"{named}: {revision_of(one.work)}, planned under {revision}")
    if row["charged"] is None and cost > row["reserved"] + CENT:
        world.wrong("too little is held back", f"{named}: ${row['reserved']} for ${cost}")
    if (
        row["charged"] is None
        and row["reserved"]
        and row["state"] == "failed"
        and not taken
        and row["kind"] not in MAY_BE_PAID
    ):
        world.wrong("held back for nothing", f"{named}: ${row['reserved']}")
    if row["state"] == "done":
        came = sum(1 for frame in frames if frame["sha256"])
        made = sum(one.work.expected - one.work.missing for one in taken)
        said = [frame for frame in frames if frame["error"]]
        if came < made and not said:
            warnings = world.reader.all("SELECT warnings FROM jobs WHERE id = ?", row["job_id"])[0]["warnings"]
            world.wrong("paid images are missing", f"{named}: {came} of {made} are stored; warnings {warnings}")


def _words(row: dict[str, Any], meaning: sets.Meaning) -> tuple[Any, ...]:
    """Return what a request says. Of two that say the same, either may have the other's answer if both were lost."""
    request, place = meaning.requests[row["job_id"]], (row["job_id"], row["lane"], row["step"])
    words = [meaning.prompt(*place), request["count"], meaning.images(*place), request.get("params")]
    return (row["provider"], row["endpoint"], row["size"], json.dumps(words))


def _in_flight(world: Any, row: dict[str, Any], taken: list[Any], moves: list[dict[str, Any]]) -> None:
    """Hold one prediction against what is known of its requests: sent when, answered when, by which process."""
    named = f"{row['id']} ({_end(row)}) at {row['provider']}"
    uncertain_s = [move["at"] for move in moves if move["now"] == "uncertain"]
    for attempt in world.attempts.by_id.get(row["client_id"], []):
        exchange = attempt.exchange
        if attempt.left and any(at_s < attempt.at_s for at_s in uncertain_s):
            world.wrong("an uncertain request was sent again", f"{named} at {attempt.at_s:.1f} s")
        if exchange is None or exchange.broken or not attempt.left:
            continue
        whole_s, left_s = exchange.whole_at_s, exchange.left_at_s
        for move in moves:
            early = move["at"] > attempt.at_s and (whole_s is None or move["at"] < whole_s)
            if move["now"] == "uncertain" and move["by"] == attempt.process.number and early and attempt.process.alive:
                world.wrong("called uncertain while it was in flight", f"{named} at {move['at']:.1f} s")
        grace_s = GRACE_S + attempt.process.still_s
        lived = attempt.process.alive or attempt.process.died_s > (whole_s or 0) + grace_s
        clean = len(taken) == 1 and not taken[0].work.faults
        fine = row["state"] in ("done", "cancelled") or row["kind"] in MAY_FAIL
        had_time = left_s and (attempt.process.alive or attempt.process.died_s > left_s + grace_s)
        if had_time and left_s - attempt.at_s < SHORT_S and clean and not exchange.spoiled and not fine:
            world.wrong("a server hung up on what it pays for", f"{named}, at {left_s:.1f} s")
        if whole_s and lived and clean and not exchange.spoiled and not fine:
            world.wrong("an answer that came was lost", f"{named}, answered in whole at {whole_s:.1f} s")


def _told(world: Any, row: dict[str, Any], taken: list[Any], statuses: dict[str, str]) -> None:
    """Report a job that says that it is done though its provider could not make some of its images."""
    missing = sum(one.work.missing for one in taken)
    if row["state"] == "done" and missing and len(taken) == 1 and statuses[row["job_id"]] == "done":
        world.wrong("called done without all of its images", f"{row['id']} at {row['provider']}: {missing} are missing")


def _each_by_itself(world: Any, rows: list[dict[str, Any]], mine: dict[str, list[Any]]) -> None:
    """Where all that went wrong was one provider's trouble, hold the others to their usual pace."""
    troubled = set()
    for name in world.faults.struck:
        spell = next((spell for spell in world.faults.spells if spell.id == name), None)
        if spell is None or spell.kind not in ("lists drip", "lists fail", "provider down"):
            return
        troubled.add(spell.of)
    for row in rows:
        taken = mine.get(row["client_id"], [])
        if row["provider"] in troubled or row["state"] != "done" or len(taken) != 1:
            continue
        done_s = [move["at"] for move in world.moves_of(row["id"]) if move["now"] == "done"]
        late_s = done_s[-1] - (taken[0].work.finish_at - world.wall_s) if done_s else 0.0
        if late_s > LATE_S:
            world.wrong(
                "one provider's trouble stopped another", f"{row['id']} at {row['provider']}: {late_s:.0f} s late"
            )


def _estimate(row: dict[str, Any]) -> bool:
    """Return whether the ledger says of a charge that it is an estimate."""
    return bool(row.get("charge_is_estimate"))


def _same_request(
    world: Any, jobs: list[dict[str, Any]], rows: list[dict[str, Any]], history: list[dict[str, Any]]
) -> None:
    """Report jobs that were made while the same request was in flight, uncertain, or done less than an hour ago."""
    variations, meaning = defaultdict(list), sets.Meaning(world)
    for row in rows:
        variations[row["job_id"]].append(row["variation"])
    moves = defaultdict(list)
    for move in history:
        if move["what"] == "job":
            moves[move["id"]].append((move["at"], move["now"]))
    wishes = defaultdict(list)
    for job in jobs:
        found = MARK.search(" → ".join(json.loads(job["request"])["prompts"]))
        if found:
            wishes[(found[1], *meaning.wish(job["id"]))].append(job)
    for (mark, *_), alike in wishes.items():
        alike.sort(key=lambda job: moves[job["id"]][0][0] if moves[job["id"]] else 0.0)
        for i, later in enumerate(alike):
            if any(variations[later["id"]]) or not moves[later["id"]]:
                continue
            made_s = moves[later["id"]][0][0]
            for earlier in alike[:i]:
                at_s, status = _standing(moves[earlier["id"]], made_s)
                if status in ("queued", "running", "uncertain") or (
                    status in ("done", "partial") and made_s - at_s < HOUR_S - 1
                ):
                    world.wrong(
                        "the same request made two jobs",
                        f"#{mark}: {later['id']} at {made_s:.1f} s, and {earlier['id']} was {status} since {at_s:.1f}",
                    )


def _standing(moves: list[tuple[float, str]], at_s: float) -> tuple[float, str]:
    """Return a job's status at a time, and since when it had it."""
    past = [move for move in moves if move[0] <= at_s]
    return past[-1] if past else (0.0, "")


def _stored(world: Any, frames: list[dict[str, Any]], files: dict[str, str]) -> None:
    for frame in frames:
        if not frame["sha256"]:
            continue
        file = files.get(frame["sha256"])
        path = world.home / "images" / file if file else None
        if path is None or not path.is_file():
            world.wrong("a stored image is not there", f"{frame['job_id']}/{frame['n']}")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != frame["sha256"]:
            world.wrong("a stored image is torn", f"{frame['job_id']}/{frame['n']}")


def _budget(world: Any) -> None:
    """Report more spent in any 24 hours of true time than the budget allows.

    After a restart of the machine only the wall clock says how long it was off. Where that clock jumped a day
    ahead, money of before the restart is not added to money of after it.
    """
    if world.budget_usd is None:
        return
    off_s = world.power_cuts_s if world.jumped_s >= DAY_S else []
    spent = [
        (accepted.at_s, accepted.work.charge_usd(world.providers[accepted.provider].clock()))
        for accepted in world.accepted_by_us()
    ]
    for at_s, _ in spent:
        since_s = max([at_s - DAY_S, *(cut_s + ON_ITS_WAY_S for cut_s in off_s if cut_s <= at_s)])
        day = sum((usd for then_s, usd in spent if since_s < then_s <= at_s), Decimal(0))
        if day > world.budget_usd:
            world.wrong("the budget was exceeded", f"${day} were charged in 24 h, ${world.budget_usd} is the cap")
            return

"""Tables, looks, originals and retries, which some worlds have besides; and the audit of them.

All of it is drawn from streams of its own. Each lane of a table has its own word, each lane of plain images its own
picture: so a paid request tells the lane and step that it is for. The audit works out by itself which images and words
a request must have.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

LOOK = "look:film"
LOOK_WORDS = ("warm grain", "cold light", "")
MANIFEST_OWN = "triptych_"
HOUR_S = 3600.0
ON_ITS_WAY_S = 46.0
LOST = ("failed", "cancelled")
_THINGS = ("fox", "owl", "elk", "cat", "bee")


def has_sets(seed: object) -> bool:
    """Return whether a seed's world has them."""
    return random.Random(f"{seed}:sets").random() < 0.45


# -- what clients ask for


def vary(world: Any, chance: random.Random, mark: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return another tool and arguments for a wish, with rows, a look or `original`."""
    pictures = [str(world.pictures / f"{n}.png") for n in range(4)]
    looks = [LOOK] if chance.random() < 0.4 else []
    if chance.random() < 0.15:
        own = chance.sample(pictures, chance.choice((1, 2)))
        count = chance.choice((1, 2))
        return "edit_sequence", {"prompt": f"a red kite {mark}", "count": count, "images": [*own, LOOK]}
    steps = [f"a red kite {mark[:-1]}{step}" for step in range(1, chance.choice((1, 2, 2, 3)) + 1)]
    references = [chance.choice(pictures)] if chance.random() < 0.2 else []
    if chance.random() < 0.5:
        references.insert(chance.randint(0, len(references)), "original")
    if chance.random() < 0.75:
        many = chance.choice((1, 2, 3, 4))
        bare = chance.choice((0.0, 0.4, 1.0))
        images = ["" if chance.random() < bare else _some(chance, pictures) for _ in range(many)]
        steps = [step.replace("kite", "{what}") for step in steps]
        table = _table(world, mark[1:-2], images)
        lanes = [table]
        if bare == 1.0 and chance.random() < 0.7:
            references = [one for one in references if one == "original"]
    else:
        lanes = chance.sample(pictures, chance.choice((1, 2, 3)))
    options["save_to"] = f"{world.directory}/saved/{mark[1:]}" if chance.random() < 0.6 else None
    options["model"] = chance.choice((None, None, None, "seedream-4.5", "seedream-4.0"))
    options["provider"] = chance.choice([*world.providers, None, None, None])
    return "edit_chain", {"images": lanes, "steps": steps, "references": [*references, *looks]}


def _some(chance: random.Random, pictures: list[str]) -> str:
    return "|".join(f"../pictures/{Path(one).name}" for one in chance.sample(pictures, chance.choice((1, 1, 1, 2))))


def _table(world: Any, name: str, images: list[str]) -> str:
    path = Path(world.directory) / "tables" / f"{name}.csv"
    path.parent.mkdir(exist_ok=True)
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(["image", "what"])
    writer.writerows([image, f"{_THINGS[n % len(_THINGS)]} {n}"] for n, image in enumerate(images))
    path.write_bytes(out.getvalue().encode())
    return str(path)


def has_look(arguments: Mapping[str, Any]) -> bool:
    return LOOK in (*arguments.get("images", ()), *arguments.get("references", ()))


def new_look(world: Any, chance: random.Random) -> tuple[list[str], str]:
    """Return the images and the words of a look's next version."""
    pictures = [str(world.pictures / f"{n}.png") for n in range(4)]
    return pictures[: chance.choice((1, 1, 1, 2))], chance.choice(LOOK_WORDS)


def look_versions(world: Any) -> list[dict[str, Any]]:
    rows = world.reader.all("SELECT version, words, images FROM looks ORDER BY version")
    return [{"words": row["words"], "images": json.loads(row["images"])} for row in rows]


def check_look(world: Any, job_id: str, before: int) -> None:
    """Report a job whose look is none of those that were the newest while it was asked for."""
    found = world.reader.all("SELECT request FROM jobs WHERE id = ?", job_id)
    look = json.loads(found[0]["request"])["look"] if found else None
    current = look_versions(world)[max(before - 1, 0) :]
    if found and (look is None or not any(_look_key(look) == _look_key(one) for one in current)):
        world.wrong("a job has another look", f"{job_id}: {look}, and the look was {current}")


def _new(look: Sequence[str], given: Sequence[str]) -> list[str]:
    """Return the images of a look that a request has not got already."""
    return [one for one in look if one not in given]


def _look_key(look: Mapping[str, Any] | None) -> tuple[Any, ...]:
    return (look["words"], *look["images"]) if look else ()


# -- what a stored request means, read without the program


class Meaning:
    """What the jobs of a world mean: the images and words of each request, and where each lane began."""

    def __init__(self, world: Any) -> None:
        self.requests = {row["id"]: json.loads(row["request"]) for row in world.reader.all("SELECT * FROM jobs")}
        self._shas = {row["handle"]: row["sha256"] for row in world.reader.all("SELECT handle, sha256 FROM images")}
        for row in world.reader.all("SELECT job_id, n, sha256 FROM frames WHERE sha256 IS NOT NULL"):
            self._shas[f"{row['job_id']}/{row['n']}"] = row["sha256"]

    def sha(self, handle: str) -> str:
        return self._shas.get(handle, handle)

    def row(self, job_id: str, lane: int) -> dict[str, Any]:
        request = self.requests[job_id]
        if request.get("rows") is not None:
            found: dict[str, Any] = request["rows"][lane]
            return found
        return {"images": [request["images"][lane]], "values": {}, "done": 0, "original": None}

    def origin(self, job_id: str, lane: int) -> tuple[str, int]:
        """Return the job and the lane in which a retried lane began."""
        row = self.row(job_id, lane)
        while row["done"]:
            job_id, n = row["images"][0].split("/")
            lane = (int(n) - 1) // len(self.requests[job_id]["prompts"])
            row = self.row(job_id, lane)
        return job_id, lane

    def prompt(self, job_id: str, lane: int, step: int) -> str:
        request = self.requests[job_id]
        prompt = str(request["prompts"][step])
        if request["tool"] == "edit_chain":
            prompt = prompt.replace("{what}", self.row(job_id, lane)["values"].get("what", "{what}"))
        words = (request.get("look") or {}).get("words")
        return f"{prompt}. Keep this look: {words}" if words else prompt

    def images(self, job_id: str, lane: int, step: int) -> list[str]:
        """Return the hashes of the images that a request must have, in order; handles of those not stored."""
        request = self.requests[job_id]
        look = (request.get("look") or {}).get("images", [])
        if request["tool"] != "edit_chain":
            return [self.sha(one) for one in (*request["images"], *_new(look, request["images"]))]
        row, steps = self.row(job_id, lane), len(request["prompts"])
        first_job, first_lane = self.origin(job_id, lane)
        began = self.row(first_job, first_lane)["images"]
        first = began[0] if began else f"{first_job}/{first_lane * steps + 1}"
        own = list(row["images"]) if step == row["done"] else [f"{job_id}/{lane * steps + step}"]
        same = first in own or (not began and step == 1)
        named = [first if one == "original" else one for one in request["references"]]
        named = [one for one, ref in zip(named, request["references"], strict=True) if ref != "original" or
                 (step > 0 and not same)]  # fmt: skip
        return [self.sha(one) for one in (*own, *named, *_new(look, (*own, *named)))]

    def wish(self, job_id: str) -> tuple[Any, ...]:
        """Return what tells the jobs of one wish apart: the look, and the lanes of one that a retry made."""
        request = self.requests[job_id]
        if request["tool"] != "edit_chain":
            return (_look_key(request.get("look")),)
        many = len(request["rows"] if request.get("rows") is not None else request["images"])
        rows = [self.row(job_id, lane) for lane in range(many)]
        lanes = json.dumps([[*map(self.sha, row["images"]), row["values"], row["done"]] for row in rows])
        return (_look_key(request.get("look")), lanes)

    def place(self, job_id: str, lane: int, step: int) -> tuple[Any, ...]:
        """Return what tells the result of a lane's step from all others of a world."""
        request = self.requests[job_id]
        row = self.row(*self.origin(job_id, lane))
        began = [self.sha(one) for one in row["images"]]
        return (*request["prompts"][: step + 1], *began, *row["values"].values(), *_look_key(request.get("look")))


# -- the audit


def audit(world: Any, rows: list[dict[str, Any]], mine: Mapping[str, list[Any]], moves: Mapping[str, Any]) -> None:
    """Report what is wrong with tables, looks and retries, after all else was audited."""
    meaning = Meaning(world)
    for row in rows:
        request = meaning.requests[row["job_id"]]
        if request.get("params"):
            continue
        images = meaning.images(row["job_id"], row["lane"], row["step"])
        if request["tool"] == "edit_chain" and ("edit" in row["operation"]) != bool(images):
            world.wrong("sent as another operation", f"{row['id']}: {row['operation']} with {len(images)} images")
        for one in mine.get(row["client_id"], []):
            _body(world, meaning, row, request, one)
        if row["state"] == "cancelled" and row["kind"] == "input_missing" and row["reserved"]:
            world.wrong("held back for nothing", f"{row['id']} was not sent: ${row['reserved']}")
    _places(world, rows)
    _made_twice(world, meaning, rows, mine, moves)
    for job in world.reader.all("SELECT * FROM jobs"):
        for saved in world.reader.all("SELECT * FROM saves WHERE job_id = ?", job["id"]):
            if meaning.requests[job["id"]]["tool"] == "edit_chain":
                _manifest(world, dict(job), Path(saved["directory"]))


def _body(world: Any, meaning: Meaning, row: dict[str, Any], request: dict[str, Any], one: Any) -> None:
    """Hold what a provider accepted against what the request means."""
    job_id, lane, step = row["job_id"], row["lane"], row["step"]
    named = f"{row['id']} at {one.provider}"
    wanted = meaning.prompt(job_id, lane, step)
    # A sequence names the number of its images, between the caller's words and those of the look.
    begins, look, ends = wanted.partition(". Keep this look: ")
    named_so = one.prompt.startswith(begins) and one.prompt.endswith(look + ends)
    if one.prompt != wanted and (request["tool"] == "edit_chain" or not named_so):
        world.wrong("sent with other words", f"{named}: {one.prompt!r} in place of {wanted!r}")
    images = meaning.images(job_id, lane, step)
    if list(one.images) != images:
        world.wrong("sent with other images", f"{named}: {_short(one.images)} in place of {_short(images)}")
    cost = one.work.charge_usd(world.providers[one.provider].clock())
    if one.provider == row["provider"] and cost > Decimal(row["quoted_usd"]) + Decimal("0.000002"):
        world.wrong("it costs more than was reserved", f"{named}: ${cost}, and ${row['quoted_usd']} was quoted")


def _short(images: Any) -> list[str]:
    return [str(one)[:12] for one in images]


def _places(world: Any, rows: list[dict[str, Any]]) -> None:
    """Report outputs of a chain that are not at their lane and step."""
    steps = {}
    by_id = {row["id"]: row for row in rows}
    for row in rows:
        request = json.loads(row["request"])
        steps[row["id"]] = len(request["prompts"]) if request["tool"] == "edit_chain" else 0
    for frame in world.reader.all("SELECT * FROM frames"):
        row = by_id[frame["prediction_id"]]
        many = steps[row["id"]]
        if many and frame["n"] != row["lane"] * many + row["step"] + 1:
            world.wrong("an output is at the wrong place", f"{row['id']} has {frame['n']}")


def _made_twice(
    world: Any, meaning: Meaning, rows: list[dict[str, Any]], mine: Mapping[str, list[Any]], moves: Mapping[str, Any]
) -> None:
    """Report a step of a lane that two jobs paid for, though the first was not lost when the second was made."""
    made_s = {row["id"]: row["at"] for row in world.reader.all("SELECT id, MIN(at) AS at FROM history GROUP BY id")}
    alike = defaultdict(list)
    for row in rows:
        is_chain = meaning.requests[row["job_id"]]["tool"] == "edit_chain" and not row["variation"]
        if is_chain and row["job_id"] in made_s and mine.get(row["client_id"]):
            alike[meaning.place(row["job_id"], row["lane"], row["step"])].append(row)
    for found in alike.values():
        found.sort(key=lambda row: made_s[row["job_id"]])
        for i, later in enumerate(found):
            at_s = made_s[later["job_id"]]
            for earlier in found[:i]:
                if earlier["job_id"] == later["job_id"]:
                    continue
                state, since_s = _state_at(moves[earlier["id"]], at_s)
                old = state == "done" and at_s - since_s >= HOUR_S - 1
                if state not in LOST and not old:
                    world.wrong(
                        "a lane's step was made by two jobs",
                        f"{later['id']} at {at_s:.1f} s, and {earlier['id']} was {state or 'new'}",
                    )
                elif any(one.at_s > at_s + ON_ITS_WAY_S for one in mine[earlier["client_id"]]) and not old:
                    world.wrong(
                        "a lane's step was sent after it was made again",
                        f"{earlier['id']}, made again by {later['id']} at {at_s:.1f} s",
                    )


def _state_at(moves: Any, at_s: float) -> tuple[str, float]:
    past = [move for move in moves if move["at"] <= at_s]
    return (str(past[-1]["now"]), float(past[-1]["at"])) if past else ("", 0.0)


def _manifest(world: Any, job: dict[str, Any], directory: Path) -> None:
    """Hold the manifest of a chain against the database: each lane is there once, and each done one with its file."""
    if any("Not saved" in one for one in json.loads(job["warnings"])):
        return
    request = json.loads(job["request"])
    steps = len(request["prompts"])
    lanes = len(request["rows"] if request.get("rows") is not None else request["images"])
    found = []
    for path in sorted(directory.glob("manifest*.csv")):
        read = list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"), newline="")))
        if read and read[0][f"{MANIFEST_OWN}job"] == job["id"]:
            found.append(read)
    if len(found) != 1:
        world.wrong("a manifest is missing", f"{job['id']} has {len(found)} in {directory.name}")
        return
    if len(found[0]) != lanes:
        world.wrong("a manifest lacks lanes", f"{job['id']}: {len(found[0])} of {lanes}")
    frames = {row["n"]: row["sha256"] for row in world.reader.all("SELECT * FROM frames WHERE job_id = ?", job["id"])}
    states = defaultdict(set)
    for row in world.reader.all("SELECT lane, state FROM predictions WHERE job_id = ?", job["id"]):
        states[row["lane"]].add(row["state"])
    for lane, cells in enumerate(found[0][:lanes]):
        ranked = ("uncertain", "failed", "cancelled")
        wanted = next((one for one in ranked if one in states[lane]), "done")
        status, saved = cells[f"{MANIFEST_OWN}status"], cells[f"{MANIFEST_OWN}path"]
        if status != wanted:
            world.wrong("a manifest says otherwise", f"{job['id']} lane {lane} is {wanted}, not {status}")
        sha = frames.get((lane + 1) * steps)
        if not sha or status != "done":
            continue
        file = directory / saved if saved else None
        if not file or not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != sha:
            world.wrong("a manifest names no saved image", f"{job['id']} lane {lane}: {saved!r}")

"""The scripted assistant of `benchmarks.clients`: it knows of a result only what its client shows to a model.

It uploads a photo, has it edited into two variants, has both edited again and waits for the end with `get_status`,
looks at the pictures and saves them. Handles, states and the next call are read from what was shown. A call whose
result was not shown is made again, as an assistant would do it.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

BASE64 = re.compile(r"[A-Za-z0-9+/]{400}[A-Za-z0-9+/=]*")
STATUS = re.compile(r"(job_[0-9a-f]{8}): (\w+),|\"status\": ?\"(\w+)\"")
NEXT_STATUS = re.compile(r"get_status\(job_id=\"(job_[0-9a-f]{8})\", wait_s=(\d+)\)")
MISSING = re.compile(r"Argument (\w+) is required")
"""How a framework that takes every argument for a required one says so."""
NOTHING: dict[str, Any] = {
    "model": "",
    "provider": "",
    "size": "",
    "format": "",
    "save_to": "",
    "references": [],
    "wait_s": 25,
    "max_cost_usd": 1,
    "dry_run": False,
    "again": False,
}
"""What an assistant fills in where it wants nothing."""
RUNNING = ("queued", "running")
MOST_LOOKS = 12
MOST_TRIES = 4
DONE = "The two pictures are edited and saved."


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A tool call, by the server's own name of the tool."""

    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a model gets to see of one result."""

    text: str = ""
    pictures: int = 0
    """Images that reach the model as images."""
    linked: tuple[str, ...] = ()
    """URLs that the client hands to the model's API as pictures to be fetched."""

    def plain(self) -> str:
        """Return the text without the escapes of JSON inside JSON."""
        text = self.text
        for _ in range(4):
            text = text.replace('\\"', '"').replace("\\\\", "\\")
        return text.replace("\\n", "\n")

    def base64_chars(self) -> int:
        """Return how many characters of the text are base64."""
        return sum(len(found) for found in BASE64.findall(self.text))


@dataclass(slots=True)
class Exchange:
    """A call, and what the model saw of its result after `seconds`; None while there is none."""

    call: HttpRequest
    asked_at: float
    seen: Seen | None = None
    seconds: float = 0.0


@dataclass(slots=True)
class Assistant:
    """Answers a model API's requests by the script, and remembers every exchange."""

    photo: str
    folder: str
    exchanges: list[Exchange] = field(default_factory=list)
    gave_up: str = ""
    finished: bool = False
    _script: Generator[HttpRequest, Seen, None] | None = None

    def answer(self, seen: Seen) -> HttpRequest | str:
        """Return the next call, or the last words, after the model has seen this."""
        try:
            if self._script is None:
                self._script = self._work()
                call = next(self._script)
            else:
                last = self.exchanges[-1]
                last.seen, last.seconds = seen, time.monotonic() - last.asked_at
                call = self._script.send(seen)
        except StopIteration:
            self.finished = not self.gave_up
            return self.gave_up or DONE
        self.exchanges.append(Exchange(call, time.monotonic()))
        return call

    def _work(self) -> Generator[HttpRequest, Seen, None]:
        told = yield from self._until(r"img_[0-9a-f]{8}", HttpRequest("upload_images", {"images": [self.photo]}))
        if not told:
            return
        prompt = "The same scene in spring and in winter"
        variants = {"images": [told[0]], "prompt": prompt, "count": 2}
        first = yield from self._job(HttpRequest("edit_sequence", variants))
        if not first:
            return
        images = [f"{first}/1", f"{first}/2"]
        warmer = {"images": images, "steps": ["Warmer light"], "wait_s": 0}
        second = yield from self._job(HttpRequest("edit_chain", warmer))
        if not second:
            return
        yield HttpRequest("view_images", {"images": [second]})
        images = [f"{second}/1", f"{second}/2"]
        saved = HttpRequest("save_images", {"images": images, "directory": self.folder, "name": "variant"})
        yield from self._until(r"variant-\d", saved)

    def _until(self, pattern: str, call: HttpRequest) -> Generator[HttpRequest, Seen, list[str]]:
        """Make the call until its result shows what is looked for; return all that was found."""
        tries = 0
        while tries < MOST_TRIES:
            seen = yield call
            if found := re.findall(pattern, seen.plain()):
                return found
            missing = [name for name in MISSING.findall(seen.text) if name not in call.arguments]
            more = {name: NOTHING[name] for name in missing if name in NOTHING}
            call, tries = HttpRequest(call.tool, call.arguments | more), tries + (not more)
        self.gave_up = f"{call.tool} showed the model nothing of {pattern} in {MOST_TRIES} calls"
        return []

    def _job(self, call: HttpRequest) -> Generator[HttpRequest, Seen, str]:
        """Make a paid call and follow the job to its end; return its id, or "" when that cannot be done."""
        found = yield from self._until(r"job_[0-9a-f]{8}", call)
        if not found:
            return ""
        job = found[0]
        seen = self.exchanges[-1].seen
        for _ in range(MOST_LOOKS):
            text = seen.plain() if seen else ""
            states = [first or second for _, first, second in STATUS.findall(text)]
            if states and states[0] not in RUNNING:
                if states[0] != "done":
                    self.gave_up = f"{job} ended as {states[0]}"
                return job if states[0] == "done" else ""
            named = NEXT_STATUS.search(text)
            seen = yield HttpRequest("get_status", {"job_id": job, "wait_s": int(named[2]) if named else 25})
        self.gave_up = f"the model never saw the end of {job} in {MOST_LOOKS} calls of get_status"
        return ""


def as_text(value: Any) -> str:
    """Return a value as compact JSON; a text as it is."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def together(parts: Sequence[Seen]) -> Seen:
    """Return several parts of what was shown as one."""
    return Seen(
        "\n".join(part.text for part in parts if part.text),
        sum(part.pictures for part in parts),
        tuple(url for part in parts for url in part.linked),
    )

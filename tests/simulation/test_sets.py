"""What the audit of tables, looks and retries reads out of a stored request by itself."""

from __future__ import annotations

from typing import Any

from simulation.sets import Meaning

STEPS = ["a {what}", "warmer", "at night"]


class Books:
    """A world with one stored request for each job, and outputs whose hash is their handle."""

    def __init__(self, **requests: dict[str, Any]) -> None:
        self._requests = requests

    @property
    def reader(self) -> Books:
        return self

    def all(self, sql: str) -> list[dict[str, Any]]:
        import json

        return [{"id": id, "request": json.dumps(one)} for id, one in self._requests.items()] if "jobs" in sql else []


def request(**changes: Any) -> dict[str, Any]:
    made = {"tool": "edit_chain", "prompts": STEPS, "images": [], "references": [], "rows": None, "look": None}
    return {**made, **changes}


def row(*images: str, done: int = 0, what: str = "fox") -> dict[str, Any]:
    return {"images": images, "values": {"what": what}, "done": done, "original": None}


def test_a_lane_from_words_has_its_original_from_step_three_on() -> None:
    meaning = Meaning(Books(job_1=request(rows=[row()], references=["original"])))
    assert [meaning.images("job_1", 0, step) for step in range(3)] == [[], ["job_1/1"], ["job_1/2", "job_1/1"]]


def test_a_look_comes_last_in_images_and_words() -> None:
    look = {"words": "warm", "images": ["img_l"]}
    meaning = Meaning(Books(job_1=request(rows=[row("img_a")], references=["img_r"], look=look)))
    assert meaning.images("job_1", 0, 0) == ["img_a", "img_r", "img_l"]
    assert meaning.prompt("job_1", 0, 0) == "a fox. Keep this look: warm"


def test_a_retried_lane_is_the_lane_that_it_goes_on() -> None:
    first = request(rows=[row("img_a", what="owl"), row("img_b")], references=["original"])
    again = request(rows=[row("job_1/4", done=1)], references=["original"])
    meaning = Meaning(Books(job_1=first, job_2=again))
    assert meaning.origin("job_2", 0) == ("job_1", 1)
    assert meaning.place("job_2", 0, 1) == meaning.place("job_1", 1, 1) != meaning.place("job_1", 0, 1)
    assert meaning.images("job_2", 0, 1) == ["job_1/4", "img_b"]

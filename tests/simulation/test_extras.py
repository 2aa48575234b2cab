"""The live models of the simulated worlds: older revisions, and what happens to a stored catalogue."""

from __future__ import annotations

import json
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from simulation.database import HISTORY
from simulation.extras import EDITS, REVISION, Catalogue, foreign_files, revision_of, spoil
from triptych_emulators import evolink, wavespeed
from triptych_emulators.kit import InvalidRequest


def catalogue(*, takes_old: bool) -> tuple[Any, Catalogue]:
    """Return an emulated provider and its live models at their second revision."""
    api = wavespeed.Emulated()
    chance = random.Random(0)
    chance.random = lambda: 0.0 if takes_old else 0.99  # type: ignore[method-assign]
    made = Catalogue(api, "wavespeed", chance)
    made.publish()
    return api, made


def body(revision: str) -> dict[str, Any]:
    return {"prompt": "a kite", "images": ["https://example.com/1.png"], "num_images": 1, REVISION: revision}


@pytest.fixture(autouse=True)
def no_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("triptych_emulators.kit.images.ImageFiles.size_of", lambda self, reference: None)


def test_the_catalogue_lists_the_newest_revision_alone() -> None:
    api, _ = catalogue(takes_old=True)
    assert api._live[EDITS].schema["properties"][REVISION]["enum"] == ["r2"]


def test_a_provider_may_take_a_request_of_an_older_revision() -> None:
    api, _ = catalogue(takes_old=True)
    spec = api._parse(EDITS, body("r1"))
    assert revision_of(type("Work", (), {"spec": spec})) == "r1"


def test_another_provider_refuses_an_older_revision() -> None:
    api, _ = catalogue(takes_old=False)
    with pytest.raises(InvalidRequest, match=REVISION):
        api._parse(EDITS, body("r1"))


@pytest.mark.parametrize("kind", ["catalogue gone", "catalogue torn", "catalogue incomplete"])
def test_a_stored_catalogue_is_spoilt_as_its_name_says(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "atlas.json"
    assert not spoil(kind, file)
    file.write_text(json.dumps({"complete": True, "models": []}))
    assert spoil(kind, file)
    if kind == "catalogue gone":
        assert not file.exists()
    elif kind == "catalogue torn":
        with pytest.raises(ValueError):
            json.loads(file.read_text())
    else:
        assert json.loads(file.read_text()) == {"complete": False, "models": []}


def test_the_file_of_another_program_counts_against_the_quota() -> None:
    api = evolink.Emulated(files_kept=2)
    assert len(foreign_files(api, 2, b"data")) == 2
    assert len(api._files) == 2


@pytest.mark.parametrize(
    ("until", "found"),
    [(112.0, 0), (108.0, 1), (124.0, 0)],
    ids=["a late answer keeps the end", "a claim before the end", "a claim after the end"],
)
def test_only_a_claim_takes_a_lease_before_its_end(until: float, found: int) -> None:
    db = sqlite3.connect(":memory:")
    db.create_function("sim_now", 0, lambda: 0.0)
    db.create_function("sim_by", 0, lambda: 0)
    db.execute("CREATE TABLE jobs (id TEXT, status TEXT)")
    db.execute("CREATE TABLE predictions (id TEXT, state TEXT, lease TEXT, lease_until REAL)")
    for statement in HISTORY:
        db.execute(statement)
    db.execute("INSERT INTO predictions VALUES ('p', 'submitting', 'one', 112.0)")
    db.execute("UPDATE predictions SET lease = 'two', lease_until = ?", (until,))
    assert db.execute("SELECT COUNT(*) FROM history WHERE what = 'lease'").fetchone() == (found,)
    db.close()

"""Breaks the books of a world that came to rest, so that a test can see the audit see it."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from typing import Any

from simulation.database import real_connect
from simulation.extras import REVISION
from simulation.network import Tag


def spoil(world: Any) -> None:
    """Put one of each into the world: paid twice, paid and forgotten, a stranger's ticket, a lost file, and so on."""
    ours = [accepted for accepted in world.accepted if accepted.tag.client_id]
    world.accepted.append(replace(ours[0]))
    world.accepted.append(replace(ours[1], tag=Tag("worker", "submit", "an id that no prediction has")))
    db: sqlite3.Connection = real_connect(world.home / "triptych.db", isolation_level=None)
    db.create_function("sim_now", 0, lambda: 0.0)
    db.create_function("sim_by", 0, lambda: 0)
    db.execute("UPDATE predictions SET ticket = 'of a stranger' WHERE client_id = ?", (ours[2].tag.client_id,))
    of = "WHERE client_id = ?"
    db.execute(f"UPDATE predictions SET operation = 'layers', quoted_usd = '0' {of}", (ours[1].tag.client_id,))
    offer = json.dumps({"live": {"constants": {REVISION: "r9"}}})
    jobs = f"id = (SELECT job_id FROM predictions {of})"
    db.execute(f"UPDATE jobs SET live_offer = ? WHERE {jobs}", (offer, ours[2].tag.client_id))
    (file,) = db.execute("SELECT file FROM images JOIN frames ON frames.sha256 = images.sha256").fetchone()
    (world.home / "images" / file).unlink()
    db.close()

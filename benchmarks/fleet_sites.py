"""Where a fleet keeps its state: PostgreSQL with an S3 API, or one SQLite home with a directory of images."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import soak_audit
from benchmarks.soak_audit import Kept

LEFT = """
SELECT COALESCE(SUM(CASE WHEN state NOT IN ('done', 'failed', 'cancelled', 'uncertain')
                           OR (state = 'done' AND charged_usd IS NULL AND ticket IS NOT NULL AND attempts < 6)
                    THEN 1 ELSE 0 END), 0) AS open, SUM(due_at) AS due, SUM(attempts) AS attempts
FROM predictions
"""
"""How many predictions have not ended or wait for their charge, and what changes when one moves."""
OPEN_JOBS = "SELECT id, owner FROM jobs WHERE status IN ('partial', 'failed', 'uncertain') ORDER BY created_at"


@dataclass(frozen=True)
class SqliteSite:
    """One home directory, which several processes may share."""

    home: Path

    @property
    def settings(self) -> Mapping[str, str]:
        return {}

    def rows(self, sql: str) -> Sequence[dict[str, Any]]:
        with closing(sqlite3.connect(self.home / "triptych.db", timeout=30)) as db:
            db.row_factory = sqlite3.Row
            return [dict(row) for row in db.execute(sql)]

    def kept(self) -> Kept:
        return soak_audit.read(self.home)

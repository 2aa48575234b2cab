"""The numbers for monitoring: right, and as cheap with a long history as without."""

from __future__ import annotations

from pathlib import Path

from triptych.storage.sqlite import Database


def plan(db: Database, name: str) -> str:
    """Return how SQLite runs a statement."""
    return "\n".join(row[3] for row in db.connection.execute(f"EXPLAIN QUERY PLAN {db._queries[name]}"))


def test_no_number_is_read_from_the_history(tmp_path: Path) -> None:
    db = Database(tmp_path / "triptych.db")
    try:
        assert "SEARCH predictions USING COVERING INDEX predictions_by_state" in plan(db, "overview_predictions")
        assert "SCAN predictions" not in plan(db, "overview_predictions")
        assert "SEARCH jobs USING COVERING INDEX jobs_by_status" in plan(db, "overview_jobs")
        assert plan(db, "overview_due").count("SEARCH p USING INDEX predictions_free") == 3
    finally:
        db.close()

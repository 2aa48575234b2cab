"""The looks: reference images and words under a name, in versions, each of one owner.

A version never changes. A removed look keeps its versions, so that its name continues their numbers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from triptych.core.requests import Look
from triptych.storage import rows
from triptych.storage.database import Database, Row


@dataclass(frozen=True, slots=True)
class LookVersion:
    """One stored version of a look. `removed`: the look was removed when this was its newest version."""

    look: Look
    created_at: datetime
    removed: bool


class Looks:
    """The looks in one database. An owner is a text; `""` is the person at the machine."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, owner: str, name: str, words: str, images: Sequence[str], now: datetime) -> tuple[LookVersion, bool]:
        """Return the newest version of a look with these words and images (handles), and whether it is a new one.

        A look that has them already gets no new version.
        """
        with self._db.transaction():
            self._db.lock(f"look:{owner}:{name}")
            last = self.newest(owner, name)
            if last and not last.removed and (last.look.words, last.look.images) == (words, tuple(images)):
                return last, False
            version = last.look.version + 1 if last else 1
            self._db.run(
                "add_look",
                owner=owner,
                name=name,
                version=version,
                words=words,
                images=json.dumps(list(images)),
                now=now.timestamp(),
            )
        return LookVersion(Look(name, version, words, tuple(images)), now, False), True

    def newest(self, owner: str, name: str) -> LookVersion | None:
        """Return the newest version of a look, also of a removed one; None if there never was one."""
        row = self._db.one("newest_look", owner=owner, name=name)
        return _version(row) if row else None

    def versions(self, owner: str, name: str) -> list[LookVersion]:
        """Return all versions of a look, the oldest first."""
        return [_version(row) for row in self._db.all("look_versions", owner=owner, name=name)]

    def listed(self, owner: str) -> list[LookVersion]:
        """Return the newest version of each look of an owner that is not removed, by name."""
        return [_version(row) for row in self._db.all("looks", owner=owner)]

    def remove(self, owner: str, name: str) -> bool:
        """Remove a look; return whether there was one. Its images stay while jobs need them."""
        return self._db.run("remove_look", owner=owner, name=name).rowcount > 0


def _version(row: Row) -> LookVersion:
    look = Look(row["name"], row["version"], row["words"], tuple(json.loads(row["images"])))
    return LookVersion(look, rows.utc(row["created_at"]), bool(row["removed"]))

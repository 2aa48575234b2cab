"""Copies the image files of a home into an object store, and then says so in their rows.

It may stop anywhere and begin again: a row is changed when its object is confirmed. The files stay, and are without a
row from then on; `pruning` removes such files when they are old. Servers may run meanwhile.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from triptych.images.naming import key_of
from triptych.images.objects import Objects
from triptych.jobs.results import CopyResult
from triptych.storage.database import Database
from triptych.storage.reads import IN_OBJECTS


def copy_files(db: Database, home: Path, objects: Objects) -> CopyResult:
    """Copy every image that is still a file; return what was copied, and the handles of lost or damaged files.

    Raises: `errors.Outage` while the store or the database does not accept a write; what was copied before, stays.
    """
    copied, size, lost = 0, 0, []
    for row in db.all("images_home"):
        if row["file"] == IN_OBJECTS:
            continue
        try:
            data = (home / "images" / row["file"]).read_bytes()
        except OSError:
            data = b""
        if hashlib.sha256(data).hexdigest() != row["sha256"]:
            lost.append(row["handle"])
            continue
        objects.put(key_of(row["sha256"], row["mime_type"]), data, row["mime_type"])
        db.run("image_in_objects", sha256=row["sha256"], file=IN_OBJECTS)
        copied, size = copied + 1, size + len(data)
    return CopyResult(copied=copied, bytes=size, lost=lost)

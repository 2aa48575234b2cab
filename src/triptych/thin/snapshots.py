"""The stored answers of the real server, and the key of the server that wrote them.

The first line of a snapshot is the checksum of the others. The second is a JSON object: `key`, `answers` (version of
the protocol → name → number of a line), `statements` (SQL by name), `schema` (the version of the database),
`providers` (name → variable of the key, empty if it needs none) and `urls` (the variables of their base URLs). Each
further line is an answer. In it `ID` stands for the id, and `IMAGES` for the images of `resources/list`.

Rules: a snapshot of another key is not used. The package has one. Where another version of the SDK is installed, the
real server writes one into the home directory, and the next start uses that.
"""

from __future__ import annotations

import json
import os
import sys
import zlib

from triptych import __version__
from triptych.thin.messages import RequestId, Unknown

TYPE_CHECKING = False  # importing `typing` costs a start
if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGED = os.path.join(os.path.dirname(__file__), "answers.txt")
NAME = "answers.txt"
"""The file of a home directory."""
ID, IMAGES = b"@id@", b"@images@"
VERSIONED = ("mcp", "mcp_types", "pydantic", "pydantic_core")
"""The packages whose versions decide what an answer looks like."""
NEWLINE = os.linesep.encode()  # the SDK writes text


class Snapshot:
    """One snapshot, as its file has it."""

    def __init__(self, file: bytes) -> None:
        sum_of_rest, _, rest = file.partition(b"\n")
        if sum_of_rest != checksum(rest):
            raise ValueError("the file is not whole")
        self._lines = rest.split(b"\n")
        fields = json.loads(self._lines[0])
        self._answers: dict[str, dict[str, int]] = fields["answers"]
        self.key: dict[str, str] = fields["key"]
        self.statements: dict[str, str] = fields["statements"]
        self.schema: int = fields["schema"]
        self.providers: dict[str, str] = fields["providers"]
        self.urls = frozenset[str](fields["urls"])

    def text(self, version: str, name: str, request_id: RequestId | None, images: Sequence[str] | None = None) -> bytes:
        """Return an answer as it is sent, with its newline. Raises: `messages.Unknown` if it is not stored."""
        number = self._answers.get(version, {}).get(name)
        if number is None:
            raise Unknown
        found = b"".join(b"," + image.encode() for image in images or ())
        parts = self._lines[number].split(IMAGES)  # apart, because an id may look like a mark
        return found.join(part.replace(ID, json.dumps(request_id).encode()) for part in parts) + NEWLINE


def find(home: str | None) -> Snapshot | None:
    """Return the snapshot for what is installed: that of the package, else that of the home directory, else None."""
    versions = installed(sys.path)
    if versions is None:
        return None
    try:
        packaged = _read(PACKAGED)
        found = Snapshot(packaged)
        if found.key == versions:
            return found
        found = Snapshot(_read(os.path.join(home or "", NAME)))
        return found if found.key == own_key(versions, packaged) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # missing, or damaged
        return None


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def checksum(rest: bytes) -> bytes:
    """Return the first line of a file with these other lines."""
    return b"%08x" % zlib.crc32(rest)


def own_key(versions: dict[str, str], packaged: bytes) -> dict[str, str]:
    """Return the key of a snapshot in the home directory. It ends with the snapshot of the package."""
    return {**versions, "packaged": f"{zlib.crc32(packaged):08x}"}


def installed(path: Sequence[str]) -> dict[str, str] | None:
    """Return the versions of the packages that an import would find, by the folders beside them; None if unclear.

    Each package must be the first of its name on `path`, with one `.dist-info` in the same directory.
    """
    found = {"triptych": __version__}
    for folder in path:
        missing = [name for name in VERSIONED if name not in found]
        if not missing:
            break
        try:
            names = os.listdir(folder or ".")
        except OSError:
            if os.path.isfile(folder):  # a zip file may have any of them
                return None
            continue
        for name in missing:
            if f"{name}.py" in names:
                return None
            if name in names and os.path.isfile(os.path.join(folder, name, "__init__.py")):
                versions = [one for one in names if one.endswith(".dist-info") and _package_of(one) == name]
                if len(versions) != 1:
                    return None
                found[name] = versions[0].removesuffix(".dist-info").partition("-")[2]
    return found if len(found) == len(VERSIONED) + 1 else None


def _package_of(folder: str) -> str:
    return folder.partition("-")[0].lower().replace("-", "_").replace(".", "_")

"""Read, compare and replace a configuration file that belongs to the user.

Rules: the old file is kept beside it as a backup that is never overwritten. The file is replaced in one step, keeps its
mode, and stays a link if it is one.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import stat
from pathlib import Path

from triptych.core import errors, systems

_SECRET = re.compile(
    r"""(?ix)((?:key|token|secret|password|authorization)\w*["']?\s*[:=]\s*(?:["']|(?=\w)))
    (?!\{env:|Bearer\s["']|TRIPTYCH_AUTH_TOKEN["']|(?:true|false)\s*,?$)[^"'$\n]{4,}(["']|$)""",
    re.MULTILINE,
)
_LOGIN = re.compile(r"""(://)[^/\s"'@]+@""")


def read(path: Path) -> str | None:
    """Return a file's text with its line endings, or None if there is no file.

    Raises: `errors.BadRequest` for a file that cannot be read.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise errors.BadRequest(f"{path} cannot be read ({why}); nothing was written.") from error


def write(path: Path, before: str | None, after: str, *, private: bool = False) -> Path | None:
    """Replace a file in one step, and return its backup; missing directories are created, an empty text deletes it.

    A new file that is `private` is for its owner alone: a key may be filled in.

    Raises: `errors.BadRequest` when the file is read-only, was changed since `before` was read, or cannot be written.
    """
    path = path.resolve()  # a link to the file stays a link
    try:
        if read(path) != before:
            raise errors.BadRequest(f"{path} was changed in the meantime; nothing was written. Run it again.")
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = stat.S_IMODE(path.stat().st_mode) if before is not None else None
        if mode is not None and not (mode & stat.S_IWUSR and os.access(path, os.W_OK)):
            raise errors.BadRequest(f"{path} is read-only; nothing was written. Make it writable and run this again.")
        kept = _backup(path) if before is not None else None
        if not after:
            path.unlink()
            return kept
        fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
        try:
            with os.fdopen(
                os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode or (0o600 if private else 0o666)), "wb"
            ) as file:
                file.write(after.encode("utf-8"))
                file.flush()
                systems.flush_file(file.fileno())
            if mode is not None:
                fresh.chmod(mode)
            systems.replace(fresh, path)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        raise errors.BadRequest(
            f"{path} cannot be written ({error.strerror}). `--print` shows the lines to put there yourself."
        ) from error
    return kept


def _backup(path: Path) -> Path:
    """Copy a file to a free name beside it, and return that path."""
    number = 1
    while True:
        kept = path.with_name(f"{path.name}.before-triptych{'' if number == 1 else f'-{number}'}")
        try:
            with os.fdopen(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(path.read_bytes())
            shutil.copymode(path, kept)
        except FileExistsError:
            number += 1
        else:
            return kept


def difference(path: Path, before: str, after: str) -> str:
    """Return the changed lines only: the lines around them may have the keys of other servers."""
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), str(path), f"{path} (afterwards)", lineterm="", n=0
    )
    return _LOGIN.sub(r"\1…@", _SECRET.sub(r"\1…\2", "\n".join(lines)))

"""What a system lets the tests do. Each mark skips for one reason, found by trying where that can be tried."""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from pathlib import Path

import pytest

KEPT = ("PATH", "HOME", "LANG", "SYSTEMROOT", "TEMP", "USERPROFILE", "APPDATA", "LOCALAPPDATA")
"""The variables without which a program does not start: Windows opens no socket without SYSTEMROOT."""


@functools.cache
def can_link() -> bool:
    """Return whether this user can make symbolic links: on Windows that is a right."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            (Path(directory) / "link").symlink_to(directory, target_is_directory=True)
        except (OSError, NotImplementedError):
            return False
        return True


needs_links = pytest.mark.skipif(not can_link(), reason="this user cannot make symbolic links")
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGTERM or SIGINT to one process")
needs_posix_files = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such kind of file")
needs_modes = pytest.mark.skipif(sys.platform == "win32", reason="on Windows a file has the rights of its directory")
needs_posix_home = pytest.mark.skipif(sys.platform == "win32", reason="Windows asks the system for the home directory")
needs_rights = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="all is open to this user")
needs_terminals = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
needs_any_name = pytest.mark.skipif(sys.platform == "win32", reason="Windows does not allow these file names")


def child_environment(**more: str) -> dict[str, str]:
    """Return the environment of a child: what every program needs and `more`, so no key of this machine."""
    return {name: os.environ[name] for name in KEPT if name in os.environ} | more


def python_of(environment: Path, platform: str = sys.platform) -> Path:
    """Return the interpreter of a virtual environment."""
    return environment / ("Scripts/python.exe" if platform == "win32" else "bin/python")

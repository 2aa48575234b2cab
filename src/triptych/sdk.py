"""The sentence for an environment whose `mcp` package Triptych cannot run with.

pip keeps one `mcp` per environment, and a program that needs `mcp` 1 replaces ours. A wheel runs no code when it is
installed, so the import that fails asks here. Nothing imports this module before something failed.
"""

from __future__ import annotations

import sys
from importlib import metadata

SUPPORTED = "2"
"""The major version of `mcp` that pyproject.toml asks for."""


def refusal(error: Exception) -> Exception | SystemExit:
    """Return the exception for a failed import: `SystemExit` (2), its sentence printed, if `mcp` is the reason."""
    said = mismatch()
    if said is None:
        return error
    sys.stderr.write(f"triptych: {said}\n")
    return SystemExit(2)


def mismatch() -> str | None:
    """Return a sentence with the wrong `mcp` of the environment and its remedy; None if the version is right."""
    try:
        found = metadata.version("mcp")
    except metadata.PackageNotFoundError:
        found = ""
    if found.split(".")[0] == SUPPORTED:
        return None
    has = f"mcp {found}" if found else "no mcp package"
    return (
        f"This Python environment has {has}; Triptych needs mcp {SUPPORTED}. Another program here may need the other "
        "version, so give Triptych an environment of its own: install it with `uv tool install` or `pipx install`. If "
        f'nothing else lives here, run `{sys.executable} -m pip install "mcp>={SUPPORTED},<{int(SUPPORTED) + 1}"`.'
    )

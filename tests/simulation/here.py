"""Which world runs now: the stand-ins that are put in place of I/O calls ask here."""

from __future__ import annotations

from typing import Any

_worlds: list[Any] = []


def here() -> Any:
    """Return the world that runs, or None."""
    return _worlds[-1] if _worlds else None


def enter(world: Any) -> None:
    _worlds.append(world)


def leave() -> None:
    _worlds.pop()

"""Finds looks by name."""

from __future__ import annotations

from triptych.core import errors
from triptych.core.requests import Look
from triptych.jobs.image_access import Caller
from triptych.storage.async_store import AsyncStore


def is_look(item: str) -> bool:
    """Return whether an item names a look."""
    return item.startswith("look:")


async def find(store: AsyncStore, item: str, caller: Caller) -> Look:
    """Return the newest version of a look. Raises: `errors.UnknownHandle` naming the existing looks."""
    raise errors.UnknownHandle(f"There is no {errors.quoted(item, 60)}.")

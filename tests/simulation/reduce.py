"""Cuts a failing world down to the fewest faults that still make it fail the same way (delta debugging).

A fault that is left out shifts no other draw, but the world goes another way without it: so each try is a life of its
own, and what counts is that the same rule is broken at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from simulation.runner import one

MOST_TRIES = 250


def reduced(seed: int, what: str, faults: Sequence[str], database: str = "") -> list[str]:
    """Return the fewest of these faults with which the world of a seed breaks the rule `what`."""

    def fails(only: Sequence[str]) -> bool:
        return any(found == what for found, _ in one(seed, only=only, database=database).violations)

    return fewest(list(faults), fails)


def fewest(items: list[str], fails: Callable[[Sequence[str]], bool], most_tries: int = MOST_TRIES) -> list[str]:
    """Return a part of `items` that still fails, of which no single item can be left out; `items` itself fails."""
    tries = 0

    def still(part: list[str]) -> bool:
        nonlocal tries
        tries += 1
        return tries <= most_tries and fails(part)

    if still([]):
        return []
    pieces = 2
    while len(items) > 1 and tries < most_tries:
        size = -(-len(items) // pieces)
        chunks = [items[at : at + size] for at in range(0, len(items), size)]
        for chunk in chunks:
            if pieces == 2 and still(chunk):
                items, pieces = chunk, 2
                break
            rest = [item for item in items if item not in chunk]
            if rest and still(rest):
                items, pieces = rest, max(pieces - 1, 2)
                break
        else:
            if pieces >= len(items):
                break
            pieces = min(len(items), 2 * pieces)
    return items

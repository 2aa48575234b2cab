"""Reads tables whose rows are lanes of a chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from triptych.core import errors
from triptych.core.requests import Row


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a table; their images are still texts, and relative paths are joined to the table's directory."""

    rows: tuple[Row, ...]
    warnings: tuple[str, ...] = ()


def is_table(item: str) -> bool:
    """Return whether an item names a table, by its ending."""
    return item.lower().endswith((".csv", ".tsv", ".jsonl"))


def read(name: str, data: bytes, steps: Sequence[str], directory: str) -> Table:
    """Return the rows of a table. Raises: `errors.BadRequest` with the row and column of a mistake."""
    raise errors.BadRequest(f"{errors.quoted(name, 160)} is a table; this version reads none.")

"""The statements of `queries.sql` by name, and their parameters.

`queries_postgres.sql` has those that PostgreSQL needs differently, under the same names. `queries_thin.sql` has those
of a thin start, whose snapshot contains them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

_COMMENT = re.compile(r"^\s*--.*\n?", re.MULTILINE)
_PARAMETER = re.compile(r"(?<!:):([a-z]\w*)")
"""`:name`, but not a cast (`::type`)."""


@cache
def load(*names: str) -> Mapping[str, str]:
    """Return every statement in these files; one in a later file takes the place of an earlier one."""
    found: dict[str, str] = {}
    for name in names:
        text = Path(__file__).with_name(name).read_text("utf-8")
        found |= {
            name: _COMMENT.sub("", sql).strip()
            for name, sql in re.findall(r"^-- name: (\w+)\n(.*?)(?=^-- name: |\Z)", text, re.DOTALL | re.MULTILINE)
        }
    return found


@cache
def parameters(sql: str) -> frozenset[str]:
    """Return the names of the values that a statement uses."""
    return frozenset(_PARAMETER.findall(sql))


def with_lists(name: str, sql: str, values: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return a statement and its values with each list as its items; an empty list is an empty text.

    Raises: `KeyError` for a value that the statement does not use.
    """
    if unused := values.keys() - parameters(sql):
        raise KeyError(f"{name} does not use {', '.join(sorted(unused))}")
    for key, value in list(values.items()):
        if isinstance(value, list | tuple | set | frozenset):
            del values[key]
            items = {f"{key}_{i}": item for i, item in enumerate(value)}
            sql = re.sub(rf"(?<!:):{key}\b", ", ".join(f":{item}" for item in items) or "''", sql)
            values.update(items)
    return sql, values


def with_places(sql: str) -> tuple[str, list[str]]:
    """Return a statement with `?` for each value, and the names of the values in order."""
    return _PARAMETER.sub("?", sql), _PARAMETER.findall(sql)


@cache
def for_psycopg(sql: str) -> str:
    """Return a statement with psycopg's placeholders."""
    return _PARAMETER.sub(r"%(\1)s", sql.replace("%", "%%"))

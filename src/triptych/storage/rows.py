"""Turns values into columns and rows into values, by the types of their fields.

A column has the name of its field. Times are UTC seconds, money is decimal text; every other value that is neither a
number nor a text is JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from functools import cache, lru_cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from triptych.storage.database import Row

T = TypeVar("T")

SHORT_CHARS = 2000


def utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def column(value: Any) -> str | int | float | None:
    """Return a value as it is stored in its column."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, Decimal):
        return str(value)
    from pydantic_core import to_json  # a command that only reads does without it

    return to_json(value).decode()


def columns(value: Any, only: Container[str] | None = None) -> dict[str, str | int | float | None]:
    """Return a dataclass's fields as columns; with `only`, those of these names."""
    return {
        field.name: column(getattr(value, field.name)) for field in fields(value) if only is None or field.name in only
    }


def value(kind: Any, stored: Any) -> Any:
    """Return a column as a value of a type; None for NULL."""
    return None if stored is None else _reader(kind)(stored)


def read(kind: type[T], row: Row, **given: Any) -> T:
    """Return a row as a dataclass. For a NULL whose field cannot be None, the field has its default.

    `given` are fields that are not in the row.
    """
    values = given
    for name, is_optional, convert in _readers(kind):  # type: ignore[arg-type]
        if name in given:
            continue
        stored = row[name]
        if stored is not None:
            values[name] = convert(stored)
        elif is_optional:
            values[name] = None
    return kind(**values)


@cache
def _readers(kind: Any) -> list[tuple[str, bool, Callable[[Any], Any]]]:
    hints = get_type_hints(kind)
    found = []
    for field in fields(kind):
        hint = hints[field.name]
        is_optional = get_origin(hint) is UnionType and type(None) in get_args(hint)
        if is_optional:
            kinds = [one for one in get_args(hint) if one is not type(None)]
            hint = kinds[0] if len(kinds) == 1 else hint
        found.append((field.name, is_optional, _reader(hint)))
    return found


@cache
def _reader(hint: Any) -> Callable[[Any], Any]:
    if hint is datetime:
        return utc
    if hint in (str, int, float, bool, Decimal) or (isinstance(hint, type) and issubclass(hint, Enum)):
        return hint  # type: ignore[no-any-return]
    convert = _of_json(hint)

    def convert_text(text: str) -> Any:
        return convert(json.loads(text))

    # The rows of a job repeat the same few texts. Long ones, such as the routes of 2,000 lanes, would fill the memory.
    remembered = lru_cache(maxsize=256)(convert_text)
    return lambda text: remembered(text) if len(text) <= SHORT_CHARS else convert_text(text)


def _same(data: Any) -> Any:
    return data


def _decimal(data: Any) -> Decimal:
    return Decimal(str(data))


_OF_JSON: Mapping[Any, Callable[[Any], Any]] = {
    **dict.fromkeys((Any, str, int, bool), _same),
    float: float,
    Decimal: _decimal,
}


@cache
def _of_json(hint: Any) -> Callable[[Any], Any]:
    """Return the function that turns JSON data into a value of a type.

    Raises: `TypeError` for a type that no column has.
    """
    if known := _OF_JSON.get(hint):
        return known
    if get_origin(hint) is not None:
        return _of_parts(get_origin(hint), get_args(hint))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint
    if not is_dataclass(hint):
        raise TypeError(f"a column cannot be read as {hint}")
    hints = get_type_hints(hint)
    members = [(one.name, _of_json(hints[one.name])) for one in fields(hint)]
    make: Callable[..., Any] = hint  # type: ignore[assignment]
    return lambda data: make(**{name: each(data[name]) for name, each in members if name in data})


def _of_parts(kind: Any, parts: tuple[Any, ...]) -> Callable[[Any], Any]:
    """Return the function of `_of_json` for a type with parts, such as a tuple of texts."""
    if kind is UnionType and len(parts) == 2 and parts[1] is type(None):
        some = _of_json(parts[0])
        return _same if some is _same else lambda data: None if data is None else some(data)
    each = _of_json(parts[1 if kind is Mapping else 0])
    if kind is Mapping and parts[0] is str:
        return _same if each is _same else lambda data: {name: each(item) for name, item in data.items()}
    if kind is tuple and parts[1:] == (...,):
        return tuple if each is _same else lambda data: tuple(map(each, data))
    if kind is tuple and {*map(_of_json, parts)} == {_same}:
        return tuple
    if kind is tuple:
        every = [_of_json(part) for part in parts]
        return lambda data: tuple(each(item) for each, item in zip(every, data, strict=True))
    raise TypeError(f"a column cannot be read as {kind} of {parts}")

"""Results as JSON: the root of every result, and the form of money and times.

Money is a JSON number of US dollars with at most six decimals; a time is ISO 8601 in UTC. A command that only reads
makes no schema, so pydantic is imported when a schema is asked for, and not before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, ClassVar

from triptych.core.errors import six_decimals

LEFT_OUT_IF, IN_JSON = "left_out_if", "in_json"
IF_SET: Mapping[str, Any] = {LEFT_OUT_IF: lambda value: value is None}
"""The metadata of a field that the JSON leaves out if it is None."""
IF_ANY: Mapping[str, Any] = {LEFT_OUT_IF: lambda value: not value}
"""The metadata of a field that the JSON leaves out if it is None, empty, zero or false."""
AS_TEXT: Mapping[str, Any] = {IN_JSON: str}
"""The metadata of an amount that is a text in JSON."""


@dataclass(frozen=True, slots=True)
class Result:
    """The root of every result: frozen values, whose fields are the schema that assistants see."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = {"extra": "forbid"}

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON data, without those that are left out."""
        found: dict[str, Any] = _json(self)
        return found


def _usd(usd: Decimal) -> float:
    return float(six_decimals(usd))


def _utc(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _json(value: Any) -> Any:
    """Return a value as JSON data. Raises: `TypeError` for one that has no form in JSON."""
    match value:
        case Enum():
            shown = value.value
        case None | str() | bool() | int() | float():
            shown = value
        case Decimal():
            shown = _usd(value)
        case datetime():
            shown = _utc(value)
        case Mapping():
            shown = {_json(name): _json(item) for name, item in value.items()}
        case list() | tuple():
            shown = [_json(item) for item in value]
        case _ if is_dataclass(value):
            shown = {}
            for one in fields(value):
                item, how = getattr(value, one.name), one.metadata
                if not (LEFT_OUT_IF in how and how[LEFT_OUT_IF](item)):
                    shown[one.name] = how.get(IN_JSON, _json)(item)
        case _:
            raise TypeError(f"{type(value).__name__} has no form in JSON")
    return shown


@dataclass(frozen=True, slots=True)
class _JsonForm:
    """Tells pydantic the type that a value has in JSON, when it makes a schema."""

    convert: Callable[[Any], Any]
    kind: type

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic import PlainSerializer

        serializer = PlainSerializer(self.convert, return_type=self.kind, when_used="json")
        return serializer.__get_pydantic_core_schema__(source, handler)


Usd = Annotated[Decimal, _JsonForm(_usd, float)]
Utc = Annotated[datetime, _JsonForm(_utc, str)]

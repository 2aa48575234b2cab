"""Read the JSON schema of a live model into plain fields, and bound what is kept of it.

Rules: pure. A schema is data from outside, of any shape and size: every text, number and list is bounded, only a
reference within the same document is followed, and the only error is `NotMapped`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, TypeGuard

from triptych.catalog import live_rules as rules
from triptych.core.errors import quoted
from triptych.core.text import line

_TYPES = frozenset({"string", "integer", "number", "boolean", "array", "object"})
_CONDITIONS = frozenset({
    "anyOf", "oneOf", "allOf", "not", "if", "dependentRequired", "dependentSchemas", "dependencies", "minProperties",
    "maxProperties", "patternProperties", "propertyNames",
})  # fmt: skip
"""Keywords by which one field decides what another may be."""
_UNREADABLE = _CONDITIONS | {
    "$ref", "pattern", "const", "exclusiveMinimum", "exclusiveMaximum", "contains", "prefixItems", "uniqueItems",
    "contentEncoding", "contentMediaType", "unevaluatedItems", "unevaluatedProperties",
}  # fmt: skip
"""Keywords that bound a value in a way that is not checked here."""
_BOUNDS = _UNREADABLE | {
    "type", "enum", "minimum", "maximum", "multipleOf", "minLength", "maxLength", "minItems", "maxItems", "items",
    "properties", "required", "additionalProperties",
}  # fmt: skip
"""Keywords that hold together with those of the schema that a reference names."""
_LARGEST_NUMBER = 2**64


class NotMapped(ValueError):
    """A model that cannot be offered with certainty; its text is the reason, on one bounded line."""

    def __init__(self, reason: str) -> None:
        super().__init__(line(reason, 300))


@dataclass(frozen=True, slots=True)
class Field:
    """One property of a schema. `kind` is its type, "" if it is unclear; `enum` its values, None if any is right.

    `minimum` and `maximum` bound a number, `longest` a text, `fewest` and `most` the items of a list. `item` is the
    field of an item, `members` the fields of an object. `readable`: it has no other bounds, and none of a wrong type.
    `default` is None without a valid one. `schema` is the property itself, unchanged.
    """

    name: str
    kind: str
    schema: Mapping[str, Any]
    required: bool = False
    readable: bool = True
    enum: tuple[Any, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    shortest: int = 0
    longest: int | None = None
    fewest: int = 0
    most: int | None = None
    multiple: int | None = None
    item: Field | None = None
    members: Mapping[str, Field] | None = None
    default: Any = None

    @property
    def hidden(self) -> bool:
        """Whether the provider hides it from users."""
        return any(self.schema.get(key) is True for key in ("disabled", "x-hidden", "readOnly"))

    @property
    def words(self) -> frozenset[str]:
        return frozenset(words(self.name))

    def takes(self, value: Any) -> bool:
        """Return whether a scalar, or a list of scalars, is a right value."""
        if self.kind == "array":
            bounded = isinstance(value, list) and self.fewest <= len(value) <= (self.most or rules.MAX_ENUM)
            return bool(bounded and self.item and all(self.item.takes(one) for one in value))
        if self.enum is not None:
            return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in self.enum)
        match self.kind:
            case "string":
                return isinstance(value, str) and self.shortest <= len(value) <= (self.longest or 2_000)
            case "boolean":
                return isinstance(value, bool)
            case _:
                return self.kind in ("integer", "number") and self._takes_number(number(value))

    def _takes_number(self, value: float | None) -> bool:
        if value is None or (self.kind == "integer" and value != int(value)):
            return False
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        return low <= value <= high and not (self.multiple and value % self.multiple)


def words(name: str) -> list[str]:
    """Return the words of a name in lower case: "openai/gpt-image-2" has openai, gpt, image and 2."""
    return re.findall(r"[a-z0-9]+", name[:200].casefold())


def number(value: Any) -> int | float | None:
    """Return a finite number of a usual size; a bool is none."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not -_LARGEST_NUMBER <= value <= _LARGEST_NUMBER
    ):
        return None
    return value


def fields(schema: Mapping[str, Any]) -> dict[str, Field]:
    """Return the properties of a request's schema, in the order that the provider shows them.

    `schema` is an object schema, or a document with one at `components.schemas.Input`.
    Raises: `NotMapped` for a schema that is malformed, too large, or has conditions between its fields.
    """
    root, own = schema, schema
    if isinstance(schema, Mapping) and not isinstance(schema.get("properties"), Mapping):
        own = _at(schema, ("components", "schemas", "Input")) or schema
    own = _resolved(own, root)
    properties, required = own.get("properties"), own.get("required", [])
    kinds = own.get("type", "object")
    if "object" not in (kinds if _is_list(kinds) else [kinds]):
        raise NotMapped("its schema is not one of an object")
    if not isinstance(properties, Mapping) or not properties:
        raise NotMapped("its schema has no properties")
    if conditions := sorted(_CONDITIONS & own.keys()):
        raise NotMapped(f"its schema has conditions between its fields ({', '.join(conditions)})")
    if not isinstance(required, list) or max(len(properties), len(required)) > rules.MAX_PROPERTIES:
        raise NotMapped(f"its schema is malformed or has more than {rules.MAX_PROPERTIES} properties")
    demanded = {name for name in required if isinstance(name, str)}
    if len(demanded) < len(required) or not demanded <= properties.keys():
        raise NotMapped("its schema requires properties that it does not describe")
    found = {}
    for name, given in properties.items():
        if not isinstance(name, str) or not rules.NAME.fullmatch(name):
            if name in demanded:
                raise NotMapped(f"it requires a property with the malformed name {quoted(str(name)[:200], 60)}")
            continue
        found[name] = _field(name, given, root, required=name in demanded)
    order = own.get("x-order-properties")
    shown = [name for name in islice(order, rules.MAX_PROPERTIES) if isinstance(name, str)] if _is_list(order) else []
    return {name: found[name] for name in dict.fromkeys([*shown, *found]) if name in found}


def param_schema(field: Field) -> dict[str, Any] | None:
    """Return the bounded schema of a parameter's values, None for a property that is too complex for one."""
    schema = _bare_schema(field)
    if schema is None:
        return None
    described = field.schema.get("description")
    if isinstance(described, str) and (text := line(described, rules.MAX_DESCRIPTION_CHARS)):
        schema["description"] = text
    if field.default is not None:
        schema["default"] = field.default
    return schema if len(json.dumps(schema)) <= rules.MAX_SCHEMA_CHARS else None


def _bare_schema(field: Field) -> dict[str, Any] | None:
    """Return the type and the bounds of a scalar, or of a list or object of scalars; None if they cannot be kept."""
    parts = (field.item,) if field.item else tuple((field.members or {}).values())
    if not field.readable or not field.kind or any(part.kind in ("array", "object") for part in parts):
        return None
    inner = {part.name: bare for part in parts if (bare := _bare_schema(part))}
    if len(inner) < len(parts) or (not parts and field.kind in ("array", "object")):
        return None
    bounds: dict[str, Any] = {"type": field.kind}
    match field.kind:
        case "object":
            demanded = [part.name for part in parts if part.required]
            bounds |= {"properties": inner, "required": demanded, "additionalProperties": False}
        case "array":
            bounds |= {"items": inner[field.name], "minItems": field.fewest or None, "maxItems": field.most}
        case _ if field.enum is not None:
            kept = [one for one in field.enum if not isinstance(one, str) or len(one) <= rules.MAX_ENUM_CHARS]
            if not kept:
                return None
            bounds["enum"] = kept[: rules.MAX_ENUM]
        case "string":
            bounds |= {"minLength": field.shortest or None, "maxLength": field.longest}
        case _:
            bounds |= {"minimum": field.minimum, "maximum": field.maximum, "multipleOf": field.multiple}
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _field(name: str, given: Any, root: Any, *, required: bool, depth: int = 1) -> Field:
    schema = _resolved(given, root)
    enum = schema.get("enum", schema.get("x-enum"))
    readable = not _UNREADABLE & schema.keys()
    kind, is_clear = _kind(schema, enum)
    values: tuple[Any, ...] | None = None
    if enum is not None:
        values = _enum(enum, kind)
        readable = readable and bool(values)
    bounds: dict[str, Any] = {}
    item, members = None, None
    if kind == "object" and depth:
        members = _members(schema, root)
    if kind == "array" and depth:
        item = _field(name, schema.get("items", {}), root, required=False, depth=depth - 1)
        inner = item.schema
        for key, place in (("fewest", "minItems"), ("most", "maxItems")):
            bounds[key] = schema.get(place, inner.get(place) if item.kind != "array" else None)
    for key, place in (("minimum", "minimum"), ("maximum", "maximum"), ("multiple", "multipleOf")):
        bounds[key] = schema.get(place) if kind in ("integer", "number", "string") else None
    for key, place in (("shortest", "minLength"), ("longest", "maxLength")):
        bounds[key] = schema.get(place) if kind == "string" else None
    right = {key: bound for key, bound in bounds.items() if number(bound) is not None}
    whole = {key: int(bound) for key, bound in right.items() if bound == int(bound)}
    counts = {key: whole[key] for key in ("shortest", "longest", "fewest", "most") if whole.get(key, -1) >= 0}
    limits = {key: whole.get(key, bound) for key, bound in right.items() if key in ("minimum", "maximum")}
    if whole.get("multiple", 0) > 0:
        limits["multiple"] = whole["multiple"]
    given_bounds = {key for key, bound in bounds.items() if bound is not None}
    readable = readable and is_clear and given_bounds == counts.keys() | limits.keys()
    readable = readable and all(
        low <= high
        for low, high in (
            (limits.get("minimum", -math.inf), limits.get("maximum", math.inf)),
            (counts.get("shortest", 0), counts.get("longest", math.inf)),
            (counts.get("fewest", 0), counts.get("most", math.inf)),
        )
    )
    field = Field(name, kind, schema, required, readable, values, item=item, members=members, **counts, **limits)
    default = schema.get("default")
    valid = readable and _is_clean(default) and field.takes(default)
    return replace(field, default=default) if valid else field


def _members(schema: Mapping[str, Any], root: Any) -> dict[str, Field]:
    """Return the fields of an object in a request; none if they cannot be read."""
    inner, required = schema.get("properties"), schema.get("required", [])
    if not isinstance(inner, Mapping) or len(inner) > 20 or not isinstance(required, list):
        return {}
    if not all(isinstance(name, str) and rules.NAME.fullmatch(name) for name in inner):
        return {}
    return {name: _field(name, one, root, required=name in required, depth=0) for name, one in inner.items()}


def _kind(schema: Mapping[str, Any], enum: Any) -> tuple[str, bool]:
    """Return a property's type, and whether it is clear; it may be left out beside an enum of texts."""
    given = schema.get("type")
    if _is_list(given) and len(given) <= len(_TYPES) + 1:
        kinds = [one for one in given if one != "null"]
        given = kinds[0] if len(kinds) == 1 else None
    if isinstance(given, str) and given in _TYPES:
        return given, True
    texts = _is_list(enum) and enum and all(isinstance(one, str) for one in islice(enum, rules.MAX_ENUM_READ))
    return ("string", True) if texts and "type" not in schema else ("", False)


def _enum(enum: Any, kind: str) -> tuple[Any, ...]:
    """Return the values of an enum that have its type and can be shown as they are; () for a malformed one."""
    if not _is_list(enum) or len(enum) > rules.MAX_ENUM_READ:
        return ()
    types: Mapping[str, type | tuple[type, ...]] = {
        "string": str,
        "boolean": bool,
        "integer": int,
        "number": (int, float),
    }
    return tuple(
        one
        for one in enum
        if kind in types
        and isinstance(one, types[kind])
        and (kind == "boolean" or isinstance(one, str) or number(one) is not None)
        and _is_clean(one)
    )


def _is_clean(value: Any) -> bool:
    """Return whether a value can be shown and sent as it is."""
    if isinstance(value, str):
        return len(value) <= 2_000 and line(value) == value
    if _is_list(value):
        return len(value) <= rules.MAX_ENUM and all(not _is_list(one) and _is_clean(one) for one in value)
    return isinstance(value, bool) or number(value) is not None


def _resolved(given: Any, root: Any) -> Mapping[str, Any]:
    """Return a schema with its reference followed, and with the one branch of a choice that is not null.

    Raises: `NotMapped` for a reference that leads nowhere, in a circle or too far, or a schema that is no object.
    """
    for _ in range(rules.MAX_DEPTH):
        if not isinstance(given, Mapping) or len(given) > rules.MAX_PROPERTIES:
            raise NotMapped("its schema has a part that is no object, or a too large one")
        rest = {key: value for key, value in given.items() if key not in ("$ref", "allOf", "anyOf", "oneOf")}
        if "$ref" in given:
            target = given["$ref"]
            if not isinstance(target, str) or not target.startswith("#/") or len(target) > 300:
                raise NotMapped("its schema refers to something outside of itself")
            path = tuple(part.replace("~1", "/").replace("~0", "~") for part in target[2:].split("/"))
            found = _at(root, path)
        elif one := _only_branch(given):
            found = one
        else:
            return given
        if not isinstance(found, Mapping) or len(found) > rules.MAX_PROPERTIES:
            raise NotMapped("its schema refers to a part that is missing or no object")
        if twice := sorted(key for key in _BOUNDS & found.keys() & rest.keys() if found[key] != rest[key]):
            raise NotMapped(f"its schema bounds a value twice ({', '.join(twice)})")
        given = {**found, **rest}
    raise NotMapped("its schema refers to itself, or is nested too deeply")


def _only_branch(schema: Mapping[str, Any]) -> Any:
    """Return the only branch of a choice besides null; None if there is no choice, or several."""
    choices = [key for key in ("allOf", "anyOf", "oneOf") if key in schema]
    if len(choices) != 1 or not _is_list(schema[choices[0]]) or len(schema[choices[0]]) > rules.MAX_DEPTH:
        return None
    branches = [one for one in schema[choices[0]] if not (isinstance(one, Mapping) and one.get("type") == "null")]
    return branches[0] if len(branches) == 1 else None


def _at(document: Any, path: Sequence[str]) -> Any:
    """Return the part of a document at a short path; None if there is none."""
    if len(path) > rules.MAX_DEPTH:
        return None
    for part in path:
        document = document.get(part) if isinstance(document, Mapping) else None
    return document


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)

"""Map the size properties of a live model's schema to `Sizes`. Pure.

A model has its size in one of these forms: pixels in one text ("1024*1024"), a width and a height, a ratio, a tier such
as "2K", a ratio and a tier, or none. The pixels of a ratio and a tier are nominal: the model chooses the exact ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from triptych.catalog import live_rules as rules
from triptych.catalog import presets
from triptych.catalog.live_schema import Field
from triptych.core.offers import Size, Sizes

_PIXELS = re.compile(r"([1-9][0-9]{1,4})([*xX])([1-9][0-9]{1,4})")
_RATIO = re.compile(r"[1-9][0-9]?:[1-9][0-9]?")
_LARGEST_SIDE_PX = 16_384
_ALIKE = 0.015
"""Sizes whose ratios differ by less have one name."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """The sizes of a model, its size properties as `LiveInputs` fields, and the constants for those it requires."""

    sizes: Sizes = field(default_factory=lambda: Sizes(presets={}, exact=True))
    inputs: Mapping[str, Any] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    """The properties that it uses."""
    constants: Mapping[str, Any] = field(default_factory=dict)


def geometry(provider: str, endpoint: str, fields: Mapping[str, Field]) -> Geometry:
    """Return the size of a model from its fields."""
    usable = {name: one for name, one in fields.items() if one.readable}
    for name in rules.SIZE:
        if (one := usable.get(name)) and (found := _in_pixels(one)):
            inputs = {"size": name, "size_separator": _separator(provider, endpoint, one)}
            return _geometry(found, inputs, (one,))
    sides = [usable[name] for name in ("width", "height") if name in usable and usable[name].kind == "integer"]
    if len(sides) == 2 and (found := _of_sides(*sides)):
        return _geometry(found, {"width": "width", "height": "height"}, sides)
    ratio = next(
        (usable[name] for name in (*rules.RATIO, *rules.SIZE) if name in usable and _ratios(usable[name])), None
    )
    tier = next((usable[name] for name in (*rules.TIER, *rules.SIZE) if name in usable and _tiers(usable[name])), None)
    if ratio is None and tier is None:
        return Geometry()
    ratios, tiers = _ratios(ratio) if ratio else ["1:1"], _tiers(tier) if tier else {"1K": ""}
    rows = {word: _row(word, ratios) for word in tiers}
    named = {"ratio": ratio.name if ratio else None, "tier": tier.name if tier else None}
    spelled = {"tiers": tiers} if tier else {}
    used = [one for one in (ratio, tier) if one]
    return _geometry(Sizes(presets=rows, exact=True), {**named, **spelled}, used)


def _geometry(sizes: Sizes, inputs: Mapping[str, Any], used: Iterable[Field]) -> Geometry:
    """Return a geometry; its size may be left out if each property that is required has a value for that."""
    constants: dict[str, Any] = {}
    may_be_left_out = True
    for one in used:
        if one.required:
            left = [word for word in rules.LEFT_TO_MODEL if one.takes(word)] if one.enum else []
            tiers = _tiers(one)
            smallest = tiers[min(tiers, key=lambda word: rules.TIERS_PX[word])] if tiers else None
            value = one.default if one.default is not None else next(iter(left), smallest)
            may_be_left_out = may_be_left_out and value is not None
            constants |= {} if value is None else {one.name: value}
    default = "" if may_be_left_out else next(iter(sizes.presets))
    complete = replace(sizes, default=default, may_be_left_out=may_be_left_out)
    return Geometry(complete, inputs, frozenset(one.name for one in used), constants)


# Pixels ---------------------------------------------------------------------------------------------------------------


def _in_pixels(one: Field) -> Sizes | None:
    """Return the sizes of a property such as "1024*1024"; None if it holds something else, or has no bounds.

    An enum is exact: the schema has no limits for other sizes.
    """
    if one.kind != "string":
        return None
    default = _parsed(one.default)
    if one.enum is not None:
        mark = next((match[2] for value in one.enum if (match := _match(value))), "")
        found = [
            size for value in one.enum if (match := _match(value)) and match[2] == mark and (size := _parsed(value))
        ]
        return Sizes(presets=_by_name(found, default), exact=True) if found else None
    low, high = one.schema.get("minimum"), one.schema.get("maximum")
    if isinstance(low, int) and isinstance(high, int) and (bounded := _bounded(low, high, default)):
        return bounded
    return Sizes(presets=_by_name([default], default), exact=True) if default else None


def _of_sides(width: Field, height: Field) -> Sizes | None:
    """Return the sizes of a width and a height with bounds."""
    bounds = (width.minimum, height.minimum, width.maximum, height.maximum)
    if None in bounds or width.enum or height.enum:
        return None
    default = (int(width.default), int(height.default)) if width.default and height.default else None
    found = _bounded(
        max(int(bounds[0] or 0), int(bounds[1] or 0)), min(int(bounds[2] or 0), int(bounds[3] or 0)), default
    )
    step = math.lcm(width.multiple or 1, height.multiple or 1)
    if not found or step == 1:
        return found
    rows = {
        word: {
            ratio: near
            for ratio, size in row.items()
            if found.min_side <= min(near := (_rounded(size[0], step), _rounded(size[1], step)))
            and max(near) <= found.max_side
        }
        for word, row in found.presets.items()
    }
    kept = {word: row for word, row in rows.items() if row}
    return Sizes(presets=kept, exact=True) if kept else None


def _bounded(low: int, high: int, default: Size | None) -> Sizes | None:
    """Return any sizes with sides in pixels between two bounds; the tier of the default, or 1K, comes first."""
    if not 1 <= low <= high <= _LARGEST_SIDE_PX or high < 64:
        return None
    made = {word: _row(word, rules.RATIOS) for word, area in rules.TIERS_PX.items() if area <= high * high}
    rows = {
        word: {ratio: size for ratio, size in row.items() if low <= min(size) and max(size) <= high}
        for word, row in made.items()
    }
    first = _tier_of(default or (1024, 1024))
    order = sorted((word for word, row in rows.items() if row), key=lambda word: word != first)
    if not order:
        return None
    return Sizes(
        presets={word: rows[word] for word in order},
        min_area=low * low,
        max_area=high * high,
        max_aspect=min(16.0, high / low),
        min_side=low,
        max_side=high,
    )


def _by_name(found: list[Size], default: Size | None) -> dict[str, dict[str, Size]]:
    """Return sizes by the nearest tier and ratio, the default's tier first."""
    rows: dict[str, dict[str, Size]] = {}
    for size in sorted(dict.fromkeys(found[: rules.MAX_ENUM]), key=lambda size: size != default):
        row = rows.setdefault(_tier_of(size), {})
        name = _ratio_of(size)
        row[f"{size[0]}:{size[1]}" if name in row else name] = size
    return rows


def _match(value: Any) -> re.Match[str] | None:
    return _PIXELS.fullmatch(value) if isinstance(value, str) else None


def _parsed(value: Any) -> Size | None:
    match = _match(value)
    size = (int(match[1]), int(match[3])) if match else None
    return size if size and max(size) <= _LARGEST_SIDE_PX and max(size) <= 16 * min(size) else None


def _separator(provider: str, endpoint: str, one: Field) -> str:
    """Return the separator of width and height: that of an enum or default, else by rule."""
    for value in (*(one.enum or ()), one.default):
        if match := _match(value):
            return match[2]
    named = (
        mark for (host, start), mark in rules.SEPARATORS.items() if host == provider and endpoint.startswith(start)
    )
    return next(named, rules.SEPARATOR)


def _tier_of(size: Size) -> str:
    area = math.prod(size)
    return min(rules.TIERS_PX, key=lambda word: round(abs(math.log(rules.TIERS_PX[word] / area)), 6))


def _ratio_of(size: Size) -> str:
    """Return the name of a size's shape: a usual ratio if it is near, else its own."""
    own = math.log(size[0] / size[1])
    for name in rules.RATIOS:
        wide, high = (int(side) for side in name.split(":"))
        if abs(own - math.log(wide / high)) < _ALIKE:
            return name
    shared = math.gcd(*size)
    return f"{size[0] // shared}:{size[1] // shared}"


# Ratios and tiers -----------------------------------------------------------------------------------------------------


def _ratios(one: Field) -> list[str]:
    """Return the ratios of an enum that a request can name."""
    found = [value for value in one.enum or () if isinstance(value, str) and _RATIO.fullmatch(value)]
    return [value for value in found[: rules.MAX_ENUM] if _plain(value) == value]


def _plain(ratio: str) -> str:
    """Return a ratio as `sizes` writes it."""
    wide, high = (int(side) for side in ratio.split(":"))
    shared = math.gcd(wide, high)
    plain = f"{wide // shared}:{high // shared}"
    return {"7:3": "21:9", "3:7": "9:21"}.get(plain, plain)


def _tiers(one: Field) -> dict[str, str]:
    """Return the provider's spelling of each tier, the default first; {} if the enum has other words too."""
    values = [value for value in one.enum or () if isinstance(value, str)]
    spelled = {value.upper(): value for value in values if value.upper() in rules.TIERS_PX}
    others = [value for value in values if value.upper() not in rules.TIERS_PX]
    if not spelled or any(value.casefold() not in rules.LEFT_TO_MODEL for value in others):
        return {}
    return dict(sorted(spelled.items(), key=lambda item: item[1] != one.default))


def _row(word: str, ratios: Iterable[str]) -> dict[str, Size]:
    """Return a tier's nominal size for each ratio: as makers publish them, else by the tier's area."""
    row: dict[str, Size] = {}
    for ratio in ratios:
        size = presets.SINGLE.get(word, {}).get(ratio)
        if size is None:
            wide, high = (int(side) for side in ratio.split(":"))
            area = rules.TIERS_PX[word]
            size = _rounded(math.sqrt(area * wide / high)), _rounded(math.sqrt(area * high / wide))
        if size not in row.values():
            row[ratio] = size
    return row


def _rounded(side: float, step: int = 16) -> int:
    return max(step, round(side / step) * step)

"""Edit one value of a JSON text, which may have comments and trailing commas, as editors allow.

One member or item is spliced into the text or cut out of it. The result is parsed again and must equal the old content
with the change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_STRING = r'("(?:[^"\\\r\n]|\\.)*")'
_COMMENT = re.compile(_STRING + r"|//[^\r\n]*|/\*.*?\*/", re.DOTALL)
_LAST_COMMA = re.compile(_STRING + r"|,(?=\s*[}\]])")
_DECODER = json.JSONDecoder()

Key = str | int


def read(text: str) -> dict[str, Any]:
    """Return the object in a file; an empty file is an empty object.

    Raises: `ValueError` for a text that is not JSON, or not an object.
    """
    flat = _flat(text)
    found = json.loads(flat) if flat.strip() else {}
    if not isinstance(found, dict):
        raise ValueError("it is JSON, but not an object")
    return found


def get(text: str, path: Sequence[str]) -> Any:
    """Return the value at `path`; None if there is none."""
    found: Any = read(text)
    for key in path:
        if found is None:
            return None
        if not isinstance(found, dict):
            raise ValueError(f'the value around "{key}" is not an object')
        found = found.get(key)
    return found


def put(text: str, path: Sequence[str], value: object) -> str:
    """Return the text with `value` at `path`: replaced in its place, or added as the last member."""
    if not _flat(text).strip():
        text = "{}\n"
    meant = read(text)
    inner = meant
    for key in path[:-1]:
        inner = inner.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ValueError(f'"{key}" is not an object')
    inner[path[-1]] = value
    return _checked(_put(text, path, value), meant)


def append(text: str, path: Sequence[str], value: object) -> str:
    """Return the text with `value` as the last item of the list at `path`, which is created if it is missing."""
    meant = read(text)
    listed: Any = meant
    for key in path:
        listed = listed.get(key) if isinstance(listed, dict) else None
    if listed is None:
        return put(text, path, [value])
    if not isinstance(listed, list):
        raise ValueError(f'"{path[-1]}" is not a list')
    listed.append(value)
    flat = _flat(text)
    start = flat.index("{")
    for key in path:
        start = _child(flat, start, key).value
    return _checked(_inserted(text, flat, start, _dumped(text, value, len(path) + 1), len(path) + 1), meant)


def drop(text: str, path: Sequence[Key]) -> str:
    """Return the text without the member or item at `path`, and without each object and list that becomes empty."""
    meant: Any = read(text)
    around = [meant]
    for key in path[:-1]:
        around.append(around[-1][key])
    del around[-1][path[-1]]
    while len(around) > 1 and not around[-1]:
        around.pop()
        path = path[: len(around)]
        del around[-1][path[-1]]
    flat = _flat(text)
    start = flat.index("{")
    for key in path[:-1]:
        start = _child(flat, start, key).value
    for keep_space in (False, True):
        cut = _cut(text, flat, start, path[-1], keep_space)
        if _flat(cut).strip() and _is(cut, meant):
            return cut
    raise ValueError("it is written in a way that cannot be edited safely")


def _is(text: str, meant: Mapping[str, Any]) -> bool:
    try:
        return read(text) == meant
    except ValueError:
        return False


def _checked(text: str, meant: Mapping[str, Any]) -> str:
    if not _is(text, meant):
        raise ValueError("it is written in a way that cannot be edited safely")
    return text


def _flat(text: str) -> str:
    """Return the text as plain JSON of the same length: comments, last commas and a byte order mark are blanks."""
    return _LAST_COMMA.sub(_blank, _bare(text))


def _bare(text: str) -> str:
    """Return the text with blanks for comments and a byte order mark."""
    return _COMMENT.sub(_blank, " " + text[1:] if text.startswith("\ufeff") else text)


def _blank(found: re.Match[str]) -> str:
    return found[1] or re.sub(r"[^\r\n]", " ", found[0])


class _Child(NamedTuple):
    """Where a member or item begins, where its value begins, and where it ends."""

    key: Key
    begin: int
    value: int
    end: int


def _children(flat: str, start: int) -> list[_Child]:
    """Return the members or items of the object or list at `start`."""
    found: list[_Child] = []
    at = _skip(flat, start + 1)
    while flat[at] not in "}]":
        begin = at
        key: Key = len(found)
        if flat[start] == "{":
            key, at = _DECODER.raw_decode(flat, at)
            at = _skip(flat, flat.index(":", at) + 1)
        _, end = _DECODER.raw_decode(flat, at)
        found.append(_Child(key, begin, at, end))
        at = _skip(flat, end)
        if flat[at] == ",":
            at = _skip(flat, at + 1)
    return found


def _child(flat: str, start: int, key: Key) -> _Child:
    return {child.key: child for child in _children(flat, start)}[key]  # of two with one name, the last counts


def _skip(flat: str, at: int) -> int:
    while flat[at].isspace():
        at += 1
    return at


def _put(text: str, path: Sequence[str], value: object) -> str:
    flat = _flat(text)
    start = flat.index("{")
    end = start
    for depth, key in enumerate(path):
        if key not in (child.key for child in _children(flat, start)):
            for missing in reversed(path[depth + 1 :]):
                value = {missing: value}
            member = f"{json.dumps(key, ensure_ascii=False)}: {_dumped(text, value, depth + 1)}"
            return _inserted(text, flat, start, member, depth + 1)
        _, _, start, end = _child(flat, start, key)
    return text[:start] + _dumped(text, value, len(path)) + text[end:]


def _inserted(text: str, flat: str, start: int, new: str, depth: int) -> str:
    """Return the text with a member or item at the end of the object or list at `start`."""
    unit, newline = _unit(text), _newline(text)
    _, close = _DECODER.raw_decode(flat, start)
    close -= 1
    children = _children(flat, start)
    last = children[-1].end if children else start + 1
    rest = text[last:close]
    has_comma = "," in _COMMENT.sub("", rest)
    body = rest.rstrip()
    tail = rest[len(body) :]
    if "\n" not in tail:
        tail = newline + unit * (depth - 1)
    comma = "," if children and not has_comma else ""
    return text[:last] + comma + body + newline + unit * depth + new + ("," if has_comma else "") + tail + text[close:]


def _cut(text: str, flat: str, start: int, key: Key, keep_space: bool) -> str:
    """Return the text without a member or item, its comma and the white space before it."""
    children = _children(flat, start)
    place = [child.key for child in children].index(key)
    _, begin, _, end = children[place]
    bare = _bare(text)
    if bare[(after := _skip(bare, end))] == ",":
        end = after + 1
        before = text[:begin]
    else:
        comma = bare.rfind(",", start, begin) if place else -1
        before = text[:comma] + text[comma + 1 : begin] if comma >= 0 else text[:begin]
    before = before if keep_space else before.rstrip()
    after_it = text[end:]
    if len(children) == 1 and before.endswith(flat[start]):
        after_it = after_it.lstrip()  # nothing is left: {} and [] have no space in them
    return before + after_it


def _dumped(text: str, value: object, depth: int) -> str:
    unit, newline = _unit(text), _newline(text)
    return json.dumps(value, indent=unit, ensure_ascii=False).replace("\n", newline + unit * depth)


def _unit(text: str) -> str:
    indented = re.search(r"^([ \t]+)\S", _flat(text), re.MULTILINE)
    return indented[1] if indented else "  "


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"

"""Add or replace one entry of a configuration file; the rest of its text stays as it was.

JSON may have comments and trailing commas, as editors allow. TOML is edited with tomlkit, which keeps order and
comments. Every result is parsed again and must equal the old content with the new entry; otherwise the edit is refused
with a `ValueError`. Pure: text in, text out.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any

_STRING = r'("(?:[^"\\\r\n]|\\.)*")'
_COMMENT = re.compile(_STRING + r"|//[^\r\n]*|/\*.*?\*/", re.DOTALL)
_LAST_COMMA = re.compile(_STRING + r"|,(?=\s*[}\]])")
_DECODER = json.JSONDecoder()

# -- JSON --------------------------------------------------------------------------------------------------------------


def read_json(text: str) -> dict[str, Any]:
    """Return the object in a file; an empty file is an empty object.

    Raises: `ValueError` for a text that is not JSON, or not an object.
    """
    flat = _flat(text)
    found = json.loads(flat) if flat.strip() else {}
    if not isinstance(found, dict):
        raise ValueError("it is JSON, but not an object")
    return found


def put_json(text: str, path: Sequence[str], value: object) -> str:
    """Return the text with `value` at `path`: replaced in its place, or added as the last member.

    Raises: `ValueError` if the file cannot be edited safely.
    """
    if not _flat(text).strip():
        text = "{}\n"
    meant = read_json(text)
    inner = meant
    for key in path[:-1]:
        inner = inner.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ValueError(f'"{key}" is not an object')
    inner[path[-1]] = value
    return _checked_json(_put(text, path, value), meant)


def append_json(text: str, path: Sequence[str], value: object) -> str:
    """Return the text with `value` as the last item of the list at `path`, which is created if it is missing.

    Raises: `ValueError` if the file cannot be edited safely.
    """
    listed: Any = read_json(text)
    for key in path:
        listed = listed.get(key) if isinstance(listed, dict) else None
    if listed is None:
        return put_json(text, path, [value])
    if not isinstance(listed, list):
        raise ValueError(f'"{path[-1]}" is not a list')
    meant = read_json(text)
    _at(meant, path).append(value)
    flat = _flat(text)
    start = flat.index("{")
    for key in path:
        start, _ = _members(flat, start)[key]
    return _checked_json(_inserted(text, flat, start, _dumped(text, value, len(path) + 1), len(path) + 1), meant)


def _at(document: Any, path: Sequence[str]) -> Any:
    for key in path:
        document = document[key]
    return document


def _checked_json(text: str, meant: Mapping[str, Any]) -> str:
    if read_json(text) != meant:
        raise ValueError("it is written in a way that cannot be edited safely")
    return text


def _flat(text: str) -> str:
    """Return the text as plain JSON of the same length: comments, last commas and a byte order mark are blanks."""
    if text.startswith("\ufeff"):
        text = " " + text[1:]
    return _LAST_COMMA.sub(_blank, _COMMENT.sub(_blank, text))


def _blank(found: re.Match[str]) -> str:
    return found[1] or re.sub(r"[^\r\n]", " ", found[0])


def _put(text: str, path: Sequence[str], value: object) -> str:
    flat = _flat(text)
    start = flat.index("{")
    end = start
    for depth, key in enumerate(path):
        members = _members(flat, start)
        if key not in members:
            for missing in reversed(path[depth + 1 :]):
                value = {missing: value}
            member = f"{json.dumps(key, ensure_ascii=False)}: {_dumped(text, value, depth + 1)}"
            return _inserted(text, flat, start, member, depth + 1)
        start, end = members[key]
    return text[:start] + _dumped(text, value, len(path)) + text[end:]


def _members(flat: str, start: int) -> dict[str, tuple[int, int]]:
    """Return where the values of the object at `start` begin and end."""
    found = {}
    at = _skip(flat, start + 1)
    while flat[at] != "}":
        key, at = _DECODER.raw_decode(flat, at)
        value_at = _skip(flat, flat.index(":", at) + 1)
        _, end = _DECODER.raw_decode(flat, value_at)
        found[key] = (value_at, end)
        at = _skip(flat, end)
        if flat[at] == ",":
            at = _skip(flat, at + 1)
    return found


def _ends(flat: str, start: int) -> Iterator[int]:
    """Return where each item or member of the list or object at `start` ends."""
    if flat[start] == "{":
        yield from (end for _, end in _members(flat, start).values())
        return
    at = _skip(flat, start + 1)
    while flat[at] != "]":
        _, end = _DECODER.raw_decode(flat, at)
        yield end
        at = _skip(flat, end)
        if flat[at] == ",":
            at = _skip(flat, at + 1)


def _skip(flat: str, at: int) -> int:
    while flat[at].isspace():
        at += 1
    return at


def _inserted(text: str, flat: str, start: int, new: str, depth: int) -> str:
    """Return the text with a member or item at the end of the object or list at `start`."""
    unit, newline = _unit(text), _newline(text)
    _, close = _DECODER.raw_decode(flat, start)
    close -= 1
    ends = list(_ends(flat, start))
    last = max(ends, default=start + 1)
    rest = text[last:close]
    has_comma = "," in _COMMENT.sub("", rest)
    body = rest.rstrip()
    tail = rest[len(body) :]
    if "\n" not in tail:
        tail = newline + unit * (depth - 1)
    comma = "," if ends and not has_comma else ""
    return text[:last] + comma + body + newline + unit * depth + new + ("," if has_comma else "") + tail + text[close:]


def _dumped(text: str, value: object, depth: int) -> str:
    unit, newline = _unit(text), _newline(text)
    return json.dumps(value, indent=unit, ensure_ascii=False).replace("\n", newline + unit * depth)


def _unit(text: str) -> str:
    indented = re.search(r"^([ \t]+)\S", _flat(text), re.MULTILINE)
    return indented[1] if indented else "  "


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


# -- TOML --------------------------------------------------------------------------------------------------------------


def put_toml(text: str, path: tuple[str, str], values: Mapping[str, object]) -> str:
    """Return the text with the table at `path` holding exactly `values`: changed in its place, or added at the end.

    Raises: `ValueError` if the file is not TOML, or cannot be edited safely.
    """
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    outer, name = path
    meant = tomllib.loads(text)
    tables = meant.setdefault(outer, {})
    if not isinstance(tables, dict):
        raise ValueError(f'"{outer}" is not a table')
    tables[name] = dict(values)
    is_crlf = 0 < text.count("\r\n") == text.count("\n")  # tomlkit ends new lines with \n
    try:
        document = tomlkit.parse(text.replace("\r\n", "\n") if is_crlf else text)
        found = document.get(outer)
        if found is None or not (name in found or isinstance(found, tomlkit.items.InlineTable)):
            found = tomlkit.table(is_super_table=True).append(name, tomlkit.table())
            _put_toml(found, name, values)
            document.append(outer, found)
        else:
            _put_toml(found, name, values)
        edited = tomlkit.dumps(document)
        same = tomllib.loads(edited) == meant
    except (TOMLKitError, tomllib.TOMLDecodeError):
        same = False
    if not same:
        raise ValueError("it is written in a way that cannot be edited safely")
    return edited.replace("\n", "\r\n") if is_crlf else edited


def _put_toml(table: Any, key: str, value: object) -> None:
    """Set a key of a tomlkit table; equal values keep their text and comments."""
    import tomlkit

    old = table.get(key)
    if isinstance(value, list) and isinstance(old, list) and value[: len(old)] == old:
        old.extend(value[len(old) :])
    elif not isinstance(value, Mapping):
        if old != value:
            table[key] = value
    else:
        if not isinstance(old, MutableMapping):
            table[key] = tomlkit.inline_table()
        inner = table[key]
        for gone in [name for name in inner if name not in value]:
            del inner[gone]
        # Comments at a table's end mostly belong to the table that follows: new keys go before them.
        last = []
        while isinstance(inner, tomlkit.items.Table) and inner.value.body and inner.value.body[-1][0] is None:
            last.append(inner.value.body.pop()[1])
        for name, item in value.items():
            _put_toml(inner, name, item)
        for item in reversed(last):
            if not isinstance(item, tomlkit.items.Null):  # the place of a deleted key
                inner.add(item)

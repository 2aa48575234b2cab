"""Edit one entry of a YAML text in its usual form: lines `key:` at the left margin, entries indented below them.

A host that keeps its settings in YAML writes that form itself. Other forms (braces around the entries, anchors, tabs,
two documents) are refused. There is no YAML parser here: only the lines of the outer key and of the entry are read, and
every other line stays as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_KEY = re.compile(r"""( *)("[^"]*"|'[^']*'|[\w.$/@-][^\s:#"'{}\[\],&*]*)[ ]*:(?:\s+(.*?))?\s*$""")
_TAIL = re.compile(r"(?:^|\s)#.*$")
_EMPTY = ("", "{}", "null", "~")


class _Block(NamedTuple):
    """The lines of one key: its own, and those up to `end`, which belong to it."""

    at: int
    end: int
    rest: str
    """The text behind the colon, without a comment."""


def get(text: str, path: Sequence[str]) -> Any:
    """Return the value at `path` (two keys); None if there is none."""
    outer, name = path
    lines = _lines(text)
    around = _find(lines, 0, len(lines), outer, 0)
    if around is None:
        return None
    start, end, indent = _inside(lines, around)
    found = _find(lines, start, end, name, indent)
    if found is None:
        return None
    return _scalar(found.rest) if found.rest else _value(lines[found.at + 1 : found.end])


def put(text: str, path: Sequence[str], value: Mapping[str, Any]) -> str:
    """Return the text with `value` at `path` (two keys)."""
    outer, name = path
    lines = _lines(text)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    around = _find(lines, 0, len(lines), outer, 0)
    if around is None:
        return _joined(text, [*lines, f"{outer}:\n", *_written(name, value, "  ")])
    start, end, indent = _inside(lines, around)
    found = _find(lines, start, end, name, indent)
    if found:
        start, end = found.at, found.end
    else:
        start = end
    if around.rest:  # an empty map
        lines[around.at] = re.sub(r":\s+(\{\}|null|~)", ":", lines[around.at], count=1)
    new = _written(name, value, " " * (indent or 2))
    return _joined(text, [*lines[:start], *new, *lines[end:]])


def drop(text: str, path: Sequence[str]) -> str:
    """Return the text without the entry at `path` (two keys), and without the outer key if nothing is left in it."""
    outer, name = path
    lines = _lines(text)
    around = _find(lines, 0, len(lines), outer, 0)
    assert around is not None
    start, end, indent = _inside(lines, around)
    found = _find(lines, start, end, name, indent)
    assert found is not None
    left = [*lines[start : found.at], *lines[found.end : end]]
    if not any(line.strip() for line in left):
        return _joined(text, [*lines[: around.at], *lines[end:]])
    return _joined(text, [*lines[: found.at], *lines[found.end :]])


def _lines(text: str) -> list[str]:
    """Return the lines, with `\\n` at their ends.

    Raises: `ValueError` for a form that this module does not read.
    """
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        start = number == 1 and line.rstrip() == "---"
        if re.match(r" *\t", line) or not (start or re.match(r"[ #\n]|- |-\n", line) or _KEY.match(line)):
            raise ValueError(f"line {number} is not in the usual form of YAML, a key and its value below or beside it")
    return lines


def _joined(text: str, lines: Sequence[str]) -> str:
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    return mark + "".join(lines).replace("\n", "\r\n" if "\r\n" in text else "\n")


def _find(lines: Sequence[str], start: int, end: int, key: str, indent: int) -> _Block | None:
    """Return the block of a key among lines of this indentation.

    Raises: `ValueError` if it is there twice.
    """
    places = []
    for at in range(start, end):
        match = _KEY.match(lines[at])
        if match and len(match[1]) == indent and _scalar(match[2]) == key:
            places.append((at, _TAIL.sub("", match[3] or "").strip()))
    if len(places) > 1:
        raise ValueError(f'"{key}" is in it twice')
    if not places:
        return None
    at, rest = places[0]
    return _Block(at, _end(lines, at, end, indent), rest)


def _end(lines: Sequence[str], at: int, end: int, indent: int) -> int:
    """Return where the block of the key at a line ends: before the blank lines and comments of the next one."""
    last = at + 1
    for number in range(at + 1, end):
        line = lines[number]
        inner = len(line) - len(line.lstrip(" "))
        if not line.strip() or (line.lstrip().startswith("#") and inner <= indent):
            continue
        if inner < indent or (inner == indent and not line.lstrip().startswith("- ")):
            break
        last = number + 1
    return last


def _inside(lines: Sequence[str], around: _Block) -> tuple[int, int, int]:
    """Return where the entries in a block begin and end, and their indentation (0: there is none).

    Raises: `ValueError` if the block is not a map in the usual form.
    """
    if around.rest not in _EMPTY:
        raise ValueError(f"line {around.at + 1} has its value beside it, not below")
    start = around.at + 1
    first = next((line for line in lines[start : around.end] if line.strip() and not line.lstrip().startswith("#")), "")
    match = _KEY.match(first)
    if first and (not match or not match[1] or around.rest):
        raise ValueError(f"the lines below line {around.at + 1} are not keys and their values")
    return start, around.end, len(match[1]) if match else 0


# -- values ------------------------------------------------------------------------------------------------------------


def _written(name: str, value: Mapping[str, Any], indent: str) -> list[str]:
    lines = [f"{indent}{_key(name)}:\n"]
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            lines += _written(key, item, indent + "  ")
        else:
            # JSON is YAML too.
            lines.append(f"{indent}  {_key(key)}: {json.dumps(item, ensure_ascii=False)}\n")
    return lines


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_][\w-]*", name) else json.dumps(name)


def _value(lines: Sequence[str]) -> Any:
    """Return the map or list that these lines are.

    Raises: `ValueError` for a form that this module does not read.
    """
    lines = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        return None
    indent = len(lines[0]) - len(lines[0].lstrip(" "))
    if lines[0].lstrip().startswith("- "):
        if not all(line.startswith(" " * indent + "- ") for line in lines):
            raise ValueError("its entry has a list of more than texts")
        return [_scalar(line[indent + 2 :].strip()) for line in lines]
    found: dict[str, Any] = {}
    at = 0
    while at < len(lines):
        match = _KEY.match(lines[at])
        if not match or len(match[1]) != indent:
            raise ValueError(f"its entry has a line that is no key: {lines[at].strip()[:60]}")
        end = _end(lines, at, len(lines), indent)
        rest = (match[3] or "").strip()
        if rest and end > at + 1:
            raise ValueError("its entry has a value of several lines")
        found[_scalar(match[2])] = _scalar(rest) if rest else _value(lines[at + 1 : end])
        at = end
    return found


def _scalar(text: str) -> Any:
    """Return a value beside its key: JSON, a text in single quotes, or a plain text."""
    if text.startswith("'"):
        quoted = re.match(r"'((?:[^']|'')*)'\s*(#.*)?$", text)
        if not quoted:
            raise ValueError("a text has no end on its line")
        return quoted[1].replace("''", "'")
    if text[:1] in ('"', "[", "{"):
        value, end = json.JSONDecoder().raw_decode(text)
        if not re.match(r"\s*(#.*)?$", text[end:]):
            raise ValueError("there is more than one value on a line")
        return value
    text = _TAIL.sub("", text).strip()
    if text in ("", "~", "null", "true", "false"):
        return {"true": True, "false": False}.get(text)
    if text[0] in "&*!|>%@`" or ": " in text:
        raise ValueError(f"a value begins with {text[0]}")
    try:
        return json.loads(text) if re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?", text) else text
    except ValueError:
        return text

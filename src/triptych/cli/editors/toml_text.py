"""Edit one table of a TOML text with tomlkit, which keeps order and comments.

The result is parsed again and must equal the old content with the change.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any


def get(text: str, path: Sequence[str]) -> Any:
    """Return the value at `path`; None if there is none."""
    found: Any = tomllib.loads(text)
    for key in path:
        if found is None:
            return None
        if not isinstance(found, dict):
            raise ValueError(f'the value around "{key}" is not a table')
        found = found.get(key)
    return found


def put(text: str, path: Sequence[str], values: Mapping[str, object]) -> str:
    """Return the text with the table at `path` (two keys) holding exactly `values`."""
    import tomlkit

    outer, name = path
    meant = tomllib.loads(text)
    tables = meant.setdefault(outer, {})
    if not isinstance(tables, dict):
        raise ValueError(f'"{outer}" is not a table')
    tables[name] = dict(values)

    def change(document: tomlkit.TOMLDocument) -> None:
        found = document.get(outer)
        if found is None or not (name in found or isinstance(found, tomlkit.items.InlineTable)):
            found = tomlkit.table(is_super_table=True).append(name, tomlkit.table())
            _put(found, name, values)
            document.append(outer, found)
        else:
            _put(found, name, values)

    return _changed(text, change, meant)


def drop(text: str, path: Sequence[str]) -> str:
    """Return the text without the table at `path` (two keys), and without the outer one if it becomes empty."""
    outer, name = path
    meant = tomllib.loads(text)
    del meant[outer][name]
    if not meant[outer]:
        del meant[outer]
    if _is(cut := _cut(text, path), meant):
        return cut

    def change(document: Any) -> None:
        document[outer].remove(name)
        if not document[outer]:
            document.remove(outer)

    return _changed(text, change, meant)


def _cut(text: str, path: Sequence[str]) -> str:
    """Return the text without the lines of the table at `path` and of those within it."""
    names = r"\s*\.\s*".join(rf"""["']?{re.escape(key)}["']?""" for key in path)
    ours = re.compile(rf"\s*\[\s*{names}\s*[.\]]")
    kept: list[str] = []
    after: list[str] = []  # blank lines and comments, which belong to the table that follows
    inside = False
    for line in text.splitlines(keepends=True):
        if re.match(r"\s*\[", line):
            was_inside, inside = inside, bool(ours.match(line))
            if was_inside and not inside:
                kept += after
            if inside and kept and not kept[-1].strip():
                kept.pop()
            after = []
        if not inside:
            kept.append(line)
        else:
            after = [*after, line] if re.match(r"\s*(#|$)", line) else []
    return "".join([*kept, *(after if inside else [])])


def _is(text: str, meant: Mapping[str, Any]) -> bool:
    try:
        return tomllib.loads(text) == meant
    except tomllib.TOMLDecodeError:
        return False


def _changed(text: str, change: Callable[[Any], None], meant: Mapping[str, Any]) -> str:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    is_crlf = 0 < text.count("\r\n") == text.count("\n")  # tomlkit ends new lines with \n
    try:
        document = tomlkit.parse(text.replace("\r\n", "\n") if is_crlf else text)
        change(document)
        edited = tomlkit.dumps(document)
    except TOMLKitError:
        edited = ""
    if not _is(edited, meant):
        raise ValueError("it is written in a way that cannot be edited safely")
    return edited.replace("\n", "\r\n") if is_crlf else edited


def _put(table: Any, key: str, value: object) -> None:
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
            _put(inner, name, item)
        for item in reversed(last):
            if not isinstance(item, tomlkit.items.Null):  # the place of a deleted key
                inner.add(item)

"""Text from prompts, providers and file names, made safe to show to a person or a model.

Removed are control characters (ESC among them), bidirectional overrides, zero-width characters and lone surrogates:
they move a cursor, reorder or hide text, or break an encoding. Pure; imports nothing of ours.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, AnyStr
from urllib.parse import quote

_BREAKS = "\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""Characters that some readers take for the end of a line."""
_INVISIBLE = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"
"""Letters and marks that show nothing, besides those of category Cf."""


class _Shown(dict[int, str]):
    """The replacement of each character, computed at its first use."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if character in _BREAKS or character == "\n":
            shown = "\n"
        elif unicodedata.category(character) == "Cf" or character in _INVISIBLE or 0xE0100 <= code <= 0xE01EF:
            shown = ""
        else:
            shown = character if character.isprintable() else " "
        self[code] = shown
        return shown


_SHOWN = _Shown()


def block(text: str) -> str:
    """Return a text of several lines: newlines only, at most two in a row, no invisible characters."""
    if text.isascii() and text.isprintable():
        return text
    return re.sub(r"\n(?: *\n){2,}", "\n\n", text.replace("\r\n", "\n").translate(_SHOWN))


def line(text: str, limit_chars: int | None = None) -> str:
    """Return a text as one line with single spaces and no invisible characters, cut with "…" at the limit."""
    # Only the beginning of a very long text is read.
    shown = " ".join((text if limit_chars is None else text[: 4 * limit_chars]).translate(_SHOWN).split())
    return shown if limit_chars is None or len(shown) <= limit_chars else shown[: limit_chars - 1] + "…"


def counted(number: int, thing: str) -> str:
    """Return a number with its noun, such as "1 picture" or "2 pictures"."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def first_ones(items: Sequence[str], most: int) -> str:
    """Return the first items with commas, and the number of the others: "a, b and 3 more"."""
    more = len(items) - most
    return ", ".join(items[:most]) + (f" and {more} more" if more > 0 else "")


def call(tool: str, arguments: Mapping[str, object]) -> str:
    """Return the call of a tool as an assistant writes it, without the arguments that are empty."""
    given = (f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in arguments.items() if value)
    return f"{tool}({', '.join(given)})"


def joined_lines(items: Iterable[str]) -> str:
    """Return the items as lines of text. No item can pass for two."""
    return "\n".join(line(item) for item in items)


def tree(value: Any) -> Any:
    """Return JSON data with every text in it, field names included, as a `block`."""
    match value:
        case str():
            return block(value)
        case dict():
            return {tree(name): tree(item) for name, item in value.items()}
        case list() | tuple():
            return [tree(item) for item in value]
        case _:
            return value


def redact(key: str, text: AnyStr) -> AnyStr:
    """Return a text without a key, also as JSON and URLs spell it. A key under 8 characters is not replaced."""
    if len(key) < 8:
        return text
    for form in {key, key.replace("/", "\\/"), quote(key, safe="")}:
        text = text.replace(form.encode(), b"[key]") if isinstance(text, bytes) else text.replace(form, "[key]")
    return text

"""Text from prompts, providers and file names, made fit to be read by a person or a model.

Control characters (ESC among them), bidirectional overrides, zero-width characters and lone surrogates never leave:
they move a cursor, reorder or hide what is read, or break an encoding. Pure; imports nothing of ours.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any

_BREAKS = "\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""What some readers take for the end of a line."""
_INVISIBLE = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"
"""Letters and marks that show nothing, beside those of category Cf."""


class _Shown(dict[int, str]):
    """What each character becomes, worked out when it is first met."""

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
    """Return a text of several lines: its line breaks as newlines, two in a row at most, nothing unseen in it."""
    if text.isascii() and text.isprintable():
        return text
    return re.sub(r"\n(?: *\n){2,}", "\n\n", text.replace("\r\n", "\n").translate(_SHOWN))


def line(text: str, limit_chars: int | None = None) -> str:
    """Return a text as one line with single spaces, nothing unseen in it; what is over the limit becomes "…"."""
    # The end of megabytes is not looked at.
    shown = " ".join((text if limit_chars is None else text[: 4 * limit_chars]).translate(_SHOWN).split())
    return shown if limit_chars is None or len(shown) <= limit_chars else shown[: limit_chars - 1] + "…"


def joined_lines(items: Iterable[str]) -> str:
    """Return the items one a line, each made a `line`: none can pass for two."""
    return "\n".join(line(item) for item in items)


def tree(value: Any) -> Any:
    """Return JSON data with every text in it, names of fields too, as a `block`."""
    match value:
        case str():
            return block(value)
        case dict():
            return {tree(name): tree(item) for name, item in value.items()}
        case list() | tuple():
            return [tree(item) for item in value]
        case _:
            return value

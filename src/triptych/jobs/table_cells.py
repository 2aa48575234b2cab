"""Reads the columns and cells of a .csv, .tsv or .jsonl file: Python's own `csv` and `json`, with limits.

Rules: pure. A mistake is named with its row and column, as a spreadsheet counts them: the header is row 1. A line of
.jsonl is a row without a header. It must not know what a column means.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import PurePath, PureWindowsPath
from typing import Any

from triptych.core import errors
from triptych.core.text import counted, line
from triptych.jobs.planning import MAX_REQUESTS

LIMIT_BYTES = 5_000_000
MANIFEST_LIMIT_BYTES = 16_000_000
"""A manifest is larger than its table: it has the prompts and paths too."""
CELL_LIMIT_CHARS = 10_000
MOST_COLUMNS = 200
MOST_ROWS = MAX_REQUESTS
"""Each row is at least one request of the job."""
MOST_MISTAKES = 4
PICTURES = ("image", "images")
"""The names of the column of pictures."""
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")

_BOMS = {b"\xff\xfe\x00\x00": "UTF-32", b"\x00\x00\xfe\xff": "UTF-32", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_QUOTED = re.compile('"[^"]*"?')
_HEADER = re.compile(rf'(?:[^"\r\n]|{_QUOTED.pattern})*')
"""The first line, with the line ends that stand in quotes."""
_FORMULA = re.compile("'+[=+@\t\r\\-＝＋－＠]")

Record = tuple[int, dict[str, Any]]
"""A row's number and its cells by column: texts, and lists of texts in a column of pictures."""


class Mistakes:
    """The mistakes of one table."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._found: list[str] = []

    def add(self, mistake: str) -> None:
        self._found.append(mistake)

    def stop(self) -> None:
        """Raise `errors.BadRequest` if there are mistakes."""
        if not self._found:
            return
        found = list(dict.fromkeys(self._found))
        many, more = len(found), len(found) - MOST_MISTAKES
        count = f"has {many:,} mistakes; nothing was sent." if many > 1 else "cannot be used; nothing was sent."
        limit_chars = 720 // min(many, MOST_MISTAKES)
        sentences = [line(one[0].upper() + one[1:], limit_chars).rstrip(".") + "." for one in found[:MOST_MISTAKES]]
        raise errors.BadRequest(
            f"{shown(self.name)} {count} {' '.join(sentences)}" + (f" And {more:,} more." if more > 0 else "")
        )


def read_cells(name: str, data: bytes, faults: Mistakes) -> tuple[list[str], list[Record]]:
    """Return the columns and the rows of a table that are not empty.

    Raises: `errors.BadRequest` for a table that cannot be read; other mistakes are added to `faults`.
    """
    if len(data) > (MANIFEST_LIMIT_BYTES if b"triptych_status" in data[:100_000] else LIMIT_BYTES):
        raise too_large(name, len(data))
    text = _decoded(name, data)
    return _json_lines(text, faults) if name.strip().lower().endswith(".jsonl") else _cells(text, name, faults)


def too_large(name: str, size_bytes: int) -> errors.BadRequest:
    """Return the refusal of a table with more than `LIMIT_BYTES`."""
    return errors.BadRequest(
        f"{shown(name)} has {size_bytes / 1e6:.0f} MB; a table has at most {LIMIT_BYTES / 1e6:.0f} MB. Pictures are "
        "files beside the table, named in its cells."
    )


def _decoded(name: str, data: bytes) -> str:
    mend = "Save it as CSV UTF-8."
    if data.startswith(b"PK\x03\x04"):
        raise errors.BadRequest(f"{shown(name)} is a spreadsheet file under another name. {mend}")
    if not data.startswith(tuple(_BOMS)) and b"\0" in data:
        row = _row_after(name, data[: data.index(b"\0")])
        raise errors.BadRequest(f"{shown(name)} is not text: row {row} has a zero byte. {mend}")
    data = data.removeprefix(b"\xef\xbb\xbf")
    for bom, encoding in _BOMS.items():
        if data.startswith(bom):
            raise errors.BadRequest(f"{shown(name)} is encoded as {encoding}, not UTF-8. {mend}")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        row = _row_after(name, data[: error.start])
        raise errors.BadRequest(
            f"{shown(name)} is not UTF-8: row {row} has the byte {data[error.start]:#04x} (byte {error.start + 1} of "
            f"the file). {mend}"
        ) from None


def _row_after(name: str, data: bytes) -> int:
    """Return the number of the row in which the first bytes of a table end."""
    text = data.decode(errors="replace")
    if not name.strip().lower().endswith(".jsonl"):
        with suppress(csv.Error):
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
            return max(sum(1 for _ in reader) + text.endswith(("\n", "\r")), 1)
    return text.count("\n") + 1


def _cells(text: str, name: str, faults: Mistakes) -> tuple[list[str], list[Record]]:
    """Return the columns and records of a .csv or .tsv."""
    delimiter = "\t" if name.strip().lower().endswith(".tsv") else ""
    if not delimiter and (named := re.match(r"sep=([,;\t|])\r?\n", text)):  # a line that Excel writes and hides
        delimiter, text = named[1], text[named.end() :]
    header: list[str] | None = None
    records: list[tuple[int, list[str]]] = []
    number = 0
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter or _delimiter(text), strict=True)
    try:
        for number, cells in enumerate(reader, 1):
            if header is None:
                header = [cell.strip() for cell in cells]
                if not any(header):
                    raise errors.BadRequest(f"Row 1 of {shown(name)} is empty; it has to name the columns.")
            elif any(map(str.strip, cells)):
                if len(records) <= MOST_ROWS:
                    records.append((number, cells))
                else:
                    _refuse_many(name, 1 + len(records) + sum(1 for more in reader if any(map(str.strip, more))))
    except csv.Error as error:
        long = "field limit" in str(error)
        what = (
            f"a cell has over {CELL_LIMIT_CHARS:,} characters" if long else "a quote is not closed, or text follows it"
        )
        raise errors.BadRequest(
            f"Row {number + 1} of {shown(name)}: {what}."
            + ("" if long else ' A cell with quotes, line breaks or delimiters is "quoted", its own quotes are "".')
        ) from None
    if header is None:
        raise errors.BadRequest(f"{shown(name)} is empty; row 1 names the columns, each further row is one picture.")
    kept = _columns(header, [cells for _, cells in records], faults)
    found: list[Record] = []
    for number, cells in records:
        if len(cells) != len(header):
            faults.add(f"row {number}: it has {counted(len(cells), 'cell')}, the header has {len(header)}")
            continue
        found.append((number, {header[i]: cells[i] for i in kept}))
    return [header[i] for i in kept], found


def _delimiter(text: str) -> str:
    """Return the delimiter of a .csv: one that finds a column of pictures in the header, else the most frequent one."""
    found = _HEADER.match(text, 0, 100_000)
    header = found[0] if found else ""
    unquoted = _QUOTED.sub("", header)

    def has_pictures(delimiter: str) -> bool:
        columns = next(csv.reader(io.StringIO(header, newline=""), delimiter=delimiter), [])
        return any(column.strip().casefold() in PICTURES for column in columns)

    ranked = sorted(",;\t", key=lambda one: -unquoted.count(one))
    return next(filter(has_pictures, ranked), ranked[0])


def _columns(header: Sequence[str], rows: Sequence[Sequence[str]], faults: Mistakes) -> list[int]:
    """Return the places of the named columns. A column without a name may only be empty."""
    kept = [
        i for i, column in enumerate(header) if column or any(len(cells) > i and cells[i].strip() for cells in rows)
    ]
    for i in kept:
        if not header[i]:
            faults.add(f"row 1, column {_letters(i)}: the column has cells and no name")
    _check_columns([header[i] for i in kept], "row 1", faults)
    return kept


def _check_columns(columns: Sequence[str], place: str, faults: Mistakes) -> None:
    first: dict[str, str] = {}
    for column in filter(None, columns):
        if UNPRINTABLE.search(column):
            faults.add(f"{place}: the column {errors.quoted(column, 40)} has a control character in its name")
        if column.casefold() in first:
            faults.add(
                f"{place}: two columns are named {errors.quoted(column, 40)} (upper and lower case are the same)"
            )
        first.setdefault(column.casefold(), column)


class _Object(list[tuple[str, Any]]):
    """The names and values of a JSON object, repeated names included."""


def _json_lines(text: str, faults: Mistakes) -> tuple[list[str], list[Record]]:
    """Return the columns and records of a .jsonl: all names in it, in the order of their first line."""
    lines = text.split("\n")
    full = sum(1 for one in lines if one.strip())
    if full > MOST_ROWS:
        _refuse_many(faults.name, full)
    columns: dict[str, None] = {}
    found: list[Record] = []
    for number, one in enumerate(lines, 1):
        if one.strip():
            cells = _json_cells(number, one, faults)
            columns |= dict.fromkeys(cells)
            found.append((number, cells))
    _check_columns(list(columns), "its lines", faults)
    return list(columns), [(number, {column: cells.get(column, "") for column in columns}) for number, cells in found]


def _json_cells(number: int, text: str, faults: Mistakes) -> dict[str, Any]:
    try:
        given = json.loads(
            text, object_pairs_hook=_Object, parse_int=str, parse_float=str, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        where = f" (character {error.pos + 1})" if isinstance(error, json.JSONDecodeError) else ""
        faults.add(f"row {number}: the line is not valid JSON{where}; each line is one object")
        return {}
    if not isinstance(given, _Object):
        faults.add(f"row {number}: the line is not an object, such as {{'image': 'a.jpg', 'color': 'red'}}")
        return {}
    cells: dict[str, Any] = {}
    for name, value in given:
        column = name.strip()
        if not column:
            faults.add(f"row {number}: a value has no name")
        elif column in cells:
            faults.add(f"row {number}: it has {errors.quoted(column, 40)} twice")
        cells[column] = _json_value(number, column, value, faults)
    return cells


def _json_value(number: int, column: str, value: Any, faults: Mistakes) -> str | list[str]:
    if isinstance(value, _Object):
        faults.add(f"row {number}, column {errors.quoted(column, 40)}: an object; a value is text, a number or true")
    elif isinstance(value, list):
        if column.casefold() in PICTURES and all(isinstance(one, str) for one in value):
            return value
        faults.add(f"row {number}, column {errors.quoted(column, 40)}: a list; only images may be a list, of texts")
    elif isinstance(value, bool):
        return str(value).lower()
    elif value is not None:
        return str(value)
    return ""


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _refuse_many(name: str, count: int) -> None:
    raise errors.BadRequest(
        f"{shown(name)} has {count:,} rows; one job takes at most {MOST_ROWS:,} requests, rows × steps: split the "
        "table."
    )


# -- the escape of a manifest


def escaped(cell: str) -> str:
    """Return a cell that no spreadsheet runs as a formula: one that would is written with a leading quote.

    A cell that begins with quotes and then such a character gets one more, so that `restored` is the inverse.
    """
    return f"'{cell}" if _FORMULA.match(f"'{cell}") else cell


def restored(cell: Any) -> Any:
    return cell[1:] if isinstance(cell, str) and _FORMULA.match(cell) else cell


def _letters(i: int) -> str:
    """Return the letters of a column, as a spreadsheet has them."""
    return (_letters(i // 26 - 1) if i >= 26 else "") + chr(ord("A") + i % 26)


def shown(name: str) -> str:
    return line(PurePath(PureWindowsPath(name).name).name or name, 60)

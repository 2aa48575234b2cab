"""Reads tables: a .csv, .tsv or .jsonl file whose rows are lanes of a chain.

Rules: pure; the bytes are read elsewhere, and so is each picture that a cell names. A cell is text: it fills a
`{column}` and nothing else. Every mistake is found before a picture is read, and is named with its row and column, as a
spreadsheet counts them: the header is row 1. A line of .jsonl is a row without a header.

A manifest (`jobs.manifest`) is a table too: its rows that are done are left out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath, PureWindowsPath

from triptych.core import errors
from triptych.core.requests import BRACES, Row
from triptych.core.text import counted, first_ones, line
from triptych.jobs.planning import MAX_REQUESTS
from triptych.jobs.table_cells import (
    CELL_LIMIT_CHARS,
    MOST_COLUMNS,
    PICTURES,
    UNPRINTABLE,
    Mistakes,
    Record,
    read_cells,
    restored,
    shown,
)

OWN = "triptych_"
"""The beginning of the names of a manifest's own columns."""
STATUS = f"{OWN}status"

MOST_PATH_CHARS = 2000

_SUFFIXES = (".csv", ".tsv", ".jsonl")
_SCHEMES = ("https:", "http:", "file:", "triptych:")
_HANDLE = re.compile(r"triptych:.*|img_[0-9a-f]{8,64}|job_[0-9a-f]{8,64}/\d+")
_JOB = re.compile(r"job_[0-9a-f]{8,64}(/failed)?")
_PICTURE_NAME = re.compile(r".*\.(jpe?g|png|webp|gif|bmp|tiff?|heic|avif)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of a table as lanes: their images are texts of the table, relative ones joined to its directory.

    `places` has the row and column of each of these texts.
    """

    name: str
    rows: tuple[Row, ...]
    warnings: tuple[str, ...]
    columns: tuple[str, ...]
    places: Mapping[str, str]


def is_table(item: str) -> bool:
    """Return whether an item names a table by its suffix; a URL never does."""
    text = item.strip().lower()
    return text.endswith(_SUFFIXES) and not text.startswith("data:") and (text.startswith("file:") or not _is_url(text))


def read(name: str, data: bytes, steps: Sequence[str], directory: str) -> Table:
    """Return the rows of a table for these steps. `directory` is the table's own, resolved.

    Raises: `errors.BadRequest` with the first mistakes and their number.
    """
    faults = Mistakes(name)
    columns, records = read_cells(name, data, faults)
    faults.stop()
    if not records:
        raise errors.BadRequest(f"{shown(name)} has no rows; each row under the header is one lane of pictures.")
    own = [column for column in columns if column.casefold().startswith(OWN)]
    if own and not name.strip().lower().endswith(".jsonl"):
        columns = [restored(column) for column in columns]
        records = [(n, {restored(c): restored(v) for c, v in cells.items()}) for n, cells in records]
    if unnamed := next(filter(_looks_like_picture, columns), None):
        faults.add(f"row 1: it has to name the columns, such as image; it has {errors.quoted(unnamed, 40)}")
    records, skipped = _to_make(name, records, own, faults)
    images = _column_of_pictures(columns, faults)
    values = [column for column in columns if column != images and column not in own]
    if len(values) > MOST_COLUMNS:
        faults.add(f"there are {len(values)} columns; a table has at most {MOST_COLUMNS}")
    used = _used(steps, columns, values, images, faults)
    if not images:
        _require_sense(records, values, used, faults)
    faults.stop()
    if len(records) * len(steps) > MAX_REQUESTS:
        raise errors.BadRequest(
            f"{len(records)} rows of {shown(name)} × {len(steps)} steps are {len(records) * len(steps)} requests; one "
            f"job takes at most {MAX_REQUESTS}: split the table, {MAX_REQUESTS // len(steps)} rows at a time."
        )
    rows, places = _rows(records, images, values, used, directory, faults)
    faults.stop()
    numbers = [number for number, _ in records]
    return Table(
        name, rows, (_count(name, rows, images, skipped), *_repeats(rows, used, numbers)), tuple(columns), places
    )


def _to_make(name: str, records: list[Record], own: Sequence[str], faults: Mistakes) -> tuple[list[Record], int]:
    """Return the records that a manifest does not have as done, and the number of the others."""
    column = next((one for one in own if one.casefold() == STATUS), None)
    if not column:
        return records, 0
    kept = []
    for number, cells in records:
        status = str(cells[column]).strip().lower()
        if status in ("", "failed", "cancelled"):
            kept.append((number, cells))
        elif status != "done":
            mend = "get_status of its job looks for it, cancel_job accepts it as lost; then write failed in the cell"
            mend = mend if status == "uncertain" else "it is done, failed, cancelled or empty"
            faults.add(f"row {number}, column {column}: {errors.quoted(status, 40)}: {mend}")
    faults.stop()
    if not kept:
        raise errors.BadRequest(
            f"All {len(records)} rows of {shown(name)} are done ({STATUS}): nothing to make. To make a row again, "
            f"empty its {STATUS}."
        )
    return kept, len(records) - len(kept)


def _column_of_pictures(columns: Sequence[str], faults: Mistakes) -> str | None:
    found = [column for column in columns if column.casefold() in PICTURES]
    if len(found) > 1:
        faults.add("the columns image and images are both there; keep one")
    return found[0] if found else None


def columns_in(steps: Sequence[str]) -> list[str]:
    """Return the names in braces in the steps."""
    return list(dict.fromkeys(name.strip() for step in steps for name in BRACES.findall(step) if name.strip()))


def _used(
    steps: Sequence[str], columns: Sequence[str], values: Sequence[str], images: str | None, faults: Mistakes
) -> list[str]:
    """Return the columns that the steps use."""
    used = columns_in(steps)
    spelt = {column.casefold(): column for column in values}
    for name in used:
        if name in values:
            continue
        if name.casefold() in spelt:
            faults.add(f"a step has {{{line(name, 40)}}}; the column is {{{spelt[name.casefold()]}}}")
        elif name == images or (name in columns and name.casefold().startswith(OWN)):
            faults.add(f"a step has {{{name}}}; that column fills no step")
        else:
            near = difflib.get_close_matches(name.casefold(), spelt, 3, 0.5)
            nearest = [spelt[one] for one in near] or list(values[:8])
            there = ", ".join(f"{{{line(one, 40)}}}" for one in nearest) or "no column for it"
            faults.add(f"a step has {{{line(name, 40)}}}; the table has {there}")
    return [name for name in used if name in values]


def _require_sense(records: Sequence[Record], values: Sequence[str], used: Sequence[str], faults: Mistakes) -> None:
    """Refuse a table without a column of pictures if its rows would all be the same, or another column has them."""
    for column in values:
        cells = [str(cells[column]) for _, cells in records if str(cells[column]).strip()]
        if column not in used and cells and all(map(_looks_like_picture, cells)):
            faults.add(f"the column {errors.quoted(column, 40)} looks like the pictures; name it image")
            return
    if not used and len(records) > 1:
        faults.add("it has no column image, and no step uses a {column}: all rows would be the same request")


def _rows(
    records: Sequence[Record],
    images: str | None,
    values: Sequence[str],
    used: Sequence[str],
    directory: str,
    faults: Mistakes,
) -> tuple[tuple[Row, ...], dict[str, str]]:
    rows: list[Row] = []
    places: dict[str, str] = {}
    for number, cells in records:
        for column in values:
            fault = _fault_of_value(cells[column], column in used)
            if fault:
                faults.add(f"row {number}, column {errors.quoted(column, 40)}: {fault}")
        found = []
        for item in _items(cells[images]) if images else ():
            fault = _fault_of_picture(item)
            if fault:
                faults.add(f"row {number}, column {images}: {fault}")
                continue
            found.append(_joined(directory, item))
            places.setdefault(found[-1], f"row {number}, column {images}")
        rows.append(Row(tuple(found), {column: cells[column] for column in values}))
    return tuple(rows), places


def _fault_of_value(value: str, is_used: bool) -> str | None:
    if len(value) > CELL_LIMIT_CHARS:
        return f"{len(value):,} characters; a cell has at most {CELL_LIMIT_CHARS:,}"
    if found := UNPRINTABLE.search(value):
        return f"the control character U+{ord(found[0]):04X}; remove it"
    return "empty, and a step uses it" if is_used and not value.strip() else None


def _items(cell: str | list[str]) -> Iterator[str]:
    """Yield the pictures in a cell: one, or several on lines of their own or separated by `|`."""
    for item in cell if isinstance(cell, list) else re.split(r"[|\r\n]", cell):
        if item.strip():
            yield item.strip()


def _fault_of_picture(item: str) -> str | None:
    named, found = errors.quoted(item, 60), UNPRINTABLE.search(item)
    parts = re.split("[;,]", item)
    is_path = not is_url_or_handle(item)
    faults = (
        (item[:5].lower() == "data:", "a data: URI; save the picture as a file and name that"),
        (len(item) > MOST_PATH_CHARS, f"{len(item):,} characters; a path or URL has at most {MOST_PATH_CHARS:,}"),
        (found, f"the control character U+{ord(found[0]):04X}; remove it" if found else ""),
        (_is_url(item) and not item.lower().startswith(_SCHEMES), f"{named} is no https:// URL, path or handle"),
        (item.lower().startswith("look:"), f"{named} is a look; name it in references"),
        (_JOB.fullmatch(item), f"{named} is a job; name one of its images, such as {item.partition('/')[0]}/1"),
        (is_table(item), f"{named} is a table; a cell names pictures"),
        (is_path and ("*" in item or "?" in item), f"{named} is a pattern; a cell names single pictures"),
        (item.endswith(("/", "\\")) or item in (".", ".."), f"{named} is a folder; a cell names single pictures"),
        (is_path and parts[1:] and all(map(_looks_like_picture, parts)), f"{named}: separate several pictures by |"),
    )
    return next((fault for is_wrong, fault in faults if is_wrong), None)


def is_url_or_handle(item: str) -> bool:
    """Return whether a text is a URL or a handle, which a table's directory does not change."""
    return _is_url(item) or bool(_HANDLE.fullmatch(item))


def is_path(cell: str) -> bool:
    """Return whether a cell is read as the path of one picture, as it is written."""
    is_other = is_url_or_handle(cell) or cell.startswith("~")
    return not is_other and list(_items(cell)) == [cell] and _fault_of_picture(cell) is None


def _joined(directory: str, item: str) -> str:
    """Return a picture's text with a relative path joined to the table's directory."""
    if is_url_or_handle(item) or item.startswith("~"):
        return item
    if PurePath(item).is_absolute() or PureWindowsPath(item).drive:
        return item
    while item.startswith("../") and PurePath(directory).name not in ("", ".."):  # it has no links: see `read`
        directory, item = str(PurePath(directory).parent), item[3:]
    # The dot keeps img_1.jpg from being read as a handle.
    return str(PurePath(directory) / item) if directory else f"./{item}"


def _is_url(item: str) -> bool:
    return bool(re.match("[a-z][a-z0-9+.-]+://|file:", item, re.IGNORECASE))


def _looks_like_picture(cell: str) -> bool:
    text = cell.strip()
    return bool(_PICTURE_NAME.fullmatch(text) or _HANDLE.fullmatch(text) or re.match("https?://", text, re.IGNORECASE))


def _count(name: str, rows: Sequence[Row], images: str | None, skipped: int) -> str:
    bare = sum(1 for row in rows if not row.images)
    count = f"{shown(name)}: {counted(len(rows), 'row')}"
    count += f", {bare} without a picture" if images and bare else ""
    return count + (f"; {skipped} more are done ({STATUS}) and are left out" if skipped else "") + "."


def _repeats(rows: Sequence[Row], used: Sequence[str], numbers: Sequence[int]) -> list[str]:
    """Return a warning about rows that make the same request."""
    first: dict[object, int] = {}
    pairs = []
    for number, row in zip(numbers, rows, strict=True):
        earlier = first.setdefault((row.images, tuple(row.values[column] for column in used)), number)
        if earlier != number:
            pairs.append(f"{number} (as {earlier})")
    if not pairs:
        return []
    return [f"Rows with the same picture and words as an earlier row are paid again: {first_ones(pairs, 5)}."]

"""Writes the manifest of a chain: `manifest.csv` beside the saved pictures, one line for each lane.

Its columns are those of the table, then Triptych's own, which begin with `triptych_`. It is a table itself: given to
`edit_chain`, it makes the lanes again that are not done. A cell that a spreadsheet would run as a formula begins with
an apostrophe, which `tables` takes away again. A file is replaced only by the same job, and only while the cells that
are not Triptych's own are as they were written.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import anyio.to_thread

from triptych.core import errors
from triptych.core.models import Job, Prediction, State
from triptych.core.requests import Row
from triptych.images.files import ImageFiles
from triptych.jobs import lanes, tables
from triptych.jobs.table_cells import escaped
from triptych.storage.async_store import AsyncStore
from triptych.storage.jobs import Store

OWN = tuple(f"{tables.OWN}{name}" for name in ("handle", "path", "source", "prompt", "cost_usd", "status", "job"))
PROMPT_LIMIT_CHARS = 1000


async def write(
    store: AsyncStore, files: ImageFiles, job_id: str, directory: Path, paths: Mapping[int, Path]
) -> Path | None:
    """Write the manifest of an ended chain into a directory; `paths` has the saved file of each output.

    Returns None for a job that is no chain.
    Raises: `errors.NotAllowed` if the directory cannot be written to.
    """
    data = await data_of(store, job_id, directory, paths)
    if data is None:
        return None
    path = await anyio.to_thread.run_sync(files.save_text, data, directory, "manifest.csv", _may_replace)
    await store.note_saved_file(path)
    return path


async def data_of(store: AsyncStore, job_id: str, directory: Path, paths: Mapping[int, Path]) -> bytes | None:
    """Return the manifest of a chain as a file; None for another job."""
    text = await store.run(_text_of, job_id, directory, paths)
    return None if text is None else text.encode("utf-8-sig")  # the mark tells a spreadsheet the encoding


def _text_of(store: Store, job_id: str, directory: Path, paths: Mapping[int, Path]) -> str | None:
    job = store.job(job_id)
    if not job or not job.request.is_chain:
        return None
    rows = [lanes.beginning(store, job.request, lane) for lane in range(job.request.lanes)]
    return text(job, store.predictions(job_id), rows, directory, paths)


def text(
    job: Job, predictions: Sequence[Prediction], rows: Sequence[Row], directory: Path, paths: Mapping[int, Path]
) -> str:
    """Return the manifest of a chain as CSV; `rows` are its lanes from their first step on."""
    pictures = [_pictures(job, lane, row, directory) for lane, row in enumerate(rows)]
    columns = list(dict.fromkeys(column for row in rows for column in row.values))
    of_lane: list[list[Prediction]] = [[] for _ in rows]
    for one in predictions:
        of_lane[one.lane].append(one)
    first = ["image"] if any(pictures) else []
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(map(escaped, [*first, *columns, *OWN]))
    for lane, row in enumerate(rows):
        cells = [pictures[lane]] if first else []
        cells += [row.values.get(column, "") for column in columns]
        writer.writerow(map(escaped, [*cells, *_own_cells(job, lane, of_lane[lane], directory, paths)]))
    return file.getvalue()


def _own_cells(
    job: Job, lane: int, predictions: Sequence[Prediction], directory: Path, paths: Mapping[int, Path]
) -> list[str]:
    request, n = job.request, (lane + 1) * job.request.steps
    status, path = _status(predictions), paths.get(n)
    prompts = (request.prompt_at(lane, step) for step in range(request.steps))
    return [
        f"{job.id}/{n}" if status == "done" else "",
        _relative(path, directory) if path else "",
        job.sources[lane] if job.sources else "",
        " → ".join(prompts)[:PROMPT_LIMIT_CHARS],
        errors.format_usd(_cost_usd(predictions)),
        status,
        job.id,
    ]


def _status(predictions: Sequence[Prediction]) -> str:
    """Return the status of a lane; `pending` while it is not ended."""
    states = {one.state for one in predictions}
    ranked = (State.UNCERTAIN, State.FAILED, State.CANCELLED)
    return next((str(state) for state in ranked if state in states), "done" if states == {State.DONE} else "pending")


def _cost_usd(predictions: Sequence[Prediction]) -> Decimal:
    """Return the charges of a lane; of a request whose charge is not known yet, the quote."""
    free = (State.FAILED, State.CANCELLED, State.WAITING, State.QUEUED)
    return sum(
        (
            one.charged_usd if one.charged_usd is not None else one.quoted_usd
            for one in predictions
            if one.charged_usd is not None or one.state not in free
        ),
        Decimal(0),
    )


def _pictures(job: Job, lane: int, row: Row, directory: Path) -> str:
    """Return the cell of a lane's own images, so that `tables` finds the same: the first as the caller named it."""
    if not row.images:
        return ""
    source = job.sources[lane] if job.sources else ""
    return "|".join((_cell_of(source, directory) or row.images[0], *row.images[1:]))


def _cell_of(source: str, directory: Path) -> str | None:
    """Return a cell from which a manifest in this directory reads the source again; None if there is none."""
    if not source or tables.is_url_or_handle(source):
        return source or None
    path = Path(source).expanduser()
    cells = (_relative(path, directory), str(path.absolute()))
    return next((cell for cell in cells if tables.is_path(cell)), None)


def _relative(path: Path, directory: Path) -> str:
    """Return a path relative to the manifest, if it is near: in its directory or in the one above."""
    path = path.absolute()
    for up, parent in (("", directory), ("../", directory.parent)):
        if path.is_relative_to(parent) and path != parent:
            return up + path.relative_to(parent).as_posix()
    return str(path)


def _may_replace(old: bytes, new: bytes) -> bool:
    """Return whether a manifest is of the same job, and its cells besides Triptych's own are as they were written."""
    try:
        return _others(old) == _others(new)
    except (csv.Error, UnicodeDecodeError, ValueError):
        return False


def _others(data: bytes) -> list[list[str]]:
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
    if tuple(rows[0][-len(OWN) :]) != OWN:
        raise ValueError("not a manifest")
    return [[*cells[: -len(OWN)], cells[-1]] for cells in rows]

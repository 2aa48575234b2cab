"""The text of a manifest: any words of a table come back from it as they were, and no cell is a formula."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from triptych.core.models import Job, Prediction, State
from triptych.core.offers import Operation
from triptych.core.requests import Request, Row
from triptych.jobs import manifest, tables

HOSTILE = st.text(st.characters(exclude_categories=("Cs", "Cc"))) | st.text(
    st.sampled_from("'=+-@\t\r\n\"|;,\ufeff＝x")
)
NAMES = HOSTILE.map(str.strip).filter(
    lambda name: (
        name
        and name.casefold() not in tables.PICTURES
        and not name.casefold().startswith(tables.OWN)
        and not tables._looks_like_picture(name)
    )
)
DIRECTORY = Path("/shop/out")


def text_of(names: list[str], cells: list[list[str]]) -> str:
    """Return the manifest of a job whose rows, all failed, have these values."""
    rows = tuple(Row(("img_1a2b3c4d",), dict(zip(names, row, strict=True))) for row in cells)
    request = Request("edit_chain", ("warmer",), rows=rows)
    job = Job("job_1a2b3c4d", request, datetime(2026, 11, 22, tzinfo=UTC), "f", "atlas", "m", "e")
    predictions = [
        Prediction(
            f"p{lane}", job.id, request, lane, 0, None, lane + 1, "atlas", "e", Operation.EDIT, None, "", "",
            Decimal("0.03"), True, State.FAILED,
        )
        for lane in range(len(rows))
    ]  # fmt: skip
    return manifest.text(job, predictions, rows, DIRECTORY, {})


@given(st.lists(NAMES, min_size=1, max_size=3, unique_by=str.casefold), st.data())
def test_the_words_of_every_row_come_back(names: list[str], data: st.DataObject) -> None:
    row = st.lists(HOSTILE, min_size=len(names), max_size=len(names))
    cells = data.draw(st.lists(row, min_size=1, max_size=3))
    text = text_of(names, cells)
    written = [cell for line in csv.reader(io.StringIO(text, newline=""), strict=True) for cell in line]
    assert not [cell for cell in written if cell.startswith(("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠"))]
    table = tables.read("manifest.csv", text.encode("utf-8-sig"), ["warmer"], str(DIRECTORY))
    assert [dict(one.values) for one in table.rows] == [dict(zip(names, row, strict=True)) for row in cells]
    assert {one.images for one in table.rows} == {("img_1a2b3c4d",)}

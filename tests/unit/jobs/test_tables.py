"""Tables: what Python's csv and json write, the reader reads back; every mistake is named with its place."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.core import errors
from triptych.jobs import tables
from triptych.jobs.table_cells import LIMIT_BYTES, escaped, restored
from triptych.jobs.tables import Table

STEPS = ["on {color} paper"]
TEXT = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters=[*map(chr, range(32)), "\x7f"])
    | st.sampled_from("\t\n\r\"',;|'=+-@{}")
)
NAMES = st.lists(
    TEXT.map(str.strip).filter(
        lambda name: (
            name
            and not name.casefold().startswith("triptych_")
            and name.casefold() not in ("image", "images")
            and not tables._looks_like_picture(name)
        )
    ),
    min_size=1,
    max_size=4,
    unique_by=str.casefold,
)


def read(
    text: str | bytes, steps: Sequence[str] = STEPS, name: str = "products.csv", directory: str = "photos"
) -> Table:
    return tables.read(name, text.encode() if isinstance(text, str) else text, steps, directory)


def refusal(text: str | bytes, steps: Sequence[str] = STEPS, name: str = "products.csv") -> str:
    with pytest.raises(errors.BadRequest) as refused:
        read(text, steps, name)
    assert len(refused.value.message) < 1000
    return refused.value.message


def written(rows: Sequence[Sequence[str]], **options: Any) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, **options).writerows(rows)
    return file.getvalue()


# -- what it reads


def test_a_row_is_a_lane_with_its_picture_and_words() -> None:
    table = read("sku,image,color\nA1,a.jpg,red\nA2,https://shop.example/b.png,blue\nA3,img_1a2b3c4d,green\n")
    assert [row.images for row in table.rows] == [("photos/a.jpg",), ("https://shop.example/b.png",), ("img_1a2b3c4d",)]
    assert table.rows[1].values == {"sku": "A2", "color": "blue"}
    assert [row.filled(STEPS[0]) for row in table.rows] == [f"on {color} paper" for color in ("red", "blue", "green")]
    assert table.warnings == ("products.csv: 3 rows.",)
    assert table.places["photos/a.jpg"] == "row 2, column image"


def test_several_pictures_of_a_row_are_separated_by_bars_or_lines() -> None:
    table = read('Images,color\n"a.jpg | b.jpg",red\n"a.jpg\nc.jpg",red\n')
    assert [row.images for row in table.rows] == [("photos/a.jpg", "photos/b.jpg"), ("photos/a.jpg", "photos/c.jpg")]


def test_absolute_paths_and_home_paths_stay() -> None:
    table = read("image,color\n/pictures/a.jpg,1\n~/b.jpg,1\nC:\\c.jpg,1\nimg_1.jpg,1\n", directory="")
    assert [row.images[0] for row in table.rows] == ["/pictures/a.jpg", "~/b.jpg", "C:\\c.jpg", "./img_1.jpg"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_spreadsheets_of_every_country_and_system_are_read(end: str, mark: str, delimiter: str) -> None:
    lines = ["image,color,", "a.jpg,red,", "", 'b.jpg,"dark\nred",', ",,", ""]
    table = read(mark + end.join(lines).replace(",", delimiter))
    assert [(row.images, dict(row.values)) for row in table.rows] == [
        (("photos/a.jpg",), {"color": "red"}),
        (("photos/b.jpg",), {"color": "dark\nred"}),
    ]


def test_the_line_that_names_the_delimiter_is_no_row() -> None:
    table = read("sep=|\nimage|color\na.jpg|red\n")
    assert table.rows[0].values == {"color": "red"} and table.places == {"photos/a.jpg": "row 2, column image"}


def test_paths_above_the_table_are_short() -> None:
    table = read("image,color\n../a.jpg,1\n../../../../a.jpg,1\nx/../a.jpg,1\n", directory="/shop/out")
    assert [row.images[0] for row in table.rows] == ["/shop/a.jpg", "/../../a.jpg", "/shop/out/x/../a.jpg"]


def test_a_jsonl_line_is_a_row_of_texts_and_numbers() -> None:
    lines = ['{"images": ["a.jpg", "b|c.jpg"], "color": "red", "n": 1.50}', "", '{"color": true, "n": null}']
    table = read("\r\n".join(lines), name="products.jsonl")
    assert [(row.images, dict(row.values)) for row in table.rows] == [
        (("photos/a.jpg", "photos/b|c.jpg"), {"color": "red", "n": "1.50"}),
        ((), {"color": "true", "n": ""}),
    ]
    assert table.warnings == ("products.jsonl: 2 rows, 1 without a picture.",)


def test_rows_without_pictures_are_made_from_words() -> None:
    table = read("subject\nhouse\ntree\n", ["flat icon of {subject}"], "icons.csv")
    assert [row.images for row in table.rows] == [(), ()]


def test_rows_of_the_same_request_are_named() -> None:
    table = read("sku,image,color\n1,a.jpg,red\n2,a.jpg,blue\n3,a.jpg,red\n")
    assert "paid again: 4 (as 2)" in table.warnings[1]


DIALECTS = st.fixed_dictionaries(
    {"quoting": st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), "delimiter": st.sampled_from(",;\t")}
)


@given(NAMES, st.data(), DIALECTS, st.sampled_from(["utf-8", "utf-8-sig"]))
def test_every_text_that_csv_writes_is_read_back(
    names: list[str], data: st.DataObject, dialect: dict[str, Any], code: str
) -> None:
    cells = data.draw(st.lists(st.lists(TEXT, min_size=len(names), max_size=len(names)), min_size=1, max_size=4))
    cells = [row for row in cells if any(cell.strip() for cell in row)] or [["x"] * len(names)]
    text = written([["image", *names], *(["a.jpg", *row] for row in cells)], **dialect)
    table = read(text.encode(code), ["warmer"])
    assert [dict(row.values) for row in table.rows] == [dict(zip(names, row, strict=True)) for row in cells]


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["a", "b", "ü", "c d"]), TEXT | st.none() | st.booleans() | st.integers()),
        min_size=1,
        max_size=4,
    ),
    st.booleans(),
)
def test_every_text_that_json_writes_is_read_back(rows: list[dict[str, Any]], plain: bool) -> None:
    text = "\n".join(json.dumps({"image": "a.jpg", **row}, ensure_ascii=plain) for row in rows)
    found = read(text, ["warmer"], "products.jsonl").rows
    for row, cells in zip(found, rows, strict=True):
        for name, value in cells.items():
            expected = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            assert row.values[name] == expected


@given(TEXT)
def test_escaped_cells_are_no_formulas_and_are_restored(text: str) -> None:
    assert restored(escaped(text)) == text
    assert not escaped(text).startswith(("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠"))


@given(
    st.binary()
    | st.text().map(str.encode)
    | st.lists(st.sampled_from(list('image,x;"\n\r{}[]:a.jpg\t'))).map("".join).map(str.encode),
    st.sampled_from(["t.csv", "t.tsv", "t.jsonl"]),
)
def test_any_bytes_are_a_table_or_a_refusal(data: bytes, name: str) -> None:
    try:
        table = read(data, name=name)
    except errors.BadRequest as error:
        assert 0 < len(error.message) < 1000
    else:
        assert all(row.values["color"].strip() for row in table.rows)


# -- what it refuses


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; row 1 names the columns"),
        ("image,color\n", "has no rows"),
        ("\n\nimage,color", "Row 1 of products.csv is empty"),
        ("a.jpg,red\nb.jpg,blue\n", "Row 1: it has to name the columns, such as image; it has \"a.jpg\""),
        ("image,color\na.jpg\n", "Row 2: it has 1 cell, the header has 2"),
        ("image,color\na.jpg,red,\n", "Row 2: it has 3 cells, the header has 2"),
        ("image,color,Color \na.jpg,red,blue\n", 'Row 1: two columns are named "Color"'),
        ("image,,color\na.jpg,x,red\n", "Row 1, column B: the column has cells and no name"),
        ("image,images,color\na.jpg,b.jpg,red\n", "keep one"),
        ("image,colour\na.jpg,red\n", "A step has {color}; the table has {colour}"),
        ("image,Color\na.jpg,red\n", "A step has {color}; the column is {Color}"),
        ("image,color\na.jpg,\n", 'Row 2, column "color": empty, and a step uses it'),
        ("image,color\na.jpg,red\x07\n", 'Row 2, column "color": the control character U+0007'),
        ("image,color\na.jpg,red\0\n", "row 2 has a zero byte"),
        ('image,color\na.jpg,"red\nb.jpg,blue\n', "Row 2 of products.csv: a quote is not closed"),
        ('image,color\na.jpg,"red"x\n', "Row 2 of products.csv: a quote is not closed, or text follows it"),
        ("photo,color\na.jpg,red\n", 'The column "photo" looks like the pictures; name it image'),
        ("image,color\nphotos/,red\n", '"photos/" is a folder'),
        ("image,color\n*.jpg,red\n", "is a pattern"),
        ("image,color\nlook:coffee,red\n", "is a look; name it in references"),
        ("image,color\nmore.csv,red\n", "is a table"),
        ("image,color\njob_1a2b3c4d,red\n", "name one of its images, such as job_1a2b3c4d/1"),
        ("image,color\njob_1a2b3c4d/failed,red\n", "is a job"),
        ("image,color\ndata:image/png;base64 xx,red\n", "a data: URI"),
        ("image,color\na.jpg;b.jpg,red\n", "separate several pictures by |"),
        ("image,color\na.jpg," + "x" * 20_000 + "\n", "20,000 characters; a cell has at most 10,000"),
        ("image,color\na.jpg," + "x" * 1_000_000 + "\n", "Row 2 of products.csv: a cell has over 10,000 characters"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(text: str, message: str) -> None:
    assert message in refusal(text)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            "image,color\na.jpg,grün\n".encode("latin-1"),
            "not UTF-8: row 2 has the byte 0xfc (byte 21 of the file). Save",
        ),
        ('image;color\na.jpg;"two\nlines"\n\nb.jpg;grün\n'.encode("latin-1"), "row 4 has the byte 0xfc"),
        ("image,color\na.jpg,red\n".encode("utf-16"), "is encoded as UTF-16, not UTF-8. Save it as CSV UTF-8"),
        ("image,color\na.jpg,red\n".encode("utf-16-le"), "row 1 has a zero byte"),
        (b"PK\x03\x04\x14", "is a spreadsheet file under another name"),
    ],
)
def test_other_encodings_are_named_with_the_remedy(data: bytes, message: str) -> None:
    assert message in refusal(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"color": "red"', "Row 1: the line is not valid JSON (character 16)"),
        ('\n["red"]', "Row 2: the line is not an object"),
        ('{"color": {"deep": 1}}', 'Row 1, column "color": an object'),
        ('{"color": ["red"]}', 'Row 1, column "color": a list'),
        ('{"image": [true], "color": "red"}', 'Row 1, column "image": a list'),
        ('{"color": "red", "color": "blue"}', 'Row 1: it has "color" twice'),
        ('{"color": "red"}\n{"Color": "red"}', 'two columns are named "Color"'),
        ('{"color": NaN}', "Row 1: the line is not valid JSON"),
        ('{"color": "\\ud800"}', "the control character U+D800"),
        ('{"color": "\\u0000"}', "the control character U+0000"),
        ('{"": "red"}', "Row 1: a value has no name"),
        ('{"color": ' + "[" * 100_000, "Row 1: the line is not valid JSON"),
    ],
)
def test_a_mistake_in_jsonl_is_named_with_its_place(text: str, message: str) -> None:
    assert message in refusal(text, name="products.jsonl")


def test_several_mistakes_are_told_at_once() -> None:
    text = refusal("image,color\n" + "*.jpg,\n" * 50)
    assert "has 100 mistakes; nothing was sent" in text and "And 96 more." in text
    assert 'Row 2, column "color": empty' in text and "Row 2, column image" in text and "Row 3" in text


def test_rows_that_would_all_be_the_same_are_refused() -> None:
    assert "all rows would be the same request" in refusal("subject\nhouse\ntree\n", ["a flat icon"])


def test_ten_thousand_rows_are_refused_quickly() -> None:
    text = "image,color\n" + "a.jpg,red\n" * 10_000
    begin = time.process_time()
    assert "has 10,000 rows; one job takes at most 2,000" in refusal(text)
    assert time.process_time() - begin < 1
    assert "has 10,000 rows" in refusal('{"color": "red"}\n' * 10_000, name="products.jsonl")


def test_rows_times_steps_are_limited() -> None:
    rows = "".join(f"{i}.jpg,red\n" for i in range(600))
    message = refusal("image,color\n" + rows, ["{color}", "b", "c", "d"])
    assert "600 rows of products.csv × 4 steps are 2400 requests" in message and "500 rows at a time" in message


def test_a_large_table_is_refused_unread() -> None:
    assert "has 100 MB; a table has at most 5 MB" in refusal(b"\0" * 100_000_000)
    assert LIMIT_BYTES == 5_000_000


def test_tables_are_known_by_their_suffix() -> None:
    names = ["a.csv", " A.TSV ", "x/b.jsonl", "file:///x/b.csv"]
    assert all(map(tables.is_table, names))
    assert not any(
        map(tables.is_table, ["a.jpg", "csv", "https://x.example/a.csv", "data:text/csv;base64,a.csv", "job_1/1"])
    )


# -- a manifest as a table


def test_rows_of_a_manifest_that_are_done_are_left_out() -> None:
    table = read("image,color,triptych_status,triptych_job\na.jpg,red,done,job_1\nb.jpg,'=1+1,failed,job_1\n")
    assert [(row.images, dict(row.values)) for row in table.rows] == [(("photos/b.jpg",), {"color": "=1+1"})]
    assert table.warnings == ("products.csv: 1 row; 1 more are done (triptych_status) and are left out.",)
    assert table.columns == ("image", "color", "triptych_status", "triptych_job")


def test_a_manifest_that_is_done_has_nothing_to_make() -> None:
    assert "All 1 rows of products.csv are done" in refusal("image,color,triptych_status\na.jpg,red,done\n")


def test_an_uncertain_row_is_not_paid_again() -> None:
    message = refusal("image,color,triptych_status\na.jpg,red,uncertain\n")
    assert "Row 2" in message and "cancel_job accepts it as lost" in message


def test_a_column_of_the_manifest_fills_no_step() -> None:
    message = refusal("image,color,triptych_prompt\na.jpg,red,x\n", ["{triptych_prompt}"])
    assert "that column fills no step" in message


@pytest.mark.parametrize("step", ["on {color paper", "on color} paper"])
def test_a_brace_without_its_other_half_is_refused(step: str) -> None:
    with pytest.raises(errors.BadRequest, match="a brace without its other half"):
        tables.read("t.csv", b"image,color\na.png,red\n", [step], "/shop")

"""Names of saved files: from sources, templates, numbers and handles."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triptych.core.errors import OutOfLimits
from triptych.core.models import Job
from triptych.core.requests import Request, Row
from triptych.jobs import file_names

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def chain(sources: tuple[str, ...] | None, steps: int = 1, values: Mapping[str, str] | None = None) -> Job:
    count = len(sources or ("",))
    rows = tuple(Row((f"img_{n}",), values or {}) for n in range(count))
    request = Request("edit_chain", ("warm",) * steps, rows=rows)
    return Job("job_1", request, NOON, "", "draft", "m", "e", sources=sources)


def stem(job: Job, n: int, name: str | None = None, size: str = "", count: int = 1) -> str:
    return file_names.stem(name, file_names.of_output(job, n), n, count, size, several=bool(size))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("/home/me/beach.jpg", "beach"),
        ("photos/beach.at.noon.jpeg", "beach.at.noon"),
        ("C:\\photos\\beach.jpg", "beach"),
        ("file:///home/me/my%20beach.jpg", "my beach"),
        ("https://example.com/a/b%C3%A9ach.png?size=1", "béach"),
        ("https://example.com/", ""),
        ("https://[broken/x.png", ""),
        ("img_1a2b3c4d", ""),
        ("job_1a2b3c4d/2", ""),
        ("triptych://images/img_1", ""),
        ("data:image/png;base64,AAAA", ""),
        ("", ""),
        ("...", ""),
        ("con.jpg", "image-con"),
    ],
)
def test_a_source_is_a_file_name_or_nothing(source: str, expected: str) -> None:
    assert file_names.source_stem(source) == expected


@given(st.text(max_size=80))
def test_no_source_leads_out_of_a_directory(source: str) -> None:
    found = file_names.source_stem(source)
    assert not {"/", "\\", "\0"} & set(found)
    assert not found.startswith(".")
    assert PurePath(found or "x").name == (found or "x")


def test_a_lane_keeps_the_name_of_its_file() -> None:
    job = chain(("a/beach.jpg", "img_1a2b3c4d", "a/hill.png"))
    assert [stem(job, n) for n in (1, 2, 3)] == ["beach", "job_1-2", "hill"]
    assert [file_names.of_copy(job, n) for n in (1, 2, 3)] == ["beach", "job_1-02", "hill"]


def test_only_the_last_step_has_the_plain_name() -> None:
    job = chain(("a/beach.jpg",), steps=3)
    assert [stem(job, n) for n in (1, 2, 3)] == ["beach-step1", "beach-step2", "beach"]


def test_files_of_one_name_in_two_directories_differ() -> None:
    job = chain(("a/beach.jpg", "b/Beach.png", "c/beach-2.jpg", "d/beach.jpg"))
    assert [stem(job, n) for n in (1, 2, 3, 4)] == ["beach", "Beach-2", "beach-2-2", "beach-3"]


def test_a_job_without_sources_has_handles() -> None:
    assert (stem(chain(None), 1), file_names.of_copy(chain(None), 1)) == ("job_1-1", "job_1-01")


def test_a_sequence_has_handles_as_before() -> None:
    request = Request("edit_sequence", ("warm",), ("img_1",), count=4)
    job = Job("job_1", request, NOON, "", "draft", "m", "e", sources=("a/beach.jpg",))
    assert (stem(job, 3), file_names.of_copy(job, 3)) == ("job_1-3", "job_1-03")
    assert stem(job, 3, "{source}-{n}") == "beach-03"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("shop", "shop-02"),
        ("{sku}", "A-7"),
        ("{ sku } by {source}", "A-7 by beach"),
        ("{job} {lane}.{step} {handle} {n}", "job_1 1.2 job_1-2 02"),
        ("{colour}", "beach"),
        ("{sku", "{sku"),
        ("../../{sku}", "A-7"),
    ],
)
def test_a_name_is_filled_from_the_row(name: str, expected: str) -> None:
    job = chain(("beach.jpg",), steps=2, values={"sku": "A/7", "colour": "  "})
    expected = expected.replace("{sku", "-sku-02") if expected == "{sku" else expected
    assert stem(job, 2, name, count=12) == expected.strip("-")


def test_a_size_is_added_unless_the_name_has_it() -> None:
    job = chain(("beach.jpg",))
    assert stem(job, 1, size="64x64") == "beach-64x64"
    assert stem(job, 1, "shop", size="64x64", count=20) == "shop-01-64x64"
    assert stem(job, 1, "{size} of {source}", size="64x64") == "64x64 of beach"


def test_a_column_comes_before_a_placeholder_of_its_name() -> None:
    job = chain(("beach.jpg",), values={"source": "own", "size": "XL"})
    assert stem(job, 1, "{source} {size}", size="64x64") == "own XL-64x64"


def test_a_long_name_keeps_its_size() -> None:
    job = chain((f"{'ü' * 300}.jpg",))
    found = stem(job, 1, size="1080x1080")
    assert found.endswith("ü-1080x1080") and len(found.encode()) <= 120


def test_the_number_has_as_many_digits_as_the_last() -> None:
    assert stem(chain(None), 1, "shop", count=2000) == "shop-0001"


def test_an_unknown_placeholder_is_refused_with_the_known() -> None:
    file_names.check("{sku} {source} {n}", ["sku"])
    with pytest.raises(OutOfLimits) as refused:
        file_names.check("{skuu}", ["sku", "colour"])
    assert "{skuu} in name is unknown" in refused.value.message
    assert "{sku}, {colour}, {source}" in refused.value.message

"""Every field of every stored value comes back as it was written; a field without a column fails here."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.clocks import when
from triptych.core.models import Failure, Image, Job, Layer, Output, Prediction, Route, State, Status
from triptych.core.offers import Lifecycle, LiveInputs, Offer, Operation, Param, Price, Sizes
from triptych.core.requests import Look, Request, Row
from triptych.storage.claims import Slots
from triptych.storage.jobs import Store

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
JOB = "job_00000001"

words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
some = words.filter(bool)
numbers = st.integers(0, 2**31)
seconds = st.floats(0, 1e6)
moments = st.integers(0, 10**12).map(lambda us: NOW + timedelta(microseconds=us))
money = st.decimals(0, 100, places=6)
sizes = st.none() | st.tuples(st.integers(1, 9999), st.integers(1, 9999))
lists = st.lists(words, max_size=3).map(tuple)
faults = st.none() | st.builds(Failure, kind=some, message=words, retryable=st.booleans(), request_id=st.none() | words)
routes = st.builds(
    Route,
    provider=some,
    family=some,
    endpoint=some,
    operation=st.sampled_from(Operation),
    sizes=st.tuples(sizes),
    quotes_usd=st.tuples(money),
    later_usd=st.just(()) | st.tuples(money),
    words=st.none() | st.tuples(some, st.sampled_from(Operation)),
)

plain = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | words
mappings = st.dictionaries(words, plain | st.lists(plain, max_size=2), max_size=3)
texts = st.dictionaries(words, words, max_size=2)
params = st.builds(
    Param,
    schema=mappings,
    path=lists,
    values=mappings,
    usd_per_image=money,
    note=words,
    is_image=st.booleans(),
    required=st.booleans(),
)
offers = st.builds(
    Offer,
    provider=some,
    family=some,
    operation=st.sampled_from(Operation),
    endpoint=some,
    price=st.builds(
        Price,
        usd_per_image=money,
        as_of=some,
        source=words,
        above=st.lists(st.tuples(numbers, money), max_size=2).map(tuple),
        usd_per_reference=money,
        free_references=numbers,
        usd_per_megapixel=money,
        usd_per_request=money,
        unknown=st.booleans(),
    ),
    sizes=st.builds(
        Sizes,
        presets=st.dictionaries(words, st.dictionaries(words, st.tuples(numbers, numbers), max_size=2), max_size=2),
        exact=st.booleans(),
        min_area=numbers,
        max_area=numbers,
        max_aspect=st.floats(1, 100),
        default=words,
        follows_reference=st.booleans(),
        may_be_left_out=st.booleans(),
        min_side=numbers,
        max_side=numbers,
    ),
    formats=lists,
    aliases=lists,
    lifecycle=st.builds(Lifecycle, words, words, words, words),
    params=st.dictionaries(some, params, max_size=2),
    no_params=texts,
    title=words,
    live=st.none()
    | st.builds(
        LiveInputs,
        path=some,
        prompt=st.none() | some,
        image=st.none() | some,
        images=st.none() | some,
        count=st.none() | some,
        size=st.none() | some,
        size_separator=some,
        width=st.none() | some,
        height=st.none() | some,
        ratio=st.none() | some,
        tier=st.none() | some,
        tiers=texts,
        format=st.none() | some,
        formats=texts,
        constants=mappings,
    ),
)

ASKED: Mapping[str, st.SearchStrategy[Any]] = {
    "tool": some,
    "prompts": lists,
    "images": lists,
    "references": lists,
    "count": numbers,
    "model": st.none() | some,
    "provider": st.none() | some,
    "size": st.none() | some,
    "format": st.none() | some,
    "params": st.none() | mappings,
    "rows": st.none()
    | st.lists(st.builds(Row, images=lists, values=texts, done=numbers, original=st.none() | some), max_size=2).map(
        tuple
    ),
    "look": st.none() | st.builds(Look, name=some, version=numbers, words=words, images=lists),
    "retry_of": st.none() | some,
}
requests = st.builds(Request, **ASKED)
WRITTEN_AT_FIRST: Mapping[str, st.SearchStrategy[Any]] = {
    "id": st.just(f"{JOB}-0-0"),
    "job_id": st.just(JOB),
    "lane": numbers,
    "step": numbers,
    "after_id": st.none() | some,
    "first_output": numbers,
    "state": st.just(State.QUEUED),
    "provider": some,
    "endpoint": some,
    "operation": st.sampled_from(Operation),
    "size": sizes,
    "client_id": some,
    "variation": words,
    "quoted_usd": money,
    "quote_exact": st.booleans(),
    "created_mono": seconds,
    "due_at": seconds,
}
WRITTEN_LATER: Mapping[str, st.SearchStrategy[Any]] = {
    "charged_usd": st.none() | money,
    "charge_is_estimate": st.booleans(),
    "ticket": st.none() | some,
    "poll_url": st.none() | some,
    "submitted_at": st.none() | moments,
    "submitted_mono": st.none() | seconds,
    "deadline_at": st.none() | seconds,
    "finished_at": st.none() | moments,
    "looked_mono": st.none() | seconds,
    "attempts": numbers,
    "fault": faults,
    "sent_urls": st.lists(st.none() | some, max_size=3).map(tuple),
}
"""The fields of a prediction, besides those that its job has too (`request` and `live_offer`)."""
JOBS: Mapping[str, st.SearchStrategy[Any]] = {
    "id": st.just(JOB),
    "request": requests,
    "created_at": moments,
    "fingerprint": some,
    "provider": some,
    "model": some,
    "endpoint": some,
    "save_to": st.none() | some,
    "warnings": st.lists(words, max_size=3).map(tuple),
    "cancel_requested": st.just(False),
    "routes": st.lists(routes, max_size=2).map(tuple),
    "sources": st.none() | lists,
    "owner": st.none() | some,
    "budget_group": st.none() | some,
    "status": st.just(Status.QUEUED),
    "returned": st.just(0),
    "may_be_charged": st.just(True),
    "page_size": st.none() | numbers,
    "live_offer": st.none() | offers,
}
FRAMES: Mapping[str, st.SearchStrategy[Any]] = {
    "job_id": st.just(JOB),
    "n": st.integers(1, 99_999),
    "prediction_id": st.just(f"{JOB}-0-0"),
    "url": st.none() | some,
    "url_expires_at": st.none() | moments,
    "sha256": st.none() | some,
    "saved_path": some,
    "source": lists,
    "error": st.none() | words,
    "layer": st.none() | st.builds(Layer, numbers, words, words, st.none() | st.tuples(*[numbers] * 4)),
}
IMAGES: Mapping[str, st.SearchStrategy[Any]] = {
    "sha256": some,
    "handle": some.map(lambda word: f"img_{word}"),
    "mime_type": some,
    "width": numbers,
    "height": numbers,
    "bytes": numbers,
    "path": st.integers(0, 999).map(lambda n: Path("images") / f"{n}.png"),
    "pruned_at": moments,
}


def drawn(of: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(dict(of))


def stored(use: Callable[[Store, Path], None]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        opened = Store(Path(directory) / "triptych.db", Path(directory) / "images")
        try:
            use(opened, Path(directory))
        finally:
            opened.close()


@pytest.mark.parametrize(
    ("value", "strategies"),
    [
        (Job, JOBS),
        (Prediction, {**WRITTEN_AT_FIRST, **WRITTEN_LATER, "request": requests, "live_offer": offers}),
        (Request, ASKED),
        (Output, FRAMES),
        (Image, IMAGES),
    ],
)
def test_no_field_is_left_out_of_the_round_trip(value: type, strategies: Mapping[str, object]) -> None:
    assert {field.name for field in fields(value)} == set(strategies)


@pytest.mark.parametrize(
    ("value", "table", "without_column", "without_field"),
    [
        (Job, "jobs", {"may_be_charged"}, {"ended_at", "ended_mono"}),
        (
            Prediction,
            "predictions",
            {"request", "live_offer"},
            {"reserved_usd", "lease", "lease_until", "created_at", "owner", "budget_group", "account", "hinted_mono"},
        ),
        (Output, "frames", set(), {"attempts", "created_at"}),
        (Image, "images", {"path"}, {"file", "created_at"}),
    ],
)
def test_every_column_has_its_field_or_a_query(
    value: type, table: str, without_column: set[str], without_field: set[str]
) -> None:
    """A column without a field is one that only statements use."""

    def use(_: Store, directory: Path) -> None:
        with closing(sqlite3.connect(directory / "triptych.db")) as connection:
            columns = {name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")}
        assert columns - without_field == {field.name for field in fields(value)} - without_column
        assert without_field <= columns

    stored(use)


@settings(max_examples=25)
@given(drawn(JOBS), drawn(WRITTEN_AT_FIRST), drawn(WRITTEN_LATER))
def test_jobs_and_predictions_come_back_as_written(
    of_job: dict[str, Any], first: dict[str, Any], later: dict[str, Any]
) -> None:
    def use(store: Store, _: Path) -> None:
        job = Job(**of_job)
        new = Prediction(**first, request=job.request, live_offer=job.live_offer)
        assert store.add_job(job, [new], now=when(NOW), attach=False) is None
        row = store.job(job.id)
        assert row == job
        assert store.predictions(job.id) == [new]
        (claim,) = store.claim(
            now=when(NOW)._replace(mono_s=first["due_at"]), lease="a", slots=[Slots("one", new.provider, 1)]
        )
        assert claim.prediction == new
        assert store.move(claim, State.SUBMITTING, now=when(NOW), due_at=7.5, **later)
        assert store.predictions(job.id) == [replace(new, state=State.SUBMITTING, due_at=7.5, **later)]

    stored(use)


@settings(max_examples=25)
@given(drawn(FRAMES))
def test_outputs_come_back_as_written(of_frame: dict[str, Any]) -> None:
    def use(store: Store, _: Path) -> None:
        frame = Output(**of_frame)
        store.add_job(Job(JOB, Request("t", ("p",)), NOW, "f", "p", "m", "e"), [], now=when(NOW), attach=False)
        store.add_outputs([frame], now=NOW)
        store.output_saved(frame, of_frame["saved_path"])
        assert store.outputs(JOB) == [frame] == store.outputs_of(frame.prediction_id)
        assert store.output(frame.handle) == frame

    stored(use)


@settings(max_examples=25)
@given(drawn(IMAGES))
def test_images_come_back_as_written(of_image: dict[str, Any]) -> None:
    def use(store: Store, directory: Path) -> None:
        image = Image(**{**of_image, "path": directory / of_image["path"]})
        kept = store.add_image(image, NOW)
        assert kept == replace(image, pruned_at=None)
        assert store.image_by_sha256(image.sha256) == store.image_by_handle(image.handle) == kept
        store._db.run("prune_image", sha256=image.sha256, now=of_image["pruned_at"].timestamp())
        assert store.image_by_sha256(image.sha256) == image

    stored(use)


def test_a_value_that_no_statement_uses_is_refused() -> None:
    def use(store: Store, _: Path) -> None:
        with pytest.raises(KeyError, match="set_boot does not use colour"):
            store._db.run("set_boot", id="boot", colour="red")

    stored(use)

"""Looks in the database: versions, removal, owners."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.stored import open_store, path_of
from triptych.core import errors
from triptych.jobs.looks import checked_name
from triptych.storage.jobs import Store

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)

ON_BOTH_DATABASES = True


@pytest.fixture
def store(tmp_path: Path, database_url: str | None) -> Iterator[Store]:
    opened = open_store(path_of(tmp_path, database_url), tmp_path / "images")
    yield opened
    opened.close()


def add(store: Store, words: str = "soft light", images: tuple[str, ...] = ("img_1",), owner: str = "") -> int:
    return store.looks.add(owner, "coffee", words, images, NOW)[0].look.version


def test_each_change_of_a_look_is_a_new_version(store: Store) -> None:
    assert [add(store), add(store, "hard light"), add(store, "hard light", ("img_2", "img_1"))] == [1, 2, 3]
    assert [(one.look.words, one.look.images) for one in store.looks.versions("", "coffee")] == [
        ("soft light", ("img_1",)), ("hard light", ("img_1",)), ("hard light", ("img_2", "img_1"))
    ]  # fmt: skip
    newest = store.looks.newest("", "coffee")
    assert newest and newest.look.version == 3 and newest.created_at == NOW


def test_an_unchanged_look_gets_no_new_version(store: Store) -> None:
    assert [add(store), add(store)] == [1, 1]
    assert len(store.looks.versions("", "coffee")) == 1


def test_a_removed_look_continues_its_numbers(store: Store) -> None:
    add(store)
    add(store, "hard light")
    assert store.looks.remove("", "coffee") and not store.looks.remove("", "coffee")
    assert store.looks.listed("") == []
    newest = store.looks.newest("", "coffee")
    assert newest and newest.removed
    assert add(store, "hard light") == 3, "the same content again is a look again"
    assert [one.look.version for one in store.looks.listed("")] == [3]
    assert store.looks.remove("", "coffee") and store.looks.listed("") == []


def test_each_owner_has_its_own_looks(store: Store) -> None:
    assert [add(store, owner=owner) for owner in ("", "ann", "ben")] == [1, 1, 1]
    assert store.looks.remove("ann", "coffee")
    assert [len(store.looks.listed(owner)) for owner in ("", "ann", "ben", "eve")] == [1, 0, 1, 0]


def test_versions_that_are_added_at_once_have_different_numbers(tmp_path: Path, database_url: str | None) -> None:
    stores = [open_store(path_of(tmp_path, database_url), tmp_path / "images") for _ in range(4)]
    threads = [threading.Thread(target=add, args=(one, f"words {n}")) for n, one in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [one.look.version for one in stores[0].looks.versions("", "coffee")] == [1, 2, 3, 4]
    for one in stores:
        one.close()


@given(st.text(max_size=60) | st.from_regex(r"(look:)?[\w-]{1,40}", fullmatch=True))
def test_a_name_is_refused_or_one_plain_word(text: str) -> None:
    try:
        name = checked_name(text)
    except errors.OutOfLimits as refused:
        assert len(refused.message) < 300
        return
    assert 1 <= len(name) <= 40 and all(c.isalnum() or c in "-_" for c in name)
    assert checked_name(name) == checked_name(f" look:{name} ") == name

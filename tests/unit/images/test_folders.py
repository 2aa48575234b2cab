"""Folders and patterns: which pictures they have, in which order, and what is said of the rest."""

from __future__ import annotations

import contextlib
import os
import random
import string
from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from support.systems import needs_any_name, needs_links, needs_posix_files
from triptych.core import errors
from triptych.images import decoding, folders
from triptych.images.folders import Budget, Listing, look, natural_key


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    (tmp_path / "allowed").mkdir()
    return tmp_path / "allowed"


def filled(directory: Path, *names: str) -> Path:
    """Make files of these names in a directory; no byte of them is a picture."""
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no picture")
    return directory


def looked(item: object, inside: Path, home: Path | None = None, budget: Budget | None = None) -> Listing | None:
    return look(str(item), [inside], home or inside.parent / "home", budget or Budget())


def listed(item: object, inside: Path) -> Listing:
    found = looked(item, inside)
    assert found is not None
    return found


def names(item: object, inside: Path) -> list[str]:
    return [path.name for path in listed(item, inside).pictures]


def test_numbers_in_names_count_by_value(inside: Path) -> None:
    filled(inside, "img10.jpg", "img2.jpg", "IMG1.JPG", "img2-b.jpg")
    assert names(inside, inside) == ["IMG1.JPG", "img2.jpg", "img2-b.jpg", "img10.jpg"]


@given(st.lists(st.integers(0, 10**30), unique=True), st.sampled_from(["", "a", "Ä 7-", "фото", "٣-"]))
def test_natural_order_is_the_order_of_the_numbers(numbers: list[int], word: str) -> None:
    shuffled = [f"{word}{number}.png" for number in numbers]
    assert sorted(shuffled, key=natural_key) == [f"{word}{number}.png" for number in sorted(numbers)]


@given(st.lists(st.text(string.printable + "éÉe\u0301ß²٣①", min_size=1, max_size=12), unique=True), st.randoms())
def test_natural_order_is_one_order_for_any_names(some: list[str], chance: random.Random) -> None:
    shuffled = list(some)
    chance.shuffle(shuffled)
    assert sorted(shuffled, key=natural_key) == sorted(some, key=natural_key)


def test_every_readable_format_has_its_suffixes() -> None:
    assert folders.SUFFIXES.keys() == decoding.READABLE.keys()
    by_suffix = Image.registered_extensions()
    for mime_type, suffixes in folders.SUFFIXES.items():
        assert {by_suffix[suffix] for suffix in suffixes} == {decoding.READABLE[mime_type]}


def test_a_folder_has_its_pictures_and_counts_the_rest(inside: Path) -> None:
    filled(inside, "b.png", "a.JPEG", "notes.txt", "a.mov", ".DS_Store", ".hidden.png", "deep/c.png")
    found, shown = listed(inside, inside), folders.shown(str(inside))
    assert [path.name for path in found.pictures] == ["a.JPEG", "b.png"]
    assert found.sentence == (
        f'2 pictures in {shown} (natural order), 2 skipped: "a.mov", "notes.txt", 1 folder not entered.'
    )
    assert found.count == f"2 pictures from {shown}"


def test_pictures_that_triptych_saved_are_left_out(inside: Path) -> None:
    filled(inside, "a.png", "job_1-01.png", "job_1-02.png", "notes.txt")
    found = listed(inside, inside).without({inside / "job_1-01.png", inside / "job_1-02.png"})
    assert found.pictures == (inside / "a.png",)
    assert found.sentence.endswith('(natural order), 3 skipped: "notes.txt", 2 saved by Triptych.')


def test_a_folder_of_saved_pictures_says_how_to_use_them(inside: Path) -> None:
    filled(inside, "job_1-01.png")
    found = listed(inside, inside).without({inside / "job_1-01.png"})
    with pytest.raises(errors.UnreadableImage, match=r"1 saved by Triptych\. Name the saved ones one by one"):
        found.require_some()


def test_many_skipped_files_are_counted_not_named(inside: Path) -> None:
    filled(inside, "a.png", *(f"{n}.txt" for n in range(40)))
    assert ', 40 skipped: "0.txt", "1.txt", "2.txt", "3.txt", "4.txt", 35 more.' in listed(inside, inside).sentence


def test_an_empty_folder_says_what_it_has(inside: Path) -> None:
    with pytest.raises(errors.UnreadableImage, match=r"has no picture. It is empty. Pictures end in .bmp, .gif"):
        listed(inside, inside).require_some()
    filled(inside, "x.heic", "deep/a.png")
    with pytest.raises(errors.UnreadableImage, match=r'1 skipped: "x.heic" and 1 folder \(not entered\)') as refused:
        listed(inside, inside).require_some()
    assert f'The pattern "{inside}/**/*" reads the folders in it.' in refused.value.message


def test_a_file_and_a_missing_path_are_no_folder(inside: Path) -> None:
    filled(inside, "a.png")
    assert looked(inside / "a.png", inside, inside / "home") is None
    assert looked(inside / "missing", inside, inside / "home") is None


def test_a_file_url_of_a_folder_lists_it(inside: Path) -> None:
    filled(inside / "holiday [2]", "a.png")
    assert names((inside / "holiday [2]").as_uri(), inside) == ["a.png"]


def test_a_home_directory_is_expanded(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(inside))
    monkeypatch.setenv("USERPROFILE", str(inside))
    filled(inside / "photos", "a.png")
    assert names("~/photos", inside) == names("~/photos/*.png", inside) == ["a.png"]


def test_a_relative_folder_counts_from_the_working_directory(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(inside / "photos", "a.png", "deep/b.png")
    monkeypatch.chdir(inside)
    assert listed("photos", inside).pictures == (inside / "photos" / "a.png",)
    assert names("photos/**/*.png", inside) == ["a.png", "b.png"]
    assert names("ph*/*", inside) == ["a.png"]


# -- patterns


def test_a_pattern_matches_as_a_shell_does(inside: Path) -> None:
    filled(inside, "a1.png", "a2.png", "a10.png", "b1.png", "a1.txt")
    assert names(inside / "a*.png", inside) == ["a1.png", "a2.png", "a10.png"]
    assert names(inside / "a?.png", inside) == ["a1.png", "a2.png"]
    assert names(inside / "[!a]*", inside) == ["b1.png"]
    assert listed(inside / "a1.*", inside).sentence.startswith("1 picture matches ")


def test_two_stars_enter_folders_but_not_hidden_ones(inside: Path) -> None:
    filled(inside, "c.png", "1/a.png", "1/2/b.png", ".git/d.png", "10/e.png", "2/f.png")
    assert names(inside / "**", inside) == names(inside / "**" / "*.png", inside)
    assert names(inside / "**" / "**" / "*.png", inside) == ["b.png", "a.png", "f.png", "e.png", "c.png"]
    assert names(inside / "*" / "*.png", inside) == ["a.png", "f.png", "e.png"]


def test_a_pattern_without_a_match_says_so(inside: Path) -> None:
    filled(inside, "a.png", "deep/b.png", "deep/c.txt")
    with pytest.raises(errors.UnreadableImage, match=r"matches no picture. Pictures end in"):
        listed(inside / "*.jpg", inside).require_some()
    with pytest.raises(errors.UnreadableImage, match=r"It matches 1 folder \(not entered\).*de\*/\*"):
        listed(inside / "de*", inside).require_some()


def test_a_real_name_with_wildcards_wins(inside: Path) -> None:
    filled(inside, "a[1].png", "a1.png", "set [x]/b.png", "set x/c.png")
    assert looked(inside / "a[1].png", inside, inside / "home") is None
    assert names(inside / "set [x]" / "*.png", inside) == ["b.png"]
    assert names(inside / "set [x]", inside) == ["b.png"]
    assert names(inside / "[a]1.png", inside) == ["a1.png"]


def test_windows_paths_split_at_backslashes_and_drives() -> None:
    def split(text: str, *real: str) -> tuple[str, tuple[str, ...]]:
        base, parts = folders.split(PureWindowsPath(text), lambda path: str(path) in real)
        return str(base), parts

    assert split(r"C:\photos\**\*.jpg") == ("C:\\photos", ("**", "*.jpg"))
    assert split(r"\\?\C:\photos\a?.jpg") == ("\\\\?\\C:\\photos", ("a?.jpg",))
    assert split(r"photos\a.jpg") == (r"photos\a.jpg", ())
    assert split(r"C:\set [1]\*.jpg", r"C:\set [1]") == (r"C:\set [1]", ("*.jpg",))


# -- the door


def test_no_pattern_walks_out_of_the_allowed_directories(inside: Path) -> None:
    filled(inside.parent / "other", "secret.png")
    filled(inside, "a.png", "deep/b.png")
    for item in ("../other", "../other/*.png", "*/../../other/*.png", "**/../*.png", "../*/*.png"):
        with pytest.raises(errors.NotAllowed) as refused:
            listed_item = looked(f"{inside}/{item}", inside)
            if listed_item is None:  # a plain path outside is left to the door, which refuses it
                raise errors.NotAllowed("")
        assert "secret" not in refused.value.message


@needs_links
def test_links_count_as_their_targets(inside: Path) -> None:
    filled(inside.parent / "other", "secret.png", "deep/secret2.png")
    filled(inside, "a.png", "real/b.png", ".hidden/c.png")
    (inside / "in.png").symlink_to(inside / "real" / "b.png")
    (inside / "out.png").symlink_to(inside.parent / "other" / "secret.png")
    (inside / "to-hidden.png").symlink_to(inside / ".hidden" / "c.png")
    (inside / "dangling.png").symlink_to(inside / "nothing.png")
    (inside / "away").symlink_to(inside.parent / "other")
    (inside / "near").symlink_to(inside / "real")
    (inside / "loop").symlink_to(inside)
    found = listed(inside, inside)
    assert [path.name for path in found.pictures] == ["a.png", "in.png"]
    assert set(found.skipped) == {"away (a link)", "out.png (a link)", "to-hidden.png (a link)", "dangling.png"}
    assert names(inside / "**" / "*.png", inside) == ["a.png", "in.png", "b.png"]
    assert listed(inside / "*" / "b.png", inside).pictures == (inside / "real" / "b.png",)
    assert not listed(inside / "*" / "secret*.png", inside).pictures
    assert names(inside / "near", inside) == ["b.png"]


@needs_posix_files
def test_special_files_and_hard_links_are_skipped(inside: Path) -> None:
    filled(inside, "a.png", "b.png")
    os.mkfifo(inside / "pipe.png")
    os.link(inside / "b.png", inside.parent / "b.png")
    found = listed(inside, inside)
    assert [path.name for path in found.pictures] == ["a.png"]
    assert found.skipped == ("b.png (a hard link)", "pipe.png")


def test_our_own_home_is_not_listed(inside: Path) -> None:
    filled(inside / "home" / "images", "0a.png")
    filled(inside, "a.png")
    with pytest.raises(errors.NotAllowed, match="inside TRIPTYCH_HOME"):
        looked(inside / "home" / "images", inside, inside / "home")
    found = looked(inside / "**" / "*.png", inside, inside / "home")
    assert found and found.pictures == (inside / "a.png",)


def test_a_huge_tree_is_searched_within_bounds(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(inside, *(f"{n}/a.png" for n in range(40)))
    monkeypatch.setattr(folders, "MOST_ENTRIES", 30)
    with pytest.raises(errors.OutOfLimits, match=r"the search ended after 30 names\. Nothing was read"):
        listed(inside / "**", inside)
    monkeypatch.undo()
    ticks = iter(range(1000))
    with pytest.raises(errors.OutOfLimits, match="ended after 10 seconds"):
        looked(inside / "**", inside, budget=Budget(lambda: float(next(ticks))))


def test_all_items_of_a_call_share_the_bounds(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(inside, *(f"{n}.png" for n in range(20)))
    monkeypatch.setattr(folders, "MOST_ENTRIES", 30)
    items = [f"{inside}/*.png", f"{inside}/?.png"]
    assert len(folders.look_at(items[:1], [inside], inside.parent / "home")) == 1
    with pytest.raises(errors.OutOfLimits, match="ended after 30 names"):
        folders.look_at(items, [inside], inside.parent / "home")


def test_a_long_item_of_wildcards_takes_no_time(inside: Path) -> None:
    assert looked("[" * 1_000_000, inside) is None


def test_an_unreadable_folder_is_told(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(inside, "a.png", "closed/b.png")
    real_scandir = os.scandir

    def scandir(path: Path) -> os._ScandirIterator[str]:
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return real_scandir(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(errors.UnreadableImage, match=r"cannot be listed \(Permission denied\)"):
        listed(inside / "closed", inside)
    assert ', 1 skipped: "closed/".' in listed(inside / "**" / "*.png", inside).sentence


@needs_any_name
def test_hostile_names_are_data_in_one_line(inside: Path) -> None:
    hostile = ['new\nline "x" <b>.txt', "\u202egnp.exe", "x" * 251 + ".txt", "bell\x07.md", " ends .png "]
    filled(inside, *hostile, "\u202egnp.png", "new\nline.png")
    with contextlib.suppress(OSError):  # macOS has no names that are no UTF-8
        (inside / os.fsdecode(b"\xff.png")).write_bytes(b"")
    found = listed(inside, inside)
    assert {path.name for path in found.pictures} == {"\u202egnp.png", "new\nline.png"}
    sentence = found.sentence
    assert len(sentence) < 600 and sentence.isprintable() and "\u202e" not in sentence
    assert "<" not in sentence and "\"new line 'x' ‹b›.txt\"" in sentence


def test_of_a_long_path_its_end_is_shown() -> None:
    path = f"/photos/{'deep/' * 40}autumn"
    assert folders.shown(path).startswith('"…') and folders.shown(path).endswith('/autumn"')
    assert len(folders.shown(path)) == 82

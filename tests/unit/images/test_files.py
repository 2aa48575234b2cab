"""Claims about the one door for outside bytes, what is kept, and copies that overwrite nothing."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Picture

from support.systems import needs_links, needs_posix_files
from triptych.core import errors
from triptych.core.models import Image
from triptych.images import allowed_paths
from triptych.images import files as image_files
from triptych.images.files import ImageFiles
from triptych.images.naming import safe_name


def picture(kind: str = "PNG", colour: str = "teal", size: tuple[int, int] = (60, 40), **options: Any) -> bytes:
    buffer = io.BytesIO()
    Picture.new("RGB", size, colour).save(buffer, kind, **options)
    return buffer.getvalue()


def photograph_with_a_place() -> bytes:
    exif = Picture.Exif()
    exif[0x010F] = "Some Camera Company"
    exif.get_ifd(0x8825)[1] = "N"
    exif.get_ifd(0x8825)[2] = (59.0, 54.0, 50.0)
    return picture("JPEG", exif=exif)


async def no_fetch(url: str) -> bytes:
    raise AssertionError(f"{url} was fetched")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def door(home: Path) -> ImageFiles:
    return ImageFiles(home, no_fetch)


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    (tmp_path / "inside").mkdir()
    return tmp_path / "inside"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    return tmp_path / "outside"


@pytest.fixture
def fox(inside: Path) -> Path:
    (inside / "a fox.png").write_bytes(picture())
    return inside / "a fox.png"


@pytest.fixture
def secret(outside: Path) -> Path:
    (outside / "secret.png").write_bytes(picture(colour="red"))
    return outside / "secret.png"


def kept(home: Path) -> list[Path]:
    """Return every file below a home."""
    return sorted(path for path in home.rglob("*") if path.is_file())


def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the disk is full."""

    def no_space(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)


# -- which paths are read


@pytest.mark.anyio
async def test_digests_with_one_beginning_get_longer_names(
    door: ImageFiles, fox: Path, inside: Path, home: Path
) -> None:
    digest = hashlib.sha256(fox.read_bytes()).hexdigest()
    other = home / "images" / f"{digest[:16]}.png"
    other.parent.mkdir(parents=True)
    other.write_bytes(b"another picture")
    for _ in range(2):
        image = await door.import_image(str(fox), [inside])
        assert image.path.name == f"{digest}.png"
        assert image.path.read_bytes() == fox.read_bytes()
    assert other.read_bytes() == b"another picture"


@pytest.mark.anyio
async def test_a_file_in_an_allowed_directory_is_stored_by_digest(
    door: ImageFiles, fox: Path, inside: Path, home: Path
) -> None:
    image = await door.import_image(str(fox), [inside])
    digest = hashlib.sha256(fox.read_bytes()).hexdigest()
    assert kept(home) == [image.path]
    assert image.path == home / "images" / f"{digest[:16]}.png"
    assert image.path.read_bytes() == fox.read_bytes()
    assert (image.sha256, image.handle) == (digest, f"img_{digest[:8]}")
    assert (image.mime_type, image.width, image.height) == ("image/png", 60, 40)


@pytest.mark.anyio
async def test_a_file_outside_is_refused_with_the_setting_named(
    door: ImageFiles, secret: Path, inside: Path, home: Path
) -> None:
    with pytest.raises(errors.NotAllowed, match="TRIPTYCH_ALLOWED_DIRS") as refused:
        await door.import_image(str(secret), [inside])
    assert str(inside) in refused.value.message
    assert kept(home) == []


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["{inside}/../outside/secret.png", "{inside}/./../inside/../outside/secret.png"])
async def test_dots_do_not_lead_outside(door: ImageFiles, secret: Path, inside: Path, path: str) -> None:
    with pytest.raises(errors.NotAllowed):
        await door.import_image(path.format(inside=inside), [inside])


@pytest.mark.anyio
async def test_a_directory_named_like_an_allowed_one_is_outside(door: ImageFiles, inside: Path) -> None:
    twin = inside.with_name("inside-too")
    twin.mkdir()
    (twin / "a.png").write_bytes(picture())
    with pytest.raises(errors.NotAllowed):
        await door.import_image(str(twin / "a.png"), [inside])


@needs_links
@pytest.mark.anyio
async def test_a_link_counts_as_where_it_leads(
    door: ImageFiles, fox: Path, secret: Path, inside: Path, outside: Path
) -> None:
    (inside / "out.png").symlink_to(secret)
    (inside / "door").symlink_to(outside)
    (outside / "in.png").symlink_to(fox)
    for path in (inside / "out.png", inside / "door" / "secret.png"):
        with pytest.raises(errors.NotAllowed):
            await door.import_image(str(path), [inside])
    assert await door.import_image(str(outside / "in.png"), [inside])


@needs_links
@pytest.mark.anyio
async def test_an_allowed_directory_may_itself_be_a_link(
    door: ImageFiles, fox: Path, inside: Path, tmp_path: Path
) -> None:
    (tmp_path / "alias").symlink_to(inside)
    assert await door.import_image(str(fox), [tmp_path / "alias"])
    assert await door.import_image(str(tmp_path / "alias" / fox.name), [inside])


@needs_links
@pytest.mark.anyio
async def test_links_in_a_circle_are_refused(door: ImageFiles, inside: Path) -> None:
    (inside / "a.png").symlink_to(inside / "b.png")
    (inside / "b.png").symlink_to(inside / "a.png")
    with pytest.raises(errors.BadRequest):
        await door.import_image(str(inside / "a.png"), [inside])


@needs_links
@pytest.mark.anyio
async def test_a_file_swapped_for_a_link_is_not_read(
    door: ImageFiles, fox: Path, secret: Path, inside: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def swapping(path: Any, flags: int, *rest: Any) -> int:
        monkeypatch.setattr(os, "open", opened)
        fox.unlink()
        fox.symlink_to(secret)
        return opened(path, flags & ~getattr(os, "O_NOFOLLOW", 0), *rest)

    monkeypatch.setattr(os, "open", swapping)
    with pytest.raises(errors.NotAllowed, match="changed"):
        await door.import_image(str(fox), [inside])
    assert kept(home) == []


@needs_links
@pytest.mark.anyio
@pytest.mark.parametrize("back", [True, False])
async def test_a_directory_swapped_for_a_link_is_not_read(
    door: ImageFiles, secret: Path, inside: Path, outside: Path, home: Path, monkeypatch: pytest.MonkeyPatch, back: bool
) -> None:
    (inside / "set").mkdir()
    (inside / "set" / secret.name).write_bytes(picture())
    opened = os.open

    def swapping(path: Any, *rest: Any) -> int:
        monkeypatch.setattr(os, "open", opened)
        (inside / "set").rename(inside / "was")
        (inside / "set").symlink_to(outside)
        descriptor = opened(path, *rest)
        if back:  # as if nothing had happened
            (inside / "set").unlink()
            (inside / "was").rename(inside / "set")
        return descriptor

    monkeypatch.setattr(os, "open", swapping)
    with pytest.raises(errors.NotAllowed, match="changed"):
        await door.import_image(str(inside / "set" / secret.name), [inside])
    assert kept(home) == []


@needs_links
@pytest.mark.anyio
@pytest.mark.parametrize("path", [".fox.png", ".git/fox.png", "a/.cache/b/fox.png", "shown.png", "...fox.png"])
async def test_what_is_hidden_below_an_allowed_directory_is_not_read(
    door: ImageFiles, inside: Path, home: Path, path: str
) -> None:
    (inside / ".secret").mkdir()
    (inside / ".secret" / "fox.png").write_bytes(picture())
    (inside / "shown.png").symlink_to(inside / ".secret" / "fox.png")
    (inside / path).parent.mkdir(parents=True, exist_ok=True)
    if not (inside / path).exists():
        (inside / path).write_bytes(picture())
    with pytest.raises(errors.NotAllowed, match="hidden"):
        await door.import_image(str(inside / path), [inside])
    assert kept(home) == []


@pytest.mark.anyio
async def test_a_hidden_directory_allowed_by_name_is_read(door: ImageFiles, inside: Path) -> None:
    hidden = inside / ".config" / "set"
    (hidden / ".deeper").mkdir(parents=True)
    (hidden / "fox.png").write_bytes(picture())
    (hidden / ".deeper" / "fox.png").write_bytes(picture())
    assert await door.import_image(str(hidden / "fox.png"), [inside, hidden])
    with pytest.raises(errors.NotAllowed, match="hidden"):
        await door.import_image(str(hidden / ".deeper" / "fox.png"), [inside, hidden])


@pytest.mark.anyio
async def test_files_with_the_hidden_flag_need_no_dot(
    door: ImageFiles, fox: Path, inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = Path.lstat

    def flagged(path: Path) -> Any:
        return SimpleNamespace(st_file_attributes=stat.FILE_ATTRIBUTE_HIDDEN) if path == fox else really(path)

    monkeypatch.setattr(Path, "lstat", flagged)
    with pytest.raises(errors.NotAllowed, match="hidden"):
        await door.import_image(str(fox), [inside])


@pytest.mark.anyio
async def test_a_file_with_a_second_name_is_refused(door: ImageFiles, secret: Path, inside: Path, home: Path) -> None:
    (inside / "linked.png").hardlink_to(secret)
    with pytest.raises(errors.NotAllowed, match=r"hard link.*copy"):
        await door.import_image(str(inside / "linked.png"), [inside])
    assert kept(home) == []
    secret.unlink()
    assert await door.import_image(str(inside / "linked.png"), [inside]), "its last name is a file like any other"


@pytest.mark.anyio
async def test_a_stored_file_with_a_backups_link_is_read(door: ImageFiles, tmp_path: Path) -> None:
    image = await door.store_result(picture())
    (tmp_path / "backup.png").hardlink_to(image.path)
    assert await door.import_image(str(image.path), []) == image


@pytest.mark.parametrize(
    "share", [r"\\server\share\a.png", "//server/share/a.png", r"\\?\UNC\server\share\a.png", r"\\.\pipe\a.png"]
)
def test_a_windows_share_is_refused_before_any_contact(share: str) -> None:
    """No path of ours is touched: these are names alone, as Windows reads them."""
    with pytest.raises(errors.NotAllowed, match="network share"):
        allowed_paths.require_on_this_machine(share, PureWindowsPath(share), [PureWindowsPath("C:/pictures")])
    allowed_paths.require_on_this_machine(share, PureWindowsPath(share), [PureWindowsPath(share.upper()).parent])
    allowed_paths.require_on_this_machine("a.png", PureWindowsPath("C:/a.png"), [])


@needs_posix_files
@pytest.mark.anyio
async def test_a_descriptor_under_proc_is_the_file_it_stands_for(door: ImageFiles, secret: Path, inside: Path) -> None:
    if not Path("/proc/self/fd").exists():
        pytest.skip("this system has no /proc")
    with secret.open("rb") as file:
        for path in (f"/proc/self/fd/{file.fileno()}", f"/dev/fd/{file.fileno()}", f"/proc/self/root{secret}"):
            with pytest.raises(errors.NotAllowed, match="outside"):
                await door.import_image(path, [inside])


@needs_links
@pytest.mark.anyio
async def test_a_refusal_tells_no_path_that_was_not_given(
    door: ImageFiles, fox: Path, secret: Path, inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (inside / "link.png").symlink_to(secret)
    monkeypatch.setenv("HOME", str(secret.parent))
    monkeypatch.setenv("USERPROFILE", str(secret.parent))
    monkeypatch.chdir(inside)
    for item in ("link.png", "~/secret.png", "~/missing.png", "../outside/secret.png"):
        with pytest.raises(errors.NotAllowed) as refused:
            await door.import_image(item, [inside])
        assert item in refused.value.message and "outside/" not in refused.value.message.replace(item, "")


@pytest.mark.anyio
async def test_a_relative_path_starts_at_the_working_directory(
    door: ImageFiles, fox: Path, secret: Path, inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(inside)
    assert await door.import_image("a fox.png", [inside])
    assert await door.import_image("./a fox.png", [Path()])
    with pytest.raises(errors.NotAllowed):
        await door.import_image("../outside/secret.png", [inside])


@pytest.mark.anyio
async def test_a_tilde_is_the_users_home(
    door: ImageFiles, fox: Path, inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(inside))
    assert await door.import_image("~/a fox.png", [inside])
    with pytest.raises(errors.BadRequest):
        await door.import_image("~no-such-user-here/a.png", [inside])


@pytest.mark.anyio
@pytest.mark.parametrize("head", ["file://", "FILE://", "file://localhost", "file:"])
async def test_a_file_url_is_a_path_with_its_escapes_undone(
    door: ImageFiles, fox: Path, secret: Path, inside: Path, head: str
) -> None:
    path = "/" + quote(fox.as_posix().lstrip("/"))
    assert "%20" in path
    assert await door.import_image(head + path, [inside])
    with pytest.raises(errors.NotAllowed):
        await door.import_image(head + quote(inside.as_posix()) + "/%2e%2e/outside/secret.png", [inside])


@pytest.mark.anyio
async def test_a_file_url_of_another_machine_is_refused(door: ImageFiles, fox: Path, inside: Path) -> None:
    with pytest.raises(errors.NotAllowed, match="another machine"):
        await door.import_image(f"file://server{fox}", [inside])


@pytest.mark.anyio
@pytest.mark.parametrize(
    "item", ["a\x00.png", "file:///a%00.png", "file://[", "\ud800.png", "a" * 5000, "a" * 300, "", ".", "ftp://x/y.png"]
)
async def test_an_odd_path_is_our_own_error(
    door: ImageFiles, inside: Path, item: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(inside)
    with pytest.raises(errors.BadRequest) as refused:
        await door.import_image(item, [inside])
    assert len(refused.value.message) < 600


@pytest.mark.anyio
async def test_a_missing_file_is_told_from_a_forbidden_one(door: ImageFiles, inside: Path) -> None:
    with pytest.raises(errors.UnreadableImage, match="There is no file"):
        await door.import_image(str(inside / "missing.png"), [inside])


@pytest.mark.anyio
async def test_a_directory_is_no_image(door: ImageFiles, inside: Path) -> None:
    with pytest.raises(errors.UnreadableImage):
        await door.import_image(str(inside), [inside])


@pytest.mark.anyio
async def test_a_directory_that_windows_does_not_open_is_no_image(
    door: ImageFiles, inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(errors.UnreadableImage, match="is not a file; name an image file"):
        await door.import_image(str(inside), [inside])


@needs_posix_files
@pytest.mark.anyio
async def test_pipes_and_sockets_are_refused_without_waiting(door: ImageFiles, inside: Path) -> None:
    os.mkfifo(inside / "pipe.png")
    with pytest.raises(errors.UnreadableImage, match="not a file"):
        await door.import_image(str(inside / "pipe.png"), [inside])
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(inside)  # a socket's path is short
        try:
            listening.bind("socket.png")
        finally:
            os.chdir(here)
        with pytest.raises(errors.UnreadableImage):
            await door.import_image(str(inside / "socket.png"), [inside])


@needs_posix_files
@pytest.mark.anyio
async def test_a_device_is_refused(door: ImageFiles) -> None:
    with pytest.raises(errors.UnreadableImage, match="not a file"):
        await door.import_image("/dev/zero", [Path("/dev")])


@pytest.mark.anyio
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"root:x:0:0:root:/root:/bin/sh\n",
        picture()[:70],
        picture("JPEG", size=(300, 300))[:400],
        b"\x89PNG\r\n\x1a\n",
    ],
)
async def test_an_image_that_does_not_decode_fully_is_refused(
    door: ImageFiles, inside: Path, home: Path, data: bytes
) -> None:
    (inside / "a.png").write_bytes(data)
    with pytest.raises(errors.UnreadableImage, match=r"a\.png") as refused:
        await door.import_image(str(inside / "a.png"), [inside])
    assert "root:" not in refused.value.message
    assert kept(home) == []


@pytest.mark.anyio
async def test_a_file_above_the_cap_is_not_read(
    door: ImageFiles, fox: Path, inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allowed_paths, "FILE_LIMIT_BYTES", len(fox.read_bytes()))
    assert await door.import_image(str(fox), [inside])
    monkeypatch.setattr(allowed_paths, "FILE_LIMIT_BYTES", len(fox.read_bytes()) - 1)
    with pytest.raises(errors.UnreadableImage, match="at most"):
        await door.import_image(str(fox), [inside])


@pytest.mark.anyio
async def test_no_file_stays_open_whether_it_was_read_or_refused(
    door: ImageFiles, fox: Path, inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, closed = [], []
    really_open, really_close = os.open, os.close

    def watch_open(path: Any, *rest: Any) -> int:
        descriptor = really_open(path, *rest)
        if str(path).startswith(str(inside)):
            opened.append(descriptor)
        return descriptor

    def watch_close(descriptor: int) -> None:
        closed.append(descriptor)
        really_close(descriptor)

    monkeypatch.setattr(os, "open", watch_open)
    monkeypatch.setattr(os, "close", watch_close)
    await door.import_image(str(fox), [inside])
    with pytest.raises(errors.UnreadableImage):
        await door.import_image(str(inside), [inside])
    assert opened
    assert all(descriptor in closed for descriptor in opened)


# -- data: URIs and URLs


@pytest.mark.anyio
@pytest.mark.parametrize(
    "head", ["data:image/png;base64,", "DATA:image/png;BASE64,", "data:;base64,", "data:text/plain;charset=x;base64,"]
)
async def test_a_data_uri_is_what_its_bytes_are(door: ImageFiles, head: str) -> None:
    body = base64.b64encode(picture()).decode()
    wrapped = "\n".join(body[i : i + 60] for i in range(0, len(body), 60))
    escaped = quote(body, safe="")
    assert len({(await door.import_image(head + text, [])).handle for text in (body, wrapped, escaped)}) == 1


@pytest.mark.anyio
async def test_a_data_uri_may_be_percent_encoded(door: ImageFiles) -> None:
    image = await door.import_image("data:image/png," + quote(picture(), safe=""), [])
    assert image.sha256 == hashlib.sha256(picture()).hexdigest()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "item",
    [
        "data:",
        "data:image/png;base64",
        "data:image/png;base64,",
        "data:image/png;base64,!!!!",
        "data:image/png;base64,QUJD",
        "data:,hello",
    ],
)
async def test_a_data_uri_without_an_image_is_refused(door: ImageFiles, home: Path, item: str) -> None:
    with pytest.raises(errors.UnreadableImage):
        await door.import_image(item, [])
    assert kept(home) == []


@pytest.mark.anyio
async def test_a_data_uri_above_the_cap_is_never_decoded(door: ImageFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "FILE_LIMIT_BYTES", 50)
    with pytest.raises(errors.UnreadableImage, match="larger"):
        await door.import_image("data:image/png;base64," + "A" * 1000, [])


@pytest.mark.anyio
@pytest.mark.parametrize(
    "url", ["https://images.example/a.png", "HTTPS://images.example/a.png", "http://images.example/"]
)
async def test_every_url_goes_through_the_one_fetcher_which_decides(home: Path, url: str) -> None:
    asked = []

    async def fetch(url: str) -> bytes:
        asked.append(url)
        return picture()

    assert (await ImageFiles(home, fetch).import_image(url, [])).mime_type == "image/png"
    assert asked == [url]


@given(st.text(max_size=60), st.sampled_from(["", "data:", "data:image/png;base64,", "file:", "file://", "~", "/"]))
def test_whatever_an_item_is_only_our_own_errors_come_out(text: str, head: str) -> None:
    async def import_images() -> None:
        with suppress(errors.TriptychError):
            await ImageFiles(Path("/nowhere"), no_fetch).import_image(head + text, [])

    if not text.lower().startswith(("http:", "https:")):
        anyio.run(import_images)


# -- what is kept


@pytest.mark.anyio
async def test_a_stored_photograph_has_lost_its_location(door: ImageFiles, inside: Path, home: Path) -> None:
    data = photograph_with_a_place()
    assert b"Some Camera Company" in data
    (inside / "holiday.jpg").write_bytes(data)
    image = await door.import_image(str(inside / "holiday.jpg"), [inside])
    [path] = kept(home)
    stored = path.read_bytes()
    assert b"Some Camera Company" not in stored
    assert dict(Picture.open(io.BytesIO(stored)).getexif()) == {}
    assert image.sha256 == hashlib.sha256(stored).hexdigest()


@pytest.mark.anyio
async def test_one_file_has_one_handle_by_every_way_in(door: ImageFiles, inside: Path, home: Path) -> None:
    data = photograph_with_a_place()
    for name in ("a.jpg", "b.jpg"):
        (inside / name).write_bytes(data)
    ways = [str(inside / "a.jpg"), str(inside / "b.jpg"), "data:;base64," + base64.b64encode(data).decode()]
    assert len({(await door.import_image(item, [inside])).handle for item in ways}) == 1
    assert len(kept(home)) == 1


@pytest.mark.anyio
async def test_a_stored_file_can_always_be_named_by_path(door: ImageFiles) -> None:
    image = await door.store_result(picture())
    assert await door.import_image(str(image.path), []) == image


@pytest.mark.anyio
async def test_a_result_is_kept_byte_for_byte(door: ImageFiles) -> None:
    data = picture("WEBP")
    image = await door.store_result(data)
    assert image.path.suffix == ".webp"
    assert image.path.read_bytes() == data


@pytest.mark.anyio
async def test_a_result_that_is_no_whole_image_is_not_kept(door: ImageFiles, home: Path) -> None:
    for data in (b"", b"<html>expired</html>", picture()[:70]):
        with pytest.raises(errors.UnreadableImage):
            await door.store_result(data)
    assert kept(home) == []


@pytest.mark.anyio
async def test_a_full_disk_leaves_nothing_and_says_what_helps(
    door: ImageFiles, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as until_mended:
        full(until_mended)
        with pytest.raises(errors.Outage, match="disk full") as failed:
            await door.store_result(picture())
        assert str(home) in failed.value.for_operator and str(home) not in failed.value.message
        assert kept(home) == []
    assert (await door.store_result(picture())).path.exists()


@pytest.mark.anyio
async def test_a_home_that_is_a_file_is_our_own_error(home: Path, door: ImageFiles) -> None:
    home.write_text("in the way")
    with pytest.raises(errors.Outage):
        await door.store_result(picture())


@pytest.mark.anyio
async def test_files_of_dead_processes_are_swept_and_no_others(door: ImageFiles, home: Path) -> None:
    image = await door.store_result(picture())
    old, new = home / "parts" / "old.part", home / "parts" / "new.part"
    for part in (old, new):
        part.write_bytes(b"half")
    now = datetime.now(UTC)
    os.utime(old, ((now - timedelta(minutes=2)).timestamp(),) * 2)
    door.remove_stale_parts(now)
    assert kept(home) == [image.path, new]


# -- copies


@pytest.fixture
async def image(door: ImageFiles) -> Image:
    return await door.store_result(picture())


@pytest.mark.anyio
async def test_a_copy_gets_its_name_in_a_new_directory(door: ImageFiles, image: Image, tmp_path: Path) -> None:
    path = door.save(image, tmp_path / "new" / "deep", "a fox")
    assert path == tmp_path / "new" / "deep" / "a fox.png"
    assert path.read_bytes() == picture()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.anyio
async def test_a_copy_never_overwrites_another_file(door: ImageFiles, image: Image, inside: Path) -> None:
    other = await door.store_result(picture(colour="red"))
    assert [door.save(one, inside, "set").name for one in (image, other, image, other)] == [
        "set.png",
        "set-2.png",
        "set.png",
        "set-2.png",
    ]
    assert (inside / "set.png").read_bytes() == picture()


@needs_links
@pytest.mark.anyio
async def test_a_directory_or_link_in_the_way_is_kept(
    door: ImageFiles, image: Image, inside: Path, outside: Path
) -> None:
    (inside / "set.png").mkdir()
    (inside / "set-2.png").symlink_to(outside / "planted.png")
    assert door.save(image, inside, "set").name == "set-3.png"
    assert list(outside.iterdir()) == []


@pytest.mark.anyio
async def test_a_full_disk_leaves_no_half_copy(
    door: ImageFiles, image: Image, inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full(monkeypatch)
    with pytest.raises(errors.NotAllowed, match="cannot be written"):
        door.save(image, inside, "set")
    assert list(inside.iterdir()) == []


@pytest.fixture
def no_hard_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "hardlink_to", refused)


@pytest.mark.anyio
@pytest.mark.usefixtures("no_hard_links")
async def test_a_file_system_without_hard_links_serves_too(door: ImageFiles, image: Image, inside: Path) -> None:
    other = await door.store_result(picture(colour="red"))
    assert [door.save(one, inside, "set").name for one in (image, other, image)] == ["set.png", "set-2.png", "set.png"]


@pytest.mark.anyio
@pytest.mark.usefixtures("no_hard_links")
async def test_and_leaves_no_half_copy_when_its_disk_is_full(
    door: ImageFiles, image: Image, inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_open: Callable[..., Any] = Path.open

    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full_for_copies(path: Path, *args: Any, **kwargs: Any) -> Any:
        file = really_open(path, *args, **kwargs)
        if path.suffix == ".part":
            return file
        file.close()
        return Full()

    monkeypatch.setattr(Path, "open", full_for_copies)
    with pytest.raises(errors.NotAllowed):
        door.save(image, inside, "set")
    assert list(inside.iterdir()) == []


@pytest.mark.anyio
async def test_copying_an_image_without_its_file_is_our_error(door: ImageFiles, image: Image, inside: Path) -> None:
    image.path.unlink()
    with pytest.raises(errors.UnreadableImage, match=image.handle):
        door.save(image, inside, "set")


@pytest.mark.anyio
async def test_a_directory_that_cannot_be_made_is_named(door: ImageFiles, image: Image, fox: Path) -> None:
    with pytest.raises(errors.NotAllowed, match="cannot be written"):
        door.save(image, fox / "below a file", "set")


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a fox (2)", "a fox (2)"),
        ("../../x", "x"),
        ("..\\..\\x", "x"),
        ("a/b", "a-b"),
        ("C:\\a", "C--a"),
        (".hidden", "hidden"),
        ("...", "image"),
        ("", "image"),
        ("///", "image"),
        ("line\nbreak\x00", "line-break"),
        ("лиса 狐", "лиса 狐"),
        ("con", "image-con"),
        ("CON.txt", "image-CON.txt"),
        ("nul .x", "image-nul .x"),
        ("com¹", "image-com¹"),
        ("trailing. ", "trailing"),
        ("$HOME `rm`", "HOME -rm"),
    ],
)
def test_a_name_is_made_safe_for_every_system(name: str, safe: str) -> None:
    assert safe_name(name) == safe


@given(st.text(max_size=400))
def test_a_safe_name_is_one_that_every_system_takes(name: str) -> None:
    safe = safe_name(name)
    assert safe
    assert len(safe.encode()) <= 126
    assert not set(safe) & set('/\\:*?"<>|\0\n')
    assert safe[0] not in ". -"
    assert safe[-1] not in ". -"
    assert safe_name(safe) == safe


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["../../x", "a/b", ".hidden", "狐" * 300, "𠀀" * 300, "a" * 300, "con"])
async def test_whatever_the_name_the_copy_lies_in_the_directory_itself(
    door: ImageFiles, image: Image, inside: Path, name: str
) -> None:
    assert door.save(image, inside, name).parent == inside


@needs_links
def test_a_directory_to_write_into_must_be_allowed(door: ImageFiles, inside: Path, outside: Path, fox: Path) -> None:
    assert door.allowed_directory(str(inside / "new" / "deep"), [inside]) == inside / "new" / "deep"
    (inside / "door").symlink_to(outside)
    for refused in (outside, inside / ".." / "outside", inside / "door" / "new"):
        with pytest.raises(errors.NotAllowed, match="TRIPTYCH_ALLOWED_DIRS"):
            door.allowed_directory(str(refused), [inside])
    with pytest.raises(errors.NotAllowed, match="not a directory"):
        door.allowed_directory(str(fox), [inside])


@needs_links
def test_nothing_is_written_into_hidden_directories_or_our_home(
    door: ImageFiles, inside: Path, home: Path, tmp_path: Path
) -> None:
    for hidden in (inside / ".git" / "hooks", inside / ".new"):
        with pytest.raises(errors.NotAllowed, match="hidden"):
            door.allowed_directory(str(hidden), [inside])
    assert door.allowed_directory(str(inside / ".new" / "set"), [inside, inside / ".new"])
    home.mkdir()
    (inside / "way home").symlink_to(home)
    for own in (home, home / "images" / "ab", home / "new", inside / "way home" / "images"):
        with pytest.raises(errors.NotAllowed, match="TRIPTYCH_HOME"):
            door.allowed_directory(str(own), [tmp_path])


@needs_links
@pytest.mark.anyio
async def test_a_checked_directory_that_became_a_link_stays_unwritten(
    door: ImageFiles, image: Image, inside: Path, outside: Path
) -> None:
    target = door.allowed_directory(str(inside / "set" / "new"), [inside])
    (inside / "set").symlink_to(outside)
    with pytest.raises(errors.NotAllowed, match="was replaced"):
        door.save(image, target, "a")
    assert list(outside.iterdir()) == []
    (inside / "set").unlink()
    (inside / "set").symlink_to(inside / "set")
    with pytest.raises(errors.NotAllowed, match="was replaced"):
        door.save(image, target, "a")


@needs_links
@pytest.mark.anyio
async def test_a_new_directory_swapped_for_a_link_stays_unwritten(
    door: ImageFiles, image: Image, inside: Path, outside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, really = door.allowed_directory(str(inside / "set"), [inside]), Path.mkdir

    def swapping(path: Path, *args: Any, **kwargs: Any) -> None:
        path.symlink_to(outside)
        really(path, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", swapping)
    with pytest.raises(errors.NotAllowed, match="was replaced"):
        door.save(image, target, "a")
    assert list(outside.iterdir()) == []


SAVER = """
import sys
from pathlib import Path
from triptych.images.files import ImageFiles
from triptych.core.models import Image
home, directory, *files = map(Path, sys.argv[1:])
print("ready", flush=True)
sys.stdin.readline()
for file in files:
    image = Image("", file.stem, "image/png", 1, 1, 1, file)
    print(ImageFiles(home, None).save(image, directory, "set").name, flush=True)
"""


def test_processes_that_save_at_once_overwrite_nothing(inside: Path, tmp_path: Path) -> None:
    names, savers = [], []
    for who in range(3):
        files = [tmp_path / f"{who}-{n}.png" for n in range(20)]
        for file in files:
            file.write_bytes(file.name.encode())
        command = [sys.executable, "-c", SAVER, tmp_path / "home", inside, *files]
        savers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for saver in savers:
        assert saver.stdout and saver.stdout.readline() == "ready\n"
    for saver in savers:
        assert saver.stdin
        saver.stdin.write("go\n")
        saver.stdin.flush()
    for saver in savers:
        names += saver.communicate(timeout=60)[0].split()
        assert saver.returncode == 0
    assert len(names) == len(set(names)) == 60
    assert {path.read_bytes() for path in inside.iterdir()} == {
        f"{w}-{n}.png".encode() for w in range(3) for n in range(20)
    }
    assert {path.name for path in inside.iterdir()} == set(names)


@pytest.mark.parametrize("name", ["a" * 300, "a\x00b", "~no-such-user-here", "file://server/share"])
def test_an_odd_directory_is_our_own_error_or_allowed(door: ImageFiles, inside: Path, name: str) -> None:
    try:
        found = door.allowed_directory(name if name[0] in "~f" else str(inside / name), [inside])
    except errors.BadRequest:
        return
    assert found.is_relative_to(inside)

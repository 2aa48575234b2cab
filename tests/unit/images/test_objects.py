"""The object store against a real S3 API on loopback, which fails as object stores and networks do."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest

from support import object_store
from support.clocks import FakeClock
from support.object_store import FAULTS, Bucket
from support.pictures import picture
from triptych.core import errors
from triptych.core.models import Image
from triptych.images import naming
from triptych.images.object_files import ObjectFiles, open_files
from triptych.images.objects import Objects, ObjectsPlace

DATA = picture()
SHA256 = hashlib.sha256(DATA).hexdigest()
KEY = naming.key_of(SHA256, "image/png")


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    with object_store.bucket() as made:
        yield made


@pytest.fixture
def store(bucket: Bucket, clock: FakeClock) -> Objects:
    return bucket.open(clock)


@pytest.fixture
def files(bucket: Bucket, clock: FakeClock, tmp_path: Path) -> ObjectFiles:
    return ObjectFiles(tmp_path, no_fetch, bucket.open(clock))


async def no_fetch(url: str) -> bytes:
    raise AssertionError(url)


def stored(data: bytes = DATA) -> Image:
    sha256 = hashlib.sha256(data).hexdigest()
    return Image(sha256, f"img_{sha256[:8]}", "image/png", 40, 40, len(data))


def copies(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "images" / "cache").glob("*"))


# -- one object


def test_an_image_is_written_once_under_its_hash(store: Objects, bucket: Bucket, clock: FakeClock) -> None:
    store.put(KEY, DATA, "image/png")
    store.put(KEY, DATA, "image/png")
    bucket.open(clock).put(KEY, DATA, "image/png")
    assert bucket.stored() == {f"images/{SHA256}.png": ("image/png", DATA)}
    assert [one for one in bucket.answered if one != 200] == [412] and bucket.number("PUT") == 2
    assert store.get(KEY) == DATA
    store.delete(KEY)
    store.delete(KEY)
    assert (store.get(KEY), store.facts(KEY), bucket.stored()) == (None, None, {})


@pytest.mark.parametrize("kind", FAULTS)
def test_an_image_that_is_not_confirmed_is_not_stored(store: Objects, bucket: Bucket, kind: str) -> None:
    """It is an outage with words that help, and the next call stores the image."""
    bucket.fail("PUT", kind, 3)
    with pytest.raises(errors.Outage) as failed:
        store.put(KEY, DATA, "image/png")
    words = {"full": "full", "over quota": "full", "forbidden": "credentials", "busy": "SlowDown", "slow": "in time"}
    assert words.get(kind, "store an image") in failed.value.message
    assert not any(word in failed.value.message for word in ("127.0.0.1", bucket.name, "images/", "Debug"))
    bucket.faults.clear()
    store.put(KEY, DATA, "image/png")
    assert bucket.stored() == {KEY: ("image/png", DATA)}


def test_a_store_that_cannot_be_reached_says_so(bucket: Bucket, clock: FakeClock) -> None:
    store = Objects(bucket.place(endpoint="http://127.0.0.1:1"), clock)
    with pytest.raises(errors.Outage, match="cannot be reached"):
        store.put(KEY, DATA, "image/png")


def test_a_missing_bucket_is_named_as_such(bucket: Bucket, clock: FakeClock) -> None:
    place = ObjectsPlace("s3://no-such-bucket", bucket.place().options, allow_http=True)
    for use in (lambda store: store.put(KEY, DATA, "image/png"), lambda store: store.get(KEY)):
        with pytest.raises(errors.Outage, match="bucket in TRIPTYCH_OBJECTS_URL does not exist"):
            use(Objects(place, clock))


def test_a_store_without_conditional_writes_serves_too(store: Objects, bucket: Bucket) -> None:
    bucket.fail("PUT", "no conditions", 9)
    store.put(KEY, DATA, "image/png")
    assert bucket.stored() == {KEY: ("image/png", DATA)}


def test_an_object_that_is_not_the_image_is_written_again(store: Objects, bucket: Bucket, clock: FakeClock) -> None:
    store.put(KEY, DATA[:-1], "image/png")
    bucket.open(clock).put(KEY, DATA, "image/png")
    assert bucket.stored()[KEY][1] == DATA


def test_an_old_object_gets_todays_date_when_stored_again(store: Objects, bucket: Bucket, clock: FakeClock) -> None:
    store.put(KEY, DATA, "image/png")
    for later_h, writes in ((11, 2), (13, 4)):
        clock._now = datetime.now(UTC) + timedelta(hours=later_h)
        bucket.open(clock).put(KEY, DATA, "image/png")
        assert bucket.number("PUT") == writes


def test_only_images_below_the_prefix_are_listed(store: Objects, bucket: Bucket) -> None:
    store.put(KEY, DATA, "image/png")
    store.put("check", b"x", "text/plain")
    assert [(key, size) for key, (size, _) in store.all_facts().items()] == [(KEY, len(DATA))]


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_a_place_that_is_no_store_is_refused(scheme: str, clock: FakeClock) -> None:
    options = {"no_such_option": "x"}
    with pytest.raises(errors.BadRequest, match="TRIPTYCH_OBJECTS_URL cannot be used"):
        Objects(ObjectsPlace(f"{scheme}://bucket", options), clock)


def test_without_the_extra_it_is_named(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "obstore", None)
    with pytest.raises(errors.BadRequest, match=r"pip install 'triptych\[s3\]'"):
        Objects(ObjectsPlace("s3://bucket"), clock)


def test_plain_http_goes_nowhere_unless_allowed(bucket: Bucket, clock: FakeClock) -> None:
    place = bucket.place()
    with pytest.raises(errors.Outage):
        Objects(ObjectsPlace(place.url, place.options), clock).put(KEY, DATA, "image/png")
    assert bucket.asked == []


# -- signed URLs


def test_a_signed_url_is_readable_by_everyone_for_a_week(store: Objects, clock: FakeClock) -> None:
    store.put(KEY, DATA, "image/png")
    signed = store.signed_url(KEY)
    assert signed
    answer = httpx2.get(signed[0])
    assert (answer.content, answer.headers["content-type"]) == (DATA, "image/png")
    assert signed[1] - clock.now() == timedelta(days=7) and "X-Amz-Expires=604800" in signed[0]
    clock.advance(3600)
    assert store.signed_url(KEY) == signed
    clock.advance(16 * 3600)
    assert store.signed_url(KEY) != signed


def test_under_credentials_that_expire_urls_live_an_hour(bucket: Bucket, clock: FakeClock) -> None:
    signed = Objects(bucket.place(session_token="temporary"), clock).signed_url(KEY)
    assert signed and signed[1] - clock.now() == timedelta(hours=1) and "X-Amz-Expires=3600" in signed[0]


def test_credentials_that_cannot_sign_are_asked_seldom(
    store: Objects, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def sign(*given: Any) -> str:
        asked.append(given)
        raise ValueError("no key to sign with")

    with monkeypatch.context() as without:
        without.setattr(store, "_api", type("Api", (), {"sign": staticmethod(sign)}))
        assert [store.signed_url(KEY), store.signed_url(KEY), len(asked)] == [None, None, 1]
    clock.advance(601)
    assert store.signed_url(KEY)


def test_our_own_urls_are_known_and_no_others(store: Objects) -> None:
    signed = store.signed_url(KEY)
    assert signed
    url, _, query = signed[0].partition("?")
    assert store.sha256_in(signed[0]) == store.sha256_in(url) == SHA256
    for other in (url.replace("of/us", "of/them"), url.replace("127.0.0.1", "127.0.0.2"), f"{url}/x.png", KEY):
        assert store.sha256_in(other) is store.sha256_in(f"{other}?{query}") is None


# -- files over it


@pytest.mark.anyio
async def test_what_was_stored_is_read_without_the_store(files: ObjectFiles, bucket: Bucket, tmp_path: Path) -> None:
    image = await files.store_result(DATA)
    assert image.path is None and copies(tmp_path) == [f"{SHA256}.png"]
    bucket.fail("*", "away", 99)
    assert files.bytes_of(image) == DATA and files.local_file(image).read_bytes() == DATA


def test_an_image_of_another_process_is_read_once(files: ObjectFiles, bucket: Bucket, clock: FakeClock) -> None:
    bucket.open(clock).put(KEY, DATA, "image/png")
    assert [files.bytes_of(stored()) for _ in range(3)] == [DATA] * 3
    assert files.local_file(stored()).read_bytes() == DATA and bucket.number("GET") == 1


@pytest.mark.parametrize("kind", ["missing", "cut off", "short", "slow", "forbidden", "away"])
def test_bytes_that_do_not_come_whole_are_an_outage(files: ObjectFiles, bucket: Bucket, kind: str, clock: Any) -> None:
    bucket.open(clock).put(KEY, DATA, "image/png")
    bucket.fail("GET", kind, 3)
    with pytest.raises(errors.Outage):
        files.bytes_of(stored())
    bucket.faults.clear()
    assert files.bytes_of(stored()) == DATA


def test_a_damaged_copy_is_read_again(files: ObjectFiles, bucket: Bucket, clock: FakeClock) -> None:
    bucket.open(clock).put(KEY, DATA, "image/png")
    files.local_file(stored()).write_bytes(DATA[:9])
    assert files.bytes_of(stored()) == DATA


@pytest.mark.anyio
async def test_copies_that_were_not_used_go_first(bucket: Bucket, clock: FakeClock, tmp_path: Path) -> None:
    import os

    pictures = [picture(colour) for colour in ("red", "green", "blue", "black")]
    limit = 3 * len(pictures[0]) + 20
    files = ObjectFiles(tmp_path, no_fetch, bucket.open(clock), cache_bytes=limit)
    images = []
    for age, data in enumerate(pictures[:3]):
        images.append(await files.store_result(data))
        os.utime(files.local_file(images[-1]), (1_000_000 + age, 1_000_000 + age))
    files.bytes_of(images[0])
    await files.store_result(pictures[3])
    left = {naming.key_of(hashlib.sha256(data).hexdigest(), "image/png")[7:] for data in (pictures[0], pictures[3])}
    assert set(copies(tmp_path)) == left
    assert files.bytes_of(images[1]) == pictures[1]


@pytest.mark.anyio
async def test_a_disk_without_room_for_copies_stops_nothing(
    files: ObjectFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_write_whole", full)
    image = await files.store_result(DATA)
    assert files.bytes_of(image) == DATA
    with pytest.raises(errors.Outage, match="disk full"):
        files.local_file(image)


@pytest.mark.anyio
async def test_a_caller_that_stops_waits_for_no_store_that_hangs(bucket: Bucket, clock: Any, tmp_path: Path) -> None:
    with socket.socket() as silent, anyio.fail_after(30):
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        place = bucket.place(3600, endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        files = ObjectFiles(tmp_path, no_fetch, Objects(place, clock))
        for ask in (files.store_result(DATA), anyio.to_thread.run_sync(files.bytes_of, stored())):
            with anyio.move_on_after(0.2) as waited:
                await ask
            assert waited.cancelled_caught


def test_files_from_before_the_object_store_are_read(files: ObjectFiles, tmp_path: Path) -> None:
    path = tmp_path / "old.png"
    path.write_bytes(DATA)
    image = Image(SHA256, "img_1", "image/png", 40, 40, len(DATA), path)
    assert files.bytes_of(image) == DATA and files.local_file(image) == path and files.signed_url(image) is None


def test_without_the_setting_an_object_is_not_readable(tmp_path: Path, clock: FakeClock) -> None:
    with pytest.raises(errors.UnreadableImage, match="set TRIPTYCH_OBJECTS_URL"):
        open_files(tmp_path, no_fetch, None, clock).bytes_of(stored())


@pytest.mark.anyio
async def test_an_image_pruned_while_stored_again_is_asked_for(files: ObjectFiles, bucket: Bucket, clock: Any) -> None:
    from dataclasses import replace

    image = await files.store_result(DATA)
    files.confirm([image])
    bucket.open(clock).delete(KEY)
    with pytest.raises(errors.NotStored, match="pruned at this moment"):
        files.confirm([replace(image, pruned_at=clock.now())])
    assert await files.store_result(DATA) and bucket.stored()
    files.confirm([replace(image, pruned_at=clock.now())])

"""Makes an image readable for a provider: by the URL it has there, by an upload, or as bytes in the request.

An image is uploaded to a provider once, and its URL is stored. An image above the provider's limits is made smaller,
with a warning. Where the provider keeps no more files, the oldest uploads of this installation that no unfinished
prediction uses are deleted there first.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import anyio.to_thread

from triptych.core import errors
from triptych.core.clock import Clock
from triptych.core.models import Image, Reference
from triptych.images.files import ImageFiles
from triptych.images.naming import file_name
from triptych.jobs.caller import Caller
from triptych.providers import ReferenceLimits
from triptych.providers.accounts import Account
from triptych.providers.client import ProviderClient
from triptych.storage.async_store import AsyncStore

log = logging.getLogger(__name__)

DELETE_AT_ONCE = 10
"""How many uploads are deleted at once at a provider that keeps no more files: finding them reads its whole list."""


async def upload_all(
    store: AsyncStore,
    files: ImageFiles,
    provider_client: ProviderClient,
    clock: Clock,
    account: Account,
    images: Sequence[Image],
    caller: Caller,
    end_s: float,
) -> tuple[dict[str, tuple[str, datetime]], list[str]]:
    """Upload images to a provider until `end_s` (monotonic).

    Return the URL of each and its expiry, by sha256, and a warning for those that are not there.
    """
    hosted: dict[str, tuple[str, datetime]] = {}
    warnings, late = [], 0
    name, title = account.provider.name, account.provider.title
    for done, image in enumerate(images):
        await caller.report_progress(done, len(images), f"uploading {image.handle}")
        if not account.usable or account.provider.inline:
            continue
        try:
            copy = await store.copy(image.sha256, name, clock.now())
            if not copy and clock.monotonic() >= end_s:
                late += 1
                continue
            if not copy:
                await upload_reference(store, files, provider_client, clock, account, image)
                copy = await store.copy(image.sha256, name, clock.now())
            if copy:
                hosted[image.sha256] = copy
        except errors.TriptychError as error:
            warnings.append(f"{image.handle} is stored, not yet at {title}: {error.message}")
    if late:
        warnings.append(f"{late} images are stored, not yet at {title}: each is uploaded when a request uses it.")
    return hosted, warnings


async def upload_reference(
    store: AsyncStore,
    files: ImageFiles,
    provider_client: ProviderClient,
    clock: Clock,
    account: Account,
    image: Image,
    *,
    of: int = 1,
) -> tuple[Reference, tuple[str, ...]]:
    """Return an image as a provider can read it, and warnings about changes to it; `of` images share the request.

    Raises: what the upload raises; `errors.UnreadableImage` if the file is missing.
    """
    provider = account.provider
    known = await store.copy(image.sha256, provider.name, clock.now())
    if known:
        return Reference(image.sha256, image.mime_type, url=known[0]), ()
    data, mime_type, warnings = await _fitted(files, image, _shared(provider.reference_limits, of))
    if provider.inline:
        return Reference(image.sha256, mime_type, data=data), warnings
    assert provider.upload
    name = file_name(image.sha256, image.mime_type)
    try:
        hosted = await provider_client.run(account, provider.upload(data, mime_type, name), tries=3)
    except errors.NoRoom:
        if not await _delete_unused(store, provider_client, clock, account):
            raise
        hosted = await provider_client.run(account, provider.upload(data, mime_type, name), tries=3)
    await store.set_copy(image.sha256, provider.name, hosted.url, clock.now() + timedelta(seconds=hosted.lifetime_s))
    return Reference(image.sha256, mime_type, url=hosted.url), warnings


async def _delete_unused(
    store: AsyncStore, provider_client: ProviderClient, clock: Clock, account: Account
) -> frozenset[str]:
    """Delete the oldest uploads of this installation that nothing uses; return the URLs that are gone.

    Their URLs are removed from the store first, so that no request uses them. Those of files that remain are stored
    again; not if this process is stopped meanwhile, because some may be gone by then.
    """
    provider = account.provider
    if not provider.delete:
        return frozenset()
    unused = await store.take_unused_uploads(provider.name, clock.now(), DELETE_AT_ONCE)
    if not unused:
        return frozenset()
    gone: frozenset[str] = frozenset()
    try:
        gone = await provider_client.run(account, provider.delete([url for _, url, _ in unused]), tries=2)
    except errors.TriptychError as error:  # before the first deletion
        log.warning("uploads at %s could not be deleted: %s", provider.name, error.for_operator)
    for sha256, url, expires_at in unused:
        if url not in gone:
            await store.set_copy(sha256, provider.name, url, expires_at)
    return gone


async def as_sent(
    files: ImageFiles, account: Account, image: Image | None, url: str | None, *, of: int = 1
) -> Reference:
    """Return an image as an earlier request carried it: by the same URL, else as the same bytes.

    Raises: `errors.Outage` if the bytes are not stored any more.
    """
    if url:
        return Reference(image.sha256 if image else "", image.mime_type if image else "", url=url)
    if not image:
        raise errors.Outage("An input of the request no longer exists.")
    data, mime_type, _ = await _fitted(files, image, _shared(account.provider.reference_limits, of))
    return Reference(image.sha256, mime_type, data=data)


def _shared(limits: ReferenceLimits, of: int) -> ReferenceLimits:
    """Return the limits for one of several references in a body; base64 makes each a third larger."""
    if limits.max_body_bytes is None:
        return limits
    share = (limits.max_body_bytes - 65_536) * 3 // 4 // of
    return replace(limits, max_bytes=min(share, limits.max_bytes or share))


async def _fitted(files: ImageFiles, image: Image, limits: ReferenceLimits) -> tuple[bytes, str, tuple[str, ...]]:
    data = await anyio.to_thread.run_sync(files.bytes_of, image)
    pixels, side = image.width * image.height, max(image.size)
    within = (
        len(data) <= (limits.max_bytes or len(data))
        and pixels <= (limits.max_pixels or pixels)
        and side <= (limits.max_side or side)
        and image.mime_type in limits.formats
    )
    if within:
        return data, image.mime_type, ()
    return await anyio.to_thread.run_sync(_fit, data, image.handle, limits)


def _fit(data: bytes, handle: str, limits: ReferenceLimits) -> tuple[bytes, str, tuple[str, ...]]:
    from triptych.images import processing

    fitted, facts, warnings = processing.fit(
        data,
        max_bytes=limits.max_bytes,
        max_pixels=limits.max_pixels,
        max_side=limits.max_side,
        formats=limits.formats,
    )
    return fitted, facts.mime_type, tuple(f"{handle}: {warning}" for warning in warnings)

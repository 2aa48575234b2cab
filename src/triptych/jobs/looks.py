"""Looks by name: reference images and words that go into every request of a job.

A job keeps the version that it used, so that a new version or a removal changes nothing that was made. Rules: each
owner has its own looks and sees no others; the person at the machine has its own too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from triptych.core import errors
from triptych.core.clock import Clock
from triptych.core.models import Image
from triptych.core.requests import Look
from triptych.core.text import first_ones
from triptych.jobs.caller import Caller
from triptych.jobs.look_results import LookResult, LooksResult
from triptych.storage.async_store import AsyncStore
from triptych.storage.jobs import Store
from triptych.storage.looks import LookVersion

PREFIX = "look:"
MOST_IMAGES = 14
MOST_NAME_CHARS = 40
MOST_WORDS_CHARS = 2000
MOST_NAMES_SHOWN = 20
NO_OWNER = "?"
"""The owner of a call that owns nothing: no looks are stored under it."""


def is_look(item: str) -> bool:
    """Return whether an item names a look."""
    return item.strip()[: len(PREFIX)].lower() == PREFIX


async def find(store: AsyncStore, item: str, caller: Caller) -> Look:
    """Return the newest version of the look that `look:NAME` names.

    Raises: `errors.UnknownHandle` naming the caller's looks; `errors.OutOfLimits` for a name that is none.
    """
    name = checked_name(item.strip()[len(PREFIX) :])
    return (await store.run(_present, name, caller)).look


def checked_name(text: str) -> str:
    """Return the name of a look in lower case.

    Raises: `errors.OutOfLimits`.
    """
    name = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).strip().casefold())
    name = name.removeprefix(PREFIX)
    if not re.fullmatch(rf"[\w-]{{1,{MOST_NAME_CHARS}}}", name):
        raise errors.OutOfLimits(
            f"The name of a look has 1 to {MOST_NAME_CHARS} letters, digits, - and _, such as look:warm-film; it was "
            f"{errors.quoted(text, 60)}."
        )
    return name


class Looks:
    """The looks of the callers of one store."""

    def __init__(self, store: AsyncStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def check(self, name: str | None, words: str | None, images: Sequence[str]) -> str | None:
        """Return the checked name of a look to be stored; None if none is to be stored.

        Raises: `errors.BadRequest` for words without a name, and beyond a limit; nothing was read then.
        """
        if name is None:
            if words is not None:
                raise errors.BadRequest(
                    'words belong to a look, and none is named: add look="NAME", or leave words out.'
                )
            return None
        if not 1 <= len(images) <= MOST_IMAGES:
            raise errors.OutOfLimits(f"A look has 1 to {MOST_IMAGES} images; {len(images)} were given.")
        if words and len(words) > MOST_WORDS_CHARS:
            raise errors.OutOfLimits(
                f"The words of a look have at most {MOST_WORDS_CHARS} characters; {len(words)} were given."
            )
        return checked_name(name)

    async def keep(
        self, name: str, words: str | None, images: Sequence[Image], caller: Caller
    ) -> tuple[LookResult, list[str]]:
        """Store images and words as the next version of a look; return it with warnings.

        Without a change the newest version stays the newest.
        Raises: `errors.NotAllowed` for a caller that owns nothing.
        """
        owner = _owner(caller)
        if owner == NO_OWNER:
            raise errors.NotAllowed("A look needs an owner, and this connection has none.")

        def add(store: Store) -> tuple[LookResult, list[str]]:
            shas = dict.fromkeys(image.sha256 for image in images)
            stored = [image.handle for sha256 in shas if (image := store.image_by_sha256(sha256))]
            before = store.looks.newest(owner, name)
            version, is_new = store.looks.add(owner, name, " ".join((words or "").split()), stored, self._clock.now())
            warnings = []
            if is_new and before and not before.removed and before.look.words and not version.look.words:
                warnings.append(
                    f"Version {before.look.version} of {PREFIX}{name} has words, this one has none: give words again "
                    "if they are to stay."
                )
            return _result(version), warnings

        return await self._store.run(add)

    async def listed(self, caller: Caller) -> LooksResult:
        """Return the newest version of each of a caller's looks, by name."""
        found = await self._store.run(lambda store: store.looks.listed(_owner(caller)))
        return LooksResult(looks=[_result(version) for version in found])

    async def versions(self, name: str, caller: Caller) -> LooksResult:
        """Return all versions of one of a caller's looks, the oldest first.

        Raises: as `find`.
        """
        name = checked_name(name)

        def read(store: Store) -> list[LookVersion]:
            _present(store, name, caller)
            return store.looks.versions(_owner(caller), name)

        return LooksResult(looks=[_result(version) for version in await self._store.run(read)])

    async def remove(self, name: str, caller: Caller) -> LookResult:
        """Remove a look; jobs made with it go on. Return its last version.

        Raises: as `find`.
        """
        name = checked_name(name)

        def end(store: Store) -> LookVersion:
            last = _present(store, name, caller)
            store.looks.remove(_owner(caller), name)
            return last

        return _result(await self._store.run(end))


def _owner(caller: Caller) -> str:
    return "" if caller.owner is None else caller.owner or NO_OWNER


def _present(store: Store, name: str, caller: Caller) -> LookVersion:
    """Return the newest version of a look. Raises: `errors.UnknownHandle`, also for a removed look."""
    owner = _owner(caller)
    found = store.looks.newest(owner, name)
    if found and not found.removed:
        return found
    names = [f"{PREFIX}{one.look.name}" for one in store.looks.listed(owner)]
    there = first_ones(names, MOST_NAMES_SHOWN)
    what = f"look:{name} was removed" if found else f"There is no look:{name}"
    makes = f"version {found.look.version + 1}" if found else "it"
    raise errors.UnknownHandle(
        f"{what}; {f'there are: {there}' if names else 'there are no looks yet'}. "
        f'upload_images(images=[…], look="{name}", words="…") makes {makes}.'
    )


def _result(version: LookVersion) -> LookResult:
    look = version.look
    return LookResult(
        name=look.name, version=look.version, words=look.words, images=list(look.images), created_at=version.created_at
    )

"""Images in an object store: S3 and what speaks its language, Google Cloud Storage, Azure.

Rules: an object is named by the hash of its bytes, so it is written once and never changes. `put` is conditional, and
an image counts as stored when the store has confirmed it. Every trouble of the store is an `errors.Outage`: the caller
asks again. No error has an address or a signature in it.

Imported only with TRIPTYCH_OBJECTS_URL set. Must not know: files, the database.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from triptych.core import errors
from triptych.core.clock import Clock

LIFETIME_S = 7 * 86_400
"""How long a signed URL lives: no longer one is possible at S3 and Google."""
SHORT_LIFETIME_S = 3600
"""The same under credentials that expire themselves: a signature ends with them."""
SAME_FOR = 10
"""A signed URL is given again for this part of its life, so that caches can use it."""
NO_SIGNATURE_FOR_S = 600.0
"""Credentials that cannot sign are asked again after this time: to ask may need the network."""
MOST_URLS = 4096
REFRESH_AFTER = timedelta(hours=12)
"""An object that is stored again is written again if it is older: `triptych prune` removes by date, after a day."""
KNOWN_FOR_S = 3600.0
MOST_KNOWN = 20_000

_KEY = re.compile(r"images/([0-9a-f]{64})\.[a-z]+")


@dataclass(frozen=True, slots=True)
class ObjectsPlace:
    """An object store: `s3://bucket/prefix`, `gs://…` or `az://…`, with settings of the store by obstore's names.

    All other settings come from the environment. `allow_http` is for an endpoint on loopback.
    """

    url: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    allow_http: bool = False
    timeout_s: float = 60.0


class Objects:
    """The objects of one installation. All methods block, but `signed_url` and `sha256_in`.

    Raises: `errors.BadRequest` if the extra is not installed, or the settings are no store.
    """

    def __init__(self, place: ObjectsPlace, clock: Clock) -> None:
        try:
            import obstore
            from obstore import exceptions, store
        except ImportError as error:
            raise errors.BadRequest("TRIPTYCH_OBJECTS_URL needs the extra s3: pip install 'triptych[s3]'") from error
        self._api: Any = obstore
        self._exceptions: Any = exceptions
        self._clock = clock
        options: dict[str, Any] = {**place.options}
        try:
            self._store: Any = store.from_url(
                place.url,
                config=options or None,  # type: ignore[call-overload]
                client_options={
                    "allow_http": place.allow_http,
                    "connect_timeout": timedelta(seconds=5),
                    "timeout": timedelta(seconds=place.timeout_s),
                },
                retry_config={
                    "max_retries": 2,
                    "retry_timeout": timedelta(seconds=10),
                    "backoff": {
                        "init_backoff": timedelta(seconds=0.1),
                        "max_backoff": timedelta(seconds=1),
                        "base": 2,
                    },
                },
            )
        except (exceptions.BaseError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise errors.BadRequest(f"TRIPTYCH_OBJECTS_URL cannot be used: {errors.quoted(reason)}.") from error
        has_lasting_key = "access_key_id" in options and "session_token" not in options
        lasts = has_lasting_key or not place.url.startswith("s3://")
        self._lifetime_s = LIFETIME_S if lasts else SHORT_LIFETIME_S
        self._known: dict[str, float] = {}
        """By key: until when (monotonic seconds) an object counts as there and new."""
        self._no_signature_until_s = 0.0
        self._urls: dict[str, tuple[str, datetime, datetime]] = {}
        """By key: a signed URL, until when it is given again, and its expiry."""

    def put(self, key: str, data: bytes, mime_type: str) -> None:
        """Store an object, once; return when the store has confirmed it.

        One that is there already is written again if it is old or its size is wrong.
        Raises: `errors.Outage`.
        """
        if self.is_known(key):
            return
        with self._told("store an image"):
            if not self._create(key, data, mime_type):
                found = self.facts(key)
                if not found:
                    raise errors.Outage("The object store has the image and does not show it yet.")
                if found[0] != len(data):
                    self._overwrite(key, data, mime_type)
                elif self._clock.now() - found[1] > REFRESH_AFTER:
                    self._refresh(key, data, mime_type)
        while len(self._known) >= MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[key] = self._clock.monotonic() + KNOWN_FOR_S

    def _create(self, key: str, data: bytes, mime_type: str) -> bool:
        """Write a new object; return False if there is one of that name."""
        try:
            self._ask("put", key, data, mode="create", attributes={"Content-Type": mime_type})
        except self._exceptions.AlreadyExistsError:
            return False
        except self._exceptions.BaseError as error:
            if not isinstance(error, self._exceptions.NotSupportedError) and _status(error) != 501:
                raise
            # A store without conditional writes: the same name means the same bytes.
            self._overwrite(key, data, mime_type)
        return True

    def _overwrite(self, key: str, data: bytes, mime_type: str) -> None:
        self._ask("put", key, data, mode="overwrite", use_multipart=False, attributes={"Content-Type": mime_type})

    def _refresh(self, key: str, data: bytes, mime_type: str) -> None:
        """Give an object today's date. A bucket that keeps objects for a time may refuse, and then keeps this one."""
        try:
            self._overwrite(key, data, mime_type)
        except self._exceptions.PermissionDeniedError:
            return

    def is_known(self, key: str) -> bool:
        """Return whether this process stored an object within the last hour."""
        return self._clock.monotonic() < self._known.get(key, 0.0)

    def forget(self, key: str) -> None:
        """Look at the store again for the next `put` of this key."""
        self._known.pop(key, None)

    def get(self, key: str) -> bytes | None:
        """Return the bytes of an object; None if there is none, or not yet. Raises: `errors.Outage`."""
        with self._told("return an image"):
            try:
                data: bytes = self._ask("get", key)
                return data
            except FileNotFoundError as error:
                self._require_bucket(error)
                self.forget(key)
                return None

    def facts(self, key: str) -> tuple[int, datetime] | None:
        """Return the size of an object and its date; None if there is none. Raises: `errors.Outage`."""
        with self._told("show an image"):
            try:
                found = self._ask("head", key)
            except FileNotFoundError:
                return None
            return found["size"], found["last_modified"]

    def all_facts(self) -> dict[str, tuple[int, datetime]]:
        """Return the size and the date of every image's object, by key. Raises: `errors.Outage`."""
        with self._told("list the images"):
            parts = self._api.list(self._store, "images", chunk_size=1000)
            return {one["path"]: (one["size"], one["last_modified"]) for part in parts for one in part}

    def delete(self, key: str) -> None:
        """Remove an object, if there is one. Raises: `errors.Outage`."""
        self.forget(key)
        with self._told("remove an image"):
            try:
                self._ask("delete", key)
            except FileNotFoundError:
                return

    def signed_url(self, key: str) -> tuple[str, datetime] | None:
        """Return a URL at which everyone can read an object, and its expiry; None if none can be signed."""
        now = self._clock.now()
        known = self._urls.get(key)
        if known and now < known[1]:
            return known[0], known[2]
        if self._clock.monotonic() < self._no_signature_until_s:
            return None
        life = timedelta(seconds=self._lifetime_s)
        try:
            url = str(self._api.sign(self._store, "GET", key, life))
        except (self._exceptions.BaseError, ValueError, OSError):
            self._no_signature_until_s = self._clock.monotonic() + NO_SIGNATURE_FOR_S
            return None
        while len(self._urls) >= MOST_URLS:
            del self._urls[next(iter(self._urls))]
        self._urls[key] = (url, now + life / SAME_FOR, now + life)
        return url, now + life

    def sha256_in(self, url: str) -> str | None:
        """Return the hash in a URL of one of our objects, signed or not; None for any other URL."""
        if not url.startswith(("https://", "http://")):
            return None
        place = url.partition("?")[0]
        found = _KEY.search(place)
        if not found or found.end() != len(place):
            return None
        ours = self.signed_url(found[0])
        return found[1] if ours and ours[0].partition("?")[0] == place else None

    def _ask(self, verb: str, key: str, *given: Any, **options: Any) -> Any:
        """Send one request and return its answer, of `get` the bytes. May block.

        In a worker thread the event loop sends it, so that a server that stops need not wait for a store that hangs.
        """

        import anyio
        import anyio.from_thread

        async def asked() -> Any:
            answer = await getattr(self._api, f"{verb}_async")(self._store, key, *given, **options)
            return bytes(await answer.bytes_async()) if verb == "get" else answer

        try:
            return anyio.from_thread.run(asked)
        except anyio.NoEventLoopError:  # the command line
            answer = getattr(self._api, verb)(self._store, key, *given, **options)
            return bytes(answer.bytes()) if verb == "get" else answer

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        """Turn the store's errors into an `errors.Outage` that says what the store could not do."""
        try:
            yield
        except FileNotFoundError as error:
            raise errors.Outage(_no_bucket()) from error
        except (self._exceptions.BaseError, ValueError, OSError) as error:
            raise errors.Outage(self._reason(doing, error)) from error

    def _require_bucket(self, error: FileNotFoundError) -> None:
        if _code(error) in ("NoSuchBucket", "ContainerNotFound"):
            raise errors.Outage(_no_bucket()) from error

    def _reason(self, doing: str, error: Exception) -> str:
        status, code = _status(error), _code(error)
        said = " ".join(str(part) for part in (status, code) if part)
        denied = (self._exceptions.PermissionDeniedError, self._exceptions.UnauthenticatedError)
        if status == 507 or any(word in code for word in ("Quota", "StorageFull", "Insufficient")):
            return f"The object store is full and did not {doing} ({said}); make room in it."
        if status in (401, 403) or isinstance(error, denied):
            return (
                f"The object store refused to {doing} ({said or 'no permission'}); check its credentials and their "
                "rights in the bucket."
            )
        if said:
            return f"The object store did not {doing} ({said})."
        text = str(error)
        if "kind: Connect" in text:
            return f"The object store cannot be reached to {doing}; check its endpoint and the network."
        if "kind: Timeout" in text:
            return f"The object store did not {doing} in time."
        return f"The object store did not {doing}: its answer was cut off or not understood."


def _no_bucket() -> str:
    return "The bucket in TRIPTYCH_OBJECTS_URL does not exist; create it, or correct the setting."


def _status(error: BaseException) -> int:
    """Return the HTTP status in an error of obstore, which has it only as text; 0 without one."""
    found = re.search(r"status code: (\d{3})", str(error))
    return int(found[1]) if found else 0


def _code(error: BaseException) -> str:
    """Return the store's word for an error; "" without one."""
    found = re.search(r"<Code>(\w{1,60})</Code>", str(error))
    return found[1] if found else ""

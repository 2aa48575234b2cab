"""The offers of providers' live catalogues: read once a day, kept in the home directory, usable offline.

A catalogue is read for each provider with a key. Rules: a failure only makes a model missing, with a reason. The
built-in table wins: a live model with the endpoint id of a built-in offer is left out. Everything in a catalogue is
data from outside.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import anyio.to_thread

from triptych.catalog import live_offers
from triptych.core import errors, private_files, systems
from triptych.core.clock import Clock, Notifier
from triptych.core.offers import ListedModel, Offer
from triptych.core.text import line
from triptych.providers.accounts import Account
from triptych.providers.client import ProviderClient

log = logging.getLogger(__name__)

PATIENCE_S = 8.0
"""How long a call waits for catalogues that were never read."""
START_S = 20.0
"""The time after a start before the first read in the background."""
LOOK_S = 3600.0
"""The time between two checks of the catalogues' age, and before a failed one is read again."""
LIFETIME = timedelta(days=1)
CLAIMED_ELSEWHERE_S = 0.25
"""The time between two checks whether another process has finished its refresh."""
SCHEMAS_AT_ONCE = 4
FILE_BYTES = 32_000_000
"""The limit of a catalogue's file; models whose schemas do not fit are left out."""
SCHEMA_BYTES = 2_000_000
REASON_CHARS = 200
VERSION = 1
_TEXTS = ("endpoint", "title", "kind", "path", "description")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One provider's catalogue. `skipped` has the reason for each endpoint id that is no offer."""

    read_at: datetime
    offers: tuple[Offer, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True
    """Every schema was read, or certainly cannot be read."""

    def offers_of(self, endpoint: str) -> tuple[Offer, ...]:
        """Return the offers of an endpoint id, in any case of its letters."""
        return tuple(offer for offer in self.offers if offer.endpoint.casefold() == endpoint.casefold())

    def reason(self, endpoint: str) -> str | None:
        """Return why an endpoint id is no offer; None if it is one, or is not in the catalogue."""
        return next((why for name, why in self.skipped.items() if name.casefold() == endpoint.casefold()), None)


Known = Mapping[str, Catalogue]
"""Catalogues by provider."""


@dataclass(frozen=True, slots=True)
class _Memo:
    stamp: tuple[int, int] | None
    catalogue: Catalogue | None


class Catalogues:
    """The catalogues of one home; `accounts` is empty if live models are switched off."""

    def __init__(
        self, home: Path, accounts: Mapping[str, Account], provider_client: ProviderClient, clock: Clock
    ) -> None:
        self._directory = home / "catalogues"
        self._accounts = {n: a for n, a in accounts.items() if a.usable and a.provider.catalogue}
        self._client = provider_client
        self._clock = clock
        self._wanted = Notifier()
        self._memos: dict[str, _Memo] = {}
        self._failed_s: dict[str, float] = {}
        self._refreshing = {name: anyio.Lock() for name in self._accounts}

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers whose catalogues are used."""
        return tuple(self._accounts)

    async def known(self) -> Known:
        """Return the catalogues in the home, without any request."""
        found = {name: await anyio.to_thread.run_sync(self._known, account) for name, account in self._accounts.items()}
        return {name: catalogue for name, catalogue in found.items() if catalogue}

    async def wait(self) -> Known:
        """Return the catalogues; those not read yet are read first, for `PATIENCE_S` at most."""
        found = await self.known()
        missing = [a for name, a in self._accounts.items() if self._may_try(name) and not _is_complete(found.get(name))]
        if not missing:
            return found
        with anyio.move_on_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                for account in missing:
                    tasks.start_soon(self._first, account)
        self._wanted.notify()
        return await self.known()

    async def keep(self) -> None:
        """Refresh each catalogue that is older than a day, until cancelled."""
        if not self._accounts:
            return
        await self._clock.wait(self._wanted.next, START_S)
        while True:
            woken = self._wanted.next
            for name, account in self._accounts.items():
                try:
                    if self._may_try(name) and self._is_due((await self.known()).get(name)):
                        await self.refresh(account)
                except Exception:  # such as a thread that cannot start: the service goes on
                    self._failed_s[name] = self._clock.monotonic()
                    log.exception("internal error while keeping the catalogue of %s", name)
            await self._clock.wait(woken, LOOK_S)

    def _may_try(self, name: str) -> bool:
        failed_s = self._failed_s.get(name)
        return failed_s is None or self._clock.monotonic() - failed_s >= LOOK_S

    def _is_due(self, catalogue: Catalogue | None) -> bool:
        return not _is_complete(catalogue) or not self._is_recent(catalogue)

    def _is_recent(self, catalogue: Catalogue | None) -> bool:
        # `abs`, because the wall clock may have been set back since.
        return catalogue is not None and abs(self._clock.now() - catalogue.read_at) < LIFETIME

    async def _first(self, account: Account) -> None:
        """Read a catalogue that the home does not have, or wait for the process that reads it."""
        name = account.provider.name
        while self._may_try(name) and not _is_complete((await self.known()).get(name)):
            if not await self.refresh(account):
                await self._clock.wait(anyio.Event(), CLAIMED_ELSEWHERE_S)

    async def refresh(self, account: Account) -> bool:
        """Read a catalogue if it is due, and store it; return False if another process of this home does it now.

        A failure is logged, and the catalogue before is kept.
        """
        name = account.provider.name
        async with self._refreshing[name], self._claim(name) as claimed:
            before = await anyio.to_thread.run_sync(self._known, account)
            if not claimed or not self._is_due(before):
                return claimed
            try:
                complete = await self._read(account, resumed=self._is_recent(before))
            except errors.TriptychError as error:
                complete = False
                log.info("%s: its catalogue could not be read: %s", name, error.message)
            except Exception:  # a fault of our own must not end the service
                complete = False
                log.exception("internal error while reading the catalogue of %s", name)
            if not complete:
                self._failed_s[name] = self._clock.monotonic()
            return True

    async def _read(self, account: Account, *, resumed: bool) -> bool:
        """Read and store a catalogue with its schemas; return whether it is complete.

        `resumed`: only the schemas that are not stored are read. If it is cancelled, what was read is stored.
        Raises: `errors.TriptychError`: the list cannot be read.
        """
        provider = account.provider
        assert provider.catalogue
        listed = await self._client.run(account, provider.catalogue())
        if not listed:  # a fault at the provider must not hide its models for a day
            raise errors.Outage("Its list names no model that makes images.")
        built_in = {offer.endpoint.casefold() for offer in provider.offers}
        stored = await anyio.to_thread.run_sync(self._stored, account)
        entries = [_Entry(m, stored.get(m.endpoint, "")) for m in listed if m.endpoint.casefold() not in built_in]
        gate = anyio.Semaphore(SCHEMAS_AT_ONCE)
        bytes_left = FILE_BYTES

        async def read_schema(entry: _Entry) -> None:
            nonlocal bytes_left
            async with gate:
                await self._read_schema(account, entry)
            bytes_left -= len(entry.schema)
            if bytes_left < 0:
                entry.skip("the catalogue is too large")

        try:
            async with anyio.create_task_group() as tasks:
                for entry in entries:
                    if resumed and entry.schema and entry.model.schema is None:
                        entry.take(entry.schema)
                    else:
                        tasks.start_soon(read_schema, entry)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self._store, account, entries)
        return not any(entry.later for entry in entries)

    async def _read_schema(self, account: Account, entry: _Entry) -> None:
        try:
            schema = entry.model.schema
            if schema is None:
                if not account.provider.schema:
                    raise errors.Refused("The catalogue has no schema for it.")
                schema = await self._client.run(account, account.provider.schema(entry.model))
            entry.take(json.dumps(schema))
            if len(entry.schema) > SCHEMA_BYTES:  # a list may hold its schemas, so that no reader bounds them
                entry.skip(f"its schema has more than {SCHEMA_BYTES // 1_000_000} MB")
        except (errors.Outage, errors.RateLimited) as error:
            entry.why = f"its schema could not be read: {error.message}"
        except errors.TriptychError as error:
            entry.skip(f"its schema could not be read: {error.message}")
        except Exception as error:  # a hostile document can raise anything in its reader
            entry.skip(f"its schema could not be read ({type(error).__name__})")

    @asynccontextmanager
    async def _claim(self, name: str) -> AsyncIterator[bool]:
        """Hold the claim of a refresh among the processes of this home; yield whether it is held.

        The claim is a lock on a database without tables: the system releases it when the process dies.
        """
        held, lock = await anyio.to_thread.run_sync(self._lock, self._directory / f"{name}.lock")
        try:
            yield held
        finally:
            if lock:
                lock.close()

    # The functions below may block.

    def _lock(self, path: Path) -> tuple[bool, sqlite3.Connection | None]:
        """Return whether the claim is held, and the connection that holds it."""
        lock = None
        try:
            private_files.make_directory(self._directory)
            if not path.exists():  # closing a file gives up the process's other locks on it
                private_files.make_file(path)
            lock = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
            lock.execute("BEGIN EXCLUSIVE")
        except (OSError, sqlite3.Error) as error:
            if lock:
                lock.close()
            # Without write access to the home no claim is needed: the catalogue serves this process alone.
            return getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_BUSY, None
        return True, lock

    def _path(self, account: Account) -> Path:
        return self._directory / f"{account.provider.name}.json"

    def _known(self, account: Account) -> Catalogue | None:
        """Return a catalogue in the home; None without one, for a damaged one, and for one of another base URL."""
        name, stamp = account.provider.name, _stamp(self._path(account))
        memo = self._memos.get(name)
        if not memo or memo.stamp != stamp:
            document = self._document(account)
            memo = self._memos[name] = _Memo(stamp, _catalogue(account, document) if document else None)
        return memo.catalogue

    def _document(self, account: Account) -> Mapping[str, Any] | None:
        path = self._path(account)
        try:
            if path.stat().st_size > 2 * FILE_BYTES:
                return None
            document = json.loads(path.read_bytes())
            return document if (document["version"], document["from"]) == (VERSION, _origins(account)) else None
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None

    def _stored(self, account: Account) -> dict[str, str]:
        """Return the stored schemas by endpoint id, as JSON."""
        document = self._document(account) or {}
        with suppress(TypeError, KeyError):
            return {str(one["endpoint"]): str(one["schema"]) for one in document["models"]}
        return {}

    def _store(self, account: Account, entries: Sequence[_Entry]) -> None:
        """Write a catalogue in one step; if that fails, this process alone has it."""
        document = {
            "version": VERSION,
            "from": _origins(account),
            "read_at": self._clock.now().isoformat(),
            "complete": not any(entry.later for entry in entries),
            "models": [entry.as_json() for entry in entries],
        }
        path = self._path(account)
        part = path.with_name(f"{path.name}.{uuid4().hex}.part")
        try:
            with open(part, "w", encoding="ascii", opener=private_files.opener) as file:
                json.dump(document, file)
            systems.replace(part, path)
        except OSError as error:
            log.info("%s: its catalogue could not be stored: %s", account.provider.name, error)
            with suppress(OSError):
                part.unlink()
        self._memos[account.provider.name] = _Memo(_stamp(path), _catalogue(account, document))


@dataclass(slots=True)
class _Entry:
    """A model while its catalogue is read: its schema as JSON, and the reason without one.

    At first `schema` is the one that was stored before, if any. With a `why` it is not the current one, and reading it
    again may succeed.
    """

    model: ListedModel
    schema: str = ""
    why: str = "its schema is not read yet"
    later: bool = True

    def take(self, schema: str) -> None:
        self.schema, self.why, self.later = schema, "", False

    def skip(self, why: str) -> None:
        self.schema, self.why, self.later = "", why, False

    def as_json(self) -> dict[str, Any]:
        model = self.model
        texts = {name: getattr(model, name) for name in _TEXTS}
        usd = None if model.usd is None else str(model.usd)
        return {**texts, "usd": usd, "schema": self.schema, "why": "" if self.schema else self.why}


def _is_complete(catalogue: Catalogue | None) -> bool:
    return bool(catalogue and catalogue.complete)


def _origins(account: Account) -> dict[str, str]:
    return {name: account.base_urls.get(name) or url.default for name, url in account.provider.base_urls.items()}


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what changes with a file; None without a file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _catalogue(account: Account, document: Mapping[str, Any]) -> Catalogue | None:
    """Return a stored catalogue with its models as offers; None for a damaged one."""
    built_in = {offer.endpoint.casefold() for offer in account.provider.offers}
    offers: list[Offer] = []
    skipped: dict[str, str] = {}
    try:
        read_at, complete = datetime.fromisoformat(document["read_at"]), bool(document["complete"])
        for one in document["models"]:
            texts: dict[str, Any] = {name: str(one[name]) for name in _TEXTS}
            model = ListedModel(**texts, usd=None if one["usd"] is None else Decimal(one["usd"]))
            schema, why = str(one["schema"]), str(one["why"])
            if model.endpoint.casefold() in built_in:
                continue
            try:
                if not schema:
                    raise live_offers.NotMapped(why)
                offers += _mapped(account, model, json.loads(schema), read_at)
            except live_offers.NotMapped as error:
                skipped[model.endpoint] = line(str(error), REASON_CHARS)
            except Exception as error:  # a hostile schema can raise anything in its reader
                skipped[model.endpoint] = f"its schema cannot be understood ({type(error).__name__})"
        if read_at.tzinfo is None:
            return None
    except (ValueError, TypeError, KeyError, ArithmeticError):
        return None
    return Catalogue(read_at, tuple(offers), skipped, complete)


def _mapped(account: Account, model: ListedModel, schema: Any, read_at: datetime) -> tuple[Offer, ...]:
    day, source = read_at.date().isoformat(), f"{account.provider.title}'s list"
    return live_offers.offers(account.provider.name, model, schema, as_of=day, source=source)

"""Check an installation: versions, settings, directories, providers, clock.

Rules: a key is never shown, not even in part. Nothing is paid, and nothing is left in TRIPTYCH_HOME but the database
itself, brought up to date; a PostgreSQL database is not migrated. A missing setting is not a fault. Every fault says
how to mend it. The package index is asked only with `check_updates`.
"""

from __future__ import annotations

import difflib
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Literal
from urllib.parse import urlsplit
from uuid import uuid4

import anyio.to_thread

from triptych import __version__, sdk
from triptych.cli.updates import newer_version
from triptych.core import errors
from triptych.core.clock import SystemClock
from triptych.core.json_fields import Result
from triptych.core.text import line
from triptych.images.objects import Objects
from triptych.jobs import presenters
from triptych.jobs.catalogues import Catalogues
from triptych.jobs.service import ServiceConfig
from triptych.providers import Flow, HttpRequest, HttpResponse
from triptych.providers.accounts import Account
from triptych.providers.client import ProviderClient
from triptych.providers.url_safety import LOOPBACK
from triptych.settings import Settings, variables
from triptych.settings import read as read_settings
from triptych.storage.database import open_postgres
from triptych.storage.jobs import Store

LITTLE_DISK_BYTES = 500_000_000
KNOCK_TIMEOUT_S = 6.0
CLOCK_LEEWAY_S = 300
MOST_DIFFERENCES = 5
NEAR = 0.8
"""How alike two names are, of 1, from which on one of them counts as the other misspelled."""
RELEASED = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Result):
    """The result of one check: `ok`, `off` (not configured or not known: no fault) or `fault`, and how to mend it."""

    about: str
    state: Literal["ok", "off", "fault"]
    found: str
    mend: str | None = None

    def line(self) -> str:
        """Return the check as one or two lines of text."""
        mark = {"ok": "✓", "off": "–", "fault": "✗"}[self.state]
        mend = f"\n    → {self.mend}" if self.mend else ""
        return f"{mark} {self.about}: {self.found}{mend}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Result):
    """All checks; `ok` if nothing configured is broken."""

    ok: bool
    checks: list[Check]

    def text(self) -> str:
        """Return the checks, one a line, and the number of faults."""
        faults = sum(check.state == "fault" for check in self.checks)
        verdict = "All is well." if self.ok else f"{faults} {'problem' if faults == 1 else 'problems'} to fix."
        return "\n".join([*(check.line() for check in self.checks), "", verdict])


async def run_checks(environ: Mapping[str, str], *, offline: bool = False, check_updates: bool = False) -> Report:
    """Run all checks; with `offline`, send no request to the providers; with `check_updates`, ask the package index.

    Raises: `errors.BadRequest` for both together.
    """
    if offline and check_updates:
        raise errors.BadRequest("--check-updates asks the package index; leave out --offline.")
    checks = [_versions()]
    if mismatch := sdk.mismatch():
        checks.append(Check(about="mcp", state="fault", found=mismatch))
    checks += _unknown_settings(environ)
    try:
        settings = read_settings(environ)
    except errors.TriptychError as error:
        checks.append(Check(about="settings", state="fault", found=error.message, mend="correct this variable"))
    else:
        setup = settings.setup
        checks += _home(setup)
        checks += _directories(setup)
        checks += _choices(setup)
        checks += _serving(settings)
        checks.append(await anyio.to_thread.run_sync(_objects, setup, offline))
        dates: list[datetime] = []
        provider_client = ProviderClient()
        try:
            for account in setup.accounts.values():
                checks.append(_key(account))
                if account.usable and not account.provider.offline and not offline:
                    checks.append(await _reach(provider_client, account, dates))
            checks += await _catalogues(setup, provider_client)
        finally:
            await provider_client.aclose()
        checks.append(_clock(dates))
    if check_updates:
        found, mend = await newer_version()
        checks.append(Check(about="updates", state="off" if mend else "ok", found=found, mend=mend))
    return Report(ok=all(check.state != "fault" for check in checks), checks=checks)


def _versions() -> Check:
    return Check(
        about="versions", state="ok", found=f"triptych {__version__}, python {platform.python_version()}{_packages()}"
    )


def _unknown_settings(environ: Mapping[str, str]) -> Iterator[Check]:
    """Find variables that are ignored; one that is nearly a setting's name is a fault: a misspelled cap is none."""
    known = variables()
    for name in sorted(environ):
        if not name.startswith("TRIPTYCH_") or name.removesuffix("_FILE") in known:
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=NEAR)
        mend = f"did you mean {near[0]}? Rename it, or unset it" if near else None
        state: Literal["off", "fault"] = "fault" if near else "off"
        yield Check(about=line(name, 80), state=state, found="is ignored: Triptych has no such setting", mend=mend)


def _packages() -> str:
    found = ""
    for package in ("mcp", "httpx2", "pydantic", "pillow"):
        try:
            found += f", {package} {version(package)}"
        except PackageNotFoundError:
            found += f", {package} without metadata"
    return found


def _home(setup: ServiceConfig) -> Iterator[Check]:
    home = setup.home
    mend = "set TRIPTYCH_HOME to a directory that can be written to"
    existing = home
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        found = f"{existing} cannot be written to ({error.strerror})"
        yield Check(about="TRIPTYCH_HOME", state="fault", found=found, mend=mend)
        return
    later = "" if existing == home else " (created at the first use)"
    yield Check(about="TRIPTYCH_HOME", state="ok", found=f"{home}{later}, can be written to")
    yield _database(setup)
    free = shutil.disk_usage(existing).free
    low = free < LITTLE_DISK_BYTES
    yield Check(
        about="disk",
        state="fault" if low else "ok",
        found=f"{free / 1e9:.1f} GB free",
        mend="a full disk loses results: free some space, or move TRIPTYCH_HOME" if low else None,
    )


def _database(setup: ServiceConfig) -> Check:
    path, url = setup.home / "triptych.db", setup.database_url
    if not setup.database_url and not path.exists():
        return Check(about="database", state="off", found="does not exist yet; the first use creates it")
    try:
        # Other machines use a server's tables too: `triptych db migrate` changes them, a check does not.
        shared = open_postgres(url.get_secret_value(), migrate=False) if url else None
        with closing(Store(shared or setup.open_database(), setup.home / "images")) as store:
            if shared and not shared.versions()[0]:
                found = "PostgreSQL, without tables; triptych db migrate or the first start makes them"
                return Check(about="database", state="off", found=found)
            store.require_current()
            store.check()
            if differences := store.differences():
                store.recount()
                return Check(
                    about="database",
                    state="fault",
                    found=f"totals differed from the predictions: {'; '.join(differences[:MOST_DIFFERENCES])}",
                    mend="They are counted again now. If it comes back, report it.",
                )
    except errors.Unusable as error:
        return Check(about="database", state="fault", found=error.found, mend=error.mend)
    except errors.TriptychError as error:
        return Check(about="database", state="fault", found=error.for_operator)
    found = "PostgreSQL, with the tables of this version" if url else ""
    return Check(about="database", state="ok", found=found or f"whole, {path.stat().st_size / 1e6:.1f} MB")


def _directories(setup: ServiceConfig) -> Iterator[Check]:
    for directory in setup.allowed_dirs:
        problem = None
        if not directory.is_dir():
            problem = "is not a directory"
        elif not os.access(directory, os.R_OK | os.X_OK):
            problem = "cannot be read"
        yield Check(
            about="allowed directory",
            state="fault" if problem else "ok",
            found=f"{directory} {problem or 'can be read'}",
            mend="correct TRIPTYCH_ALLOWED_DIRS" if problem else None,
        )


def _choices(setup: ServiceConfig) -> Iterator[Check]:
    default = setup.accounts[setup.default_provider]
    title = f"{default.provider.name}, {default.provider.title}"
    if default.usable:
        yield Check(about="default provider", state="ok", found=title)
    else:
        yield Check(
            about="default provider",
            state="fault",
            found=f"{title}, has no key",
            mend=f"set {default.provider.key_env}, or another TRIPTYCH_PROVIDER",
        )
    budget = "no cap" if setup.budget_usd is None else f"at most ${errors.format_usd(setup.budget_usd)} in 24 hours"
    confirm_usd = setup.confirm_usd
    asked = f"a job above ${errors.format_usd(confirm_usd)} needs" if confirm_usd.is_finite() else "no job needs"
    caps = [] if setup.owner_budget_usd is None else [("each owner", setup.owner_budget_usd)]
    caps += [(f"group {errors.quoted(name, 40)}", usd) for name, usd in setup.group_budgets_usd.items()]
    budget += "".join(f"; {whose} at most ${errors.format_usd(usd)}" for whose, usd in caps)
    yield Check(about="money", state="ok", found=f"{budget}; {asked} a confirmation")


def _serving(settings: Settings) -> Iterator[Check]:
    tokens, public = settings.auth_tokens, settings.public_url
    unset = "not set; needed only to serve other machines"
    yield Check(about="TRIPTYCH_AUTH_TOKEN", state="ok" if tokens else "off", found="set" if tokens else unset)
    if settings.oauth:
        audience = settings.oauth.audience or (f"{public}/mcp" if public else "the server's own URL")
        found = f"{settings.oauth.issuer}; tokens for {audience}"
        yield Check(about="TRIPTYCH_OAUTH_ISSUER", state="ok", found=found)
    if not public:
        unset = "not set; needed only for an HTTP server behind a proxy or tunnel"
        yield Check(about="TRIPTYCH_PUBLIC_URL", state="off", found=unset)
    elif tokens or settings.oauth or (urlsplit(public).hostname or "") in LOOPBACK:
        yield Check(about="TRIPTYCH_PUBLIC_URL", state="ok", found=f"{public}; clients connect to {public}/mcp")
    else:
        yield Check(
            about="TRIPTYCH_PUBLIC_URL",
            state="fault",
            found=f"{public} is reachable from other machines, and there is no token: serve does not start",
            mend="set TRIPTYCH_AUTH_TOKEN or TRIPTYCH_OAUTH_ISSUER, or unset TRIPTYCH_PUBLIC_URL",
        )


def _objects(setup: ServiceConfig, offline: bool) -> Check:
    """Write, read and remove a small object; `offline`: none."""
    about, place = "TRIPTYCH_OBJECTS_URL", setup.objects
    if not place:
        return Check(about=about, state="off", found="not set; images are files in TRIPTYCH_HOME")
    key, data = f"check-{uuid4().hex}", b"A check by triptych doctor. It may be removed."
    try:
        store = Objects(place, SystemClock())
        if not offline:
            store.put(key, data, "text/plain")
            if store.get(key) != data:
                raise errors.Outage("The object store does not return what was just written.")
            store.delete(key)
    except errors.TriptychError as error:
        return Check(about=about, state="fault", found=f"{place.url}: {error.for_operator}")
    done = "not asked" if offline else "can be written, read and removed from"
    return Check(about=about, state="ok", found=f"{place.url}, {done}")


def _key(account: Account) -> Check:
    provider = account.provider
    if provider.offline:
        return Check(about=provider.name, state="ok", found=f"{provider.title}, needs no key")
    if account.usable:
        return Check(about=provider.name, state="ok", found=f"{provider.key_env} is set")
    return Check(about=provider.name, state="off", found=f"no key; set {provider.key_env} to use {provider.title}")


async def _reach(provider_client: ProviderClient, account: Account, dates: list[datetime]) -> Check:
    """Send a request without the key to a provider's base URLs; any response is ok. Its date is added to `dates`."""
    provider = account.provider
    needed = {name: url for name, url in provider.base_urls.items() if not url.optional}
    bases = {name: account.base_urls.get(name) or url.default for name, url in needed.items()}
    for name, url in bases.items():
        try:
            response = await provider_client.run(account, _request_root(name))
        except errors.TriptychError as error:
            return Check(
                about=provider.name,
                state="fault",
                found=f"{url}: {error.for_operator}",
                mend=f"check the network, a proxy, and {provider.base_urls[name].env}",
            )
        if date := response.headers.get("date"):
            try:
                dates.append(parsedate_to_datetime(date).astimezone(UTC))
            except ValueError:
                continue
    return Check(about=provider.name, state="ok", found=f"{', '.join(bases.values())} answers")


async def _catalogues(setup: ServiceConfig, provider_client: ProviderClient) -> list[Check]:
    """Return a check with the age of each live catalogue in the home; nothing is requested."""
    if not setup.live_models:
        return [Check(about="live models", state="off", found="TRIPTYCH_MODELS is builtin")]
    clock = SystemClock()
    kept = Catalogues(setup.home, setup.accounts, provider_client, clock)
    checks = []
    for name, one in (await kept.known()).items():
        models = len({offer.endpoint for offer in one.offers})
        found = f"read {presenters.ago(clock.now() - one.read_at)}; {models} models, {len(one.skipped)} left out"
        checks.append(Check(about=f"live models of {name}", state="ok", found=found))
    unread = [name for name in kept.providers if name not in (await kept.known())]
    if unread:
        found = f"of {', '.join(unread)} not read yet; list_models with a query reads them"
        checks.append(Check(about="live models", state="off", found=found))
    return checks


def _request_root(base: str) -> Flow[HttpResponse]:
    return (yield HttpRequest("GET", "/", base=base, authorize=False, repeatable=False, timeout_s=KNOCK_TIMEOUT_S))


def _clock(dates: list[datetime]) -> Check:
    """Compare the clock with the providers' dates or, without one, with this version's release date."""
    now = datetime.now(UTC)
    mend = "set the machine's clock: budgets, deadlines and expiry times use it"
    if now < RELEASED:
        return Check(about="clock", state="fault", found=f"the date is {now:%Y-%m-%d}", mend=mend)
    difference_s = max((abs((now - date).total_seconds()) for date in dates), default=0.0)
    if difference_s > CLOCK_LEEWAY_S:
        return Check(
            about="clock", state="fault", found=f"{difference_s / 60:.0f} minutes off the provider's", mend=mend
        )
    agrees = ", as at the provider" if dates else ""
    return Check(about="clock", state="ok", found=f"{now:%Y-%m-%d %H:%M} UTC{agrees}")
